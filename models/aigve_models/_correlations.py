"""Correlations of places of two feature maps, computed where they are looked up.

RAFT and AMT compare every place of one map with a square around a place of another, at several
sizes. They multiply all pairs of places first, and look up sums of those; as pooling and
interpolation are linear, products of pooled features are the same numbers, in memory that grows
with the number of places and not with its square.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BYTES_AT_ONCE = 22 << 20
"""Of windows that are gathered together. On a CPU many more leave its caches."""
BYTES_AT_ONCE_CUDA = 512 << 20
"""On a GPU, whose calls cost more than what they do with less."""


def features_to_rows(features: Tensor) -> Tensor:
    """[B, C, h, w] to [B * h * w, C], over the root of C."""
    channels = features.shape[1]
    return features.movedim(1, 3).reshape(-1, channels) / math.sqrt(channels)


def features_to_windows(features: Tensor, sizes: int, radius: int) -> list[Tensor]:
    """[B, C, h, w] to views [B, h + s + 1, w + s + 1, s, s, C] of every window, at several sizes.

    Each size is half of the one before. Windows have ``s = 2 * radius + 2`` places a side; the one
    at (y, x) begins at row ``y - s`` and column ``x - s``. Beyond the border there are zeros, so
    the first and the last windows have nothing else.
    """
    side = 2 * radius + 2
    levels = []
    for level in range(sizes):
        pooled = F.avg_pool2d(features, 2**level)
        rows = F.pad(pooled, [side] * 4).movedim(1, 3).contiguous()  # [B, h + 2 s, w + 2 s, C]
        levels.append(rows.unfold(1, side, 1).unfold(2, side, 1).movedim(3, 5))
    return levels


def rows_to_correlations(rows: Tensor, windows: Tensor, centres: Tensor) -> Tensor:
    """Scalar products of rows with what is around places, bilinearly.

    Args:
        rows: float32 [Q, C], the same number for each of B maps.
        windows: [B, h + s + 1, w + s + 1, s, s, C], as :func:`features_to_windows` gives them.
        centres: float32 [Q, 2], x and y of a place for each row, anywhere.

    Returns:
        float32 [Q, (s - 1) ** 2]: offsets from minus to plus the radius in x, and for each in y.
    """
    batch, y_end, x_end, side = windows.shape[:4]
    corners = centres.floor()
    fractions = (centres - corners)[:, :, None, None]
    # As whole numbers first: what is not finite has no bounds.
    corners = corners.long() - (side // 2 - 1) + side
    picks = (
        torch.arange(batch, device=rows.device).repeat_interleave(len(rows) // batch),
        corners[:, 1].clamp(0, y_end - 1),
        corners[:, 0].clamp(0, x_end - 1),
    )
    bytes_at_once = BYTES_AT_ONCE_CUDA if rows.is_cuda else BYTES_AT_ONCE
    at_once = max(1, bytes_at_once // (side * side * rows.shape[1] * rows.element_size()))
    products = []
    with torch.autocast(rows.device.type, enabled=False):
        for part, *pick in zip(*(torch.split(x, at_once) for x in (rows, *picks)), strict=True):
            products.append(windows[tuple(pick)].flatten(1, 2) @ part[:, :, None])
    whole = torch.cat(products).view(-1, side, side)  # y, x
    along_x = torch.lerp(whole[:, :, :-1], whole[:, :, 1:], fractions[:, 0])
    along_y = torch.lerp(along_x[:, :-1], along_x[:, 1:], fractions[:, 1])
    return along_y.transpose(1, 2).flatten(1)
