"""The goldens of CLIP, PickScore and BLIP, and what their networks see of the clip."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from numpy.typing import NDArray
from torch import Tensor

from aigve_cli.contract import View
from aigve_cli.engine.preprocessing import folder_to_view
from aigve_cli.video.views import frame_to_host_view, frames_to_view, split_view

GOLDENS = Path(__file__).parents[1] / "goldens" / "vision_language"
CLIP_FILE = GOLDENS / "clip.mkv"
# Other releases and other orders of sums: 3.3e-7 were seen.
COSINES = 1e-5
# A cosine times 14 or 97.
SCALED = 1e-3
PICTURES = 1e-6


def goldens() -> dict[str, Any]:
    values: dict[str, Any] = json.loads((GOLDENS / "goldens.json").read_text(encoding="utf-8"))
    return values


def clip_frames() -> NDArray[np.uint8]:
    """uint8 [7, 40, 56, 3], RGB."""
    frames: NDArray[np.uint8] = np.load(GOLDENS / "clip_u8.npy")
    return frames


def seen_as(view: View, frames: Iterable[NDArray[np.uint8]]) -> Tensor:
    """float32 [B, 3, h, w]: frames as the engine takes them through a view."""
    host, device = split_view(view)
    rows = [torch.from_numpy(frame_to_host_view(frame, host))[None] for frame in frames]
    return torch.cat([frames_to_view(row, device) for row in rows])


def seen_by(
    folder: Path, how: str = "standard", frames: Iterable[NDArray[np.uint8]] | None = None
) -> Tensor:
    """The golden clip, or other frames, as a model in a folder sees them."""
    return seen_as(folder_to_view(folder, how), clip_frames() if frames is None else frames)


def cosines(images: Tensor, texts: Tensor) -> Tensor:
    """[B, D] and [N, D] to [B, N]."""
    return F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T


def neighbours(images: Tensor) -> Tensor:
    """[B, D] to the cosines [B - 1] of rows that follow one another."""
    return F.cosine_similarity(images[1:], images[:-1])


def on_pil(auto: Any, folder: Path) -> Any:
    """A folder's processor on its PIL backend, which the first releases of 5 call otherwise."""
    named = hasattr(transformers, "CLIPImageProcessorPil")
    return auto.from_pretrained(folder, **({"backend": "pil"} if named else {"use_fast": False}))
