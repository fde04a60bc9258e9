"""Kernel distance (KID, KVD): unbiased squared maximum mean discrepancy of two sets of rows.

Kernel (x·y / D + 1)³, Bińkowski et al. 2018, arXiv:1801.01401; Gretton et al. 2012, A Kernel
Two-Sample Test, lemma 6. Peers average random subsets of 1,000 rows; here all pairs are used,
which is deterministic and varies less; subsets are there to compare with published numbers.
Products are formed block by block in float64: peers' float32 cubes lose half of the digits of a
difference this small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aigve_cli.lazy import np
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

MAX_ROWS = 10_000
_BLOCK = 1_024


@dataclass(frozen=True, eq=False)
class KernelRows:
    """The rows of a set that a statistic of pairs of rows uses."""

    rows: Rows
    """[n, D], in the set's order."""
    video: NDArray[np.int64]
    """int64 [n]: the video of each row, counted from 0, ascending."""
    total: int
    """Rows that the set has; more than n where only some are used."""


@dataclass(frozen=True)
class KernelDistance:
    """A kernel distance between two sets."""

    value: float
    """Unbiased over all pairs of rows, so it may be negative."""
    between_videos: float | None
    """The same without pairs of rows of one video, which resemble each other and raise ``value``
    even for two samples of one source; None where a set has one video."""
    standard_error: float
    interval: Interval


class KernelSubsets(NamedTuple):
    """What papers print as KID: mean and deviation over subsets."""

    mean: float
    deviation: float
    """Standard deviation over subsets (ddof 0)."""


def videos_to_kernel_rows(
    videos: Iterable[tuple[str, Rows]], *, max_rows: int = MAX_ROWS
) -> KernelRows:
    """Gather the rows of a set, or of a large one a fixed pseudo-random choice.

    The choice is the rows with the smallest hash of video and row number: it does not depend on
    order, and a set that grows keeps most of it.

    Args:
        videos: A stable unique name and the array [n_v, D] of each video; iterated once.
        max_rows: At most this many are used.

    Raises:
        ValueError: No rows, arrays of different dimensions, or numbers that are not finite.
    """
    kept: list[Rows] = []
    owners: list[NDArray[np.int64]] = []
    hashes: list[NDArray[np.uint64]] = []
    total = held = 0
    for index, (name, rows) in enumerate((n, r) for n, r in videos if len(r)):
        if rows.ndim != 2 or (kept and rows.shape[1] != kept[0].shape[1]):
            raise ValueError(f"features of '{name}' have shape {rows.shape}, unlike those before")
        if not np.isfinite(rows).all():
            raise ValueError(f"features of '{name}' hold numbers that are not finite")
        kept.append(rows.copy())
        owners.append(np.full(len(rows), index, dtype=np.int64))
        hashes.append(_hashes(name, len(rows)))
        total += len(rows)
        held += len(rows)
        if held > 2 * max_rows:
            kept, owners, hashes = _smallest(kept, owners, hashes, max_rows)
            held = max_rows
    if not total:
        raise ValueError("there are no rows")
    if held > max_rows:
        kept, owners, hashes = _smallest(kept, owners, hashes, max_rows)
    _, video = np.unique(np.concatenate(owners), return_inverse=True)
    return KernelRows(np.concatenate(kept), video.astype(np.int64), total)


def rows_to_kernel_distance(first: KernelRows, second: KernelRows) -> KernelDistance:
    """Kernel distance and its standard error, with videos as clusters.

    The standard error is the first-order (Hájek) projection of the U-statistic: for a row x of the
    first set, 2 (mean k(x, first) - mean k(x, second)).

    Args:
        first: One set; at least two rows.
        second: The other set.

    Raises:
        ValueError: A set has fewer than two rows or two videos, or the dimensions differ.
    """
    n, m = len(first.rows), len(second.rows)
    if min(n, m) < 2:
        raise ValueError(f"a kernel distance needs 2 rows a set; there are {n} and {m}")
    check_dimensions(first.rows, second.rows)
    near_first, near_second = _own_sums(first.rows), _own_sums(second.rows)
    far_first, far_second = _cross_sums(first.rows, second.rows)
    cross = 2.0 * far_first.sum() / (n * m)
    value = near_first.sum() / (n * (n - 1)) + near_second.sum() / (m * (m - 1)) - cross
    between = None
    apart = _mean_apart(first, near_first), _mean_apart(second, near_second)
    if apart[0] is not None and apart[1] is not None:
        between = float(apart[0] + apart[1] - cross)
    influence_first = 2.0 * (near_first / (n - 1) - far_first / m)
    influence_second = 2.0 * (near_second / (m - 1) - far_second / n)
    error = cluster_standard_error(
        influence_to_contributions(first, influence_first),
        influence_to_contributions(second, influence_second),
    )
    return KernelDistance(float(value), between, error, normal_interval(float(value), error))


def rows_to_unbiased_mmd(first: Rows, second: Rows) -> float:
    """The value alone, for two arrays [n, D] and [m, D] of at least two rows each."""
    n, m = len(first), len(second)
    own = _own_sums(first).sum() / (n * (n - 1)) + _own_sums(second).sum() / (m * (m - 1))
    return float(own - 2.0 * _cross_sums(first, second)[0].sum() / (n * m))


