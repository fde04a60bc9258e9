"""Swin-S, the trunk of Light-VQA and Light-VQA+: a vision transformer with shifted windows.

Paper: Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV
2021 (arXiv:2103.14030). The blocks are torchvision's (BSD-3-Clause); the names of the weights are
those of https://github.com/microsoft/Swin-Transformer, which
https://github.com/wenzhouyidu/Light-VQA (commit 32b6740) kept.

timm's Swin is not the same network on other sizes than multiples of 224 pixels: it shifts first and
fills up to whole windows then, the reference and torchvision the other way round.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMerging, SwinTransformerBlock

PATCH = 4
WINDOW = 7
WIDTHS = (96, 192, 384, 768)
DEPTHS = (2, 2, 18, 2)
HEADS = (3, 6, 12, 24)


class Pooled(NamedTuple):
    """What the two last stages see, float32 [B, 768] each."""

    last: Tensor
    third: Tensor


class PatchEmbedding(nn.Module):
    """Pictures to one token for each 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTHS[0], PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(WIDTHS[0])

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, H / 4, W / 4, 96]."""
        tokens: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return tokens


class Stage(nn.Module):
    """Blocks of attention within windows, and in all stages but the last a halving of the grid."""

    def __init__(self, stage: int) -> None:
        """The stage's number, 0..3."""
        super().__init__()
        self.blocks = nn.Sequential(
            *(block(stage, shifted=i % 2 == 1) for i in range(DEPTHS[stage]))
        )
        is_last = stage + 1 == len(DEPTHS)
        self.downsample = None if is_last else PatchMerging(WIDTHS[stage])

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, C] to [B, ceil(H / 2), ceil(W / 2), 2 C], or the same shape from the last."""
        tokens = self.blocks(tokens)
        return tokens if self.downsample is None else self.downsample(tokens)


class SwinSmall(nn.Module):
    """Input: float32 [B, 3, H, W], RGB, normalised with ImageNet's mean and deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding()
        self.layers = nn.ModuleList(Stage(stage) for stage in range(len(DEPTHS)))
        self.norm = nn.LayerNorm(WIDTHS[-1])

    def images_to_maps(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] to five grids of tokens [B, h, w, C]: the patches', then each stage's.

        Each stage but the last halves its grid at its end, so the channels are 96, 192, 384, 768
        and 768.

        Raises:
            ValueError: Another shape, or sides that are not multiples of 4.
        """
        if images.ndim != 4 or images.shape[1] != 3 or any(n % PATCH for n in images.shape[2:]):
            raise ValueError(
                f"images are [B, 3, H, W] with sides that {PATCH} divides, not {list(images.shape)}"
            )
        maps = [self.patch_embed(images)]
        for stage in self.layers:
            maps.append(stage(maps[-1]))
        return maps

    def images_to_pooled(self, images: Tensor) -> Pooled:
        """[B, 3, H, W] to the means over place of the last two stages.

        Both go through the same final layer norm, as in Light-VQA.
        """
        *_, third, last = self.images_to_maps(images)
        return Pooled(
            last=self.norm(last).float().mean((1, 2)), third=self.norm(third).float().mean((1, 2))
        )


def block(stage: int, *, shifted: bool) -> SwinTransformerBlock:
    """A block of torchvision's, with the published names and shapes of its weights."""
    width, shift = WIDTHS[stage], WINDOW // 2 if shifted else 0
    block = SwinTransformerBlock(width, HEADS[stage], [WINDOW, WINDOW], [shift, shift])
    block.mlp = nn.Sequential(
        OrderedDict(fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width))
    )
    area = WINDOW * WINDOW
    block.attn.relative_position_index = block.attn.relative_position_index.view(area, area)
    return block
