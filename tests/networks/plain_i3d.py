"""I3D in ordinary layers: what its fast ways must equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import torch.nn.functional as F
from aigve_models import i3d_kinetics400
from torch import Tensor


@contextmanager
def plain_layers() -> Iterator[None]:
    """Within it, an I3D that is not folded pads with zeros and runs in [B, C, T, H, W] order."""
    with mock.patch.multiple(
        i3d_kinetics400, same_conv3d=plain_conv3d, same_max_pool=plain_max_pool
    ):
        yield


def plain_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int]) -> Tensor:
    padded = zero_padded(x.contiguous(), weight.shape[2:], stride)
    return F.conv3d(padded, weight.contiguous(), bias, tuple(stride))


def plain_max_pool(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    return F.max_pool3d(zero_padded(x, kernel, stride), tuple(kernel), tuple(stride))


def zero_padded(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """With the zeros that make ceil(n / stride) of n; for an odd number of them, one more after."""
    zeros: list[int] = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(k - (size % s or s), 0)
        zeros = [total // 2, total - total // 2, *zeros]
    return F.pad(x, zeros)
