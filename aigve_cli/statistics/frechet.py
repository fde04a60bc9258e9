"""Fréchet distance of two Gaussians, exactly and without a matrix square root.

    d² = |μ1 - μ2|² + tr Σ1 + tr Σ2 - 2 tr (Σ1^½ Σ2 Σ1^½)^½

The last trace is the sum of the singular values of A Bᵀ for any factors Σ1 = Aᵀ A, Σ2 = Bᵀ B, in
particular for centred rows. That is real by construction, needs no epsilon, and for few rows costs
a thousandth of `scipy.linalg.sqrtm` (pytorch-fid 0.3.0, b9c1811), whose product of two singular
matrices turns complex. Four ways to the singular values, in the order they are chosen:

* ``svd``: singular values of A Bᵀ itself; small sets or few dimensions; the most accurate
* ``gram``: eigenvalues of A Σ2 Aᵀ; no more rows than dimensions
* ``cholesky``: the same with A = Lᵀ, Σ1 = L Lᵀ; more rows than dimensions
* ``eigh``: ``svd`` on factors from both eigendecompositions, without their null spaces; where
  Cholesky meets a singular matrix, such as a dimension that never changes

Dowson and Landau 1982 (the distance), Heusel et al. 2017, arXiv:1706.08500 (its use as FID).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aigve_cli.lazy import np
from aigve_cli.statistics.gaussian import Gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]

Method = Literal["svd", "gram", "cholesky", "eigh"]

SVD_RANK = 512
"""Up to this rank, or D / 4, singular values cost less than forming a D x D matrix."""


@dataclass(frozen=True)
class Frechet:
    """A squared Fréchet distance (what FID and FVD report) and its parts."""

    value: float
    """``mean_term + trace_term``, never negative; exactly 0 for identical statistics."""
    mean_term: float
    """``|μ1 - μ2|²``."""
    trace_term: float
    """``tr Σ1 + tr Σ2 - 2 tr (Σ1^½ Σ2 Σ1^½)^½``; never negative, as in exact arithmetic."""
    raw_trace_term: float
    """The same as computed: round-off, about 1e-9 of the traces, may make it negative."""
    method: Method


@dataclass(frozen=True, eq=False)
class Influence:
    """How much the distance grows per weight given to a row of one side (its derivative)."""

    mean: Array
    """float64 [D], of this side."""
    gap: Array
    """float64 [D]: this side's mean minus the other's."""
    transport: Array
    """float64 [r, D]: Tᵀ = T = transportᵀ transport moves this side's Gaussian to the other's."""

    def rows_to_influence(self, rows: Rows) -> Array:
        """Influence of rows, up to a constant: subtract the mean over all rows of the side.

        Args:
            rows: [n, D] of this side. With fewer rows than dimensions only rows that are in the
                Gaussian are meaningful.

        Returns:
            float64 [n].
        """
        centred = rows.astype(np.float64) - self.mean
        moved = centred @ self.transport.T
        length = np.einsum("nd,nd->n", centred, centred)
        kept = np.einsum("nr,nr->n", moved, moved)
        influence: Array = 2.0 * (centred @ self.gap) + length - kept
        return influence


class FrechetInfluence(NamedTuple):
    """A distance and its derivative on both sides."""

    frechet: Frechet
    first: Influence
    second: Influence


def gaussians_to_frechet(
    first: Gaussian, second: Gaussian, *, method: Method | None = None
) -> Frechet:
    """The squared Fréchet distance.

    Args:
        first: One set's statistics.
        second: The other's.
        method: One of the four ways, instead of the fastest accurate one; identical statistics
            then give round-off rather than exactly 0.

    Raises:
        ValueError: The dimensions differ, or the method needs factors that are not there.
    """
    return _couple(first, second, method, with_maps=False)[0]


def gaussians_to_frechet_influence(
    first: Gaussian, second: Gaussian, *, method: Method | None = None
) -> FrechetInfluence:
    """The distance, and each side's influence function (for the infinitesimal jackknife).

    For a row x of the first side, with T the optimal transport map from first to second:

        2 (μ1 - μ2)·(x - μ1) + |x - μ1|² - (x - μ1)ᵀ T (x - μ1) - the mean of that over rows

    because 2 tr (Σ1^½ Σ2 Σ1^½)^½ has the gradient T with respect to Σ1.

    Raises:
        ValueError: As :func:`gaussians_to_frechet`.
    """
    frechet, to_second, to_first = _couple(first, second, method, with_maps=True)
    gap = first.mean - second.mean
    return FrechetInfluence(
        frechet, Influence(first.mean, gap, to_second), Influence(second.mean, -gap, to_first)
    )


class _Coupled(NamedTuple):
    frechet: Frechet
    to_second: Array
    """[r, D], or [0, D] where maps were not asked for."""
    to_first: Array


class _Spectrum(NamedTuple):
    singular: Array
    """Singular values of A Bᵀ."""
    to_second: Array
    to_first: Array


def _couple(
    first: Gaussian, second: Gaussian, method: Method | None, *, with_maps: bool
) -> _Coupled:
    if first.dimensions != second.dimensions:
        raise ValueError(
            f"the sets have {first.dimensions} and {second.dimensions} dimensions: "
            "only features of one network can be compared"
        )
    chosen = method or _choose(first, second)
    # The smaller side is the cheaper one to factor; the distance is symmetric.
    swapped = _rank(second) < _rank(first)
    left, right = (second, first) if swapped else (first, second)
    if chosen == "svd":
        spectrum = _svd(_factor(left), _factor(right), with_maps)
    elif chosen == "gram":
        spectrum = _gram(_factor(left), right, with_maps)
    else:
        lower = _cholesky(left.covariance) if chosen == "cholesky" else None
        if lower is not None:
            spectrum = _gram(lower.T, right, with_maps)
        else:
            chosen = "eigh"
            spectrum = _svd(
                _covariance_to_factor(left.covariance),
                _covariance_to_factor(right.covariance),
                with_maps,
            )
    gap = first.mean - second.mean
    mean_term = float(gap @ gap)
    raw = first.trace + second.trace - 2.0 * float(spectrum.singular.sum())
    # Equal statistics have distance 0; no factorisation could tell it more exactly.
    trace_term = 0.0 if method is None and _identical(first, second) else max(raw, 0.0)
    frechet = Frechet(mean_term + trace_term, mean_term, trace_term, raw, chosen)
    maps = spectrum.to_second, spectrum.to_first
    return _Coupled(frechet, *(reversed(maps) if swapped else maps))


def _rank(gaussian: Gaussian) -> int:
    """Rows of the smallest factor at hand; D + 1 where there are only moments."""
    if gaussian.factor is None:
        return gaussian.dimensions + 1
    return min(len(gaussian.factor), gaussian.dimensions)


def _choose(first: Gaussian, second: Gaussian) -> Method:
    dimensions = first.dimensions
    ranks = sorted((_rank(first), _rank(second)))
    if ranks[1] <= dimensions and ranks[0] <= max(SVD_RANK, dimensions // 4):
        return "svd"
    few = any(g.factor is not None and len(g.factor) <= dimensions for g in (first, second))
    return "gram" if few else "cholesky"


def _identical(first: Gaussian, second: Gaussian) -> bool:
    if not np.array_equal(first.mean, second.mean):
        return False
    if first.factor is not None and second.factor is not None:
        return bool(np.array_equal(first.factor, second.factor))
    return bool(np.array_equal(first.covariance, second.covariance))


def _factor(gaussian: Gaussian) -> Array:
    """float64 [min(rows, D), D] with factorᵀ factor = covariance."""
    if gaussian.factor is None:
        raise ValueError("only a mean and a covariance are left of this set: no factor")
    if len(gaussian.factor) > gaussian.dimensions:
        triangle: Array = np.asarray(np.linalg.qr(gaussian.factor, mode="r"), dtype=np.float64)
        return triangle
    return gaussian.factor


def _cholesky(covariance: Array) -> Array | None:
    """Lower triangle L with L Lᵀ = covariance; None where the matrix is singular to round-off."""
    try:
        lower: Array = np.linalg.cholesky(covariance).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        return None
    pivots = np.diagonal(lower) ** 2
    smallest = len(covariance) * np.finfo(np.float64).eps * np.diagonal(covariance).max()
    return lower if pivots.min() > smallest else None


def _covariance_to_factor(covariance: Array) -> Array:
    """float64 [rank, D]: eigenvectors times the root of their eigenvalues, without null space."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    factor: Array = (vectors[:, kept] * np.sqrt(values[kept])).T
    return factor


