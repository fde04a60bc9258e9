"""Precision and recall, density and coverage: do generated rows lie among real ones, and all over?

A ball about each row of a set reaches to its k-th nearest other row of that set.

* precision: share of generated rows in the ball of some real row; recall: with the sets exchanged
  (Kynkäänniemi et al. 2019, arXiv:1904.06991); k = 3 and borders included, as in torch-fidelity
  (5e211a9, Apache-2.0)
* density: real balls about a generated row, divided by k; coverage: share of real rows whose ball
  holds a generated row (Naeem et al. 2020, arXiv:2002.09797); k = 5 and borders excluded, as in
  prdc (82db9ac, MIT)

Different here: distances in float64, block by block, ties that round-off does not break, and
standard errors with videos as clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aigve_cli.lazy import np
from aigve_cli.statistics.intervals import (
    NORMAL_95,
    Interval,
    Mean,
    cluster_standard_error,
    normal_interval,
)
from aigve_cli.statistics.kernel import KernelRows, check_dimensions, influence_to_contributions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]

_BLOCK = 1_024
_ROUND_OFF = 1e-9
"""Squared distances that differ by less than this share are a tie: round-off must not break it."""


@dataclass(frozen=True)
class Neighbours:
    """How generated rows lie among real ones.

    Each standard error counts the videos of the set whose rows are averaged, and takes the balls of
    the other set, or with coverage its rows, as fixed: it is too small. In simulations with equal
    sets the true deviation is about 1.4 times as large, with density twice.
    """

    precision: Mean
    """Over generated rows; 0 to 1."""
    recall: Mean
    """Over real rows; 0 to 1."""
    f_score: Mean
    """Harmonic mean of precision and recall, 0 where both are 0; 0 to 1. Its interval joins the
    ends of theirs, so it is wider than 95 %."""
    density: Mean
    """Over generated rows; 0 and up, about 1 for sets of one source."""
    coverage: Mean
    """Over real rows; 0 to 1."""


def rows_to_neighbours(
    generated: KernelRows,
    reference: KernelRows,
    *,
    precision_neighbours: int = 3,
    density_neighbours: int = 5,
) -> Neighbours:
    """Precision, recall, their harmonic mean, density and coverage.

    All depend on the number of rows: compare numbers of equal sizes only. A row with k copies in
    its set has a ball of radius 0: as published, it counts copies for precision and recall and
    nothing for density and coverage, so still videos lower the latter.

    Args:
        generated: More rows than neighbours, of at least two videos.
        reference: The real rows, as many.
        precision_neighbours: k of precision and recall.
        density_neighbours: k of density and coverage.

    Raises:
        ValueError: k below 1, no more rows than neighbours, fewer than two videos in a set, or sets
            of different dimensions.
    """
    most = max(precision_neighbours, density_neighbours)
    if min(precision_neighbours, density_neighbours) < 1:
        raise ValueError(
            f"{precision_neighbours} and {density_neighbours} neighbours: at least 1 is needed"
        )
    n, m = len(generated.rows), len(reference.rows)
    if min(n, m) <= most:
        raise ValueError(f"{most} neighbours need {most + 1} rows a set; there are {n} and {m}")
    check_dimensions(generated.rows, reference.rows)
    # Near their mean, rows lose least to cancellation in |x|² + |y|² - 2 x·y.
    centre = reference.rows.mean(axis=0, dtype=np.float64)
    x, y = generated.rows - centre, reference.rows - centre
    near_x, near_y = _nearest(x, most), _nearest(y, most)
    met = _meet(
        x,
        y,
        near_x[:, precision_neighbours - 1] * (1 + _ROUND_OFF),
        near_y[:, precision_neighbours - 1] * (1 + _ROUND_OFF),
        near_y[:, density_neighbours - 1] * (1 - _ROUND_OFF),
    )
    precision, recall = _share(generated, met.precise), _share(reference, met.recalled)
    density = _mean(generated, met.around / density_neighbours)
    return Neighbours(
        precision, recall, _f_score(precision, recall), density, _share(reference, met.covered)
    )


class _Met(NamedTuple):
    precise: NDArray[np.bool_]
    """[n]: generated rows in a real ball."""
    recalled: NDArray[np.bool_]
    """[m]: real rows in a generated ball."""
    around: NDArray[np.int64]
    """[n]: real balls about each generated row."""
    covered: NDArray[np.bool_]
    """[m]: real rows with a generated row in their ball."""


def _meet(x: Array, y: Array, reach_x: Array, reach_y: Array, inner_y: Array) -> _Met:
    """Which rows lie in which balls; squared radii, `inner_y` without its border."""
    precise, around = np.zeros(len(x), dtype=bool), np.zeros(len(x), dtype=np.int64)
    recalled, covered = np.zeros(len(y), dtype=bool), np.zeros(len(y), dtype=bool)
    for i in range(0, len(x), _BLOCK):
        a = slice(i, i + _BLOCK)
        for j in range(0, len(y), _BLOCK):
            b = slice(j, j + _BLOCK)
            squares = _squares(x[a], y[b])
            precise[a] |= (squares <= reach_y[b]).any(axis=1)
            recalled[b] |= (squares <= reach_x[a, None]).any(axis=0)
            inside = squares < inner_y[b]
            around[a] += inside.sum(axis=1)
            covered[b] |= inside.any(axis=0)
    return _Met(precise, recalled, around, covered)


def _nearest(rows: Array, count: int) -> Array:
    """float64 [n, count]: squared distances to the nearest other rows, ascending."""
    nearest = np.full((len(rows), count), np.inf)
    for i in range(0, len(rows), _BLOCK):
        a = slice(i, i + _BLOCK)
        own = _squares(rows[a], rows[a])
        np.fill_diagonal(own, np.inf)
        nearest[a] = _smallest(nearest[a], own)
        for j in range(i + _BLOCK, len(rows), _BLOCK):
            b = slice(j, j + _BLOCK)
            squares = _squares(rows[a], rows[b])
            nearest[a] = _smallest(nearest[a], squares)
            nearest[b] = _smallest(nearest[b], squares.T)
    return np.sort(nearest, axis=1)


def _smallest(kept: Array, squares: Array) -> Array:
    """The `count` smallest of each row of [r, count] and [r, c] together."""
    count = kept.shape[1]
    return np.partition(np.concatenate([kept, squares], axis=1), count - 1, axis=1)[:, :count]


def _squares(x: Array, y: Array) -> Array:
    """float64 [n, m]: squared distances; exactly 0 for rows that are equal to round-off."""
    lengths = np.einsum("nd,nd->n", x, x)[:, None] + np.einsum("nd,nd->n", y, y)
    squares: Array = x @ y.T
    squares *= -2.0
    squares += lengths
    squares[squares < 1e-12 * lengths] = 0.0
    return squares


def _mean(sample: KernelRows, values: Array) -> Mean:
    value = float(values.mean())
    error = cluster_standard_error(influence_to_contributions(sample, values))
    return Mean(value, error, normal_interval(value, error, least=0.0))


def _share(sample: KernelRows, inside: NDArray[np.bool_]) -> Mean:
    """A share of rows, with Wilson's interval for as many independent rows as its error tells.

    At a share of 0 or 1 the error is 0 and says nothing: then videos count as single rows.
    """
    mean = _mean(sample, inside.astype(np.float64))
    share, error = mean.value, mean.standard_error
    rows = float(sample.video[-1] + 1)
    if error > 0:
        rows = min(share * (1 - share) / error**2, len(inside))
    z = NORMAL_95**2 / rows
    middle = (share + z / 2) / (1 + z)
    half = np.sqrt(z * share * (1 - share) + z**2 / 4) / (1 + z)
    interval = Interval(max(float(middle - half), 0.0), min(float(middle + half), 1.0))
    return Mean(share, error, interval)


def _f_score(precision: Mean, recall: Mean) -> Mean:
    p, r = precision.value, recall.value
    error = 0.0
    if p + r > 0:
        to_p, to_r = 2 * (r / (p + r)) ** 2, 2 * (p / (p + r)) ** 2
        error = float(np.hypot(to_p * precision.standard_error, to_r * recall.standard_error))
    low, high = map(_harmonic_mean, precision.interval, recall.interval)
    return Mean(_harmonic_mean(p, r), error, Interval(low, high))


def _harmonic_mean(p: float, r: float) -> float:
    return 2 * p * r / (p + r) if p + r > 0 else 0.0
