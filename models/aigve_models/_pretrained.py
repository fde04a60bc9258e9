"""Models of transformers from a folder: strictly, from this machine, without code of the folder.

transformers fills what a folder lacks with random numbers, leaves out what it does not know, and
makes an empty tokenizer where there is none; each of these gives scores that look like scores. Here
they are errors.
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NAMES_SHOWN = 10
CONFIG = "config.json"
GENERATION = "generation_config.json"
_TOKENIZERS = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tokenizer.model",),
)
"""The files that a vocabulary is in: one of these groups, whole."""


def folder_to_config(folder: Path) -> dict[str, Any]:
    """What ``config.json`` says.

    Raises:
        ValueError: There is none, or it is not a JSON object.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"it has no {CONFIG}, so it is no folder of a model as transformers saves it."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"its {CONFIG} cannot be read: {words_of(error)}.") from error
    if not isinstance(config, dict):
        raise ValueError(f"its {CONFIG} holds a {type(config).__name__}, not an object.")
    return config


def folder_to_vision_size(folder: Path) -> int:
    """The side in pixels of the pictures that a model takes, of its kind if it states none.

    Raises:
        ValueError: The configuration cannot be read, or has no part for pictures.
    """
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        return int(config.vision_config.image_size)
    except Exception as error:
        raise ValueError(f"its {CONFIG} cannot be read: {words_of(error)}.") from error


class Placement(NamedTuple):
    """Where a model's weights go, and in which type of numbers."""

    device: str = "cpu"
    """A torch device."""
    dtype: torch.dtype | str = torch.float32
    """``auto`` is the type that they are saved in."""
    gpu_bytes: int | None = None
    """Of a GPU that is too small: so much of it is for weights, and the rest of them stay in main
    memory, from where each layer comes when it is its turn. None takes all to ``device``."""
    main_bytes: int = 0
    """Of main memory, for the rest."""


ON_CPU = Placement()


def folder_to_model(
    folder: Path, model_class: Any, placement: Placement = ON_CPU, *, config: Any = None
) -> nn.Module:
    """A model with all of its weights, in eval mode, where they belong.

    Safetensors are taken where there are some. ``model_class`` is one of transformers' own, or of
    its kind, so code that ``config.json`` names is never looked at.

    Args:
        folder: The folder.
        model_class: A class with transformers' ``from_pretrained``.
        placement: Where its weights go, and in which type. What goes to a GPU is not all in main
            memory first.
        config: The configuration, where the class does not read ``config.json`` as it is.

    Raises:
        ValueError: The files are broken, hold other things than tensors, or their tensors are not
            the model's: each that is missing, unknown, of another shape or not finite.
    """
    name = model_class.__name__
    try:
        with quiet():
            model, info = model_class.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                dtype=placement.dtype,
                weights_only=True,
                **_placement_to_map(placement),
                # An error without names otherwise: they are reported below.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:
        # A dozen types, for broken JSON, sizes that do not go together, and files cut short.
        raise ValueError(f"transformers cannot read it as {name}: {words_of(error)}.") from error
    state = model.state_dict()
    # Older files keep 0, 1, 2, … of places, which models count by themselves; the first releases of
    # transformers 5 take that for a surplus.
    counted = {name for name, _ in model.named_buffers()} - state.keys()
    problems = [
        ("missing", info["missing_keys"]),
        ("unknown", set(info["unexpected_keys"]) - counted),
        (
            "of another shape",
            [
                f"{key} {tuple(given)} instead of {tuple(own)}"
                for key, given, own in info["mismatched_keys"]
            ],
        ),
        (
            "with numbers that are not finite",
            [key for key, tensor in state.items() if not is_finite(tensor)],
        ),
    ]
    found = [f"{len(keys)} {what}: {_first(keys)}" for what, keys in problems if keys]
    if found:
        raise ValueError(f"its tensors are not those of {name} ({len(state)}): {'; '.join(found)}.")
    whole: nn.Module = model.eval()
    return whole


def _placement_to_map(placement: Placement) -> dict[str, Any]:
    """How ``from_pretrained`` is told, by accelerate's device maps."""
    if placement.gpu_bytes is not None:
        memory = {0: placement.gpu_bytes, "cpu": placement.main_bytes}
        return {"device_map": "auto", "max_memory": memory}
    # Else an empty model is made on the CPU and filled there.
    return {} if placement.device == "cpu" else {"device_map": {"": placement.device}}


def is_finite(tensor: Tensor) -> bool:
    """Whether every number is finite; true of what has no numbers here.

    By its smallest and its largest, which are not if any is not: in bfloat16 on a processor that
    takes a thirtieth of the time.
    """
    # What stays in main memory has no numbers here: accelerate brings them for each forward.
    if tensor.is_meta or not tensor.numel():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


class TokenIds(NamedTuple):
    """N texts as a model reads them."""

    ids: Tensor
    """int64 [N, T]."""
    mask: Tensor
    """int64 [N, T]: 1 for a token of the text, 0 for one that fills it up."""
    counts: Tensor
    """float32 [N, 2]: tokens of the whole text, first and last included, and the most that fit."""


