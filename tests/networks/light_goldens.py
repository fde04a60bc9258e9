"""Light-VQA's goldens, the pictures they were made of, and checkpoints that take no room."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from aigve_models import light_words
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from aigve_cli.engine.networks import load_network
from aigve_cli.weights import Located, network_card

GOLDENS = Path(__file__).parents[1] / "goldens" / "vqa"
FRAMES = 17
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def golden(name: str) -> dict[str, Tensor]:
    """Arrays that the originals gave, by their names in the kit they came with."""
    with np.load(GOLDENS / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}


def frame(index: int) -> NDArray[np.uint8]:
    """uint8 [64, 80, 3], RGB, one of the 17 frames that the goldens are of."""
    frames: NDArray[np.uint8] = np.load(GOLDENS / "clip_a.npy")[:FRAMES]
    return frames[index]


def resized_by_pil(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def normalised(picture: NDArray[np.uint8], mean: Any, std: Any) -> Tensor:
    """uint8 [H, W, 3] to float32 [1, 3, H, W]."""
    x = torch.from_numpy(picture).movedim(2, 0).float() / 255
    return ((x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])[None]


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Relative L2."""
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def published_shapes(tag: str) -> dict[str, list[int]]:
    """Of every tensor in a published checkpoint, those of whole numbers too."""
    keys = json.loads((GOLDENS / f"keys_{tag}.json").read_text(encoding="utf-8"))
    return {
        key: shape["whole numbers"] if isinstance(shape, dict) else shape
        for key, shape in keys.items()
    }


def zeros(shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
    """A checkpoint of zeros. Each tensor is one number in memory and in a file."""
    return {
        key: torch.zeros([1] * len(shape), dtype=_dtype(key)).expand(shape)
        for key, shape in shapes.items()
    }


def _dtype(key: str) -> torch.dtype:
    return torch.int64 if key.endswith("relative_position_index") else torch.float32


def load(checkpoint: Mapping[str, Tensor], name: str, folder: Path) -> nn.Module:
    """As the engine does."""
    path = folder / "checkpoint.pth"
    torch.save(checkpoint, path)
    located = Located(path, "0" * 64, "standard", False, "default", "unknown")
    return load_network(network_card(name), located, device="cpu")


def words_to_features(words: Sequence[Tensor], texts: Sequence[Tensor]) -> Tensor:
    """Features that beside texts [5, 512] become words [T, 75]: some [T, 15 x 512].

    The least squares for the cosines with all texts, filled up to length 1 at right angles to them.
    """
    logs = [part.double().reshape(-1, light_words.TEXTS).log() for part in words]
    cosines = [(part - part.mean(1, keepdim=True)) / light_words.TEMPERATURE for part in logs]
    directions = F.normalize(torch.cat(list(texts)).double(), dim=1)
    within = torch.cat(cosines, dim=1) @ torch.linalg.pinv(directions).T  # [patches, 512]
    aside = torch.linalg.svd(directions).Vh[-1]
    length = (1 - within.square().sum(1, keepdim=True)).sqrt()
    return (within + length * aside).float().reshape(len(words[0]), -1)
