"""From a card and a checked file to a network that is ready to run.

A network's module has ``build(variant) -> nn.Module``. Its forward takes float32 [B, 3, H, W], or
[B, 3, T, H, W] where its card says that it takes clips, and returns ``dict[str, Tensor]`` of
float32 [B, D]. Where the published names differ from its own it also has
``checkpoint_to_state(checkpoint) -> dict[str, Tensor]``, which keeps the names that it does not
know: they are reported here. Training checkpoints (tensors under ``state_dict`` or ``model``, names
that begin with ``module.``) are unwrapped for all.

Where the weights are a folder as transformers saves models, the module has
``load(folder, processor, variant) -> nn.Module`` instead, and that of a model of billions of
weights ``load(folder, processor, variant, placement)``, which puts them where they belong.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigve_cli.engine.folding import fold_batch_norms
from aigve_cli.engine.torchscript import is_torchscript, torchscript_tensors
from aigve_cli.errors import SetupError, WeightsError
from aigve_cli.weights import Located, NetworkCard, network_card

if TYPE_CHECKING:
    import torch

    from aigve_cli.engine.memory import Place

KEYS_SHOWN = 10


def load_network(
    card: NetworkCard,
    located: Located,
    *,
    device: str,
    variant: str = "",
    place: Place | None = None,
) -> torch.nn.Module:
    """Build a network and load its weights, every key of them, for evaluation.

    Batch norms are folded into convolutions, so what comes out has other keys than the checkpoint,
    and convolutions are laid out channels last: together they take a third off a forward on a CPU.

    Args:
        card: The network.
        located: Its weights.
        device: A torch device, such as ``cpu`` or ``cuda:0``.
        variant: One of the variants that the network's module names; empty is the only one of most.
        place: Of a large model, its type of numbers, and how much of it the device holds.

    Returns:
        The module on ``device``, in eval mode, without gradients.

    Raises:
        WeightsError: The file is no checkpoint, or its keys or shapes are not the network's.
    """
    if card.numbers:
        return _read_large(card, located, variant, device, place).eval().requires_grad_(False)
    if card.layout == "folder":
        network = _read_folder(card, located, variant)
    else:
        network, state = _checked(card, located, variant)
        network.load_state_dict(state, strict=True)
    network.eval().requires_grad_(False)
    fold_batch_norms(network)
    _lay_channels_last(network)
    return network.to(device)


def check_network(card: NetworkCard, located: Located, variant: str = "") -> None:
    """Whether weights can be loaded, without keeping them.

    Raises:
        WeightsError: As :func:`load_network`.
    """
    if card.layout == "folder":
        _read_folder(card, located, variant)
    else:
        _checked(card, located, variant)


def folder_to_picture_size(card: NetworkCard, located: Located) -> int | None:
    """The side in pixels of the pictures that a folder's model takes; None if it takes any.

    Raises:
        WeightsError: It is a folder of another kind of model.
        SetupError: transformers cannot be imported.
    """
    with _of_folder(card, located):
        size: int | None = importlib.import_module(card.module).folder_to_picture_size(located.path)
        return size


def _read_folder(card: NetworkCard, located: Located, variant: str) -> torch.nn.Module:
    with _of_folder(card, located):
        module = importlib.import_module(card.module)
        processor = located.processor or located.path
        network: torch.nn.Module = module.load(located.path, processor, variant)
        return network


def _read_large(
    card: NetworkCard, located: Located, variant: str, device: str, place: Place | None
) -> torch.nn.Module:
    """A model on its device, of which main memory never holds all unless that is its device."""
    with _of_folder(card, located):
        import torch
        from aigve_models._pretrained import Placement

        module = importlib.import_module(card.module)
        numbers = place.numbers if place else card.numbers
        placement = Placement(
            device=device,
            dtype=numbers if numbers == "auto" else getattr(torch, numbers),
            gpu_bytes=place.gpu_bytes if place else None,
            main_bytes=place.main_bytes if place else 0,
        )
        processor = located.processor or located.path
        network: torch.nn.Module = module.load(located.path, processor, variant, placement)
        return network


@contextmanager
def _of_folder(card: NetworkCard, located: Located) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise transformers_missing(error) from error
    except ValueError as error:
        raise WeightsError(
            f"{located.path} cannot be loaded as {card.name}: {error}",
            hint=f"{card.name} reads {card.entry().hub_id} and folders of its layout.",
        ) from error


def transformers_missing(error: ImportError) -> SetupError:
    """What to say where transformers is there and does not import."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return SetupError(
        f"transformers cannot be imported: {reason}",
        hint="torch, torchvision and transformers must fit together: install aigve into a new "
        "environment; `aigve doctor` names the versions of this one.",
    )


def _checked(
    card: NetworkCard, located: Located, variant: str
) -> tuple[torch.nn.Module, Mapping[str, Any]]:
    """The network and the state that fits it."""
    module = importlib.import_module(card.module)
    checkpoint = _read_checkpoint(located.path, card)
    # A network of which only the checkpoint tells the sizes is built after it is read.
    build_for = getattr(module, "build_for", None)
    network: torch.nn.Module
    try:
        if build_for is not None:
            network, state = build_for(checkpoint, variant)
        else:
            network = module.build(variant)
            state = getattr(module, "checkpoint_to_state", dict)(checkpoint)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise WeightsError(
            f"{located.path} is not laid out like a checkpoint of {card.name}: {what}.",
            hint=f"{card.name} reads {card.entry().file} and files of its layout.",
        ) from error
    # What a module calls otherwise than its file does is named as the user finds it there.
    published_names = getattr(module, "published_names", None)
    names: Mapping[str, str] = published_names(checkpoint) if published_names else {}
    own = {names.get(key, key): tensor for key, tensor in network.state_dict().items()}
    given = {names.get(key, key): tensor for key, tensor in state.items()}
    _check_state(own, given, card=card, path=located.path)
    return network, state