def rows_to_kernel_subsets(
    first: Rows, second: Rows, *, subsets: int = 100, size: int = 1_000, seed: int = 2020
) -> KernelSubsets:
    """The published subset estimator, as torch-fidelity (5e211a9, Apache-2.0) draws it.

    It says less than all pairs do, and its deviation tells how subsets vary, not how far the mean
    is to be trusted: subsets share rows, and rows of one video count as independent.

    Args:
        first: [n, D]; drawn from first in every subset.
        second: [m, D].
        subsets: Number of pairs of subsets.
        size: Rows of a subset, drawn without replacement; at least 2.
        seed: Of the draws.

    Raises:
        ValueError: No subsets, a size below 2, a set of fewer rows than a subset, or sets of
            different dimensions.
    """
    if subsets < 1 or size < 2:
        raise ValueError(f"{subsets} subsets of {size} rows: at least 1 of 2 rows is needed")
    n, m = len(first), len(second)
    if min(n, m) < size:
        raise ValueError(f"a subset has {size} rows; the sets have {n} and {m}")
    check_dimensions(first, second)
    random = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        x = first[random.choice(n, size, replace=False)]
        y = second[random.choice(m, size, replace=False)]
        values.append(rows_to_unbiased_mmd(x, y))
    return KernelSubsets(float(np.mean(values)), float(np.std(values)))


def influence_to_contributions(sample: KernelRows, influence: Array) -> Array:
    """Influence of each row to the contribution of each video.

    Args:
        sample: A set of n rows and V videos.
        influence: float64 [n], up to a constant.

    Returns:
        float64 [V]: see :func:`~aigve_cli.statistics.intervals.rows_to_contributions`.
    """
    return rows_to_contributions(np.split(influence, np.cumsum(np.bincount(sample.video))[:-1]))


def check_dimensions(first: Rows, second: Rows) -> None:
    """Raise ValueError where the rows of two sets, [n, D] and [m, E], have not one dimension."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"the sets have {first.shape[1]} and {second.shape[1]} dimensions")


def _kernel(x: Rows, y: Rows) -> Array:
    """float64 [n, m]: (x·y / D + 1)³."""
    base: Array = x.astype(np.float64) @ y.astype(np.float64).T
    base /= x.shape[1]
    base += 1.0
    base *= base * base
    return base


def _own_sums(rows: Rows) -> Array:
    """float64 [n]: sum of a row's kernel with all others of its set."""
    sums = np.zeros(len(rows))
    for i in range(0, len(rows), _BLOCK):
        block = _kernel(rows[i : i + _BLOCK], rows[i : i + _BLOCK])
        np.fill_diagonal(block, 0.0)
        sums[i : i + _BLOCK] += block.sum(axis=1)
        for j in range(i + _BLOCK, len(rows), _BLOCK):
            block = _kernel(rows[i : i + _BLOCK], rows[j : j + _BLOCK])
            sums[i : i + _BLOCK] += block.sum(axis=1)
            sums[j : j + _BLOCK] += block.sum(axis=0)
    return sums


def _cross_sums(first: Rows, second: Rows) -> tuple[Array, Array]:
    """float64 [n] and [m]: sums of each row's kernel with all rows of the other set."""
    of_first, of_second = np.zeros(len(first)), np.zeros(len(second))
    for i in range(0, len(first), _BLOCK):
        for j in range(0, len(second), _BLOCK):
            block = _kernel(first[i : i + _BLOCK], second[j : j + _BLOCK])
            of_first[i : i + _BLOCK] += block.sum(axis=1)
            of_second[j : j + _BLOCK] += block.sum(axis=0)
    return of_first, of_second


def _mean_apart(sample: KernelRows, near: Array) -> float | None:
    """Mean kernel of two rows of different videos."""
    sizes = np.bincount(sample.video)
    if len(sizes) < 2:
        return None
    ends = np.cumsum(sizes)
    inside = sum(
        float(_own_sums(sample.rows[end - size : end]).sum())
        for end, size in zip(ends, sizes, strict=True)
        if size > 1
    )
    pairs = len(near) ** 2 - float((sizes.astype(np.float64) ** 2).sum())
    return (float(near.sum()) - inside) / pairs


def _hashes(name: str, rows: int) -> NDArray[np.uint64]:
    """uint64 [rows]: a hash of video and row number."""
    digests = b"".join(
        hashlib.blake2b(f"{name}\0{row}".encode(), digest_size=8).digest() for row in range(rows)
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _smallest(
    kept: list[Rows],
    owners: list[NDArray[np.int64]],
    hashes: list[NDArray[np.uint64]],
    count: int,
) -> tuple[list[Rows], list[NDArray[np.int64]], list[NDArray[np.uint64]]]:
    """The rows with the smallest hashes, in their order."""
    all_hashes = np.concatenate(hashes)
    chosen = np.sort(np.argsort(all_hashes, kind="stable")[:count])
    return (
        [np.concatenate(kept)[chosen]],
        [np.concatenate(owners)[chosen]],
        [all_hashes[chosen]],
    )
