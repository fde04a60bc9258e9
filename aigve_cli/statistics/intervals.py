"""How far to trust a number: standard errors, 95 % intervals, and a verdict on too few samples.

The sampling unit is the video: frames of one video resemble each other, so they are one cluster.
Means over videos are bootstrapped. Set statistics (Fréchet, kernel distance, inception score) use
the infinitesimal jackknife: the spread of the derivative of the statistic with respect to each
video's weight. They are never bootstrapped: a resample repeats videos, which moves a Fréchet
distance so far up that the estimate falls outside its own percentile interval.

Efron and Tibshirani 1993, An Introduction to the Bootstrap; Jaeckel 1972, The Infinitesimal
Jackknife (Bell Labs memorandum).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aigve_cli.lazy import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RESAMPLES = 2_000
NORMAL_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""
FLOOR_SHARE = 0.25
"""A noise floor above this share of the value is worth a warning."""
_DRAWS_AT_ONCE = 4_000_000


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Mean:
    """A mean over videos, with its uncertainty."""

    value: float
    standard_error: float
    interval: Interval


def bootstrap_mean(
    values: Sequence[float] | Array,
    weights: Sequence[float] | Array | None = None,
    *,
    seed: int = 2020,
    resamples: int = RESAMPLES,
) -> Mean:
    """Mean over videos with a percentile bootstrap over videos; the same seed, the same result.

    Args:
        values: One finite number a video, at least two.
        weights: How much each counts; None and equal ones are the plain mean. A video is drawn with
            its weight, so that the weights' own chance is in the interval.
        seed: Of the resampling.
        resamples: Number of resampled sets.

    Raises:
        ValueError: Fewer than two values, one that is not finite, or a weight that is not above 0.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size < 2:
        raise ValueError(f"a bootstrap needs at least 2 values; there are {data.size}")
    if not np.isfinite(data).all():
        raise ValueError("values hold numbers that are not finite")
    shares = None if weights is None else np.asarray(weights, dtype=np.float64)
    if shares is not None:
        if shares.shape != data.shape or not (np.isfinite(shares) & (shares > 0)).all():
            raise ValueError("weights are one finite number above 0 for each value")
        if (shares == shares[0]).all():
            shares = None
    random = np.random.default_rng(seed)
    means = np.empty(resamples)
    # In blocks: a million videos times 2,000 resamples do not fit in memory.
    block = max(1, _DRAWS_AT_ONCE // data.size)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        draws = random.integers(0, data.size, size=(count, data.size))
        means[start : start + count] = _mean(data[draws], None if shares is None else shares[draws])
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(_mean(data, shares))
    return Mean(mean, float(means.std(ddof=1)), Interval(float(low), float(high)))


def _mean(values: Array, weights: Array | None) -> Array:
    """Along the last axis."""
    if weights is None:
        return np.asarray(values.mean(axis=-1))
    return np.asarray((values * weights).sum(axis=-1) / weights.sum(axis=-1))


def cluster_standard_error(*sides: Sequence[float] | Array) -> float:
    """Standard error of a set statistic from the influence of each video.

    ``SE² = Σ_sides V / (V - 1) Σ_v c_v²``. Sides count as independent: for pairs that show the same
    scene, errors of both sides partly cancel in a distance, so the result errs on the safe side.

    Args:
        sides: For each set, one number c_v a video: the sum of its rows' influences (centred over
            all rows of the set) divided by the set's number of rows.

    Raises:
        ValueError: A side has fewer than two videos.
    """
    variance = 0.0
    for side in sides:
        contributions = np.asarray(side, dtype=np.float64)
        videos = contributions.size
        if videos < 2:
            raise ValueError(f"a standard error needs at least 2 videos a set; there are {videos}")
        variance += videos / (videos - 1) * float(contributions @ contributions)
    return float(np.sqrt(variance))


def rows_to_contributions(influences: Sequence[Array]) -> Array:
    """Influence of each row to the contribution of each video, centred over all rows.

    Args:
        influences: One float64 [n_v] a video, up to a common constant.

    Returns:
        float64 [V]: ``Σ_{i in v} (influence_i - mean) / N``.
    """
    sums = np.array([rows.sum() for rows in influences])
    counts = np.array([rows.size for rows in influences])
    contributions: Array = (sums - counts * (sums.sum() / counts.sum())) / counts.sum()
    return contributions


def normal_interval(value: float, standard_error: float, *, least: float | None = None) -> Interval:
    """95 % interval of a statistic that is about normal.

    It describes how the number would vary with other videos, at this number of videos; it does not
    contain the bias of small sets, which the noise floor shows.

    Args:
        value: The estimate.
        standard_error: Of the estimate.
        least: The smallest possible value of the statistic, if there is one.
    """
    low = value - NORMAL_95 * standard_error
    return Interval(low if least is None else max(low, least), value + NORMAL_95 * standard_error)


def verdict(
    value: float,
    *,
    videos: int,
    min_videos: int,
    noise_floor: float | None = None,
    rows: int | None = None,
    dimensions: int | None = None,
    unit: str = "frames",
) -> str | None:
    """One short sentence where there are too few samples to trust a number; else None.

    Args:
        value: The set's number.
        videos: Videos of the smaller set.
        min_videos: The metric's own limit.
        noise_floor: What the metric gives for two halves of the reference set, which should be
            well below the value (a quarter). Halves are smaller than the sets, so it is an upper
            estimate: a Fréchet distance's bias is about inverse to the number of samples.
        rows: Rows of the smaller set, where the statistic needs more rows than dimensions.
        dimensions: Of a row.
        unit: What a row is.
    """
    few = []
    if rows is not None and dimensions is not None and rows <= dimensions:
        few.append(f"few {unit} for {dimensions} dimensions")
    if words := few_videos(videos, min_videos):
        few.append(words)
    high = noise_floor is not None and abs(noise_floor) > FLOOR_SHARE * abs(value)
    if not few and not high:
        return None
    if noise_floor is None:
        return ", ".join(few)
    if not few:
        few.append("not far above what chance gives")
    return f"{', '.join(few)}: noise floor {three_digits(noise_floor)}"


def few_videos(videos: int, least: int) -> str | None:
    """That there are fewer videos than a metric advises, or None."""
    if videos >= least:
        return None
    return f"few videos ({videos}; {least} or more are advised)"


def three_digits(value: float) -> str:
    """A number to three significant digits, without an exponent where that is readable."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:#.3g}"