def checkpoint_network(path: Path, names: Sequence[str]) -> str:
    """Which of several networks a checkpoint is of, by the names of its tensors: the first if none.

    Raises:
        WeightsError: The file is no checkpoint.
    """
    import torch

    checkpoint = _read_checkpoint(path, network_card(names[0]))

    def share(name: str) -> float:
        module = importlib.import_module(network_card(name).module)
        with torch.device("meta"):
            own = module.build().state_dict()
        try:
            state = getattr(module, "checkpoint_to_state", dict)(checkpoint)
        except (KeyError, TypeError, ValueError, AttributeError):
            return 0.0
        return len(own.keys() & state.keys()) / len(own)

    best = max(names, key=share)
    return best if share(best) > 0.5 else names[0]


def load_function(card: NetworkCard, variant: str = "", *, device: str = "cpu") -> Any:
    """Build a producer that has no weights: a function of rows, or a module like a network's."""
    function = importlib.import_module(card.module).build(variant)
    return function.eval().to(device) if is_module(function) else function


def is_module(producer: Any) -> bool:
    """Whether a producer takes tensors on a device, rather than numpy's arrays."""
    from torch import nn

    return isinstance(producer, nn.Module)


def _read_checkpoint(path: Path, card: NetworkCard) -> Mapping[str, Any]:
    import torch

    torchscript = is_torchscript(path)
    if torchscript and not getattr(
        importlib.import_module(card.module), "READS_TORCHSCRIPT", False
    ):
        raise WeightsError(
            f"{path} is a TorchScript archive: a program with its weights, not tensors by name.",
            hint=f"{card.name} reads a state dict, such as {card.entry().file}.",
        )
    try:
        if torchscript:
            return torchscript_tensors(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # weights_only: a checkpoint is data, and a pickle that wants to run code is refused.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Whatever the readers raise for a broken file (a dozen types) says the same to a user.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        if isinstance(error, pickle.UnpicklingError):
            # torch's own words advise to load without its check.
            reason = "it holds other things than tensors"
        raise WeightsError(
            f"{path} cannot be read as a checkpoint: {reason}",
            hint="It may be cut short, or hold Python objects beside tensors. "
            "`aigve models verify` compares files with their cards.",
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise WeightsError(
            f"{path} holds a {type(checkpoint).__name__}, not tensors by name.",
            hint="Name a file with a state dict.",
        )
    return _unwrapped(checkpoint)


def _unwrapped(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict in a training checkpoint, without DataParallel's prefix."""
    for wrapper in ("state_dict", "model"):
        if isinstance(checkpoint.get(wrapper), Mapping):
            checkpoint = checkpoint[wrapper]
    if checkpoint and all(str(key).startswith("module.") for key in checkpoint):
        return {key.removeprefix("module."): value for key, value in checkpoint.items()}
    return checkpoint


def _check_state(
    own: Mapping[str, torch.Tensor], given: Mapping[str, Any], *, card: NetworkCard, path: Path
) -> None:
    """Raise with the names of the keys that keep a checkpoint from being this network's."""
    problems = [
        ("missing", own.keys() - given.keys()),
        ("unknown", given.keys() - own.keys()),
        (
            "of another shape",
            {
                f"{key} {_shape(given[key])} instead of {_shape(tensor)}"
                for key, tensor in own.items()
                if key in given and _shape(given[key]) != _shape(tensor)
            },
        ),
        (
            "of whole numbers instead of fractions",
            {
                key
                for key, tensor in own.items()
                if tensor.is_floating_point() and not _has_fractions(given.get(key, tensor))
            },
        ),
        (
            "with numbers that are not finite",
            {key for key in own if key in given and not _is_finite(given[key])},
        ),
    ]
    lines = [f"  {len(keys)} {what}: {_first(keys)}" for what, keys in problems if keys]
    if lines:
        raise WeightsError(
            f"{path} does not fit {card.name} ({len(own)} keys):\n" + "\n".join(lines),
            hint=f"{card.name} reads {card.entry().file} and files of its layout.",
        )


def _lay_channels_last(network: torch.nn.Module) -> None:
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, torch.nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)


def _has_fractions(value: Any) -> bool:
    return bool(getattr(value, "is_floating_point", lambda: True)())


def _is_finite(value: Any) -> bool:
    import torch

    return not isinstance(value, torch.Tensor) or bool(torch.isfinite(value).all())


def _shape(value: Any) -> tuple[int, ...] | str:
    shape = getattr(value, "shape", None)
    return tuple(shape) if shape is not None else type(value).__name__


def _first(keys: Iterable[Any]) -> str:
    names = sorted(map(str, keys))
    more = f", … and {len(names) - KEYS_SHOWN} more" if len(names) > KEYS_SHOWN else ""
    return ", ".join(names[:KEYS_SHOWN]) + more
