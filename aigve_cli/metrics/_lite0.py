"""What the distribution metrics on the embedded network have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import (
    Extent,
    FeatureSet,
    Frames,
    Normalise,
    Request,
    Resize,
    SampleFeatures,
    Score,
    View,
)
from aigve_cli.lazy import np
from aigve_cli.statistics.frechet import gaussians_to_frechet
from aigve_cli.statistics.frechet_sets import set_to_noise_floor, sets_to_frechet
from aigve_cli.statistics.gaussian import rows_to_gaussian
from aigve_cli.statistics.intervals import verdict
from aigve_cli.video.sampling import frame_sampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.floating[Any]]

VIEW: View = (
    Resize(224, 224, "torch-bilinear-antialias-uint8"),
    Normalise((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
)
LICENCE = "Apache-2.0 (weights of efficientnet-lite0)"
NETWORK_DEVIATION = (
    "Network: EfficientNet-Lite0 (ImageNet-1k, installed with the package) instead of the "
    "published one, so values are not comparable with published ones."
)
EXACT_DEVIATION = (
    "Exact Fréchet distance by singular values, without a matrix square root or an epsilon."
)
PAIR_NOTE = "a distance of one pair of videos; it is not the distance of the sets"


def feature_frames(extent: Extent) -> Request:
    """Frames of both sides as 1280-d features: one request, so one pass, for FID and KID."""
    return Request("efficientnet-lite0:features", (Frames(VIEW, frame_sampling(extent), "each"),))


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


def too_few(generated: Sizes, reference: Sizes, unit: str) -> str | None:
    """Why two sets cannot be compared, or None."""
    for side, size in (("generated", generated), ("reference", reference)):
        if size.videos < 2:
            return f"needs at least 2 {side} videos with {unit}; there {are(size.videos)}"
    return None


def pair_too_few(features: SampleFeatures, request: str, unit: str) -> str | None:
    """Why a video cannot be compared with its reference, or None."""
    if features.reference is None:
        return "needs a reference video"
    for side, arrays in (("generated", features.generated), ("reference", features.reference)):
        rows = len(arrays[request])
        if rows < 2:
            return f"needs at least 2 {unit} of the {side} video; there {are(rows)}"
    return None


def counts(generated: Sizes, reference: Sizes, unit: str) -> dict[str, Any]:
    """Details every comparison gives."""
    return {
        unit: {"generated": generated.rows, "reference": reference.rows},
        "videos": {"generated": generated.videos, "reference": reference.videos},
        "dimensions": generated.dimensions,
    }


def pair_to_frechet(features: SampleFeatures, *, name: str, request: str, unit: str) -> Score:
    """Fréchet distance of one generated video from its reference video."""
    reason = pair_too_few(features, request, unit)
    if reason or features.reference is None:
        return Score.missing(reason or "needs a reference video")
    rows = features.generated[request], features.reference[request]
    frechet = gaussians_to_frechet(rows_to_gaussian([rows[0]]), rows_to_gaussian([rows[1]]))
    return Score(
        values={name: frechet.value},
        details={
            "mean_term": frechet.mean_term,
            "trace_term": frechet.trace_term,
            unit: {"generated": len(rows[0]), "reference": len(rows[1])},
            "dimensions": int(rows[0].shape[1]),
        },
        notes=(PAIR_NOTE,),
    )


def sets_to_frechet_score(
    generated: FeatureSet,
    reference: FeatureSet | None,
    *,
    name: str,
    request: str,
    unit: str,
    min_videos: int,
) -> Score:
    """Fréchet distance of the generated set from the reference set, with what it is worth."""
    if reference is None:
        return Score.missing("needs reference videos")
    ours, theirs = RowsOf(generated, request), RowsOf(reference, request)
    our_size, their_size = sizes_of(ours), sizes_of(theirs)
    if reason := too_few(our_size, their_size, unit):
        return Score.missing(reason)
    result = sets_to_frechet(ours, theirs)
    floor = set_to_noise_floor(theirs)
    note = verdict(
        result.frechet.value,
        videos=min(our_size.videos, their_size.videos),
        min_videos=min_videos,
        noise_floor=floor,
        rows=min(our_size.rows, their_size.rows),
        dimensions=our_size.dimensions,
        unit=unit,
    )
    return Score(
        values={name: result.frechet.value},
        standard_errors={name: result.standard_error},
        details={
            "mean_term": result.frechet.mean_term,
            "trace_term": result.frechet.trace_term,
            "noise_floor": floor,
            "interval95": list(result.interval),
            **counts(our_size, their_size, unit),
        },
        notes=(note,) if note else (),
    )


def are(count: int) -> str:
    """Words for a count, after "there"."""
    return "is 1" if count == 1 else f"are {count or 'none'}"
