"""AMT-S: the frame halfway between two frames, and how far the true one is from it.

Paper: Li, Zhu, Han, Hou, Guo & Cheng, AMT: All-Pairs Multi-Field Transforms for Efficient Frame
Interpolation, CVPR 2023 (arXiv:2304.09790). Reference: https://github.com/MCG-NKU/AMT and its copy
in VBench (https://github.com/Vchitect/VBench, commit 45e79ec1, ``vbench/third_party/amt`` and
``vbench/motion_smoothness.py``). AMT's code and weights are CC BY-NC 4.0: its names of weights are
kept, no code is from there.

Different here: half time is the only time; and correlations are computed where they are looked up,
from features that are pooled before. As pooling and interpolation are linear, they are the same
numbers, in memory that grows with the pixels: all pairs of two 1080p frames, with their pyramids,
are 11 GB. Both flows are in one tensor, float32 [B, 4, H, W]: from a place in the middle frame to
where the first frame shows the same, x and y in pixels, and then to where the last one does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigve_models._correlations import (
    features_to_rows,
    features_to_windows,
    rows_to_correlations,
)

STRIDE = 16
"""Frames are padded to multiples of this many pixels: the encoder halves them four times."""
MIN_SIDE = 113
"""Padded to 128, the coarsest of the correlations has two places a side; with one, the reference
divides by zero."""

LEVELS = 4
RADIUS = 3
CORRELATIONS = 2 * LEVELS * (2 * RADIUS + 1) ** 2
FIELDS = 3
"""Pairs of flows at full size: as many candidates for each pixel."""
WIDTHS = (20, 32, 44, 56)
"""Channels at a half, a quarter, an eighth and a sixteenth of the size."""
SIDE_CHANNELS = 20


class Bottleneck(nn.Module):
    """Three convolutions with instance norms and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = outputs // 4
        self.conv1 = nn.Conv2d(inputs, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1)
        self.conv3 = nn.Conv2d(inner, outputs, 1)
        self.downsample = nn.Sequential()
        if stride > 1:
            self.downsample.append(nn.Conv2d(inputs, outputs, 1, stride))
            self.downsample.append(nn.InstanceNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, D, H / s, W / s], 0 or more."""
        residual = x
        for convolution in (self.conv1, self.conv2, self.conv3):
            residual = F.relu(F.instance_norm(convolution(residual)))
        return F.relu(self.downsample(x) + residual)


class CorrelationEncoder(nn.Module):
    """Features that are compared between frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, padding=3)
        self.layer1 = nn.Sequential(Bottleneck(32, 32, 1), Bottleneck(32, 32, 1))
        self.layer2 = nn.Sequential(Bottleneck(32, 64, 2), Bottleneck(64, 64, 1))
        self.layer3 = nn.Sequential(Bottleneck(64, 96, 2), Bottleneck(96, 96, 1))
        self.conv2 = nn.Conv2d(96, 84, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """[B, 3, H, W] to float32 [B, 84, H / 8, W / 8]."""
        x = F.relu(F.instance_norm(self.conv1(frames)))
        features: Tensor = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        return features.float()


class ContextEncoder(nn.Module):
    """Features that are moved along flows, at four sizes."""

    def __init__(self) -> None:
        super().__init__()
        halving = [
            nn.Sequential(activated(inputs, outputs, stride=2), activated(outputs, outputs))
            for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False)
        ]
        self.pyramid1, self.pyramid2, self.pyramid3, self.pyramid4 = halving

    def forward(self, frames: Tensor) -> list[Tensor]:
        """[B, 3, H, W] to maps of 1/2, 1/4, 1/8 and 1/16 of the size."""
        maps = [frames]
        for halve in (self.pyramid1, self.pyramid2, self.pyramid3, self.pyramid4):
            maps.append(halve(maps[-1]))
        return maps[1:]


