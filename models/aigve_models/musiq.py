"""MUSIQ: the quality of a picture, from patches of it at three sizes.

Paper: Ke, Wang, Wang, Milanfar & Yang, MUSIQ: Multi-Scale Image Quality Transformer, ICCV 2021
(arXiv:2108.05997). Reference: https://github.com/google-research/google-research, folder musiq
(Apache-2.0). The published weights are a conversion for PyTorch and follow what that computes:
https://github.com/chaofengc/IQA-PyTorch, commit 01ae427f (PolyForm-Noncommercial-1.0.0). Its layout
is read and its numbers are met; no code is from there.

The conversion is not Google's network to the last digit: it shrinks pictures by bicubic
interpolation without antialiasing instead of a Gaussian, and takes the exact GELU. So does this.

Different here: the conversion fills the tokens of the smaller sizes up to 49 and 144 and masks what
it added. No other token sees those, so they are left out, patches and all. Cells of the position
grid are counted in whole numbers; float32 puts single ones of sides over 6,528 pixels elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 32
LONGER_SIDES = (224, 384)
"""Pixels of the longer side of the smaller pictures; the third is as large as it comes."""
GRID = 10
"""Cells of the learnt positions in height and in width, whatever the number of patches."""
WIDTH, HIDDEN, HEADS, LAYERS = 384, 1152, 6, 14
_STEM, _GROUPS = 64, 32

PATCHES_AT_ONCE = 256
"""Encoded together. The 2,040 of a picture of 1920 x 1080 all at once take half as long again on a
CPU, and 0.4 GB more memory."""

_PUBLISHED_TENSORS = {
    "cls_token": "transformer_encoder.cls",
    "positions": "transformer_encoder.posembed_input.position_emb",
    "sizes": "transformer_encoder.scaleembed_input.scale_emb",
}
_PUBLISHED_MODULES = {
    "patches.stem": "conv_root",
    "patches.stem_norm": "gn_root",
    "patches.reduce": "block1.conv1",
    "patches.reduce_norm": "block1.gn1",
    "patches.spread": "block1.conv2",
    "patches.spread_norm": "block1.gn2",
    "patches.expand": "block1.conv3",
    "patches.expand_norm": "block1.gn3",
    "patches.shortcut": "block1.conv_proj",
    "patches.shortcut_norm": "block1.gn_proj",
    "patches.project": "embedding",
    "norm": "transformer_encoder.encoder_norm",
    "head": "head",
}
_PUBLISHED_LAYER = {
    "attention_norm": "norm1",
    "attention.query": "attention.query",
    "attention.key": "attention.key",
    "attention.value": "attention.value",
    "attention.out": "attention.out",
    "mlp_norm": "norm2",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose weights have mean 0 and deviation 1 for each channel that comes out."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``nn.Conv2d``; there is no bias."""
        # Of a sample (n - 1), as in the conversion; Google's divides by n.
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (deviation + 1e-5)
        return F.conv2d(x, weight, None, self.stride, self.padding)


