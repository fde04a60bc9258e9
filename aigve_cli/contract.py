"""What a metric's author reads: the types between videos, networks and metrics.

A metric is one file in ``aigve_cli/metrics/`` (or another package's, through the entry-point group
``aigve.metrics``) with a subclass of :class:`Metric`. It states facts in a :class:`Card`, asks for
what networks see in :meth:`Metric.requests`, and turns that into numbers in ``score`` (one video)
or ``compare`` (two sets). It does no I/O, imports no torch, and prints nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from aigve_cli.judges.task import JudgeTask, Record
from aigve_cli.video.steps import (
    AsPublished as AsPublished,
    CentreCrop as CentreCrop,
    Clamp as Clamp,
    Grey as Grey,
    Normalise as Normalise,
    Quantise as Quantise,
    Resampler as Resampler,
    Resize as Resize,
    ResizeArea as ResizeArea,
    ResizeBetween as ResizeBetween,
    ResizeShorter as ResizeShorter,
    ResizeWithin as ResizeWithin,
    Scale as Scale,
    Step as Step,
    Tile as Tile,
    View as View,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]
    Indices = NDArray[np.int64]

Role = Literal["generated", "reference", "each"]
Need = Literal["reference", "prompt", "judge"]
OptionValue = str | int | float | bool

CATEGORIES: Mapping[str, str] = {
    "distribution_based": "distances between sets of videos",
    "nn_based_video": "no-reference quality networks",
    "vision_language_similarity": "agreement of a video with its prompt",
    "vision_language_understanding": "questions put to a language or vision-language model",
    "multi_faceted": "several named aspects of one video",
}


@dataclass(frozen=True)
class Sample:
    """One line of work: a generated video, its reference and its prompt, as far as they exist.

    A sample without ``generated`` is an unpaired member of the reference set.
    """

    name: str
    """Unique in a run and stable across machines: the path relative to the data set's folder."""
    generated: Path | None
    reference: Path | None = None
    prompt: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Annotation fields that aigve does not interpret, such as human scores."""


# --- what a metric asks for -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What is known of a video without looking at its pixels."""

    width: int
    """Displayed pixels: rotation is applied."""
    height: int
    fps: float
    """The stream's average frame rate; 0.0 where the container states none."""
    frames: int
    """Number of frames."""


class Sampling(Protocol):
    """Index arithmetic: which frames make the units that a producer sees. Pure and frozen."""

    @property
    def limit(self) -> int | None:
        """Frames that are enough, known without facts; None asks for an exact packet scan first.

        With a limit, the units of n frames must be among those of ``limit`` frames, repeated or
        not: a decoder then needs no scan.
        """
        ...

    @property
    def pads(self) -> bool:
        """True: indices behind the last frame stand for black frames, which are counted."""
        ...

    def units(self, facts: VideoFacts) -> Indices:
        """int64 [U, L]: U units of L frame indices (1 a frame, 2 a pair, 16 a clip)."""
        ...

    def __str__(self) -> str:
        """One line for results, such as ``first 64 frames``."""
        ...


@dataclass(frozen=True)
class Frames:
    """Source: frames of a video, seen through a view, grouped into units by a sampling.

    Role ``each`` looks at the generated and at the reference video alike.
    """

    view: View
    sampling: Sampling
    role: Role = "generated"


@dataclass(frozen=True)
class Prompt:
    """Source: the sample's prompt. A metric that asks for it names ``prompt`` in ``needs``."""

    field: str = ""
    """Another text of the sample's annotations instead, by its name in ``Sample.extra``."""


@dataclass(frozen=True)
class Text:
    """Source: constant texts, the same for every sample."""

    constants: tuple[str, ...]


class Enough(Protocol):
    """When the rows of a video's first units settle what a metric wants to know; frozen."""

    def __call__(self, rows: Floats, units: int, facts: VideoFacts) -> bool:
        """Whether no more rows are needed.

        Args:
            rows: float32 [u, D], those of the first u units in order of time, 1 at least.
            units: How many the video has.
            facts: Of the video.
        """
        ...


