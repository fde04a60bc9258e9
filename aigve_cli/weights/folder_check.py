"""Is this folder a model as transformers saves one, and which of its files decide its numbers?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path

from aigve_cli.weights.check import file_to_sha256, head_problem

CONFIG = "config.json"
GENERATION = "generation_config.json"
"""Of models that write: which tokens end a text."""
ADAPTER = "adapter_config.json"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In the order in which transformers looks for them; an index names several files."""
INDEX_ENDS = ".index.json"
TOKENIZERS = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tokenizer.model",),
)
"""Any one of these is a tokenizer."""
IMAGE_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Either one is an image processor."""
PROCESSOR_FILES = (
    *IMAGE_PROCESSORS,
    *(name for names in TOKENIZERS for name in names),
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "video_preprocessor_config.json",
)
TO_COPY = (
    "tokenizer.json (or vocab.json and merges.txt, vocab.txt, or tokenizer.model), "
    "tokenizer_config.json and "
    "preprocessor_config.json (or processor_config.json)"
)


def published_weights(names: Collection[str]) -> list[str]:
    """The files with weights in a published list of names: of one kind only; empty if none."""
    main = next((name for name in WEIGHTS if name in names), None)
    if main is None:
        return []
    if not main.endswith(INDEX_ENDS):
        return [main]
    stem, _, ending = main.removesuffix(INDEX_ENDS).rpartition(".")
    shard = re.compile(rf"{re.escape(stem)}-\d+-of-\d+\.{re.escape(ending)}")
    return [main, *sorted(name for name in names if shard.fullmatch(name))]


def folder_lacks(folder: Path) -> str | None:
    """What keeps a folder from being whole, as a clause; None if nothing. Opens indexes only."""
    # A link to nothing counts as a name: what an interrupted download left is not passed over.
    names = _names(folder)
    if CONFIG not in names:
        return f"there is no {CONFIG} in it"
    weights = folder_weights(folder)
    if not weights:
        other = sorted(name for name in names if name.endswith((".h5", ".msgpack", ".onnx")))
        beside = f", only {', '.join(other)}" if other else ""
        return f"there are no weights in it (model.safetensors or pytorch_model.bin){beside}"
    for name in (CONFIG, *weights):
        if name in names and not (folder / name).is_file():
            return f"{name} is a link to nothing"
        if name not in names:
            return f"{name} is missing, which {weights[0]} names"
    return None


def processor_lacks(folder: Path, *, images: bool = True) -> str | None:
    """What keeps a folder from having a tokenizer and an image processor, as a clause, or None.

    Args:
        folder: The folder.
        images: Whether an image processor is needed.
    """
    if lost := [name for name in PROCESSOR_FILES if _is_link_to_nothing(folder / name)]:
        return f"{lost[0]} is a link to nothing"
    names = [path.name for path in folder.iterdir() if path.is_file()]
    return names_lack_processor(names, images=images)


def names_lack_processor(names: Collection[str], *, images: bool = True) -> str | None:
    """As :func:`processor_lacks`, of a list of names."""
    if not any(all(name in names for name in tokenizer) for tokenizer in TOKENIZERS):
        return (
            "there is no tokenizer in it (tokenizer.json, vocab.json with merges.txt, vocab.txt or "
            "tokenizer.model)"
        )
    if images and not any(name in names for name in IMAGE_PROCESSORS):
        return f"there is no image processor in it ({' or '.join(IMAGE_PROCESSORS)})"
    return None


def folder_problem(folder: Path, processor: Path | None = None) -> str | None:
    """The file that is not what its name says, as a clause; None if all are. Reads beginnings."""
    for name, path in model_files(folder, processor).items():
        with path.open("rb") as file:
            problem = head_problem(file.read(512))
        if problem := problem or _cut_problem(path):
            return f"{name}: {problem}"
        if name == CONFIG or name.endswith(INDEX_ENDS):
            try:
                facts = json.loads(path.read_bytes())
            except ValueError:
                return f"{name} is not JSON"
            if not isinstance(facts, dict):
                return f"{name} is not a JSON object"
            if name.endswith(INDEX_ENDS) and not isinstance(facts.get("weight_map"), dict):
                return f"{name} has no weight_map, which says which tensor is in which file"
    return _reads_elsewhere(folder, processor or folder)


def _cut_problem(path: Path) -> str | None:
    """What the header of safetensors says against a file's length, as a clause, or None."""
    if path.suffix != ".safetensors":
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            return f"it is cut short, or no safetensors file ({size:,} bytes)"
        try:
            tensors = json.loads(file.read(length))
            ends = [
                int(facts["data_offsets"][1])
                for name, facts in tensors.items()
                if name != "__metadata__"
            ]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return "its header cannot be read: it is no safetensors file"
    whole = 8 + length + max(ends, default=0)
    return None if size == whole else f"it has {size:,} bytes, and its header says {whole:,}"


def _reads_elsewhere(folder: Path, processor: Path) -> str | None:
    """What makes transformers open other files than those whose hash is recorded, or None."""
    if (folder / ADAPTER).is_file():
        return f"{ADAPTER} adds to its weights: merge them, and save the model whole"
    for path, key in (
        (folder / CONFIG, "transformers_weights"),
        (processor / "tokenizer_config.json", "fast_tokenizer_files"),
    ):
        if path.is_file() and _json_key(path, key):
            return f"{path.name} names other files by '{key}': save the model without it"
    return None


def _json_key(path: Path, key: str) -> object:
    try:
        facts = json.loads(path.read_bytes())
    except ValueError:
        return None  # whoever reads it says so
    return facts.get(key) if isinstance(facts, dict) else None


def model_files(folder: Path, processor: Path | None = None) -> dict[str, Path]:
    """The files that decide a model's numbers, by name: all that are there.

    Args:
        folder: The configuration and the weights.
        processor: Tokenizer and image processor, if they are in another folder.
    """
    own = (CONFIG, GENERATION, *folder_weights(folder))
    paths = {name: folder / name for name in own}
    paths.update({name: (processor or folder) / name for name in PROCESSOR_FILES})
    return {name: path for name, path in paths.items() if path.is_file()}


def folder_to_sha256(
    folder: Path, processor: Path | None = None, *, memo_dir: Path | None = None
) -> str:
    """One sha256, in hex, of the files that decide a model's numbers, wherever they lie.

    It is the hash of a line for each file in the order of names: name, NUL, hash, newline.

    Args:
        folder: As in :func:`model_files`.
        processor: As in :func:`model_files`.
        memo_dir: As in :func:`file_to_sha256`.
    """
    files = sorted(model_files(folder, processor).items())
    lines = (f"{name}\0{file_to_sha256(path, memo_dir=memo_dir)}\n" for name, path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def folder_weights(folder: Path) -> list[str]:
    """The files with weights that transformers would take, an index before what it names."""
    names = _names(folder)
    main = next((name for name in WEIGHTS if name in names), None)
    if main is None:
        return []
    return [main, *_shards(folder / main)] if main.endswith(INDEX_ENDS) else [main]


def _shards(index: Path) -> list[str]:
    """The names in an index; none of one that cannot be read, which is a problem of its own."""
    try:
        named = json.loads(index.read_bytes())["weight_map"].values()
        return sorted({str(name) for name in named})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _is_link_to_nothing(path: Path) -> bool:
    return path.is_symlink() and not path.exists()
