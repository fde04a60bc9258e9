"""What metrics of whole sets have in common: rows of a set, who is too few, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import FeatureSet, Metric, OptionValue, SampleFeatures
from aigve_cli.lazy import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aigve_cli.statistics.kernel import KernelRows

    Rows = NDArray[np.floating[Any]]

PAIR_NOTE = "a distance of one pair of videos; it is not the distance of the sets"
SAVED_NOTE = "against saved statistics: the error does not contain the reference set's own"


@dataclass(frozen=True)
class Terms:
    """What a metric's options decide about the comparison of two sets.

    Attributes:
        ddof: Covariances are divided by ``rows - ddof``.
        videos: Videos a side that the number is defined for; None takes all there are.
        notes: Sentences that stand first behind every number of a set.
    """

    ddof: int = 1
    videos: int | None = None
    notes: tuple[str, ...] = ()

    def remarks(self, sizes: Mapping[str, Sizes]) -> tuple[str, ...]:
        """The notes, and that there are fewer videos than the number is defined for."""
        if self.videos is None or all(size.videos >= self.videos for size in sizes.values()):
            return self.notes
        counted = " and ".join(f"{size.videos} {side}" for side, size in sizes.items())
        return (*self.notes, f"on {counted} videos instead of {self.videos} a side")


class SetMetric(Metric):
    """A metric of whole sets, whose options decide on what terms they are compared."""

    def terms(self, options: Mapping[str, OptionValue]) -> Terms:
        """What the options decide; by default, the convention is said behind every number."""
        convention = options.get("convention")
        return Terms(notes=(f"{convention} convention",) if convention else ())

    def most_videos(self, options: Mapping[str, OptionValue]) -> int | None:
        """Videos a side that are compared."""
        return self.terms(options).videos


@dataclass(frozen=True)
class RowsOf:
    """One request's arrays of a set's videos, as often as wanted; videos without rows left out."""

    videos: FeatureSet
    request: str

    def __iter__(self) -> Iterator[Rows]:
        return (rows for _, rows in self.labelled())

    def labelled(self) -> Iterator[tuple[str, Rows]]:
        """Video id and array of each video."""
        for video in self.videos:
            if len(rows := video.features[self.request]):
                yield video.video, rows


@dataclass(frozen=True)
class Sizes:
    """How much a set holds."""

    videos: int
    rows: int
    dimensions: int


def sizes_of(videos: RowsOf) -> Sizes:
    """Count videos that have rows, and their rows."""
    shapes = [rows.shape for rows in videos]
    return Sizes(len(shapes), sum(s[0] for s in shapes), shapes[0][1] if shapes else 0)


def too_few(unit: str, **sides: Sizes) -> str | None:
    """Why sets (``generated=…``, ``reference=…``) cannot be compared, or None."""
    for side, size in sides.items():
        if size.videos < 2:
            return f"needs at least 2 {side} videos with {unit}; there {are(size.videos)}"
    return None


def pair_too_few(features: SampleFeatures, unit: str) -> str | None:
    """Why a video's rows cannot be compared with those of its reference, or None."""
    if features.reference is None:
        return "needs a reference video"
    for side, arrays in (("generated", features.generated), ("reference", features.reference)):
        rows = len(arrays[unit])
        if rows < 2:
            return f"needs at least 2 {unit} of the {side} video; there {are(rows)}"
    return None


def counts(unit: str, **sides: Sizes) -> dict[str, Any]:
    """Details every comparison gives."""
    return {
        unit: {side: size.rows for side, size in sides.items()},
        "videos": {side: size.videos for side, size in sides.items()},
        "dimensions": next(iter(sides.values())).dimensions,
    }


def chosen_rows_note(unit: str, *samples: KernelRows) -> list[str]:
    """That a statistic was computed on some of the rows only."""
    most = max(len(sample.rows) for sample in samples)
    some = any(sample.total > len(sample.rows) for sample in samples)
    return [f"computed on {most} {unit} a side, chosen by hash"] if some else []


def are(count: int) -> str:
    """Words for a count, after "there"."""
    return "is 1" if count == 1 else f"are {count or 'none'}"
