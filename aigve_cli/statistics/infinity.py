"""Fréchet distance extrapolated to an unlimited number of generated videos (FID∞, FVD∞).

Chong and Forsyth 2020, arXiv:1911.07023: the distance of n samples from a fixed reference is too
large by about c / n, so distances of several n, fitted by a line in 1 / n, lead to its intercept.
With one row a video: same sizes, same shuffles and same numbers as FID_IS_infinity
(mchong6/FID_IS_infinity, MIT). Different here: subsets take whole videos, distances are exact,
small sets start at a smaller size, and there is a standard error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aigve_cli.lazy import np
from aigve_cli.statistics.frechet import gaussians_to_frechet_influence
from aigve_cli.statistics.gaussian import Gaussian, rows_to_gaussian
from aigve_cli.statistics.intervals import (
    Interval,
    cluster_standard_error,
    normal_interval,
    rows_to_contributions,
)
from aigve_cli.statistics.kernel import KernelRows, influence_to_contributions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]
    Videos = Iterable[Rows]

MAX_ROWS = 50_000
"""What to gather of a large set with ``videos_to_kernel_rows``."""
PUBLISHED_MIN_SIZE = 5_000
_BLOCK = 4_096


@dataclass(frozen=True)
class FrechetInfinity:
    """A Fréchet distance without most of the bias of few generated videos."""

    value: float
    """The intercept: an estimate, so it may be negative for sets that are close."""
    slope: float
    """Of the line in 1 / n: ``slope / n`` is the estimated bias at n videos."""
    sizes: tuple[int, ...]
    """Videos of each subset; the last has all."""
    distances: tuple[float, ...]
    """One for each size."""
    standard_error: float
    reference_counts: bool
    """Whether the standard error holds the reference's part; not for saved moments, whose own
    sampling error is unknown."""
    interval: Interval


def rows_to_frechet_infinity(
    generated: KernelRows,
    reference: Gaussian | Videos,
    *,
    min_size: int | None = None,
    points: int = 15,
    seed: int = 0,
    ddof: int = 1,
) -> FrechetInfinity:
    """Extrapolated Fréchet distance and its standard error, with videos as clusters.

    Subsets take whole videos: half of the frames still show nearly all videos, so subsets of frames
    keep most of the bias (of 320 videos of 16 frames that correlate by a half, 80 % of it stayed;
    with whole videos about a tenth). Where videos have one row, this is the published rule.

    How far it goes, by simulation with Gaussians of 64 dimensions at a known distance, variances
    flat, 1 / k and k^-1.5: of the bias, about a tenth is left at 5 independent rows a dimension or
    more, and a quarter to a half, with its sign turned, at 2. At one row a dimension it is a
    quarter, turned, and at half a row up to a half, not turned: there the value is a guess. The
    bias of the reference's own limited size stays, about ``slope / M`` for M reference videos.

    The value is a fixed linear combination of distances, and which videos each of them sees does
    not depend on their rows, so a video's contribution is the same combination of its contributions
    to the distances (0 to those that do not see it). In simulations with 16 to 64 dimensions, 64 to
    320 videos and saved moments, the standard error was 4 to 12 % above the true deviation. Its
    interval describes chance, not the bias that is left. Leaving a video out would change all
    shuffles, so no jackknife by deletion compares.

    Memory: the rows as gathered and the statistics of one subset.

    Args:
        generated: At least four videos in a fixed order, gathered with ``MAX_ROWS``.
        reference: Arrays [n_v, D], one a video, iterated twice, or saved moments; all of it is
            compared with every subset.
        min_size: Videos of the smallest subset; by default 5,000 as published, or half of the
            videos where that is less (smaller subsets bend the line and hardly steady it).
        points: Number of subsets, from min_size to all videos in equal steps.
        seed: Of the shuffles.
        ddof: Covariances are divided by ``rows - ddof``.

    Raises:
        ValueError: Fewer than four videos, a min_size below 2 or not below the number of videos,
            fewer than two points, fewer than two reference videos, rows that are not finite, or
            sets of different dimensions.
    """
    rows, videos = generated.rows, int(generated.video[-1]) + 1
    if videos < 4:
        raise ValueError(f"an extrapolation needs at least 4 videos; there are {videos}")
    first = min(PUBLISHED_MIN_SIZE, videos // 2) if min_size is None else min_size
    if not 2 <= first < videos or points < 2:
        raise ValueError(
            f"{points} sizes from {first} to {videos} videos: at least 2 sizes are needed, "
            f"the first of them from 2 to {videos - 1}"
        )
    sizes = np.linspace(first, videos, points).astype(np.int64)
    to_slope, to_intercept = _line(sizes)
    goal = reference if isinstance(reference, Gaussian) else rows_to_gaussian(reference, ddof=ddof)
    distances = np.empty(points)
    influence = np.zeros(len(rows))
    gap, transport = np.zeros(goal.dimensions), np.zeros((goal.dimensions, goal.dimensions))
    shuffled = np.arange(videos)
    random = np.random.RandomState(seed)
    for point, (size, weight) in enumerate(zip(sizes, to_intercept, strict=True)):
        # In place: every shuffle starts from the one before, as published.
        random.shuffle(shuffled)
        drawn = np.zeros(videos, dtype=bool)
        drawn[shuffled[:size]] = True
        chosen = np.flatnonzero(drawn[generated.video])
        subset = rows_to_gaussian(_blocks(rows, chosen), ddof=ddof)
        coupled = gaussians_to_frechet_influence(subset, goal)
        distances[point] = coupled.frechet.value
        own = [coupled.first.rows_to_influence(block) for block in _blocks(rows, chosen)]
        influence[chosen] += weight * len(rows) / len(chosen) * _centred(np.concatenate(own))
        if goal is not reference:
            gap += weight * coupled.second.gap
            transport += weight * (coupled.second.transport.T @ coupled.second.transport)
    sides = [influence_to_contributions(generated, influence)]
    if not isinstance(reference, Gaussian):
        # The weights sum to 1, so one combined influence stands for those of all distances.
        combined = [_influence(block - goal.mean, gap, transport) for block in reference]
        sides.append(rows_to_contributions([part for part in combined if part.size]))
    error = cluster_standard_error(*sides)
    value = float(to_intercept @ distances)
    return FrechetInfinity(
        value=value,
        slope=float(to_slope @ distances),
        sizes=tuple(sizes.tolist()),
        distances=tuple(distances.tolist()),
        standard_error=error,
        reference_counts=len(sides) == 2,
        interval=normal_interval(value, error),
    )


class _Line(NamedTuple):
    """What a least-squares line in 1 / n takes from each distance."""

    slope: Array
    intercept: Array


def _line(sizes: NDArray[np.int64]) -> _Line:
    inverse = 1.0 / sizes
    spread = inverse - inverse.mean()
    slope: Array = spread / (spread @ spread)
    return _Line(slope, 1.0 / len(sizes) - inverse.mean() * slope)


def _blocks(rows: Rows, chosen: NDArray[np.int64]) -> Iterator[Rows]:
    """The chosen rows, without a copy of all of them at once."""
    for start in range(0, len(chosen), _BLOCK):
        yield rows[chosen[start : start + _BLOCK]]


def _centred(influence: Array) -> Array:
    centred: Array = influence - influence.mean()
    return centred


def _influence(centred: Array, gap: Array, transport: Array) -> Array:
    """As `Influence.rows_to_influence`, for a whole transport matrix [D, D], signed weights."""
    length = np.einsum("nd,nd->n", centred, centred)
    kept = np.einsum("nd,nd->n", centred @ transport, centred)
    influence: Array = 2.0 * (centred @ gap) + length - kept
    return influence
