"""How much two frames differ, pixel by pixel. It has no weights.

The arithmetic is that of VBench's temporal flickering (Vchitect/VBench 45e79ec, Apache-2.0,
vbench/temporal_flickering.py): a mean in float32, in NumPy's order of sums over OpenCV's order of
channels. A mean in float64 differs in the ninth digit.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class FrameDifference(nn.Module):
    """Input: float32 [B, 3, 2, H, W], RGB, whole numbers on 0..255."""

    def forward(self, pairs: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 2, H, W] to ``mean`` [B, 1], 0..255: the mean absolute difference.

        Raises:
            ValueError: Another shape.
        """
        if pairs.ndim != 5 or pairs.shape[1:3] != (3, 2):
            raise ValueError(f"pairs are [B, 3, 2, H, W], not {list(pairs.shape)}")
        differences = (pairs[:, :, 0] - pairs[:, :, 1]).abs_().to(torch.uint8)
        # One byte a channel leaves the device; NumPy sums in the order of memory.
        rows = differences.permute(0, 2, 3, 1).flip(3).contiguous().cpu().numpy()
        means = [row.astype(np.float32).mean() for row in rows]
        return {"mean": torch.tensor(np.array(means))[:, None]}


def build(variant: str = "") -> FrameDifference:
    """The function; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"frame-difference has no variant '{variant}'")
    return FrameDifference()
