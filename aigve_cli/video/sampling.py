"""Which frames of a video are looked at: pure index arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigve_cli.lazy import np

if TYPE_CHECKING:
    from aigve_cli.contract import Extent, Indices, Sampling, VideoFacts

DISTRIBUTION_MAX_FRAMES = 64


@dataclass(frozen=True)
class FirstFrames:
    """The first frames of a video, one by one.

    Attributes:
        max_frames: At most this many.
        pad: Count black frames behind the end, up to ``max_frames``.
    """

    max_frames: int
    pad: bool = False

    @property
    def limit(self) -> int | None:
        """Frames that are enough."""
        return self.max_frames

    @property
    def pads(self) -> bool:
        """Whether black frames follow the end."""
        return self.pad

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, 1]."""
        count = self.max_frames if self.pad else min(self.max_frames, facts.frames)
        return np.arange(count, dtype=np.int64)[:, None]

    def __str__(self) -> str:
        black = ", black frames behind the end" if self.pad else ""
        return f"first {self.max_frames} frames{black}"


@dataclass(frozen=True)
class Clips:
    """Consecutive clips that do not overlap, from the first frames of a video.

    Attributes:
        length: Frames in a clip.
        max_frames: Clips end within the first ``max_frames`` frames.
        pad: Count black frames behind the end, up to ``max_frames``.
    """

    length: int
    max_frames: int
    pad: bool = False

    @property
    def limit(self) -> int | None:
        """Frames that are enough."""
        return self.max_frames

    @property
    def pads(self) -> bool:
        """Whether black frames follow the end."""
        return self.pad

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, length]; U is 0 for a video shorter than a clip."""
        frames = self.max_frames if self.pad else min(self.max_frames, facts.frames)
        clips = frames // self.length
        return np.arange(clips * self.length, dtype=np.int64).reshape(clips, self.length)

    def __str__(self) -> str:
        black = ", black frames behind the end" if self.pad else ""
        return f"{self.length}-frame clips of the first {self.max_frames} frames{black}"


@dataclass(frozen=True)
class FirstSeconds:
    """The first seconds of a video by its own frame rate, as single frames or as clips.

    Attributes:
        seconds: How much of the video.
        length: 1 for frames, else the frames in a clip.
        pad: Count black frames behind the end.
    """

    seconds: float
    length: int = 1
    pad: bool = False

    @property
    def limit(self) -> int | None:
        """None: the frame rate must be read first."""
        return None

    @property
    def pads(self) -> bool:
        """Whether black frames follow the end."""
        return self.pad

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, length]; every frame of a video that states no frame rate."""
        wanted = seconds_to_frames(self.seconds, facts.fps) if facts.fps > 0 else facts.frames
        return Clips(self.length, wanted, self.pad).units(facts)

    def __str__(self) -> str:
        what = "frames" if self.length == 1 else f"{self.length}-frame clips"
        black = ", black frames behind the end" if self.pad else ""
        return f"{what} of the first {self.seconds:g} s at the video's own frame rate{black}"


def seconds_to_frames(seconds: float, fps: float) -> int:
    """Frames in ``seconds`` at ``fps``, rounded to the nearest and at least 1."""
    return max(1, round(seconds * fps))


def frame_sampling(extent: Extent, default: int = DISTRIBUTION_MAX_FRAMES) -> Sampling:
    """Single frames as far as ``extent`` goes; the first ``default`` where it says nothing."""
    frames = _max_frames(extent, default)
    if frames is None:
        return FirstSeconds(_seconds(extent), pad=extent.pad)
    return FirstFrames(frames, extent.pad)


def clip_sampling(
    extent: Extent, length: int = 16, default: int = DISTRIBUTION_MAX_FRAMES
) -> Sampling:
    """Clips of ``length`` frames as far as ``extent`` goes."""
    frames = _max_frames(extent, default)
    if frames is None:
        return FirstSeconds(_seconds(extent), length=length, pad=extent.pad)
    return Clips(length, frames, extent.pad)


def _max_frames(extent: Extent, default: int) -> int | None:
    if extent.max_seconds is None:
        return default if extent.max_frames is None else extent.max_frames
    if extent.fps is None:
        return None
    return seconds_to_frames(extent.max_seconds, extent.fps)


def _seconds(extent: Extent) -> float:
    if extent.max_seconds is None:
        raise ValueError("the video's own frame rate only matters with max_seconds")
    return extent.max_seconds
