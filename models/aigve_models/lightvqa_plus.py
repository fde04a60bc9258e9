"""Light-VQA+: the quality of videos whose exposure was corrected, too dark or too bright.

Paper: Zhou et al., Light-VQA+: A Video Quality Assessment Model for Exposure Correction with
Vision-Language Guidance (arXiv:2405.03333). Its code has not been published. What is known comes
from Light-VQA, which it extends (see lightvqa.py), and from a wrapper that feeds it,
https://github.com/ShaneXiangH/AIGVE_Tool, commit 8916406; no code is from either.

Certain are the trunk, Swin-S over eight key frames of 1120 x 672, and the widths of what the head
reads. How the head is built is not known, so here it follows from the checkpoint: three linear
layers like Light-VQA's, with 4440 inputs in Light-VQA's order, and any sizes between. A checkpoint
with another head is refused by the names of its tensors (``build_for``); variant ``trunk`` takes
its trunk alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aigve_models._swin_small import WIDTHS, SwinSmall
from aigve_models.lightvqa import (
    HEAD_LAYERS,
    KEY_FRAMES,
    MOTION,
    check_rows,
    checkpoint_to_state,
    fusion_layers,
    published_names,
)

__all__ = ["LightVQAPlus", "build", "build_for", "published_names"]

SPATIAL = 2 * WIDTHS[-1]
"""768 of the last stage, then 768 of the third."""
WORDS = 300
INPUTS = SPATIAL + WORDS + MOTION + WORDS
TRUNK = "trunk"
NAMES_SHOWN = 10


class LightVQAPlusTrunk(SwinSmall):
    """Input: float32 [B, 3, H, W], RGB, normalised with ImageNet's mean and deviation.

    The weights were trained at H 672 and W 1120.
    """

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, H, W] to ``spatial`` [B, 1536].

        Raises:
            ValueError: Another shape, or sides that are not multiples of 4.
        """
        return {"spatial": torch.cat(self.images_to_pooled(images), dim=1)}


class LightVQAPlus(LightVQAPlusTrunk):
    """The trunk with a head of three linear layers."""

    def __init__(self, hidden: int = 1024, bottleneck: int = 64) -> None:
        """Outputs of the head's first and second layer; Light-VQA's if nothing is said."""
        super().__init__()
        self.fusion = fusion_layers(INPUTS, hidden, bottleneck)

    def head(
        self, spatial: Tensor, motion: Tensor, bns: Tensor, consistency: Tensor
    ) -> dict[str, Tensor]:
        """The scores of a video's key frames; their mean is the video's.

        Args:
            spatial: float32 [8, 1536], ``spatial`` of the key frames.
            motion: float32 [8, 2304], SlowFast's features of the first eight clips.
            bns: float32 [8, 300], ``light-words:bns``.
            consistency: float32 [8, 300], ``light-words:consistency``.

        Returns:
            ``frame_scores`` [8, 1], 0..100.

        Raises:
            ValueError: Other shapes.
        """
        check_rows("spatial", spatial, KEY_FRAMES, SPATIAL)
        check_rows("motion", motion, KEY_FRAMES, MOTION)
        check_rows("bns", bns, KEY_FRAMES, WORDS)
        check_rows("consistency", consistency, KEY_FRAMES, WORDS)
        last, third = spatial.chunk(2, dim=1)
        fused = torch.cat([last, bns, third, motion, consistency], dim=1)
        return {"frame_scores": self.fusion(fused).float().clamp(0, 100)}


def build(variant: str = "") -> LightVQAPlusTrunk:
    """The network with random weights.

    Args:
        variant: Empty for trunk and head, the head with Light-VQA's sizes, or ``trunk``.

    Raises:
        ValueError: Another variant.
    """
    if variant not in ("", TRUNK):
        raise ValueError(f"lightvqa-plus has no variant '{variant}': leave it empty, or {TRUNK}")
    return LightVQAPlusTrunk() if variant == TRUNK else LightVQAPlus()


def build_for(
    checkpoint: Mapping[str, Any], variant: str = ""
) -> tuple[LightVQAPlusTrunk, dict[str, Any]]:
    """The network that a checkpoint is of, with random weights, and the state to load into it.

    Raises:
        ValueError: Another variant, or a head that is not three linear layers of 4440 inputs; the
            message names the tensors that do not fit.
    """
    with torch.device("meta"):
        trunk_keys = build(TRUNK).state_dict().keys()
    if variant == TRUNK:
        return build(TRUNK), {key: checkpoint[key] for key in checkpoint if key in trunk_keys}
    if variant:
        build(variant)
    rest = {key: value for key, value in checkpoint.items() if key not in trunk_keys}
    hidden, bottleneck = _checked_sizes(rest, [key for key in trunk_keys if key not in checkpoint])
    return LightVQAPlus(hidden, bottleneck), checkpoint_to_state(checkpoint)


def _checked_sizes(tensors: Mapping[str, Any], missing: list[str]) -> tuple[int, int]:
    """Outputs of the first two layers of the head that these tensors are.

    Args:
        tensors: All but the trunk's.
        missing: Tensors of the trunk that are not there.
    """
    shapes = {key: list(getattr(tensor, "shape", ())) for key, tensor in tensors.items()}
    hidden, bottleneck = ((shapes.get(f"{layer}.weight") or [0])[0] for layer in HEAD_LAYERS[:2])
    outputs = (hidden, bottleneck, 1)
    wanted: dict[str, list[int]] = {}
    for layer, rows, columns in zip(
        HEAD_LAYERS, outputs, (INPUTS, hidden, bottleneck), strict=True
    ):
        wanted |= {f"{layer}.weight": [rows, columns], f"{layer}.bias": [rows]}
    misfits = [f"{key} {shape}" for key, shape in shapes.items() if wanted.get(key) != shape]
    missing = [*missing, *(key for key in wanted if key not in shapes)]
    if misfits or missing:
        layers = ", ".join(HEAD_LAYERS)
        raise ValueError(
            f"the head of Light-VQA+ is known only as the linear layers {layers} with {INPUTS} "
            f"inputs; {_listed('does not fit', misfits)}; {_listed('missing', missing)}; "
            "--set lightvqa-plus.output=features needs its trunk alone"
        )
    return hidden, bottleneck


def _listed(what: str, names: list[str]) -> str:
    more = f", … and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{len(names)} {what}" + (": " if names else "") + ", ".join(names[:NAMES_SHOWN]) + more
