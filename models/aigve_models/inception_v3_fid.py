"""The Inception v3 of 2015 that FID, IS and KID are defined on.

Paper: Szegedy, Vanhoucke, Ioffe, Shlens & Wojna, Rethinking the Inception Architecture for Computer
Vision, CVPR 2016 (arXiv:1512.00567); as the measure of images: Heusel et al., NIPS 2017
(arXiv:1706.08500). Reference: the TensorFlow graph ``inception-2015-12-05`` (Apache-2.0) and its
conversions https://github.com/mseitzer/pytorch-fid b9c1811 and
https://github.com/toshas/torch-fidelity 5e211a9 (both Apache-2.0), whose published file this reads.

What sets the graph apart from later releases of the same name (torchvision's, timm's):

* 1008 classes, of which 0 and 1001 to 1007 mean nothing
* average pools inside the blocks divide by the pixels that are there, not by 9 at the border
* the last block takes a maximum where the one before it takes an average
* batch normalisation with epsilon 1e-3, and inputs in -1..1

Different here: one forward gives what the converters call the 64-, 192-, 768- and 2048-dimensional
features and, as torch-fidelity's ``logits_unbiased``, the logits without their bias. Layers are
named as in the file, which names them as the graph does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Unit(nn.Module):
    """Convolution, batch norm, ReLU; zero padding keeps the size unless there is a stride."""

    def __init__(
        self,
        channels: int,
        outputs: int,
        height: int,
        width: int,
        *,
        stride: int = 1,
        padded: bool = True,
    ) -> None:
        super().__init__()
        padding = (height // 2, width // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(
            channels, outputs, (height, width), stride=stride, padding=padding, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, D, H', W'], 0 or more."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class BlockA(nn.Module):
    """35 x 35: one 5 x 5, two 3 x 3, and an average."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Unit(channels, 64, 1, 1)
        self.branch5x5_1 = Unit(channels, 48, 1, 1)
        self.branch5x5_2 = Unit(48, 64, 5, 5)
        self.branch3x3dbl_1 = Unit(channels, 64, 1, 1)
        self.branch3x3dbl_2 = Unit(64, 96, 3, 3)
        self.branch3x3dbl_3 = Unit(96, 96, 3, 3)
        self.branch_pool = Unit(channels, pooled, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 35, 35] to [B, 224 + pooled, 35, 35]."""
        parts = [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(average_3x3(x)),
        ]
        return torch.cat(parts, dim=1)


class BlockB(nn.Module):
    """35 x 35 to 17 x 17: every branch strides."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = Unit(288, 384, 3, 3, stride=2)
        self.branch3x3dbl_1 = Unit(288, 64, 1, 1)
        self.branch3x3dbl_2 = Unit(64, 96, 3, 3)
        self.branch3x3dbl_3 = Unit(96, 96, 3, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 288, 35, 35] to [B, 768, 17, 17]."""
        parts = [
            self.branch3x3(x),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            F.max_pool2d(x, 3, stride=2),
        ]
        return torch.cat(parts, dim=1)


class BlockC(nn.Module):
    """17 x 17: 7 x 7 convolutions as a row and a column, ``inner`` channels between them."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch1x1 = Unit(768, 192, 1, 1)
        self.branch7x7_1 = Unit(768, inner, 1, 1)
        self.branch7x7_2 = Unit(inner, inner, 1, 7)
        self.branch7x7_3 = Unit(inner, 192, 7, 1)
        self.branch7x7dbl_1 = Unit(768, inner, 1, 1)
        self.branch7x7dbl_2 = Unit(inner, inner, 7, 1)
        self.branch7x7dbl_3 = Unit(inner, inner, 1, 7)
        self.branch7x7dbl_4 = Unit(inner, inner, 7, 1)
        self.branch7x7dbl_5 = Unit(inner, 192, 1, 7)
        self.branch_pool = Unit(768, 192, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 768, 17, 17] to the same shape."""
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        parts = [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(twice)),
            self.branch_pool(average_3x3(x)),
        ]
        return torch.cat(parts, dim=1)


class BlockD(nn.Module):
    """17 x 17 to 8 x 8: every branch strides."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Unit(768, 192, 1, 1)
        self.branch3x3_2 = Unit(192, 320, 3, 3, stride=2)
        self.branch7x7x3_1 = Unit(768, 192, 1, 1)
        self.branch7x7x3_2 = Unit(192, 192, 1, 7)
        self.branch7x7x3_3 = Unit(192, 192, 7, 1)
        self.branch7x7x3_4 = Unit(192, 192, 3, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 768, 17, 17] to [B, 1280, 8, 8]."""
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        parts = [
            self.branch3x3_2(self.branch3x3_1(x)),
            self.branch7x7x3_4(seven),
            F.max_pool2d(x, 3, stride=2),
        ]
        return torch.cat(parts, dim=1)


class BlockE(nn.Module):
    """8 x 8: 3 x 3 convolutions split into a row and a column side by side."""

    def __init__(self, channels: int, *, takes_maximum: bool) -> None:
        super().__init__()
        self.takes_maximum = takes_maximum
        self.branch1x1 = Unit(channels, 320, 1, 1)
        self.branch3x3_1 = Unit(channels, 384, 1, 1)
        self.branch3x3_2a = Unit(384, 384, 1, 3)
        self.branch3x3_2b = Unit(384, 384, 3, 1)
        self.branch3x3dbl_1 = Unit(channels, 448, 1, 1)
        self.branch3x3dbl_2 = Unit(448, 384, 3, 3)
        self.branch3x3dbl_3a = Unit(384, 384, 1, 3)
        self.branch3x3dbl_3b = Unit(384, 384, 3, 1)
        self.branch_pool = Unit(channels, 192, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 8, 8] to [B, 2048, 8, 8]."""
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.takes_maximum else average_3x3(x)
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(once),
            self.branch3x3_2b(once),
            self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice),
            self.branch_pool(pooled),
        ]
        return torch.cat(parts, dim=1)


