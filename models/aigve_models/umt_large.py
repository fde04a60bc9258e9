"""UMT ViT-L/16: which of 400 actions a video of 16 frames shows.

Paper: Li, Wang, Li, Wang, He, Wang & Qiao, Unmasked Teacher: Towards Training-Efficient Video
Foundation Models, ICCV 2023 (arXiv:2303.16058). Reference:
https://github.com/OpenGVLab/unmasked_teacher, as in https://github.com/Vchitect/VBench, commit
45e79ec, ``vbench/third_party/umt`` (MIT). The layers have the published names.

The places of the tokens are in the checkpoint, so that nothing has to be interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, PATCH, FRAMES = 224, 16, 16
CLASSES = 400


@dataclass(frozen=True)
class Sizes:
    """What the network is made of, by default the published one."""

    width: int = 1024
    layers: int = 24
    heads: int = 16


PUBLISHED = Sizes()


class Attention(nn.Module):
    """Every token reads every other one; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, W] to [B, N, W]."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        parts = F.linear(x, self.qkv.weight, bias).view(*x.shape[:2], 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # [B, heads, N, W / heads]
        read = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.proj(read.transpose(1, 2).flatten(2))
        return mixed


class Mlp(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, W] to [B, N, W]."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class Block(nn.Module):
    """Attention and two linear layers, each on normed tokens and added to them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, W] to [B, N, W]."""
        x = x + self.attn(self.norm1(x))
        mixed: Tensor = x + self.mlp(self.norm2(x))
        return mixed


class PatchEmbedding(nn.Module):
    """A patch of a frame to a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        shape = (1, PATCH, PATCH)
        self.proj = nn.Conv3d(3, width, shape, stride=shape)

    def forward(self, clips: Tensor) -> Tensor:
        """[B, 3, T, H, W] to [B, T * h * w, width], frame after frame."""
        tokens: Tensor = self.proj(clips).flatten(2).transpose(1, 2)
        return tokens


class UMT(nn.Module):
    """Input: float32 [B, 3, 16, 224, 224], RGB, normalised with ImageNet's mean and deviation."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(sizes.width)
        tokens = FRAMES * (SIDE // PATCH) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, sizes.width))
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.fc_norm = nn.LayerNorm(sizes.width, eps=1e-6)
        self.head = nn.Linear(sizes.width, CLASSES)

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 16, 224, 224] to ``logits`` [B, 400], in Kinetics' order.

        Raises:
            ValueError: Another shape.
        """
        if clips.shape[1:] != (3, FRAMES, SIDE, SIDE):
            raise ValueError(f"clips are [B, 3, {FRAMES}, {SIDE}, {SIDE}], not {list(clips.shape)}")
        x = self.patch_embed(clips) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return {"logits": self.head(self.fc_norm(x.mean(1)))}


def build(variant: str = "") -> UMT:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"umt-large has no variant '{variant}'")
    return UMT(PUBLISHED)
