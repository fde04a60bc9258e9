"""The tensors of a TorchScript archive by name, without running or compiling what is in it.

``torch.jit.save`` writes a zip: ``NAME/data.pkl``, a pickle of the modules; ``NAME/data/KEY``, the
bytes of their tensors; and ``NAME/code``, a program. ``torch.jit.load`` runs parts of the program,
so the pickle is read here instead, with nothing allowed in it but what tensors are made of.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

DTYPES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is what `torch.jit.save` writes; `torch.save` writes a zip without code."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def torchscript_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers of an archive, as its modules' ``state_dict`` names them.

    Raises:
        pickle.UnpicklingError: The archive holds other things than modules with tensors.
        OSError, zipfile.BadZipFile, ValueError, RuntimeError: It is broken.
    """
    import torch

    with zipfile.ZipFile(path) as archive:
        tops = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(tops) != 1:
            raise pickle.UnpicklingError("it has no modules")
        root = _Unpickler(archive, tops[0].removesuffix("/data.pkl")).load()
    tensors: dict[str, torch.Tensor] = {}
    waiting = [("", root)]
    while waiting:
        prefix, module = waiting.pop()
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                tensors[prefix + name] = value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value))
    return tensors


class _Module:
    """Stands for every class of the archive's program: attributes, and no behaviour."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}/data.pkl"))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in DTYPES:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_type_tag")):
            return _first
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it holds a {module}.{name}, which no tensor needs")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        import torch

        _, storage, key, _, count = pid
        dtype = getattr(torch, DTYPES[storage])
        if not count:
            return torch.empty(0, dtype=dtype)
        data = bytearray(self._archive.read(f"{self._folder}/data/{key}"))
        return torch.frombuffer(data, dtype=dtype, count=count)


def _rebuilt(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    return storage.as_strided(size, stride, offset)  # refuses what lies outside of the storage


def _first(value: Any, *_: Any) -> Any:
    return value
