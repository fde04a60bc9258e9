"""RAFT: optical flow by recurrent look-ups in the products of all pairs of places.

Paper: Teed & Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020
(arXiv:2003.12039). Reference: https://github.com/princeton-vl/RAFT, commit 13198c3 (BSD-3-Clause);
what is read of the flow is that of VBench's dynamic degree (https://github.com/Vchitect/VBench,
commit 45e79ec, ``vbench/dynamic_degree.py``). Layers and names of weights are those of
torchvision's ``raft_large`` (BSD-3-Clause).

Different here, for speed and equal but for round-off (5e-5 pixels after 20 iterations): only the
last flow is brought to full size; what the recurrent units read of the context is worked out once,
not in each iteration; and a frame that two pairs share goes through the feature encoder once.
Batch norms stay, as a look at what was encoded before cannot be traced: 0.4 % of a pair's time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_large
from torchvision.models.optical_flow.raft import ConvGRU, make_coords_grid, upsample_flow

from aigve_models._correlations import (
    features_to_rows,
    features_to_windows,
    rows_to_correlations,
)

ITERATIONS = 20
STRIDE = 8
"""Pixels between two places of the feature maps."""
LEVELS = 4
"""Of the pyramid of products, each half as high and wide as the one before, rounded down."""
RADIUS = 4
"""Places that are looked up to each side of the one that the flow points at."""
MIN_SIDE = 121
"""Padded to 128, the last level has the two rows and columns that it needs."""
FASTEST = 0.05
"""The share of the pixels whose motion is averaged."""
LARGEST_PRODUCTS = 2 << 30
"""Bytes of the products of all places of a pair. Of frames that are larger, from about 850 x 1500
on, products are computed where they are looked up."""
HIDDEN = 128
"""Channels of the hidden state, of the context and of what is known of the motion, alike."""

# From torchvision's names to those of the reference, one after another.
_PRINCETONS = (
    (r"^feature_encoder\.", "fnet."),
    (r"^context_encoder\.", "cnet."),
    (r"^(.net)\.convnormrelu\.0\.", r"\1.conv1."),
    (r"^(.net)\.convnormrelu\.1\.", r"\1.norm1."),
    (r"^(.net)\.conv\.", r"\1.conv2."),
    (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
    (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
    (r"\.motion_encoder\.conv(corr|flow)(\d)\.0\.", lambda m: f".encoder.conv{m[1][0]}{m[2]}."),
    (r"\.motion_encoder\.conv\.0\.", ".encoder.conv."),
    (r"\.recurrent_block\.convgru(\d)\.conv(.)\.", r".gru.conv\2\1."),
    (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
    (r"^mask_predictor\.conv\.", "update_block.mask.2."),
)
_COPIES = re.compile(r"^(cnet\.layer[23]\.0)\.norm3\.(.+)$")
"""The reference registers the norm of its shortcuts twice: here and as ``downsample.1``."""


class Flow(NamedTuple):
    """Where what is seen in the first frame is in the second: (x, y) further, in pixels."""

    low: Tensor
    """float32 [B, 2, H / 8, W / 8], in eighths of the frame's pixels: one is 8 pixels."""
    full: Tensor
    """float32 [B, 2, H, W]."""


class Encoded(NamedTuple):
    """A frame that has been through the feature encoder."""

    setting: tuple[Any, ...]
    """Device and numbers that it was encoded with."""
    frame: Tensor
    """[1, 3, H, W], padded, -1..1."""
    features: Tensor
    """float32 [1, 256, H / 8, W / 8]."""


