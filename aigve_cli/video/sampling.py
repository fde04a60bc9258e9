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
        max_frames: At most this many; None takes all.
        pad: Count black frames behind the end, up to ``max_frames``.
    """

    max_frames: int | None
    pad: bool = False

    @property
    def limit(self) -> int | None:
        """Frames that are enough; None where all are looked at."""
        return self.max_frames

    @property
    def pads(self) -> bool:
        """Whether black frames follow the end."""
        return self.pad

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, 1]."""
        count = facts.frames
        if self.max_frames is not None:
            count = self.max_frames if self.pad else min(self.max_frames, facts.frames)
        return np.arange(count, dtype=np.int64)[:, None]

    def __str__(self) -> str:
        black = ", black frames behind the end" if self.pad else ""
        if self.max_frames is None:
            return f"every frame{black}"
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


class _WholeVideo:
    """Base of samplings that must know how many frames there are, and add none."""

    @property
    def limit(self) -> int | None:
        """None: where to stop is not known before the end."""
        return None

    @property
    def pads(self) -> bool:
        """False: no black frames."""
        return False


@dataclass(frozen=True)
class Windows(_WholeVideo):
    """Windows of neighbouring frames over a whole video, which overlap.

    Attributes:
        length: Frames in a window: 2 are a pair, 3 a triplet.
        step: Frames from the beginning of a window to that of the next.
        rate: Neighbours are frames of a video that was thinned to about so many a second: one in
            ``round(fps / rate)``, halves to even, as VBench does; None takes every frame.
        still: Whether a video of which one frame is taken has a window, in which it stands still.
    """

    length: int
    step: int = 1
    rate: float | None = None
    still: bool = False

    def interval(self, fps: float) -> int:
        """Every how many frames one is taken; 1 for a video that states no frame rate."""
        return 1 if self.rate is None else max(1, round(fps / self.rate))

    def places(self, facts: VideoFacts) -> Indices:
        """int64 [N]: the frames that are neighbours."""
        return np.arange(0, facts.frames, self.interval(facts.fps), dtype=np.int64)

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, length]; U is 0 for a video shorter than a window, unless it stands still."""
        places = self.places(facts)
        if self.still and len(places) == 1:
            return np.repeat(places[None], self.length, axis=1)
        starts = np.arange(0, max(0, len(places) - self.length + 1), self.step)
        units: Indices = places[starts[:, None] + np.arange(self.length)]
        return units

    def __str__(self) -> str:
        what = {2: "pairs", 3: "triplets"}.get(self.length, f"windows of {self.length}")
        parts = [f"{what} of neighbouring frames"]
        if self.step > 1:
            parts.append(f"one every {self.step}")
        if self.rate is not None:
            parts.append(f"thinned to about {self.rate:g} frames a second")
        if self.still:
            parts.append("one alone stands still")
        return ", ".join(parts)


@dataclass(frozen=True)
class EverySecond(_WholeVideo):
    """What begins with each whole second of a video, by its frame rate in whole numbers.

    The rate is rounded to the nearest whole number of frames a second, as SimpleVQA's loader
    (sunwei925/SimpleVQA 017edda) reads it, and to 1 at least, where that fails. A last part of a
    second has no unit of its own, but a video that is shorter than a second has one.

    Attributes:
        length: Frames in a unit; behind the end the last frame stands still.
        count: At most so many seconds; None takes all.
    """

    length: int = 1
    count: int | None = None

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [seconds, length]; none for a video that states no frame rate."""
        if facts.fps <= 0 or facts.frames < 1:
            return np.zeros((0, self.length), np.int64)
        rate = max(1, round(facts.fps))
        seconds = max(1, facts.frames // rate)
        if self.count is not None:
            seconds = min(seconds, self.count)
        starts = rate * np.arange(seconds, dtype=np.int64)
        units: Indices = np.minimum(starts[:, None] + np.arange(self.length), facts.frames - 1)
        return units

    def __str__(self) -> str:
        what = "a frame" if self.length == 1 else f"{self.length} frames"
        most = "" if self.count is None else f", {self.count} at most"
        return f"{what} from each second on{most}"


@dataclass(frozen=True)
class Spread(_WholeVideo):
    """Single frames, evenly over the video.

    Attributes:
        count: So many; a video that has fewer gives all, its last one again and again.
        to_the_end: From the first frame to the last, at the rounded places of ``linspace``; else
            one at the beginning of each of ``count`` equal parts.
    """

    count: int
    to_the_end: bool = True

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [count, 1]; none of a video without frames."""
        if facts.frames < 1:
            return np.zeros((0, 1), np.int64)
        if facts.frames < self.count:
            places = np.minimum(np.arange(self.count), facts.frames - 1)
        elif self.to_the_end:
            places = np.round(np.linspace(0, facts.frames - 1, self.count))
        else:
            places = np.arange(self.count) * (facts.frames // self.count)
        return places.astype(np.int64)[:, None]

    def __str__(self) -> str:
        how = "from the first to the last" if self.to_the_end else "at the beginning of equal parts"
        return f"{self.count} frames, {how}"


@dataclass(frozen=True)
class Centres(_WholeVideo):
    """Frames in the middle of equal parts of a video, together or one by one.

    Attributes:
        count: So many parts; of a video that has fewer frames, each frame once.
        together: One unit of all frames, rather than a unit each.
    """

    count: int
    together: bool = True

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [1, count] or [count, 1], of shorter videos less; none without frames."""
        if facts.frames < 1:
            return np.zeros((0, self.count if self.together else 1), np.int64)
        count = min(self.count, facts.frames)
        places = (2 * np.arange(count, dtype=np.int64) + 1) * facts.frames // (2 * count)
        return places[None] if self.together else places[:, None]

    def __str__(self) -> str:
        how = "together" if self.together else "one by one"
        return f"{self.count} frames, in the middle of equal parts, {how}"


@dataclass(frozen=True)
class Middles(_WholeVideo):
    """The frame in the middle of each of ``count`` parts of a video, in one unit, as VBench reads.

    Parts begin at the places of ``linspace``, cut to whole numbers; of an even number of frames the
    earlier middle is taken. A video that has fewer frames gives each, and the last one again.

    Attributes:
        count: So many parts.
    """

    count: int

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [1, count]; none without frames."""
        if facts.frames < 1:
            return np.zeros((0, self.count), np.int64)
        parts = min(self.count, facts.frames)
        edges = np.linspace(0, facts.frames, parts + 1).astype(np.int64)
        middles = (edges[:-1] + edges[1:] - 1) // 2
        return np.append(middles, np.repeat(middles[-1], self.count - parts))[None]

    def __str__(self) -> str:
        return f"{self.count} frames, in the middle of equal parts, together, the last again"


@dataclass(frozen=True)
class Evenly(_WholeVideo):
    """Frames of a whole video in one unit: all of them, or some at equal steps from the first on.

    The places of ``numpy.arange(0, frames, frames / count)``, cut to whole numbers, as VideoScore's
    example reads a video.

    Attributes:
        count: At most so many.
    """

    count: int

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [1, count], of shorter videos less; none without frames."""
        if facts.frames < 1:
            return np.zeros((0, self.count), np.int64)
        if facts.frames <= self.count:
            return np.arange(facts.frames, dtype=np.int64)[None]
        places = np.arange(0, facts.frames, facts.frames / self.count).astype(np.int64)
        return places[None, : self.count]

    def __str__(self) -> str:
        return f"{self.count} frames at most, at equal steps from the first, together"


@dataclass(frozen=True)
class Segments(_WholeVideo):
    """A frame for each of ``count`` parts of a video, in one unit; of short videos some repeat.

    All lie half a part behind its beginning, cut and rounded as mPLUG-Owl's loader does.

    Attributes:
        count: So many parts.
    """

    count: int

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [1, count]; none without frames."""
        if facts.frames < 1:
            return np.zeros((0, self.count), np.int64)
        part = (facts.frames - 1) / self.count
        places = int(part / 2) + np.round(part * np.arange(self.count))
        return places.astype(np.int64)[None]

    def __str__(self) -> str:
        return f"a frame of each of {self.count} parts, together"


@dataclass(frozen=True)
class AtRate(_WholeVideo):
    """Frames of a whole video in one unit, so many a second, from the first frame to the last.

    As qwen_vl_utils samples videos: an even number of frames, at the rounded places of
    ``linspace``.

    Attributes:
        fps: Frames a second.
        least: At least so many, as far as the video has them.
        most: At most so many.
    """

    fps: float
    least: int = 4
    most: int = 120

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [1, frames]; none of a video of one frame, or that states no frame rate."""
        if facts.fps <= 0 or facts.frames < 2:
            return np.zeros((0, self.most), np.int64)
        most = min(self.most, facts.frames) // 2 * 2
        wanted = min(max(facts.frames / facts.fps * self.fps, self.least), most, facts.frames)
        count = int(wanted) // 2 * 2
        places = np.round(np.linspace(0, facts.frames - 1, count))
        return places.astype(np.int64)[None]

    def __str__(self) -> str:
        return f"{self.fps:g} frames a second, {self.least} to {self.most}, together"


@dataclass(frozen=True)
class AtLeast:
    """Another sampling whose last unit is looked at again, up to ``count`` units."""

    count: int
    inner: Sampling

    @property
    def limit(self) -> int | None:
        """Frames that are enough."""
        return self.inner.limit

    @property
    def pads(self) -> bool:
        """Whether black frames follow the end."""
        return self.inner.pads

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, L], U at least ``count``; none where the other sampling has none."""
        units = self.inner.units(facts)
        if not 0 < len(units) < self.count:
            return units
        return np.concatenate([units, np.repeat(units[-1:], self.count - len(units), axis=0)])

    def __str__(self) -> str:
        return f"{self.inner}; the last again up to {self.count}"


@dataclass(frozen=True)
class Within:
    """Another sampling of the beginning of a video, as if it ended there.

    Attributes:
        inner: The sampling.
        max_frames: At most so many frames; None is no bound.
        seconds: At most so long by the video's own frame rate; None is no bound.
    """

    inner: Sampling
    max_frames: int | None = None
    seconds: float | None = None

    @property
    def limit(self) -> int | None:
        """Frames that are enough; None where more must be known."""
        if self.inner.limit is None or self.seconds is not None:
            return None
        return min(filter(None, (self.inner.limit, self.max_frames)))

    @property
    def pads(self) -> bool:
        """Whether black frames follow the end."""
        return self.inner.pads

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, L]."""
        bounds = [facts.frames]
        if self.max_frames is not None:
            bounds.append(self.max_frames)
        if self.seconds is not None and facts.fps > 0:
            bounds.append(seconds_to_frames(self.seconds, facts.fps))
        return self.inner.units(replace(facts, frames=min(bounds)))

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"{self.inner}; of the first {self.seconds:g} s at the video's own frame rate"
        return f"{self.inner}; of the first {self.max_frames} frames"


def within(extent: Extent, sampling: Sampling) -> Sampling:
    """A metric's own sampling, of as much of each video as the user asked for; never padded."""
    if extent.max_frames is None and extent.max_seconds is None:
        return sampling
    frames = _max_frames(extent, 0)
    if frames is None:
        return Within(sampling, seconds=_seconds(extent))
    return Within(sampling, max_frames=frames)


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
