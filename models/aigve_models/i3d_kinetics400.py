"""I3D on RGB, the Inception network with 3-D convolutions that FVD is defined on.

Paper: Carreira & Zisserman, Quo Vadis, Action Recognition?, CVPR 2017 (arXiv:1705.07750). FVD:
Unterthiner et al., arXiv:1812.01717. Reference: the graph of the TF-Hub module
``deepmind/i3d-kinetics-400/1``. Names of weights: https://github.com/piergiaj/pytorch-i3d, commit
05783d1 (Apache-2.0), which VideoGPT, TATS and cd-fvd kept; no code is from there.

What the variants are: the TF graph has an epsilon of 1e-3 in its batch norms; VideoGPT (733d2b1)
and those after it load the same weights with PyTorch's default, 1e-5, which moves the logits by
about 0.8 %.

Different here, for speed on a CPU and equal to 1e-6 (a test holds this network against plain
layers): ``same_conv3d`` and ``same_max_pool`` choose cheaper ways through the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

EPSILONS = {"": 1e-3, "eps1e-3": 1e-3, "eps1e-5": 1e-5}
"""Batch-norm epsilon by variant."""

MIN_FRAMES = 9
"""Three halvings, rounded up, must leave the two time steps that the last pooling takes."""
MIN_SIDE = 193
"""Five halvings, rounded up, must leave the seven rows and columns that the last pooling takes."""

_BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
_HASSONY2_BRANCHES = {
    "branch_0": "b0",
    "branch_1.0": "b1a",
    "branch_1.1": "b1b",
    "branch_2.0": "b2a",
    "branch_2.1": "b2b",
    "branch_3.1": "b3b",
}
_HASSONY2_LAYERS = {"conv3d": "conv3d", "batch3d": "bn"}
_HASSONY2_PLACES = {
    "conv3d_1a_7x7": "Conv3d_1a_7x7",
    "conv3d_2b_1x1": "Conv3d_2b_1x1",
    "conv3d_2c_3x3": "Conv3d_2c_3x3",
    "conv3d_0c_1x1": "logits",
} | {
    f"mixed_{block}.{theirs}": f"Mixed_{block}.{ours}"
    for block in _BLOCKS
    for theirs, ours in _HASSONY2_BRANCHES.items()
}


class SameConv3d(nn.Conv3d):
    """A cubic convolution with the zero padding that TensorFlow calls SAME."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, D, ceil(T / s), ceil(H / s), ceil(W / s)]."""
        return same_conv3d(x, self.weight, self.bias, self.stride)


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, epsilon: float, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv3d = SameConv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, D, T', H', W'], 0 or more."""
        return F.relu(self.bn(self.conv3d(x)), inplace=True)


class Inception(nn.Module):
    """Four branches side by side; each keeps time, height and width."""

    def __init__(self, inputs: int, outputs: Sequence[int], *, epsilon: float) -> None:
        """Channels that go in, and those of b0, b1a, b1b, b2a, b2b and b3b."""
        super().__init__()
        unit = partial(Unit, epsilon=epsilon)
        b0, b1a, b1b, b2a, b2b, b3b = outputs
        self.b0 = unit(inputs, b0, 1)
        self.b1a = unit(inputs, b1a, 1)
        self.b1b = unit(b1a, b1b, 3)
        self.b2a = unit(inputs, b2a, 1)
        self.b2b = unit(b2a, b2b, 3)
        self.b3b = unit(inputs, b3b, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, D, T, H, W]."""
        branches = [
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(same_max_pool(x, (3, 3, 3), (1, 1, 1))),
        ]
        return torch.cat(branches, dim=1)


class Classifier(nn.Module):
    """A 1x1x1 convolution with a bias; the name of its child is the published one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = SameConv3d(1024, 400, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1024, T, H, W] to [B, 400, T, H, W]."""
        logits: Tensor = self.conv3d(x)
        return logits


class I3D(nn.Module):
    """Input: float32 [B, 3, T, H, W], RGB, -1..1; T of 9 or more, H and W of 193 or more.

    The metrics give it 224 x 224.
    """

    def __init__(self, *, epsilon: float) -> None:
        super().__init__()
        unit, inception = partial(Unit, epsilon=epsilon), partial(Inception, epsilon=epsilon)
        self.Conv3d_1a_7x7 = unit(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = unit(64, 64, 1)
        self.Conv3d_2c_3x3 = unit(64, 192, 3)
        self.Mixed_3b = inception(192, (64, 96, 128, 16, 32, 32))
        self.Mixed_3c = inception(256, (128, 128, 192, 32, 96, 64))
        self.Mixed_4b = inception(480, (192, 96, 208, 16, 48, 64))
        self.Mixed_4c = inception(512, (160, 112, 224, 24, 64, 64))
        self.Mixed_4d = inception(512, (128, 128, 256, 24, 64, 64))
        self.Mixed_4e = inception(512, (112, 144, 288, 32, 64, 64))
        self.Mixed_4f = inception(528, (256, 160, 320, 32, 128, 128))
        self.Mixed_5b = inception(832, (256, 160, 320, 32, 128, 128))
        self.Mixed_5c = inception(832, (384, 192, 384, 48, 128, 128))
        self.logits = Classifier()

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, T, H, W] to ``logits`` [B, 400] and ``features`` [B, 1024].

        Both are means over time and place; ``features`` are of the last inception block.

        Raises:
            ValueError: Another shape, or clips that are too short or too small.
        """
        x = self.clips_to_maps(clips)
        return {
            "logits": self.maps_to_logits(x).mean((2, 3, 4)),
            "features": x.mean((2, 3, 4)),
        }

    def clips_to_maps(self, clips: Tensor) -> Tensor:
        """[B, 3, T, H, W] to float32 [B, 1024, ceil(T / 8), ceil(H / 32), ceil(W / 32)]."""
        x = checked_clips(clips).contiguous(memory_format=torch.channels_last_3d)
        x = self.Conv3d_1a_7x7(x)
        x = same_max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        x = same_max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.Mixed_3c(self.Mixed_3b(x))
        x = same_max_pool(x, (3, 3, 3), (2, 2, 2))
        x = self.Mixed_4d(self.Mixed_4c(self.Mixed_4b(x)))
        x = self.Mixed_4f(self.Mixed_4e(x))
        x = same_max_pool(x, (2, 2, 2), (2, 2, 2))
        maps: Tensor = self.Mixed_5c(self.Mixed_5b(x))
        # The last pooling has no bfloat16 kernel on a CPU, and means want the precision.
        return maps.float()

    def maps_to_logits(self, x: Tensor) -> Tensor:
        """[B, 1024, T, H, W] to [B, 400, T - 1, H - 6, W - 6]: the class scores of each place."""
        logits: Tensor = self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1))
        return logits.float()


