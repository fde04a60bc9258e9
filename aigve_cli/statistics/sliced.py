"""Monge inception distance (MIND): how far rows must move, averaged over one-dimensional views.

    3 D · mean over unit directions u of the mean over i of (sort(X u)_i - sort(Y u)_i)²

Berthet et al., arXiv:2605.06797. Same directions and same choice of rows as torch-fidelity
(0.5.0-dev, 5e211a9, Apache-2.0) `metric_mind.py`: one CPU generator of torch draws first the rows
of the larger set that stay, then directions from a normal distribution in float32. Different here:
projections in float64, in blocks of directions, and a standard error with videos as clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aigve_cli.lazy import np
from aigve_cli.statistics.intervals import Interval, cluster_standard_error, normal_interval
from aigve_cli.statistics.kernel import KernelRows, check_dimensions, influence_to_contributions

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]

_DIRECTIONS_AT_ONCE = 64
_ROWS_AT_ONCE = 1_024


@dataclass(frozen=True)
class SlicedDistance:
    """A Monge inception distance."""

    value: float
    """Never negative, and above 0 for two samples of one source: fewer rows, higher."""
    standard_error: float
    interval: Interval
    rows: int
    """Of each side that were compared: those of the smaller set."""


def rows_to_sliced_distance(
    first: KernelRows, second: KernelRows, *, directions: int = 1_000, seed: int = 2020
) -> SlicedDistance:
    """Monge inception distance and its standard error, with videos as clusters.

    Sides of different size: the larger is cut to a random choice of its rows, as published; rows
    that are left out, and videos that lose all rows, do not enter the standard error. Directions
    are fixed by the seed and count as part of the definition. Near 0, for two samples of one
    source, the distance is not linear in the rows and the standard error is too small.

    A row's influence in one direction is the Kantorovich potential: its slope at a point is twice
    the way that the point moves, so it is a running sum over the sorted points.

    Args:
        first: One set; at least two rows of two videos.
        second: The other; the result does not depend on which is which.
        directions: Number of random directions.
        seed: Of the choice of rows and of the directions.

    Raises:
        ValueError: No direction, fewer than two rows or two videos with rows in a set, or sets of
            different dimensions.
    """
    if directions < 1:
        raise ValueError(f"{directions} directions: at least 1 is needed")
    size = min(len(first.rows), len(second.rows))
    if size < 2:
        raise ValueError(
            f"a sliced distance needs 2 rows a set; there are {len(first.rows)} "
            f"and {len(second.rows)}"
        )
    check_dimensions(first.rows, second.rows)
    import torch

    generator = torch.Generator("cpu").manual_seed(seed)
    x, y = (_choose(side, size, generator) for side in (first, second))
    dimensions = first.rows.shape[1]
    drawn = torch.randn(directions, dimensions, generator=generator, dtype=torch.float32)
    drawn /= drawn.norm(dim=1, keepdim=True).clamp_min(1e-12)
    units: Array = drawn.double().numpy()
    scale = 3.0 * dimensions / directions
    value = 0.0
    influence_x, influence_y = np.zeros(size), np.zeros(size)
    for start in range(0, directions, _DIRECTIONS_AT_ONCE):
        block = units[start : start + _DIRECTIONS_AT_ONCE]
        along_x, along_y = _project(x.rows, block), _project(y.rows, block)
        order_x, order_y = np.argsort(along_x, axis=1), np.argsort(along_y, axis=1)
        sorted_x = np.take_along_axis(along_x, order_x, axis=1)
        sorted_y = np.take_along_axis(along_y, order_y, axis=1)
        value += scale * float(((sorted_x - sorted_y) ** 2).sum()) / size
        influence_x += scale * _potentials(sorted_x, sorted_y, order_x)
        influence_y += scale * _potentials(sorted_y, sorted_x, order_y)
    error = cluster_standard_error(
        influence_to_contributions(x, influence_x), influence_to_contributions(y, influence_y)
    )
    return SlicedDistance(value, error, normal_interval(value, error, least=0.0), size)


def _choose(sample: KernelRows, size: int, generator: torch.Generator) -> KernelRows:
    """The set, or `size` random rows of a larger one in the set's order."""
    import torch

    if len(sample.rows) == size:
        return sample
    chosen = np.sort(torch.randperm(len(sample.rows), generator=generator)[:size].numpy())
    _, video = np.unique(sample.video[chosen], return_inverse=True)
    return KernelRows(sample.rows[chosen], video.astype(np.int64), sample.total)


def _project(rows: Rows, units: Array) -> Array:
    """float64 [directions, n]."""
    projections = np.empty((len(units), len(rows)))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE].astype(np.float64)
        projections[:, start : start + _ROWS_AT_ONCE] = units @ block.T
    return projections


def _potentials(here: Array, there: Array, order: NDArray[np.int64]) -> Array:
    """float64 [n]: each row's potential, up to a constant, summed over directions.

    Moving a little weight from one sorted point to the next has two one-sided derivatives, as the
    next point is paired with one partner or with the other; their mean is the trapezoid rule.

    Args:
        here: [directions, n], sorted: the side whose rows are asked about.
        there: The same of the other side.
        order: [directions, n]: the row of each sorted point.
    """
    way = here - there
    steps = np.diff(here, axis=1) * (way[:, 1:] + way[:, :-1])
    potentials = np.zeros_like(here)
    np.cumsum(steps, axis=1, out=potentials[:, 1:])
    sums = np.bincount(order.ravel(), weights=potentials.ravel(), minlength=here.shape[1])
    return sums.astype(np.float64, copy=False)
