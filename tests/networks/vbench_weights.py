"""The deterministic weights of VBench's goldens: a function of a published tensor's name alone.

Standard normal float32 numbers come from a Philox stream whose 128-bit key is the first 16 bytes,
little endian, of the name's sha256; the rules below scale them. Every name is the published one: a
network that calls a tensor otherwise converts it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

GOLDENS = Path(__file__).parents[1] / "goldens" / "vbench"
_EMBEDDINGS = (
    "cls_token",
    "pos_embed",
    "class_embedding",
    "positional_embedding",
    "token_embedding.weight",
    "position_emb",
    "scale_emb",
)


def golden(name: str) -> Mapping[str, NDArray[Any]]:
    """The arrays of ``tests/goldens/vbench/NAME.npz``."""
    with np.load(GOLDENS / f"{name}.npz") as arrays:
        return dict(arrays)


def golden_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Published names and shapes: ``tests/goldens/vbench/NAME.json``."""
    shapes = json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))
    pairs = shapes.items() if isinstance(shapes, dict) else shapes
    return {key: tuple(shape) for key, shape in pairs}


def vbench_tensor(
    key: str,
    shape: tuple[int, ...],
    *,
    vector: tuple[float, float] = (1.0, 0.1),
    gains: Mapping[str, float] | None = None,
) -> torch.Tensor:
    """One tensor.

    Args:
        key: Its published name.
        shape: Its shape.
        vector: Mean and deviation of weights of one dimension.
        gains: Factors of larger weights, by a part of their names.
    """
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    digest = hashlib.sha256(key.encode()).digest()
    stream = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    drawn = stream.standard_normal(math.prod(shape), dtype=np.float32).reshape(shape)
    values: NDArray[Any]
    if last == "logit_scale":
        values = np.full(shape, math.log(100))
    elif last == "running_var":
        values = 1 + 0.1 * np.abs(drawn)
    elif key.endswith(_EMBEDDINGS):
        values = 0.2 * drawn
    elif len(shape) >= 2:
        projects = last in ("proj", "text_projection")
        deviation = shape[0] ** -0.5 if projects else math.sqrt(2 / math.prod(shape[1:]))
        deviation *= math.prod(gain for part, gain in (gains or {}).items() if part in key)
        values = np.float32(deviation) * drawn
    elif last == "weight":
        values = np.float32(vector[0]) + np.float32(vector[1]) * drawn
    else:
        values = 0.1 * drawn
    return torch.from_numpy(values.astype(np.float32))


def vbench_state(
    shapes: Iterable[tuple[str, tuple[int, ...]]], **options: Any
) -> dict[str, torch.Tensor]:
    """A state dict by published names; ``options`` are those of :func:`vbench_tensor`."""
    return {key: vbench_tensor(key, shape, **options) for key, shape in shapes}
