"""GSTVQA: the quality of a video from the statistics of VGG-16 on each of its frames.

Paper: Chen, Zhu, Li, Lu, Fan & Wang, Learning Generalized Spatial-Temporal Deep Feature
Representation for No-Reference Video Quality Assessment, IEEE TCSVT 2022 (arXiv:2012.13936).
Reference: https://github.com/Baoliang93/GSTVQA, commit ec4777e, ``cross_test.py`` (no licence
stated); no code is from there.

Different here: videos of any length up to 500 frames are not padded to 500, which changes nothing,
as the recurrence only looks back. ``ann.fc``, ``q_reg`` and ``q_mean`` are in the checkpoints and
loaded, but only training reads them. The score of each frame is given too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 1472
"""Means, and as many deviations, that a frame has in ``vgg16:taps``."""
STATE = 32
MAX_FRAMES = 500
"""Later frames only move the gate."""
MARGIN = 14
"""Frames at each end that the attention's two convolutions of 15 leave out."""
MIN_FRAMES = 2 * MARGIN + 1
LEVELS = (2, 4, 8, 16, 32, 64)
"""Parts that the pyramid cuts the time into, after the whole."""


class Gate(nn.Module):
    """How much each channel counts, from how much its mean moves in the video."""

    def __init__(self) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(
            nn.Linear(CHANNELS, 320), nn.ReLU(), nn.Linear(320, CHANNELS)
        )

    def forward(self, movement: Tensor) -> Tensor:
        """[1472] to [1472], 0..1."""
        return torch.sigmoid(self.bottleneck(movement))


class Reduction(nn.Module):
    """A linear layer; the second is in the checkpoints, and nothing reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc0 = nn.Linear(CHANNELS, 256)
        self.fc = nn.Linear(256, 256)

    def forward(self, x: Tensor) -> Tensor:
        """[T, 1472] to [T, 256]."""
        reduced: Tensor = self.fc0(x)
        return reduced


class GSTVQA(nn.Module):
    """Reads the rows of a whole video at once: it has a ``head`` and no forward."""

    def __init__(self) -> None:
        super().__init__()
        self.CA = Gate()
        self.ann = Reduction()
        self.rnn = nn.GRU(256, STATE, batch_first=True)
        self.q_att = nn.Sequential(
            nn.Conv1d(STATE, 1, kernel_size=15), nn.ReLU(), nn.Conv1d(1, 1, kernel_size=15)
        )
        self.q = nn.Linear(STATE, 1)
        self.q_reg2 = nn.Linear(1 + sum(LEVELS), 1)
        self.q_reg = nn.Parameter(torch.zeros(STATE))
        self.q_mean = nn.Parameter(torch.zeros(STATE))

    def head(self, taps: Tensor) -> dict[str, Tensor]:
        """The score of a video from all of its frames.

        Args:
            taps: float32 [T, 2944], ``vgg16:taps`` of every frame: 1472 means, 1472 deviations.

        Returns:
            ``score`` [1, 1]: opinion over the highest mean opinion of the training set, so roughly
            0..1, and higher is better; NaN or infinite where the attention of a part is 0, by
            which the original divides too. ``frame_quality`` [min(T, 500), 1]: the network's own
            linear ``q`` on the state after each frame, before attention and pooling. It is a curve
            for people: the score is not its mean.

        Raises:
            ValueError: Another shape, or fewer than 29 frames.
        """
        if taps.ndim != 2 or taps.shape[1] != 2 * CHANNELS:
            raise ValueError(f"taps are [T, {2 * CHANNELS}], not {list(taps.shape)}")
        if len(taps) < MIN_FRAMES:
            raise ValueError(f"gstvqa needs {MIN_FRAMES} frames or more: {len(taps)}")
        states = self.features_to_states(self.taps_to_features(taps))
        levels = self.states_to_levels(states)
        return {"score": self.q_reg2(levels.T), "frame_quality": self.q(states)}

    def taps_to_features(self, taps: Tensor) -> Tensor:
        """[T, 2944] to [min(T, 500), 1472]: the deviations, gated by the movement of the means.

        The movement, a standard deviation over time (of a population: n), is that of all T frames.
        """
        means, deviations = taps[:, :CHANNELS], taps[:MAX_FRAMES, CHANNELS:]
        gate: Tensor = self.CA(means.std(dim=0, correction=0))
        return deviations * gate

    def features_to_states(self, features: Tensor) -> Tensor:
        """[T, 1472] to [T, 32], -1..1: the recurrent state after each frame."""
        states: Tensor = self.rnn(self.ann(features)[None])[0]
        return states[0]

    def states_to_levels(self, states: Tensor) -> Tensor:
        """[T, 32] to [127, 1]: the quality of the whole time and of its halves, quarters and on."""
        attention = torch.tanh(self.q_att(states.T[None]))  # [1, 1, T - 28]
        attended = attention * states[MARGIN:-MARGIN].T[None]  # [1, 32, T - 28]
        # Only the parts are divided by the attention that they had.
        parts = [attended.mean(dim=2, keepdim=True)] + [
            F.adaptive_avg_pool1d(attended, count) / F.adaptive_avg_pool1d(attention, count)
            for count in LEVELS
        ]
        levels: Tensor = self.q(torch.cat(parts, dim=2)[0].T)
        return levels


def build(variant: str = "") -> GSTVQA:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"gstvqa has no variant '{variant}'")
    return GSTVQA()
