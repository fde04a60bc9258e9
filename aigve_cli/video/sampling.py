"""Which frames of a video are looked at: pure index arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from aigve_cli.lazy import np

if TYPE_CHECKING:
    from aigve_cli.contract import Extent, Indices, Sampling, VideoFacts

DISTRIBUTION_MAX_FRAMES = 64
Short = Literal["drop", "loop", "repeat"]


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
    """Consecutive clips of a video that do not overlap.

    Attributes:
        length: Frames in a clip.
        max_frames: Clips end within the first ``max_frames`` frames; None is the whole video.
        pad: Count black frames behind the end, up to ``max_frames``.
        stride: Every how many frames one is taken; a clip spans ``(length - 1) * stride + 1``.
        offset: The frame that the first clip begins with.
        count: At most so many clips; None takes all.
        short: What a video gives that is too short for a clip: nothing, or one clip in which its
            frames start again (``loop``) or its last frame stands still (``repeat``).
    """

    length: int
    max_frames: int | None = None
    pad: bool = False
    stride: int = 1
    offset: int = 0
    count: int | None = None
    short: Short = "drop"
    whole_strides: bool = False
    """Whether the frames that are skipped behind a clip's last one must be there too."""

    @property
    def span(self) -> int:
        """Frames that a clip needs, from its first on."""
        behind = self.stride if self.whole_strides else 1
        return (self.length - 1) * self.stride + behind

    @property
    def limit(self) -> int | None:
        """Frames that are enough; None where a short video's length must be known before."""
        if self.short != "drop":
            return None
        if self.count is None:
            return self.max_frames
        needed = self.offset + (self.count - 1) * self.length * self.stride + self.span
        return needed if self.max_frames is None else min(needed, self.max_frames)

    @property
    def pads(self) -> bool:
        """Whether black frames follow the end."""
        return self.pad

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, length]; U is 0 for a video shorter than a clip, unless ``short`` fills it."""
        frames = facts.frames
        if self.max_frames is not None:
            frames = self.max_frames if self.pad else min(self.max_frames, frames)
        step = self.length * self.stride
        clips = max(0, (frames - self.offset - self.span) // step + 1)
        if self.count is not None:
            clips = min(clips, self.count)
        within = np.arange(self.length, dtype=np.int64) * self.stride
        if not clips and frames and self.short == "loop":
            return ((self.offset + within) % frames)[None]
        if not clips and frames and self.short == "repeat":
            return np.minimum(self.offset + within, frames - 1)[None]
        starts = self.offset + step * np.arange(clips, dtype=np.int64)
        return starts[:, None] + within

    def __str__(self) -> str:
        one = f"{self.length}-frame"
        if self.count is None:
            parts = [f"{one} clips"]
        else:
            parts = [f"first {one} clip" if self.count == 1 else f"first {self.count} {one} clips"]
        if self.stride > 1:
            parts.append(f"one frame in {self.stride}")
        if self.offset:
            parts.append(f"from frame {self.offset}")
        text = ", ".join(parts)
        if self.max_frames is not None:
            text += f" of the first {self.max_frames} frames"
        if self.pad:
            text += ", black frames behind the end"
        if self.short != "drop":
            text += ", short videos " + ("looped" if self.short == "loop" else "held at the end")
        return text


@dataclass(frozen=True)
class FirstSeconds:
    """The first seconds of a video by its own frame rate, as single frames or as clips.

    Attributes:
        seconds: How much of the video.
        clips: What is taken of it; its ``max_frames`` is not read.
    """

    seconds: float
    clips: Clips = Clips(1)

    @property
    def limit(self) -> int | None:
        """None: the frame rate must be read first."""
        return None

    @property
    def pads(self) -> bool:
        """Whether black frames follow the end."""
        return self.clips.pad

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, length]; every frame of a video that states no frame rate."""
        wanted = seconds_to_frames(self.seconds, facts.fps) if facts.fps > 0 else facts.frames
        return replace(self.clips, max_frames=wanted).units(facts)

    def __str__(self) -> str:
        one = self.clips.length == 1
        what = "frames" if one else str(replace(self.clips, pad=False, max_frames=None))
        black = ", black frames behind the end" if self.pads else ""
        return f"{what} of the first {self.seconds:g} s at the video's own frame rate{black}"


def seconds_to_frames(seconds: float, fps: float) -> int:
    """Frames in ``seconds`` at ``fps``, rounded to the nearest and at least 1."""
    return max(1, round(seconds * fps))


def frame_sampling(extent: Extent, default: int = DISTRIBUTION_MAX_FRAMES) -> Sampling:
    """Single frames as far as ``extent`` goes; the first ``default`` where it says nothing."""
    frames = _max_frames(extent, default)
    if frames is None:
        return FirstSeconds(_seconds(extent), Clips(1, pad=extent.pad))
    return FirstFrames(frames, extent.pad)


def clip_sampling(extent: Extent, clips: Clips, default: int = DISTRIBUTION_MAX_FRAMES) -> Sampling:
    """Clips as far as ``extent`` goes.

    Where it says nothing: within the first ``default`` frames, or more if the first clip needs it.
    """
    frames = _max_frames(extent, max(default, clips.offset + clips.span))
    clips = replace(clips, pad=extent.pad)
    if frames is None:
        return FirstSeconds(_seconds(extent), clips)
    return replace(clips, max_frames=frames)


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