@dataclass(frozen=True)
class Request:
    """An output of a producer over sources.

    ``output`` is ``producer:output``, for instance ``efficientnet-lite0:features``. A source may be
    another Request, whose rows the producer then reads: a function unit by unit, a network's head
    those of the whole video, and of as many sources as it takes. Frames and a prompt, or a text,
    are seen together: ``(Frames(…), Prompt())``.

    A judge is asked with ``judge:answers`` over ``(Frames(…), Prompt(), task)``, or without the
    prompt; its variant says how frames are shown (:data:`SHOWN`). It gives a JSON record a unit.
    """

    output: str
    sources: tuple[Source, ...]
    variant: str = ""
    weights: str = ""
    """The tag of one of the network's checkpoints; empty is its card's default. Of networks whose
    weights are a folder, also a path or an id on the Hugging Face Hub."""
    enough: Enough | None = None
    """Of a network over clips whose rows are not stored: when to look no further. There are then
    fewer rows than units, and how many may depend on the size of batches."""

    @property
    def producer(self) -> str:
        """The producer's name, before the colon."""
        return self.output.partition(":")[0]

    @property
    def output_name(self) -> str:
        """The output's name, after the colon."""
        return self.output.partition(":")[2]


Source = Frames | Prompt | Text | Request | JudgeTask

SHOWN: Mapping[str, str] = {
    "multi": "all frames of a unit in one request, in order of time, each with its time",
    "grid": "all frames of a unit as one picture, row by row",
    "video": "all frames of a unit as one video",
}
"""How a judge is shown the frames of a unit."""


@dataclass(frozen=True)
class Extent:
    """How much of each video the user asked for; None means the metric's own default."""

    max_frames: int | None = None
    max_seconds: float | None = None
    fps: float | None = 25.0
    """Frames a second that ``max_seconds`` is counted with; None takes the video's own."""
    pad: bool = False


# --- what a metric is given and gives ---------------------------------------------------------


@dataclass(frozen=True)
class SampleFeatures:
    """What the requests of one sample gave, by request name.

    Arrays are float32 [U, D] (or [U, L, D] for units of several frames through a frame network).
    ``reference`` is None where the sample has none.
    """

    generated: Mapping[str, Floats]
    reference: Mapping[str, Floats] | None = None
    facts: VideoFacts | None = None
    """Of the whole generated video; never None in a run."""
    units: Mapping[str, Indices] = field(default_factory=dict)
    """The units int64 [U, L] that the user asked for, by request name: which frames of the
    generated video rows belong to, and how many there were to look at."""
    records: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    """What a judge has found out of the generated video, or a network has written about it: a
    record a unit, by request name."""


@dataclass(frozen=True)
class VideoFeatures:
    """One member of a set: its stable id and its arrays by request name."""

    video: str
    features: Mapping[str, Floats]


