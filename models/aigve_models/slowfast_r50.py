"""SlowFast 8x8, ResNet-50: a wide network on few frames beside a narrow one on all of them.

Paper: Feichtenhofer, Fan, Malik & He, SlowFast Networks for Video Recognition, ICCV 2019
(arXiv:1812.03982). Reference: pytorchvideo's ``slowfast_r50``
(https://github.com/facebookresearch/pytorchvideo, commit f3142bb, Apache-2.0), whose names of
weights are kept; no code is from there.

Different here: one forward gives the class scores and the pooled features that SimpleVQA and
Light-VQA read (there, pytorchvideo's network without its last block), and the frames of the slow
pathway are picked inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

FRAMES = 32
SLOW_FRAMES = (0, 4, 8, 13, 17, 22, 26, 31)
"""``torch.linspace(0, 31, 8).long()``: the first and the last frame, and six between."""
MIN_SIDE = 193
"""Five halvings, rounded up, must leave the seven rows and columns that the last pooling takes."""

# Blocks, width of the slow pathway, and how many frames its first convolutions see, by stage.
_STAGES = ((3, 64, 1), (4, 128, 1), (6, 256, 3), (3, 512, 3))
_FAST_SHARE = 8
"""The fast pathway has an eighth of the channels."""


class FrameConv3d(nn.Conv3d):
    """A convolution whose kernel sees one frame at a time."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, D, T, ceil(H / s), ceil(W / s)]."""
        # As pictures: on a CPU, PyTorch convolves one clip of few channels in a slow way (im2col)
        # and loses the memory order. A fifth of the whole network's time.
        pictures = x.movedim(2, 1).flatten(0, 1)  # [B * T, C, H, W]
        weight, stride, padding = self.weight[:, :, 0], self.stride[1:], self.padding[1:]
        pictures = F.conv2d(pictures, weight, self.bias, stride, padding)
        return pictures.view(len(x), -1, *pictures.shape[1:]).movedim(1, 2)


class Stem(nn.Module):
    """Convolution, batch norm, ReLU, and a pooling: a quarter of the height and width."""

    def __init__(self, outputs: int, frames: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            3, outputs, (frames, 7, 7), (1, 2, 2), padding=(frames // 2, 3, 3), bias=False
        )
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, T, H, W] to [B, D, T, ceil(H / 4), ceil(W / 4)], 0 or more."""
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), padding=(0, 1, 1))


class Bottleneck(nn.Module):
    """Three convolutions: over time, over place, and one that widens."""

    def __init__(self, inputs: int, inner: int, *, frames: int, stride: int) -> None:
        super().__init__()
        self.conv_a = nn.Conv3d(
            inputs, inner, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False
        )
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = FrameConv3d(
            inner, inner, (1, 3, 3), (1, stride, stride), padding=(0, 1, 1), bias=False
        )
        self.norm_b = nn.BatchNorm3d(inner)
        self.conv_c = FrameConv3d(inner, 4 * inner, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(4 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, 4 * inner, T, ceil(H / s), ceil(W / s)]."""
        x = F.relu(self.norm_a(self.conv_a(x)), inplace=True)
        x = F.relu(self.norm_b(self.conv_b(x)), inplace=True)
        residual: Tensor = self.norm_c(self.conv_c(x))
        return residual


class ResidualBlock(nn.Module):
    """A bottleneck and a way around it, which has a convolution where the shape changes."""

    def __init__(self, inputs: int, inner: int, *, frames: int, stride: int) -> None:
        super().__init__()
        self.widens = inputs != 4 * inner
        if self.widens:
            self.branch1_conv = FrameConv3d(inputs, 4 * inner, 1, (1, stride, stride), bias=False)
            self.branch1_norm = nn.BatchNorm3d(4 * inner)
        self.branch2 = Bottleneck(inputs, inner, frames=frames, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, 4 * inner, T, ceil(H / s), ceil(W / s)], 0 or more."""
        residual = self.branch2(x)
        shortcut = self.branch1_norm(self.branch1_conv(x)) if self.widens else x
        return F.relu(residual.add_(shortcut), inplace=True)


class Stage(nn.Module):
    """Residual blocks one after another; the first may halve height and width."""

    def __init__(self, inputs: int, inner: int, *, blocks: int, frames: int, stride: int) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList(
            ResidualBlock(
                4 * inner if later else inputs, inner, frames=frames, stride=1 if later else stride
            )
            for later in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, 4 * inner, T, ceil(H / s), ceil(W / s)], 0 or more."""
        for block in self.res_blocks:
            x = block(x)
        return x