class PatchEncoder(nn.Module):
    """A patch to a token: a convolution, a residual bottleneck of three, and a projection."""

    def __init__(self) -> None:
        super().__init__()
        wide = 4 * _STEM
        self.stem = StandardisedConv2d(3, _STEM, 7, stride=2, bias=False)
        self.stem_norm = nn.GroupNorm(_GROUPS, _STEM, eps=1e-6)
        self.reduce = StandardisedConv2d(_STEM, _STEM, 1, bias=False)
        self.reduce_norm = nn.GroupNorm(_GROUPS, _STEM, eps=1e-4)
        self.spread = StandardisedConv2d(_STEM, _STEM, 3, padding=1, bias=False)
        self.spread_norm = nn.GroupNorm(_GROUPS, _STEM, eps=1e-4)
        self.expand = StandardisedConv2d(_STEM, wide, 1, bias=False)
        self.expand_norm = nn.GroupNorm(_GROUPS, wide, eps=1e-4)
        self.shortcut = StandardisedConv2d(_STEM, wide, 1, bias=False)
        self.shortcut_norm = nn.GroupNorm(_GROUPS, wide, eps=1e-4)
        self.project = nn.Linear(wide * (PATCH // 4) ** 2, WIDTH)

    def forward(self, patches: Tensor) -> Tensor:
        """[N, 3, 32, 32] on -1..1 to [N, 384]."""
        # TensorFlow's SAME: the odd row and column of padding are the last ones.
        x = self.stem_norm(self.stem(F.pad(patches, (2, 3, 2, 3))))  # [N, 64, 16, 16]
        x = F.max_pool2d(F.relu(x, inplace=True), 3, stride=2, ceil_mode=True)  # [N, 64, 8, 8]
        residual = F.relu(self.reduce_norm(self.reduce(x)), inplace=True)
        residual = F.relu(self.spread_norm(self.spread(residual)), inplace=True)
        residual = self.expand_norm(self.expand(residual))  # [N, 256, 8, 8]
        x = F.relu(residual + self.shortcut_norm(self.shortcut(x)), inplace=True)
        # Channels are TensorFlow's innermost dimension.
        tokens: Tensor = self.project(x.permute(0, 2, 3, 1).flatten(1))
        return tokens


class Attention(nn.Module):
    """Every token reads every other one, in six ways."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, 384] to [B, N, 384]."""
        query, key, value = (
            part(x).unflatten(2, (HEADS, -1)).transpose(1, 2)  # [B, 6, N, 64]
            for part in (self.query, self.key, self.value)
        )
        read = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return mixed


class Layer(nn.Module):
    """Attention and two linear layers, each on normed tokens and added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attention = Attention()
        self.mlp_norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, 384] to [B, N, 384]."""
        x = x + self.attention(self.attention_norm(x))
        mixed: Tensor = x + self.mlp(self.mlp_norm(x))
        return mixed


class MUSIQ(nn.Module):
    """Input: float32 [B, 3, H, W], RGB on 0..1, of any size: it makes the smaller ones itself."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = PatchEncoder()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, GRID * GRID, WIDTH))
        self.sizes = nn.Parameter(torch.zeros(len(LONGER_SIDES) + 1, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, H, W] to ``quality`` [B, 1].

        It is on the scale of the opinions that the weights were trained on, 0..100 for SPAQ's, of
        which 100 is best; single pictures may lie outside.

        Raises:
            ValueError: Another shape or type, or pictures too narrow to be made smaller.
        """
        check_images(images)
        tokens = [self.cls_token.expand(len(images), -1, -1)]
        for size, picture in zip(self.sizes, images_to_sizes((images - 0.5) * 2), strict=True):
            patches = picture_to_patches(picture)  # [B, h, w, 3, 32, 32]
            cells = grid_cells(*patches.shape[1:3], device=images.device)
            parts = torch.split(patches.flatten(0, 2), PATCHES_AT_ONCE)
            encoded = torch.cat([self.patches(part) for part in parts])
            encoded = encoded.view(len(images), -1, WIDTH)
            tokens.append(encoded + self.positions[0, cells] + size)
        x = torch.cat(tokens, dim=1)
        for layer in self.layers:
            x = layer(x)
        summary = self.norm(x[:, 0])
        # bfloat16 knows quarters of a point here, and no more.
        with torch.autocast(images.device.type, enabled=False):
            return {"quality": self.head(summary.to(self.head.weight.dtype))}


def images_to_sizes(images: Tensor) -> list[Tensor]:
    """[B, 3, H, W] to pictures whose longer sides are 224, 384 and their own, shape kept.

    Pictures that are smaller are enlarged. Bicubic interpolation may leave the range of values.
    """
    height, width = images.shape[2:]
    sizes = []
    for side in LONGER_SIDES:
        ratio = side / max(height, width)
        shape = round(height * ratio), round(width * ratio)
        sizes.append(F.interpolate(images, shape, mode="bicubic", align_corners=False))
    return [*sizes, images]


def picture_to_patches(picture: Tensor) -> Tensor:
    """[B, 3, H, W] to [B, ceil(H / 32), ceil(W / 32), 3, 32, 32], with zeros around it if need be.

    The odd row or column of zeros is at the bottom or at the right.
    """
    missing = [-length % PATCH for length in picture.shape[2:]]
    top, left = (length // 2 for length in missing)
    picture = F.pad(picture, (left, missing[1] - left, top, missing[0] - top))
    patches = picture.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # [B, 3, h, w, 32, 32]
    return patches.permute(0, 2, 3, 1, 4, 5)


def grid_cells(rows: int, columns: int, *, device: torch.device | str = "cpu") -> Tensor:
    """Which of the 100 learnt positions each patch has: int64 [rows * columns], row by row."""
    down = torch.arange(rows, device=device) * GRID // rows
    across = torch.arange(columns, device=device) * GRID // columns
    return (down[:, None] * GRID + across).flatten()


def check_images(images: Tensor) -> None:
    """Whether the network can take them.

    Raises:
        ValueError: It cannot.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images are [B, 3, H, W], not {list(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images are float32 on 0..1, not {images.dtype}")
    height, width = images.shape[2:]
    if min(height, width) * 2 * LONGER_SIDES[0] <= max(height, width):
        raise ValueError(
            f"images whose longer side is {2 * LONGER_SIDES[0]} times the shorter or more leave "
            f"nothing at {LONGER_SIDES[0]} pixels; these are {width} wide and {height} high"
        )


def build(variant: str = "") -> MUSIQ:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"musiq has no variant '{variant}'")
    return MUSIQ()


def checkpoint_to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The published tensors by our names; unknown names stay as they are."""
    ours = {theirs: name for name, theirs in published_names(checkpoint).items()}
    return {ours.get(key, key): value for key, value in checkpoint.items()}


def published_names(_: Mapping[str, Any]) -> dict[str, str]:
    """Our names to those in the file."""
    modules = _PUBLISHED_MODULES | {
        f"layers.{i}.{ours}": f"transformer_encoder.transformer.encoderblock_{i}.{theirs}"
        for i in range(LAYERS)
        for ours, theirs in _PUBLISHED_LAYER.items()
    }
    return _PUBLISHED_TENSORS | {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in modules.items()
        for kind in ("weight", "bias")
    }