class FeatureSet(Protocol):
    """A set of videos, streamed from disk in sorted content order; may be iterated repeatedly."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[VideoFeatures]: ...


@dataclass(frozen=True)
class Score:
    """Named finite numbers, or a reason instead of a number; never NaN.

    Raises:
        ValueError: A value or standard error is not finite (a programmer's mistake).
    """

    values: Mapping[str, float] = field(default_factory=dict)
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    curve: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """A value per frame or second, where the metric has one."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """JSON facts beside the number: term by term, counts, a noise floor."""
    notes: tuple[str, ...] = ()
    """Sentences that a reader of the number should see."""
    reason: str | None = None
    """Why there is no number."""
    by_choice: bool = False
    """There is no number because none was asked for: that is no failure."""
    settled: bool = False
    """The reason would be the same another time: a run that goes on does not try again."""
    weight: float = 1.0
    """How much it counts in the mean of a run, above 0: the number of its frames, where a benchmark
    takes its mean over the frames of all videos."""

    def __post_init__(self) -> None:
        # Plain floats: numpy's own cannot be written as JSON.
        for part in ("values", "standard_errors"):
            numbers = {name: float(value) for name, value in getattr(self, part).items()}
            for name, value in numbers.items():
                if not math.isfinite(value):
                    raise ValueError(f"'{name}' is {value}: give a reason instead of a number")
            object.__setattr__(self, part, numbers)
        if not 0 < self.weight < math.inf:
            raise ValueError(f"the weight is {self.weight}: give a finite number above 0")
        curves = {name: [float(value) for value in line] for name, line in self.curve.items()}
        for name, line in curves.items():
            if not all(map(math.isfinite, line)):
                raise ValueError(f"the curve of '{name}' holds numbers that are not finite")
        object.__setattr__(self, "curve", curves)

    @classmethod
    def missing(cls, reason: str) -> Score:
        """No number, and why."""
        return cls(reason=reason)


# --- the facts of a metric --------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """One number that a metric gives."""

    name: str
    better: Literal["lower", "higher", "neither"]
    range: tuple[float | None, float | None] = (None, None)
    unit: str = ""


@dataclass(frozen=True)
class Option:
    """A metric's setting: ``--set METRIC.NAME=VALUE`` and the same key in ``aigve.toml``."""

    name: str
    default: OptionValue
    help: str
    choices: tuple[OptionValue, ...] = ()
    minimum: float | None = None
    names: Literal["", "file", "model"] = ""
    """What a text names: a file, or a model by its id or its folder. A server lets its callers name
    only those that it opens to them."""


@dataclass(frozen=True)
class Historical:
    """Today's result file of a metric: ``<file>`` with ``video_results`` and a mean."""

    file: str
    score_key: str
    mean_key: str
    generated_key: str
    reference_key: str | None = None


@dataclass(frozen=True)
class Card:
    """All that ``list-metrics`` knows of a metric, without importing torch or numpy."""

    name: str
    title: str
    category: str
    values: tuple[Value, ...]
    version: int
    """Raised when numbers change: scores of an older version are stale."""
    needs: tuple[Need, ...] = ()
    options: tuple[Option, ...] = ()
    aliases: tuple[str, ...] = ()
    group: str = ""
    only_by_name: bool = False
    """Left out where a whole category is asked for: a variant, or another view of the same data."""
    stands_in_for: str = ""
    """The standard metric that this one replaces, announced, under ``--weights auto|embedded``."""
    min_videos: int = 1
    historical: Historical | None = None
    cite: str = ""
    source: str = ""
    deviations: tuple[str, ...] = ()
    licence: str = ""


class Metric:
    """Base of every metric. Implement ``requests`` and ``score``, ``compare`` or both."""

    card: ClassVar[Card]
    reads_moments: ClassVar[bool] = False
    """Whether ``mu`` and ``sigma`` alone are enough for :meth:`compare_with_statistics`."""

    def values(self, options: Mapping[str, OptionValue]) -> tuple[Value, ...]:
        """The card's values, with the range and the unit that they have under these options."""
        return self.card.values

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """What this metric needs to see, by a name of its own choice. Pure."""
        raise NotImplementedError

    def lacks(self, options: Mapping[str, OptionValue]) -> str | None:
        """What must be given that this metric has a number of any video; None if it is there."""
        return None

    def annotated(self, sample: Sample, options: Mapping[str, OptionValue]) -> Sample:
        """The sample with what an option's file says of it by name, in its ``extra``.

        Every score depends on that. Files are read once, and refused in :meth:`requests`.
        """
        return sample

    def left_out(self, sample: Sample, options: Mapping[str, OptionValue]) -> str | None:
        """Why a sample is none of the videos that this metric is about; None if it is.

        No network of the metric then looks at it, and that it has no score is no failure.
        """
        return None

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The score of one video, or of one pair.

        It may depend on the features, the options, the sample's ``extra``, and its prompt if the
        card's ``needs`` name it (else it is None), but not on the sample's name: the same content
        has the same score under any.
        """
        raise NotImplementedError

    def compare(
        self,
        generated: FeatureSet,
        reference: FeatureSet | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        """The score of the generated set, against the reference set where one is needed."""
        raise NotImplementedError

    def most_videos(self, options: Mapping[str, OptionValue]) -> int | None:
        """Videos a side that are compared, the first by content; None takes all."""
        return None

    def reference_statistics(
        self, reference: FeatureSet, options: Mapping[str, OptionValue]
    ) -> Mapping[str, Floats]:
        """What must be known of a reference set to compare others with it: ``--save-stats``."""
        raise NotImplementedError

    def compare_with_statistics(
        self,
        generated: FeatureSet,
        statistics: Mapping[str, Floats],
        options: Mapping[str, OptionValue],
    ) -> Score:
        """The score of the generated set against saved statistics of a reference set.

        Args:
            generated: The set.
            statistics: As :meth:`reference_statistics` gave them, or only ``mu`` and ``sigma``.
            options: The metric's options.
        """
        raise NotImplementedError

    def summarise(self, scores: Sequence[Score]) -> Score:
        """The score of a run, from those of its videos: by default their weighted mean, by value.

        Only for metrics without ``compare``. ``scores`` have numbers, and are never empty.
        """
        from aigve_cli.statistics.summaries import scores_to_mean

        return scores_to_mean(scores)

    @classmethod
    def scores_videos(cls) -> bool:
        """True if ``score`` is implemented."""
        return cls.score is not Metric.score

    @classmethod
    def saves_statistics(cls) -> bool:
        """True if a reference set's statistics can be saved and reused."""
        return cls.compare_with_statistics is not Metric.compare_with_statistics

    @classmethod
    def compares_sets(cls) -> bool:
        """True if ``compare`` is implemented."""
        return cls.compare is not Metric.compare