class RAFT(nn.Module):
    """Input: float32 [B, 3, 2, H, W], RGB, 0..255; H and W of 121 or more.

    Frames are padded with their edges to multiples of 8. The products of all places of a pair take
    ``5.3 * (H * W / 64) ** 2`` bytes, 155 MB at 480 x 720 and 1.1 GB at 720 x 1280; of larger
    frames there are never all (``LARGEST_PRODUCTS``).

    The last frame is kept with its features until the next call: if that begins with the same
    frame, it is not encoded again.
    """

    def __init__(self) -> None:
        super().__init__()
        network = raft_large(weights=None)
        self.feature_encoder = network.feature_encoder
        self.context_encoder = network.context_encoder
        self.update_block = network.update_block
        self.mask_predictor = network.mask_predictor
        self._last: Encoded | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def forward(self, pairs: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 2, H, W] to ``motion`` and ``motion_inside``, float32 [B, 1] each.

        Both are the mean length, in pixels, of the longest twentieth of the flow's vectors: of the
        padded frame, as VBench has it, and of the frame itself.

        Raises:
            ValueError: Another shape, or frames that are too small.
        """
        if pairs.ndim != 5 or pairs.shape[1:3] != (3, 2):
            raise ValueError(f"pairs of frames are [B, 3, 2, H, W], not {list(pairs.shape)}")
        first, second = pairs.unbind(2)
        flow = self.flow(first, second).full
        height, width = pairs.shape[3:]
        top, left = padding(height)[0], padding(width)[0]
        inside = flow[:, :, top : top + height, left : left + width]
        return {"motion": flow_to_motion(flow), "motion_inside": flow_to_motion(inside)}

    def flow(self, first: Tensor, second: Tensor) -> Flow:
        """Two float32 [B, 3, H, W], RGB, 0..255, to the flow of the padded frames.

        Raises:
            ValueError: Another shape, or frames that are too small.
        """
        if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 3:
            shapes = f"{list(first.shape)} and {list(second.shape)}"
            raise ValueError(f"two frames are [B, 3, H, W] each, not {shapes}")
        first, second = frames_to_input(first), frames_to_input(second)
        maps = self._features(first, second)
        hidden, context = self.context_encoder(first).chunk(2, dim=1)
        hidden, context = hidden.tanh(), context.relu()
        units = self.update_block.recurrent_block
        gru1, gru2 = Gru(units.convgru1, context), Gru(units.convgru2, context)
        # Not before the encoders, which need memory too.
        large = products_bytes(*maps[0].shape[2:]) > LARGEST_PRODUCTS
        correlations = Windows(*maps) if large else Products(*maps)
        height, width = (side // STRIDE for side in first.shape[2:])
        start = make_coords_grid(len(first), height, width, device=first.device)
        # The order that the convolutions keep: with one map in another, each would copy its input.
        start = places = start.contiguous(memory_format=torch.channels_last)
        for _ in range(ITERATIONS):
            around = correlations.look_up(places)
            motion = self.update_block.motion_encoder(places - start, around)
            hidden = gru2.step(gru1.step(hidden, motion), motion)
            # Places stay float32 where the step is bfloat16.
            places = places + self.update_block.flow_head(hidden)
        low = places - start
        return Flow(low, upsample_flow(low, self.mask_predictor(hidden).float()))

    def _features(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [B, 3, H, W], -1..1, to two maps [B, 256, H / 8, W / 8].

        One after another, so that a frame's numbers are the same in any company.
        """
        kind = first.device.type
        half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
        setting = (first.device, first.dtype, half)
        last = self._last
        if last is not None and last.setting != setting:
            last = None
        maps = []
        for frames in zip(first[:, None], second[:, None], strict=True):
            for frame in frames:
                if last is None or not torch.equal(last.frame, frame):
                    last = Encoded(setting, frame, self.feature_encoder(frame).float())
                maps.append(last.features)
        # A copy: a part of a batch would keep all of it.
        self._last = last._replace(frame=last.frame.clone()) if last else None
        return torch.cat(maps[::2]), torch.cat(maps[1::2])


class Gru:
    """One of the recurrent units, for one context.

    Args:
        unit: The layers.
        context: [B, 128, H, W], the same in each iteration.
    """

    def __init__(self, unit: ConvGRU, context: Tensor) -> None:
        # Update gate, reset gate, candidate.
        layers = (unit.convz, unit.convr, unit.convq)
        self.padding = unit.convz.padding
        # A convolution of three inputs side by side is a sum of three, and one of them is known.
        weight = torch.cat([layer.weight for layer in layers])
        of_hidden, of_context, of_motion = weight.chunk(3, dim=1)
        bias = torch.cat([layer.bias for layer in layers])
        known = F.conv2d(context, of_context, bias, padding=self.padding)
        rest = torch.cat([of_hidden, of_motion], dim=1)
        gates = 2 * HIDDEN
        self.gates, self.candidate = rest[:gates], rest[gates:]
        self.known_gates, self.known_candidate = known[:, :gates], known[:, gates:]

    def step(self, hidden: Tensor, motion: Tensor) -> Tensor:
        """[B, 128, H, W] twice to the next hidden state [B, 128, H, W], -1..1."""
        x = torch.cat([hidden, motion], dim=1)
        gates = F.conv2d(x, self.gates, padding=self.padding).add_(self.known_gates)
        update, reset = gates.sigmoid_().chunk(2, dim=1)
        x = torch.cat([reset * hidden, motion], dim=1)
        candidate = F.conv2d(x, self.candidate, padding=self.padding).add_(self.known_candidate)
        return hidden.lerp(candidate.tanh_(), update)


def build(variant: str = "") -> RAFT:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"raft-large has no variant '{variant}'")
    return RAFT()


def checkpoint_to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The layout of torchvision, or the reference's, to our names; unknown names stay as they are.

    Raises:
        ValueError: The reference's layout, and a tensor that it has twice differs from its copy.
    """
    ours = {theirs: key for key, theirs in published_names(checkpoint).items()}
    state = {}
    for key, value in checkpoint.items():
        copy = _COPIES.match(key) if ours else None
        original = copy and f"{copy[1]}.downsample.1.{copy[2]}"
        if original not in ours:
            state[ours.get(key, key)] = value
        elif original in checkpoint and not torch.equal(value, checkpoint[original]):
            raise ValueError(f"{key} differs from {original}, whose copy it is")
    return state


def published_names(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Our names to those of the reference, if the file is in its layout."""
    if not any(key.startswith(("fnet.", "cnet.")) for key in checkpoint):
        return {}
    with torch.device("meta"):
        return {key: _princetons_name(key) for key in build().state_dict()}