def build(variant: str = "") -> I3D:
    """The network with random weights.

    Args:
        variant: ``eps1e-3``, which is also the empty one, or ``eps1e-5``.

    Raises:
        ValueError: Another variant.
    """
    if variant not in EPSILONS:
        raise ValueError(f"i3d-kinetics400 has no variant '{variant}': eps1e-3 or eps1e-5")
    return I3D(epsilon=EPSILONS[variant])


def checkpoint_to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Published names to ours, which are those of piergiaj; unknown names stay as they are.

    Takes the layout of https://github.com/hassony2/kinetics_i3d_pytorch too.
    """
    state = {_our_name(key): value for key, value in checkpoint.items()}
    for key in [key for key in state if key.endswith(".bn.running_var")]:
        # Files from before PyTorch 0.4.1 lack this counter, which only training reads.
        counter = f"{key.removesuffix('running_var')}num_batches_tracked"
        state.setdefault(counter, torch.tensor(0))
    return state


def _our_name(key: str) -> str:
    place, _, rest = key.rpartition(".")
    place, _, layer = place.rpartition(".")
    if place in _HASSONY2_PLACES and layer in _HASSONY2_LAYERS:
        return f"{_HASSONY2_PLACES[place]}.{_HASSONY2_LAYERS[layer]}.{rest}"
    return key


@torch.fx.wrap
def checked_clips(clips: Tensor) -> Tensor:
    """The same clips, if the network can take them."""
    if clips.ndim != 5 or clips.shape[1] != 3:
        raise ValueError(f"clips are [B, 3, T, H, W], not {list(clips.shape)}")
    frames, height, width = clips.shape[2:]
    if frames < MIN_FRAMES:
        raise ValueError(f"i3d-kinetics400 needs clips of {MIN_FRAMES} frames or more: {frames}")
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"i3d-kinetics400 needs {MIN_SIDE} x {MIN_SIDE} pixels or more: {height} x {width}"
        )
    return clips


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """How many zeros TensorFlow's SAME puts before and after; the odd one goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


@torch.fx.wrap
def same_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...]) -> Tensor:
    """A 3-D convolution with SAME padding, as ``F.conv3d`` after ``F.pad``."""
    kernel = weight.shape[2:]
    if {*kernel, *stride} == {1}:
        # In channels-last order each place is a row: one matrix product, where ATen's convolution
        # would copy everything into columns first.
        rows = F.linear(x.movedim(1, -1), weight.flatten(1), bias)
        return rows.movedim(-1, 1)
    sides = [same_padding(*of) for of in zip(x.shape[2:], kernel, stride, strict=True)]
    padding = [before for before, _ in sides]
    if any(before != after for before, after in sides):
        # F.pad begins with the last dimension.
        x = F.pad(x, [zeros for side in reversed(sides) for zeros in side])
        padding = [0, 0, 0]
    if _onednn_takes(x):
        # ATen's own choice for small batches is a slower way (im2col), above all in one thread.
        convolve = torch.ops.aten.mkldnn_convolution
        result: Tensor = convolve(x, weight, bias, padding, stride, [1, 1, 1], 1)
        return result
    return F.conv3d(x, weight, bias, stride, padding)


def _onednn_takes(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.aten, "mkldnn_convolution")
        # Autocast knows F.conv3d, not the operator beneath.
        and not torch.is_autocast_enabled("cpu")
    )


@torch.fx.wrap
def same_max_pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """3-D max pooling with SAME padding of numbers that are 0 or more.

    A maximum over a box is one over height and width, then one over time. PyTorch's kernel for two
    dimensions is vectorised; the one for three takes a third of the whole network's time.
    """
    batch = x.shape[0]
    pictures = x.movedim(2, 1).flatten(0, 1)  # [B * T, C, H, W]
    sides = [same_padding(*of) for of in zip(x.shape[3:], kernel[1:], stride[1:], strict=True)]
    # PyTorch pads with minus infinity: the same, as no window lies in the padding only. ceil_mode
    # is the one more place at the end that SAME has with a stride of 2.
    padding = [before for before, _ in sides]
    pictures = F.max_pool2d(pictures, kernel[1:], stride[1:], padding, ceil_mode=True)
    x = pictures.view(batch, -1, *pictures.shape[1:]).movedim(1, 2)
    if kernel[0] == 1:
        return x
    x = F.pad(x, (0, 0, 0, 0, *same_padding(x.shape[2], kernel[0], stride[0])))
    starts = x.shape[2] - kernel[0] + 1
    return reduce(torch.maximum, [x[:, :, i : i + starts : stride[0]] for i in range(kernel[0])])