class InceptionV3FID(nn.Module):
    """Input: float32 [B, 3, 299, 299], RGB, about -1..1.

    pytorch-fid feeds it ``x / 127.5 - 1`` of 0..255, TensorFlow and the others ``(x - 128) / 128``;
    the resizing before that differs too, so both belong to the metric and not to the network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, 3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3, 3, padded=False)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, 3)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3, 3, padded=False)
        self.Mixed_5b = BlockA(192, pooled=32)
        self.Mixed_5c = BlockA(256, pooled=64)
        self.Mixed_5d = BlockA(288, pooled=64)
        self.Mixed_6a = BlockB()
        self.Mixed_6b = BlockC(inner=128)
        self.Mixed_6c = BlockC(inner=160)
        self.Mixed_6d = BlockC(inner=160)
        self.Mixed_6e = BlockC(inner=192)
        self.Mixed_7a = BlockD()
        self.Mixed_7b = BlockE(1280, takes_maximum=False)
        self.Mixed_7c = BlockE(2048, takes_maximum=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 299, 299] to ``features`` and ``featuresN`` [B, N], ``logits`` [B, 1008].

        ``features`` are the 2048 after the last block, ``features64`` and ``features192`` those
        after the first and second pool, ``features768`` those before the last stride.
        """
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(frames)))
        x64 = F.max_pool2d(x, 3, stride=2)  # [B, 64, 73, 73]
        x192 = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x64)), 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x192)))  # [B, 288, 35, 35]
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        x768 = self.Mixed_6e(self.Mixed_6d(x))  # [B, 768, 17, 17]
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x768)))  # [B, 2048, 8, 8]
        features = x.mean((2, 3))
        return {
            "features": features,
            "logits": F.linear(features, self.fc.weight),
            "features64": x64.mean((2, 3)),
            "features192": x192.mean((2, 3)),
            "features768": x768.mean((2, 3)),
        }


def average_3x3(x: Tensor) -> Tensor:
    """The mean of the pixels within one step, fewer than 9 at the border: shape unchanged."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def build(variant: str = "") -> InceptionV3FID:
    """The network with random weights; there is one variant, without a name."""
    if variant:
        raise ValueError(f"inception-v3-fid has no variant '{variant}'")
    return InceptionV3FID()
