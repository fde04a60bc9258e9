"""Two sets of videos to their Fréchet distance, its standard error and its noise floor.

Two passes over each set, and one more over the reference for its halves: memory holds statistics,
not features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aigve_cli.lazy import np
from aigve_cli.statistics.frechet import (
    Frechet,
    Influence,
    Method,
    gaussians_to_frechet,
    gaussians_to_frechet_influence,
)
from aigve_cli.statistics.gaussian import Gaussian, GaussianAccumulator, rows_to_gaussian
from aigve_cli.statistics.intervals import (
    Interval,
    cluster_standard_error,
    normal_interval,
    rows_to_contributions,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]
    Videos = Iterable[Rows]


@dataclass(frozen=True)
class FrechetOfSets:
    """A Fréchet distance between two sets of videos."""

    frechet: Frechet
    standard_error: float
    """Of both sides, or of the first alone where only the second's statistics are known."""
    interval: Interval


def sets_to_frechet(
    first: Videos, second: Videos | Gaussian, *, ddof: int = 1, method: Method | None = None
) -> FrechetOfSets:
    """Distance of two sets and its sampling error, with videos as clusters.

    Args:
        first: Arrays [n_v, D], one a video, in a fixed order; iterated twice.
        second: The other set, or its statistics, which then count as exact.
        ddof: Covariances are divided by ``rows - ddof``.
        method: See :func:`~aigve_cli.statistics.frechet.gaussians_to_frechet`.

    Raises:
        ValueError: Fewer than two videos with rows in a set, features that are not finite, or sets
            of different dimensions.
    """
    other = second if isinstance(second, Gaussian) else rows_to_gaussian(second, ddof=ddof)
    coupled = gaussians_to_frechet_influence(
        rows_to_gaussian(first, ddof=ddof), other, method=method
    )
    sides = [_contributions(first, coupled.first)]
    if not isinstance(second, Gaussian):
        sides.append(_contributions(second, coupled.second))
    error = cluster_standard_error(*sides)
    interval = normal_interval(coupled.frechet.value, error, least=0.0)
    return FrechetOfSets(coupled.frechet, error, interval)


def set_to_noise_floor(videos: Videos, *, ddof: int = 1) -> float | None:
    """Fréchet distance of a set's even-numbered videos from its odd-numbered ones.

    What the metric gives for two samples of one source. A half has half the rows, so this is an
    upper estimate of the bias in the distance of two sets of this size.

    Args:
        videos: Arrays [n_v, D], one a video, in sorted order; iterated once.
        ddof: Covariances are divided by ``rows - ddof``.

    Returns:
        The distance, or None where a half has fewer than two rows.
    """
    halves = GaussianAccumulator(ddof=ddof), GaussianAccumulator(ddof=ddof)
    rows = [0, 0]
    for index, video in enumerate(videos):
        halves[index % 2].add(video)
        rows[index % 2] += len(video)
    if min(rows) < 2:
        return None
    return gaussians_to_frechet(halves[0].gaussian(), halves[1].gaussian()).value


def _contributions(videos: Videos, influence: Influence) -> Array:
    return rows_to_contributions(
        [influence.rows_to_influence(rows) for rows in videos if len(rows)]
    )