class TextReader:
    """From texts to token ids by a folder's tokenizer, cut at a model's limit."""

    def __init__(self, folder: Path, config: Any, *, positions: int, fill: bool = False) -> None:
        """Load the tokenizer.

        Args:
            folder: The folder with the tokenizer's files.
            config: The model's configuration, which names the tokenizer where its files do not.
            positions: Tokens that the model has places for; the tokenizer may state fewer.
            fill: Whether the model was trained on texts that were filled up to the limit.

        Raises:
            ValueError: There is no tokenizer, or it is broken.
        """
        self._tokenizer = folder_to_tokenizer(folder, config)
        if self._tokenizer.pad_token_id is None:
            raise ValueError(
                f"the tokenizer in {folder} names no token to fill up short texts with."
            )
        self._folder = folder
        self._fill = fill
        self._vocabulary = int(config.text_config.vocab_size)
        self.limit = min(int(self._tokenizer.model_max_length), positions)

    def read(self, texts: Sequence[str], device: torch.device) -> TokenIds:
        """Texts, cut at the limit with their last token kept, and filled up on the right.

        Raises:
            ValueError: The tokenizer gives a token that the model does not know.
        """
        whole = [self._ids(text) for text in texts]
        kept = [
            ids if len(ids) <= self.limit else self._ids(text, truncation=True)
            for text, ids in zip(texts, whole, strict=True)
        ]
        length = self.limit if self._fill else max(map(len, kept))
        filler = [int(self._tokenizer.pad_token_id)]
        ids = torch.tensor([row + filler * (length - len(row)) for row in kept], dtype=torch.int64)
        last = int(ids.max())
        if last >= self._vocabulary:
            raise ValueError(
                f"the tokenizer in {self._folder} gives token {last}, and the model knows only "
                f"{self._vocabulary}: it is another model's."
            )
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in kept])
        counts = torch.tensor([[len(row), self.limit] for row in whole], dtype=torch.float32)
        return TokenIds(ids.to(device), mask.to(device), counts.to(device))

    def _ids(self, text: str, *, truncation: bool = False) -> list[int]:
        # One by one: a list would start threads, and a process that forks afterwards is warned of
        # them on stderr.
        encoded = self._tokenizer(
            text,
            truncation=truncation,
            max_length=self.limit if truncation else None,
            verbose=False,
        )
        ids: list[int] = encoded["input_ids"]
        return ids


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of transformers on stderr: what it would say there is an error here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def check_tokenizer_files(folder: Path) -> None:
    """Refuse a folder of which transformers would make an empty tokenizer.

    Raises:
        ValueError: No file with a vocabulary is there.
    """
    groups = [" and ".join(group) for group in _TOKENIZERS]
    if not any(all((folder / file).is_file() for file in group) for group in _TOKENIZERS):
        raise ValueError(
            f"there is no tokenizer in {folder}: none of {', '.join(groups[:-1])} or {groups[-1]}."
        )


def folder_to_tokenizer(folder: Path, config: Any) -> Any:
    """A folder's tokenizer.

    Args:
        folder: The folder with the tokenizer's files.
        config: The model's configuration, which names the tokenizer where its files do not.

    Raises:
        ValueError: There is none, it is broken, or it needs a package that is not here.
    """
    from transformers import AutoTokenizer

    check_tokenizer_files(folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, config=config, local_files_only=True, trust_remote_code=False
            )
    except ImportError as error:
        raise ValueError(
            f"the tokenizer in {folder} needs a package that is not here: {words_of(error)}. "
            "SigLIP's needs sentencepiece and protobuf."
        ) from error
    except Exception as error:
        raise ValueError(f"the tokenizer in {folder} cannot be read: {words_of(error)}.") from error
    return tokenizer


def folder_to_ends(folder: Path, *stated: int | Sequence[int] | None) -> list[int]:
    """The tokens that end what a model writes, sorted: those stated, and those of its file.

    Nothing else of ``generation_config.json`` is heeded.

    Raises:
        ValueError: The file cannot be read, or nothing says which token ends a text.
    """
    from transformers import GenerationConfig

    ends = [*stated]
    if (folder / GENERATION).is_file():
        try:
            with quiet():
                generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise ValueError(f"its {GENERATION} cannot be read: {words_of(error)}.") from error
        ends.append(generation.eos_token_id)
    found: set[int] = set()
    for one in ends:
        these = [] if one is None else [one] if isinstance(one, int) else one
        if not isinstance(these, list | tuple) or not all(type(end) is int for end in these):
            raise ValueError(f"what ends an answer is {one!r} in it, which is no token.")
        found.update(these)
    if not found:
        raise ValueError("nothing in it says which token ends an answer.")
    return sorted(found)


def special_signs(tokenizer: Any) -> tuple[str, ...]:
    """What stands for something else than itself in a tokenizer's texts."""
    added = tokenizer.added_tokens_decoder.values()
    return tuple(token.content for token in added if token.special)


def check_no_signs(text: str, signs: Iterable[str]) -> None:
    """Refuse a text that would end a turn, or stand for a picture, instead of being read.

    Raises:
        ValueError: It holds one of the signs.
    """
    for sign in signs:
        if sign in text:
            raise ValueError(f"its text holds '{sign}', which is a sign to the model.")


def words_of(error: Exception) -> str:
    """The first sentence of what a library says, without its full stop."""
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error).lower():
        # torch's own words advise to load without its check.
        return "it holds other things than tensors"
    if isinstance(error, KeyError):
        return f"{error} is missing in it"
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return shorten(line.partition(". ")[0], 300, placeholder=" …").rstrip(" .:")


def _first(keys: Iterable[str]) -> str:
    names = sorted(keys)
    more = f", … and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