def padding(size: int) -> tuple[int, int]:
    """How many rows or columns go before and after, to a multiple of 8; the odd one goes after."""
    total = -size % STRIDE
    return total // 2, total - total // 2


def frames_to_input(frames: Tensor) -> Tensor:
    """[B, 3, H, W] on 0..255 to [B, 3, H', W'] on -1..1, padded with their edges.

    Raises:
        ValueError: Too small.
    """
    height, width = frames.shape[2:]
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"optical flow needs frames of {MIN_SIDE} x {MIN_SIDE} pixels or more; "
            f"these are {width} wide and {height} high"
        )
    sides = (*padding(width), *padding(height))
    return F.pad(2 * (frames / 255) - 1, sides, mode="replicate")


def products_bytes(height: int, width: int) -> int:
    """What the products of all places of a pair of maps take, float32, at all sizes."""
    return (height * width) ** 2 * 16 // 3


class Products:
    """The products of all places of two maps, at four sizes.

    Args:
        first: float32 [B, 256, h, w].
        second: The same.
    """

    def __init__(self, first: Tensor, second: Tensor) -> None:
        channels, height, width = first.shape[1:]
        # Autocast would multiply in bfloat16.
        with torch.autocast(first.device.type, enabled=False):
            # The root is 16, a power of two: before the product it gives the same bits, and does
            # without a copy of the largest tensor by far.
            rows = first.flatten(2).transpose(1, 2) / channels**0.5
            products = (rows @ second.flatten(2)).view(-1, 1, height, width)
        self.pyramid = [products]
        """float32 [B * h * w, 1, h / s, w / s] for ``s`` of 1, 2, 4 and 8."""
        for _ in range(LEVELS - 1):
            self.pyramid.append(F.avg_pool2d(self.pyramid[-1], 2))

    def look_up(self, places: Tensor) -> Tensor:
        """The products around where the flow points, [B, 324, h, w]; outside the frame they are 0.

        Args:
            places: float32 [B, 2, h, w]: (x, y) in the second map, for each place of the first.

        Returns:
            By level, column and row of a square of 9 x 9 places of that level.
        """
        batch, _, height, width = places.shape
        x, y = places.movedim(1, 0).reshape(2, -1, 1)  # [B * H * W, 1]
        offsets = torch.arange(-RADIUS, RADIUS + 1, device=places.device)
        found = []
        for level, products in enumerate(self.pyramid):
            rows, columns = products.shape[2:]
            # -1 is the first place and 1 the last.
            across = 2 * (x / 2**level + offsets) / (columns - 1) - 1
            down = 2 * (y / 2**level + offsets) / (rows - 1) - 1
            square = (
                across[:, :, None].expand(-1, -1, len(offsets)),
                down[:, None, :].expand(-1, len(offsets), -1),
            )
            # F.grid_sample, bilinear and with zeros outside, would on a GPU ask cuDNN, which
            # refuses 65,536 places (https://github.com/pytorch/pytorch/issues/88380).
            around = torch.grid_sampler_2d(products, torch.stack(square, dim=-1), 0, 0, True)
            found.append(around.view(batch, height, width, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2)


class Windows:
    """The same numbers as :class:`Products`, in memory that grows with the number of places.

    Args:
        first: float32 [B, 256, h, w].
        second: The same.
    """

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.rows = features_to_rows(first)
        self.levels = features_to_windows(second, LEVELS, RADIUS)

    def look_up(self, places: Tensor) -> Tensor:
        """As :meth:`Products.look_up`."""
        batch, _, height, width = places.shape
        rows = places.movedim(1, 3).reshape(-1, 2)
        found = [
            rows_to_correlations(self.rows, windows, rows / 2**level)
            for level, windows in enumerate(self.levels)
        ]
        around = torch.cat(found, dim=1).view(batch, height, width, -1)
        return around.permute(0, 3, 1, 2)


def flow_to_motion(flow: Tensor) -> Tensor:
    """float32 [B, 2, H, W] to [B, 1]: the mean length of the longest twentieth of its vectors."""
    lengths = flow.square().sum(1).sqrt().flatten(1)
    count = int(lengths.shape[1] * FASTEST)
    longest = lengths.topk(count, dim=1, sorted=False).values
    return longest.double().mean(1, keepdim=True).float()


def _princetons_name(key: str) -> str:
    for pattern, replacement in _PRINCETONS:
        key = re.sub(pattern, replacement, key)
    return key


def _forget(network: RAFT, _incompatible: Any) -> None:
    network._last = None