class Fusion(nn.Module):
    """What the slow pathway is told of the fast one: a quarter of its steps, twice its channels."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv_fast_to_slow = nn.Conv3d(
            inputs, 2 * inputs, (7, 1, 1), (4, 1, 1), padding=(3, 0, 0), bias=False
        )
        self.norm = nn.BatchNorm3d(2 * inputs)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        """[B, C, T, H, W] and [B, D, 4 * T, H, W] to [B, C + 2 * D, T, H, W]."""
        told = F.relu(self.norm(self.conv_fast_to_slow(fast)), inplace=True)
        return torch.cat([slow, told], dim=1)


class Pathways(nn.Module):
    """The slow and the fast part of a stage, and the way from the fast one to the slow one."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: Fusion | None) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = fusion

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of 8 and of 32 frames to such maps."""
        slow_part, fast_part = self.multipathway_blocks
        slow, fast = slow_part(slow), fast_part(fast)
        if self.multipathway_fusion is not None:
            slow = self.multipathway_fusion(slow, fast)
        return slow, fast


class Pooling(nn.Module):
    """Means over all frames and 7 x 7 places, at every place: without weights."""

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        """[B, 2048, 8, H, W] and [B, 256, 32, H, W] to float32 [B, 2304, 1, H - 6, W - 6]."""
        # A GPU's autocast would take these means in bfloat16.
        pooled = [
            F.avg_pool3d(slow.float(), (len(SLOW_FRAMES), 7, 7), stride=1),
            F.avg_pool3d(fast.float(), (FRAMES, 7, 7), stride=1),
        ]
        return torch.cat(pooled, dim=1)


class Classifier(nn.Module):
    """One linear layer; the name of its child is the published one."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(2304, 400)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, 2304] to float32 [B, 400]."""
        logits: Tensor = self.proj(rows)
        return logits.float()


class SlowFast(nn.Module):
    """Input: float32 [B, 3, 32, H, W], RGB, ``(x / 255 - 0.45) / 0.225``; H and W of 193 or more.

    The metrics give it 224 x 224.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [
            Pathways(Stem(64, frames=1), Stem(64 // _FAST_SHARE, frames=5), Fusion(8))
        ]
        inputs = 64
        for number, (depth, inner, frames) in enumerate(_STAGES):
            stride = 1 if number == 0 else 2
            fast_inputs, fast_inner = inputs // _FAST_SHARE, inner // _FAST_SHARE
            slow = Stage(
                inputs + 2 * fast_inputs, inner, blocks=depth, frames=frames, stride=stride
            )
            fast = Stage(fast_inputs, fast_inner, blocks=depth, frames=3, stride=stride)
            last = number == len(_STAGES) - 1
            blocks.append(Pathways(slow, fast, None if last else Fusion(4 * fast_inner)))
            inputs = 4 * inner
        self.blocks = nn.ModuleList([*blocks, Pooling(), Classifier()])

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 32, H, W] to ``features`` [B, 2304] and ``logits`` [B, 400].

        The features are means over time and place: 2048 of the slow pathway, then 256 of the fast
        one. The logits come before a softmax.

        Raises:
            ValueError: Another shape, another number of frames, or clips that are too small.
        """
        *stages, pooling, classifier = self.blocks
        fast = checked_clips(clips)
        slow = fast[:, :, list(SLOW_FRAMES)]
        for stage in stages:
            slow, fast = stage(slow, fast)
        # The published classifier takes its mean after the linear layer: equal but for round-off.
        features = pooling(slow, fast).mean((2, 3, 4))
        return {"features": features, "logits": classifier(features)}


def build(variant: str = "") -> SlowFast:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"slowfast-r50 has no variant '{variant}'")
    return SlowFast()


def checkpoint_to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a published file, which has them beside others; bare ones stay as they are."""
    state = checkpoint.get("model_state", checkpoint)
    return dict(state)


@torch.fx.wrap
def checked_clips(clips: Tensor) -> Tensor:
    """The same clips, if the network can take them."""
    if clips.ndim != 5 or clips.shape[1] != 3:
        raise ValueError(f"clips are [B, 3, T, H, W], not {list(clips.shape)}")
    frames, height, width = clips.shape[2:]
    if frames != FRAMES:
        # With other numbers the last poolings of the two pathways do not fit together.
        raise ValueError(f"slowfast-r50 needs clips of {FRAMES} frames: {frames}")
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"slowfast-r50 needs {MIN_SIDE} x {MIN_SIDE} pixels or more: {height} x {width}"
        )
    return clips.contiguous(memory_format=torch.channels_last_3d)