class SideResidual(nn.Module):
    """A residual block in which every second convolution sees the last few channels only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = activated(width, width)
        self.conv2 = activated(SIDE_CHANNELS, SIDE_CHANNELS)
        self.conv3 = activated(width, width)
        self.conv4 = activated(SIDE_CHANNELS, SIDE_CHANNELS)
        self.conv5 = nn.Conv2d(width, width, 3, padding=1)
        self.prelu = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        residual = x
        for whole, side in ((self.conv1, self.conv2), (self.conv3, self.conv4)):
            residual = whole(residual)
            kept, changed = residual.tensor_split([-SIDE_CHANNELS], dim=1)
            residual = torch.cat([kept, side(changed)], dim=1)
        summed: Tensor = self.prelu(x + self.conv5(residual))
        return summed


class Decoder(nn.Module):
    """From features at one size to features and flows at twice that size."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            activated(inputs, width),
            SideResidual(width),
            nn.ConvTranspose2d(width, outputs, 4, 2, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, D, 2 * H, 2 * W]."""
        doubled: Tensor = self.convblock(x)
        return doubled


class Update(nn.Module):
    """What correlations change about features and flows, at an eighth of the frames' size."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(CORRELATIONS, 64, 1)
        self.convf1 = nn.Conv2d(4, 40, 7, padding=3)
        self.convf2 = nn.Conv2d(40, 20, 3, padding=1)
        self.conv = nn.Conv2d(64 + 20, 68, 3, padding=1)
        # The published name: there is no recurrence.
        self.gru = two_convolutions(68 + 4 + features, 76)
        self.feat_head = two_convolutions(76, features)
        self.flow_head = two_convolutions(76, 4)

    def forward(
        self, flows: Tensor, features: Tensor, correlations: Tensor
    ) -> tuple[Tensor, Tensor]:
        """[B, 4, h, w], [B, C, h, w] and [B, 392, h, w] to what is added to the first two."""
        compared = leaky(self.convc1(correlations))
        moving = leaky(self.convf2(leaky(self.convf1(flows))))
        motion = leaky(self.conv(torch.cat([compared, moving], dim=1)))
        state = self.gru(torch.cat([motion, flows, features], dim=1))
        return self.flow_head(state).float(), self.feat_head(state)


class Correlations:
    """Correlations of every place of each of two frames with windows of the other.

    Args:
        first: Features, float32 [B, C, h, w].
        last: As many of the other frame.
    """

    def __init__(self, first: Tensor, last: Tensor) -> None:
        self.height, self.width = first.shape[2:]
        self._directions = [
            (features_to_rows(first), features_to_windows(last, LEVELS, RADIUS)),
            (features_to_rows(last), features_to_windows(first, LEVELS, RADIUS)),
        ]

    def look_up(self, flows: Tensor) -> Tensor:
        """Where flows [B, 4, h, w] point: float32 [B, 392, h, w].

        The first frame's places come first, and of each frame the finest level; in a window, the
        offset in x is the slow one.
        """
        grid = pixel_grid(self.height, self.width, flows.device)
        # Motion is taken as linear: from one frame to the other it is twice that from the middle.
        ends = [grid + 2 * flows[:, 2:], grid + 2 * flows[:, :2]]
        looked_up = [
            rows_to_correlations(places, windows, (end / 2**level).movedim(1, 3).reshape(-1, 2))
            for (places, levels), end in zip(self._directions, ends, strict=True)
            for level, windows in enumerate(levels)
        ]
        rows = torch.cat(looked_up, dim=1)  # [B * h * w, 392]
        return rows.view(len(flows), self.height, self.width, -1).movedim(3, 1)