def _svd(a: Array, b: Array, with_maps: bool) -> _Spectrum:
    """Singular values of A Bᵀ = U S Vᵀ; transport S^-½ Vᵀ B, as A (that)ᵀ(that) Aᵀ = U S Uᵀ."""
    if not with_maps:
        empty = np.empty((0, a.shape[1]))
        alone: Array = np.linalg.svd(a @ b.T, compute_uv=False).astype(np.float64, copy=False)
        return _Spectrum(alone, empty, empty)
    u, singular, vt = np.linalg.svd(a @ b.T, full_matrices=False)
    # Below: directions that one side does not have; their influence is below 1e-10 of the largest.
    kept = singular > 1e-10 * singular.max(initial=0.0)
    root = np.sqrt(singular[kept])[:, None]
    return _Spectrum(singular, vt[kept] @ b / root, u[:, kept].T @ a / root)


def _gram(a: Array, right: Gaussian, with_maps: bool) -> _Spectrum:
    """The same from A Σ2 Aᵀ = U S² Uᵀ alone: S^-3/2 Uᵀ A Σ2 stands for S^-½ Vᵀ B."""
    if right.factor is not None:
        cross = a @ right.factor.T
        gram, far = cross @ cross.T, cross @ right.factor if with_maps else cross
    else:
        far = a @ right.covariance
        gram = far @ a.T
    if not with_maps:
        empty = np.empty((0, a.shape[1]))
        squares = np.linalg.eigvalsh(gram)
        return _Spectrum(np.sqrt(squares.clip(min=0.0)), empty, empty)
    squares, u = np.linalg.eigh(gram)
    singular = np.sqrt(squares.clip(min=0.0))
    # Squares carry round-off of 1e-16 of the largest, so smaller values than this are noise.
    kept = singular > 1e-6 * singular.max(initial=0.0)
    s, ut = singular[kept][:, None], u[:, kept].T
    return _Spectrum(singular, ut @ far / s**1.5, ut @ a / np.sqrt(s))
