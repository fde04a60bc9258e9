"""Rows of features to the Gaussian that the Fréchet distance compares: mean and covariance.

Up to four rows a dimension the centred rows themselves are kept, because a factor of the covariance
gives cheaper and far more accurate distances than the covariance; beyond that, sums are kept. The
choice depends on the number of rows and dimensions alone, and sums are folded in blocks of a fixed
size, so the statistics are the same to the last bit however the rows were cut into videos.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from aigve_cli.lazy import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]

ROWS_A_DIMENSION = 4
"""A set of n rows keeps them while n <= 4 D: at most 4 D^2 numbers."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of rows, the latter as a factor where one is affordable."""

    rows: int
    """Rows that were seen; 0 for moments whose source does not say."""
    mean: Array
    """float64 [D]."""
    factor: Array | None
    """float64 [rows, D]: ``(row - mean) / sqrt(rows - ddof)``; factorᵀ factor is the covariance."""
    moments: Array | None
    """float64 [D, D]: the covariance, where no factor is kept."""

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.mean.size)

    @cached_property
    def covariance(self) -> Array:
        """float64 [D, D], symmetric."""
        if self.factor is not None:
            return self.factor.T @ self.factor
        if self.moments is None:
            raise ValueError("a Gaussian needs a factor or moments")
        return self.moments

    @cached_property
    def trace(self) -> float:
        """Trace of the covariance: the total variance."""
        if self.factor is not None:
            return float(np.vdot(self.factor, self.factor))
        return float(np.trace(self.covariance))


def moments_to_gaussian(mean: Rows, covariance: Rows, *, rows: int = 0) -> Gaussian:
    """Saved statistics, such as a published reference's mean and covariance.

    Args:
        mean: [D].
        covariance: [D, D], symmetric to 1e-6 of its largest entry (files may be float32).
        rows: Number of rows behind them, if known.

    Raises:
        ValueError: Shapes do not fit, a number is not finite, or the matrix is not symmetric.
    """
    centre, square = mean.astype(np.float64), covariance.astype(np.float64)
    if centre.ndim != 1 or square.shape != (centre.size, centre.size):
        raise ValueError(
            f"a mean of shape {centre.shape} needs a square covariance of its size, "
            f"not one of shape {square.shape}"
        )
    if not (np.isfinite(centre).all() and np.isfinite(square).all()):
        raise ValueError("mean or covariance holds numbers that are not finite")
    skew = float(np.abs(square - square.T).max(initial=0.0))
    if skew > 1e-6 * float(np.abs(square).max(initial=0.0)):
        raise ValueError(f"the covariance is not symmetric: entries differ by {skew:.3g}")
    return Gaussian(rows, centre, None, (square + square.T) / 2)


def rows_to_gaussian(videos: Iterable[Rows], *, ddof: int = 1) -> Gaussian:
    """The Gaussian of all rows of a stream of videos.

    Args:
        videos: Arrays [n_i, D] in a fixed order; empty ones are skipped.
        ddof: The covariance is divided by ``rows - ddof``: 1, or 0 as StyleGAN-V's FVD does.

    Raises:
        ValueError: As :class:`GaussianAccumulator`.
    """
    accumulator = GaussianAccumulator(ddof=ddof)
    for rows in videos:
        accumulator.add(rows)
    return accumulator.gaussian()


class GaussianAccumulator:
    """Adds rows video by video and gives their :class:`Gaussian`.

    Memory: 4 D rows of float32 and, beyond them, one D x D matrix of float64.
    """

    def __init__(self, *, ddof: int = 1) -> None:
        self._ddof = ddof
        self._rows = 0
        self._dimensions: int | None = None
        self._kept: list[Rows] = []
        self._kept_rows = 0
        self._sums: _Sums | None = None

    def add(self, rows: Rows) -> None:
        """Add the rows of one video.

        Args:
            rows: float32 or float64 [n, D]; n may be 0.

        Raises:
            ValueError: Not two-dimensional, another D than before, or a number that is not finite.
        """
        if rows.ndim != 2:
            raise ValueError(f"features must be [rows, dimensions], not of shape {rows.shape}")
        if self._dimensions is None:
            self._dimensions = rows.shape[1]
        if rows.shape[1] != self._dimensions:
            raise ValueError(
                f"features have {rows.shape[1]} dimensions, those before {self._dimensions}"
            )
        if not np.isfinite(rows).all():
            raise ValueError("features hold numbers that are not finite")
        if not len(rows):
            return
        self._rows += len(rows)
        self._kept.append(rows.copy())  # the caller may reuse its buffer
        self._kept_rows += len(rows)
        block = ROWS_A_DIMENSION * self._dimensions
        if self._kept_rows > block:
            kept = np.concatenate(self._kept)
            # The last rows stay: exactly `block` rows in all must end as a factor.
            full = (len(kept) - 1) // block * block
            for start in range(0, full, block):
                self._fold(kept[start : start + block])
            self._kept = [kept[full:].copy()]
            self._kept_rows = len(kept) - full

    def gaussian(self) -> Gaussian:
        """Statistics of the rows so far.

        Raises:
            ValueError: No more rows than ``ddof``.
        """
        if self._rows <= self._ddof:
            raise ValueError(
                f"a covariance needs at least {self._ddof + 1} rows; there are {self._rows}"
            )
        divisor = self._rows - self._ddof
        kept = np.concatenate(self._kept)
        if self._sums is None:
            centred = kept.astype(np.float64)
            mean = centred.mean(axis=0)
            centred -= mean
            centred /= np.sqrt(divisor)
            return Gaussian(self._rows, mean, centred, None)
        shift, total, products = self._sums.plus(kept)
        products -= np.outer(total, total) / self._rows
        products /= divisor
        return Gaussian(self._rows, shift + total / self._rows, None, (products + products.T) / 2)

    def _fold(self, block: Rows) -> None:
        """Move 4 D rows into sums about the first block's mean, which keeps cancellation small."""
        if self._sums is None:
            mean = block.mean(axis=0, dtype=np.float64)
            self._sums = _Sums(mean, np.zeros(mean.size), np.zeros((mean.size, mean.size)))
        self._sums = self._sums.plus(block)


class _Sums(NamedTuple):
    """Sums of rows, and of their products, about a fixed point near their mean."""

    shift: Array
    total: Array
    products: Array

    def plus(self, rows: Rows) -> _Sums:
        shifted = rows.astype(np.float64) - self.shift
        products = shifted.T @ shifted
        products += self.products
        return _Sums(self.shift, self.total + shifted.sum(axis=0), products)
