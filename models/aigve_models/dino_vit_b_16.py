"""DINO ViT-B/16: a picture's class token, of pictures of any size.

Paper: Caron, Touvron, Misra, Jégou, Mairal, Bojanowski & Joulin, Emerging Properties in
Self-Supervised Vision Transformers, ICCV 2021 (arXiv:2104.14294). Reference:
https://github.com/facebookresearch/dino, commit 7c446df (Apache-2.0). The layers are those of timm
(Apache-2.0), which has the published names.

Not timm's: how the places of 14 x 14 patches become those of another picture. The reference resizes
them by a factor, a tenth of a patch above the right one, and not to a size: features of timm differ
by 0.04 on 224 x 336, and by 0.4 where a side is not a whole number of patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

PATCH = 16
GRID = 14
WIDTH = 768
MOST_PATCHES = 16 * GRID * GRID
"""Each attends to all others: what is longer takes minutes a frame, and gigabytes."""


class Dino(VisionTransformer):
    """Input: float32 [B, 3, H, W], RGB, normalised with ImageNet's mean and deviation.

    On the scale 0..1 these are (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).
    """

    def __init__(self) -> None:
        super().__init__(
            img_size=GRID * PATCH,
            patch_size=PATCH,
            embed_dim=WIDTH,
            depth=12,
            num_heads=12,
            num_classes=0,
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, H, W] to ``class_token`` [B, 768], after the last norm and of any length.

        Of a side that is not a whole number of patches, the rest is not seen.

        Raises:
            ValueError: Another shape, a side of less than a patch, or more than ``MOST_PATCHES``.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < PATCH:
            raise ValueError(
                f"images are [B, 3, H, W] of at least {PATCH} pixels, not {list(images.shape)}"
            )
        rows, columns = images.shape[2] // PATCH, images.shape[3] // PATCH
        if rows * columns > MOST_PATCHES:
            raise ValueError(
                f"images have {MOST_PATCHES} patches at most, 16 times as long as wide; these have "
                f"{columns} x {rows}"
            )
        patches = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(images), -1, -1)
        tokens = torch.cat([first, patches], dim=1) + self._places(*images.shape[2:])
        return {"class_token": self.norm(self.blocks(tokens))[:, 0]}

    def _places(self, height: int, width: int) -> Tensor:
        """[1, 1 + rows * columns, 768]: the class token's place and those of the patches."""
        places: Tensor = self.pos_embed
        if height == width and height // PATCH == GRID:
            return places
        rows, columns = height // PATCH, width // PATCH
        grid = places[:, 1:].reshape(1, GRID, GRID, WIDTH).permute(0, 3, 1, 2)
        factors = ((rows + 0.1) / GRID, (columns + 0.1) / GRID)
        resized = F.interpolate(grid, scale_factor=factors, mode="bicubic")
        return torch.cat([places[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def build(variant: str = "") -> nn.Module:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"dino-vit-b-16 has no variant '{variant}'")
    return Dino()