class AMTS(nn.Module):
    """Input: float32 [B, 3, 3, H, W], RGB on 0..255, three frames; H and W of 113 or more."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = WIDTHS
        self.feat_encoder = CorrelationEncoder()
        self.encoder = ContextEncoder()
        self.decoder4 = Decoder(2 * sixteenth + 1, 2 * sixteenth, 4 + eighth)
        self.decoder3 = Decoder(3 * eighth + 4, 3 * eighth, 4 + quarter)
        self.decoder2 = Decoder(3 * quarter + 4, 3 * quarter, 4 + half)
        self.decoder1 = Decoder(3 * half + 4, 3 * half, FIELDS * (4 + 1 + 3))
        self.update4 = Update(eighth)
        self.update3 = Update(quarter)
        self.update2 = Update(half)
        self.comb_block = nn.Sequential(
            *activated(3 * FIELDS, 6 * FIELDS), nn.Conv2d(6 * FIELDS, 3, 3, padding=1)
        )

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 3, H, W] to ``error`` and ``error_unrounded``, both [B, 1] on 0..255.

        Mean absolute differences between the middle frame and the one that is interpolated from
        the other two, over all pixels and channels. For ``error`` the interpolated frame is cut to
        whole numbers, as VBench does; for ``error_unrounded`` it is not.

        Raises:
            ValueError: Another shape, or frames that are too small.
        """
        if clips.ndim != 5 or clips.shape[1:3] != (3, 3):
            raise ValueError(f"clips are [B, 3, 3, H, W], not {list(clips.shape)}")
        first, middle, last = clips.unbind(2)
        interpolated = 255 * self.between(first / 255, last / 255)
        return {
            "error": mean_difference(interpolated.floor(), middle),
            "error_unrounded": mean_difference(interpolated, middle),
        }

    def between(self, first: Tensor, last: Tensor) -> Tensor:
        """The frame at half time between two: float32 [B, 3, H, W], RGB on 0..1, all three.

        Raises:
            ValueError: Another shape, or frames that are too small.
        """
        check_frames(first, last)
        height, width = first.shape[2:]
        left, top = -width % STRIDE // 2, -height % STRIDE // 2
        padding = (left, -width % STRIDE - left, top, -height % STRIDE - top)
        padded = F.pad(torch.cat([first, last]), padding, mode="replicate")
        both = padded.view(2, -1, *padded.shape[1:])
        mean = both.mean((0, 2, 3, 4), keepdim=True)  # [1, B, 1, 1, 1]
        both = both - mean
        maps, flows, features = self._flows(both.flatten(0, 1))
        decoded = self.decoder1(moved(features, maps, flows)).float()
        candidates = decoded_to_candidates(decoded, flows, *both) + mean[0, :, None]
        combined: Tensor = self.comb_block(candidates.flatten(1, 2)).float()
        interpolated = (candidates.mean(1) + combined).clamp(0, 1)
        return interpolated[:, :, top : top + height, left : left + width]

    def _flows(self, frames: Tensor) -> tuple[Sequence[Tensor], Tensor, Tensor]:
        """Both frames [2 * B, 3, H, W] to what is known at half their size.

        Returns:
            Maps of each frame, [B, 20, H / 2, W / 2]; flows, float32 [B, 4, H / 2, W / 2]; features
            [B, 20, H / 2, W / 2].
        """
        correlations = Correlations(*self.feat_encoder(frames).chunk(2))
        half, quarter, eighth, sixteenth = (maps.chunk(2) for maps in self.encoder(frames))
        time = torch.full_like(sixteenth[0][:, :1], 0.5)
        flows, features = split(self.decoder4(torch.cat([*sixteenth, time], dim=1)))
        flows, features = refine(self.update4, flows, features, correlations)
        for decoder, update, maps in (
            (self.decoder3, self.update3, eighth),
            (self.decoder2, self.update2, quarter),
        ):
            change, features = split(decoder(moved(features, maps, flows)))
            flows = 2 * resize(flows, 2) + change
            flows, features = refine(update, flows, features, correlations)
        return half, flows, features


def build(variant: str = "") -> AMTS:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"amt-s has no variant '{variant}'")
    return AMTS()


def check_frames(first: Tensor, last: Tensor) -> None:
    """Whether there is a frame between these.

    Raises:
        ValueError: There is none.
    """
    if first.ndim != 4 or first.shape[1] != 3 or first.shape != last.shape:
        raise ValueError(
            f"two batches of frames [B, 3, H, W] are needed, not {list(first.shape)} and "
            f"{list(last.shape)}"
        )
    height, width = first.shape[2:]
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"frames need {MIN_SIDE} x {MIN_SIDE} pixels or more, for correlations at four sizes; "
            f"these are {width} wide and {height} high"
        )


