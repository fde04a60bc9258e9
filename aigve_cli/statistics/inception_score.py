"""Inception score: exp of the mean divergence of a frame's classes from those of all frames.

Salimans et al. 2016, arXiv:1606.03498. Same numbers as torch-fidelity (5e211a9, Apache-2.0)
`metric_isc.py`: float64 softmax, rows shuffled by RandomState(2020), S splits at i N // S, mean and
standard deviation (ddof 0) over splits. Different here: rows are streamed, so no more than the
splits' sums are held, and the score has a standard error with videos as clusters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aigve_cli.lazy import np
from aigve_cli.statistics.intervals import cluster_standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]
    Videos = Iterable[Rows]

SHUFFLE_SEED = 2020


@dataclass(frozen=True)
class InceptionScore:
    """An inception score."""

    value: float
    """Mean over splits; from 1 (all alike) to the number of classes."""
    split_deviation: float
    """Standard deviation over splits (ddof 0): what papers print behind ±."""
    standard_error: float | None
    """With videos as clusters; None for a single video."""
    rows: int


def logits_to_inception_score(
    videos: Videos, *, splits: int = 10, shuffle_seed: int | None = SHUFFLE_SEED
) -> InceptionScore:
    """Inception score of a set of videos.

    Args:
        videos: Logits [n_v, C], one array a video, in a fixed order; iterated three times (to
            count, to sum, and for the standard error).
        splits: Number of parts whose scores are averaged.
        shuffle_seed: Of the shuffle before splitting; None keeps the order.

    Raises:
        ValueError: Fewer rows than splits, or logits that are not finite.
    """
    counts = [len(rows) for rows in videos]
    total = sum(counts)
    if splits < 1 or total < splits:
        raise ValueError(f"{total} frames cannot be cut into {splits} splits")
    split_of_row = _splits(total, splits, shuffle_seed)
    negentropies = np.zeros(splits)
    sums: Array | None = None
    for rows, parts in _with_splits(videos, split_of_row):
        logs = _log_softmax(rows)
        probabilities = np.exp(logs)
        if sums is None:
            sums = np.zeros((splits, logs.shape[1]))
        np.add.at(sums, parts, probabilities)
        np.add.at(negentropies, parts, (probabilities * logs).sum(axis=1))
    if sums is None:
        raise ValueError("there are no frames")
    sizes = np.bincount(split_of_row, minlength=splits)
    marginals = sums / sizes[:, None]
    # A class whose probability underflows in every row has p log p = 0.
    log_marginals = np.log(np.where(marginals > 0, marginals, 1.0))
    divergences = negentropies / sizes - (marginals * log_marginals).sum(axis=1)
    scores = np.exp(divergences)
    contributions = []
    for rows, parts in _with_splits(videos, split_of_row):
        logs = _log_softmax(rows)
        # Derivative of a split's log score by the weight of a row: its own divergence from the
        # split's marginal, less the mean divergence.
        own = (np.exp(logs) * (logs - log_marginals[parts])).sum(axis=1) - divergences[parts]
        contributions.append(float((scores[parts] * own / sizes[parts]).sum() / splits))
    error = cluster_standard_error(contributions) if len(contributions) > 1 else None
    return InceptionScore(float(scores.mean()), float(scores.std()), error, total)


def _splits(total: int, splits: int, shuffle_seed: int | None) -> NDArray[np.int64]:
    """int64 [total]: the split of each row."""
    order = np.arange(total)
    if shuffle_seed is not None:
        order = np.random.RandomState(shuffle_seed).permutation(total)
    split_of_row = np.empty(total, dtype=np.int64)
    for split in range(splits):
        split_of_row[order[split * total // splits : (split + 1) * total // splits]] = split
    return split_of_row


def _with_splits(
    videos: Videos, split_of_row: NDArray[np.int64]
) -> Iterable[tuple[Rows, NDArray[np.int64]]]:
    start = 0
    for rows in videos:
        if len(rows):
            yield rows, split_of_row[start : start + len(rows)]
            start += len(rows)


def _log_softmax(logits: Rows) -> Array:
    if not np.isfinite(logits).all():
        raise ValueError("logits hold numbers that are not finite")
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs
