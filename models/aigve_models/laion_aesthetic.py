"""LAION's aesthetic predictor: one linear layer on CLIP ViT-L/14.

Reference: https://github.com/LAION-AI/aesthetic-predictor, commit 6d122ad (MIT), trained on the
ratings of 176,000 pictures from 1 to 10 (Simulacra Aesthetic Captions).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

DIMENSIONS = 768


class LaionAesthetic(nn.Linear):
    """A head: it reads ``clip-vit-l-14:image`` of every frame."""

    def __init__(self) -> None:
        super().__init__(DIMENSIONS, 1)

    def head(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [T, 768], of any length, to ``rating`` [T, 1]: about 1..10, unclamped.

        Raises:
            ValueError: Another shape.
        """
        if images.ndim != 2 or images.shape[1] != DIMENSIONS:
            raise ValueError(f"images are [T, {DIMENSIONS}], not {list(images.shape)}")
        return {"rating": self(F.normalize(images, dim=-1))}


def build(variant: str = "") -> LaionAesthetic:
    """The head with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"laion-aesthetic has no variant '{variant}'")
    return LaionAesthetic()