def activated(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A convolution and a ReLU whose slopes are learned."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.PReLU(outputs))


def two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions by way of 76 channels."""
    return nn.Sequential(
        nn.Conv2d(inputs, 76, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(76, outputs, 3, padding=1),
    )


def leaky(x: Tensor) -> Tensor:
    """As between the two convolutions."""
    return F.leaky_relu(x, 0.1)


def resize(maps: Tensor, factor: float) -> Tensor:
    """[B, C, H, W] to as many maps of ``factor`` times the height and width, bilinearly."""
    if factor == 1:
        return maps
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """Every pixel's x and y: float32 [2, H, W]."""
    ys = torch.arange(height, dtype=torch.float32, device=device)
    xs = torch.arange(width, dtype=torch.float32, device=device)
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"))


def warp(maps: Tensor, flows: Tensor) -> Tensor:
    """What maps [B, C, H, W] have where flows [B, 2, H, W] point: float32 [B, C, H, W].

    Beyond their border they have what is on it.
    """
    height, width = maps.shape[2:]
    xs, ys = (pixel_grid(height, width, flows.device) + flows).unbind(1)
    places = torch.stack([xs * (2 / (width - 1)) - 1, ys * (2 / (height - 1)) - 1], dim=3)
    return F.grid_sample(
        maps.float(), places, mode="bilinear", padding_mode="border", align_corners=True
    )


def split(decoded: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 4 + C, H, W] to flows, float32 [B, 4, H, W], and features."""
    return decoded[:, :4].float(), decoded[:, 4:]


def moved(features: Tensor, maps: Sequence[Tensor], flows: Tensor) -> Tensor:
    """What a decoder reads: features, maps of both frames along the flows, and the flows.

    Returns:
        [B, 3 * C + 4, H, W], of C channels each.
    """
    first, last = maps
    return torch.cat([features, warp(first, flows[:, :2]), warp(last, flows[:, 2:]), flows], dim=1)


def refine(
    update: nn.Module, flows: Tensor, features: Tensor, correlations: Correlations
) -> tuple[Tensor, Tensor]:
    """Flows [B, 4, H, W] and features [B, C, H, W], changed by what is looked up along the flows.

    H and W are 1, 2 or 4 times those of the correlations.
    """
    scale = flows.shape[3] // correlations.width
    coarse = resize(flows, 1 / scale) / scale
    coarse_features = resize(features, 1 / scale)
    flow_change, change = update(coarse, coarse_features, correlations.look_up(coarse))
    return flows + scale * resize(flow_change, scale), features + resize(change, scale)


def decoded_to_candidates(decoded: Tensor, flows: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Frames along each of the last decoder's pairs of flows.

    Args:
        decoded: float32 [B, 24, H, W]: x and y of three flows to the first frame and of three to
            the last, three shares of the first frame before a sigmoid, three times RGB to add.
        flows: float32 [B, 4, H / 2, W / 2], which those are added to.
        first: float32 [B, 3, H, W].
        last: The same.

    Returns:
        float32 [B, 3, 3, H, W]: candidates, and their channels.
    """
    changes, shares, residuals = decoded.tensor_split([4 * FIELDS, 5 * FIELDS], dim=1)
    batch, _, height, width = decoded.shape
    changes = changes.reshape(batch, 2, FIELDS, 2, height, width)
    doubled = 2 * resize(flows, 2).reshape(batch, 2, 1, 2, height, width)
    to_first, to_last = (changes + doubled).unbind(1)
    shares = shares.sigmoid()
    candidates = []
    for field in range(FIELDS):
        share = shares[:, field : field + 1]
        seen = share * warp(first, to_first[:, field]) + (1 - share) * warp(last, to_last[:, field])
        candidates.append(seen + residuals[:, 3 * field : 3 * field + 3])
    return torch.stack(candidates, dim=1)


def mean_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean absolute difference of each of B frames, [B, 3, H, W]: [B, 1]."""
    return (ours - theirs).abs().mean((1, 2, 3))[:, None]
