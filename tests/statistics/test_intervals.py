import numpy as np
import pytest

from aigve_cli.statistics.intervals import (
    bootstrap_mean,
    cluster_standard_error,
    normal_interval,
    rows_to_contributions,
    three_digits,
    verdict,
)


def test_bootstrap_of_a_mean(random):
    values = random.normal(3.0, 2.0, size=400)
    result = bootstrap_mean(values)
    assert result == bootstrap_mean(values)
    assert result != bootstrap_mean(values, seed=1)
    assert result.value == values.mean()
    # The textbook error; a bootstrap of 2,000 resamples knows it to 1.6 %, three of those.
    textbook = values.std() / 20
    assert result.standard_error == pytest.approx(textbook, rel=0.05)
    assert result.interval.low == pytest.approx(result.value - 1.96 * textbook, abs=0.2 * textbook)
    assert result.interval.high == pytest.approx(result.value + 1.96 * textbook, abs=0.2 * textbook)


def test_bootstrap_of_a_weighted_mean(random):
    values = random.normal(3.0, 2.0, size=300)
    weights = random.integers(1, 60, size=300).astype(float)
    result = bootstrap_mean(values, weights)
    assert result.value == pytest.approx(np.repeat(values, weights.astype(int)).mean(), rel=1e-12)
    # The textbook error of a ratio of two means.
    shares = weights / weights.sum()
    textbook = np.sqrt(((shares * (values - result.value)) ** 2).sum())
    assert result.standard_error == pytest.approx(textbook, rel=0.08)
    assert result.interval.low < result.value < result.interval.high


def test_equal_weights_are_the_plain_mean_to_the_last_bit(random):
    values = random.normal(size=40)
    assert bootstrap_mean(values, [7.0] * 40) == bootstrap_mean(values)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="above 0"):
        bootstrap_mean([1.0, 2.0], weights)


def test_bootstrap_covers_the_mean():
    random = np.random.default_rng(4)
    hits = 0
    for _ in range(400):
        interval = bootstrap_mean(random.exponential(size=60), resamples=400).interval
        hits += interval.low <= 1.0 <= interval.high
    # 400 trials at 95 %: mean 380, deviation 4.4; percentiles of 60 skewed values give 2 % away.
    assert 0.90 * 400 <= hits <= 393


def test_bootstrap_of_alike_values_has_no_width():
    result = bootstrap_mean([2.0, 2.0, 2.0])
    assert (result.standard_error, result.interval) == (0.0, (2.0, 2.0))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, float("nan")]])
def test_bootstrap_refuses(values):
    with pytest.raises(ValueError, match=r"at least 2 values|not finite"):
        bootstrap_mean(values)


def test_clusters_of_one_give_the_error_of_a_mean(random):
    # The influence of a row on a mean is the row itself (up to a constant).
    rows = random.normal(size=50)
    contributions = rows_to_contributions([row[None] for row in rows])
    assert cluster_standard_error(contributions) == pytest.approx(
        rows.std(ddof=1) / np.sqrt(50), rel=1e-12
    )
    # Two independent sides add their variances.
    assert cluster_standard_error(contributions, contributions) == pytest.approx(
        np.sqrt(2) * cluster_standard_error(contributions)
    )


def test_contributions_of_unequal_videos_by_hand():
    # Rows 1, 2, 3 | 10: mean 4, so (6 - 12) / 4 and (10 - 4) / 4.
    contributions = rows_to_contributions([np.array([1.0, 2.0, 3.0]), np.array([10.0])])
    np.testing.assert_allclose(contributions, [-1.5, 1.5])
    assert cluster_standard_error(contributions) == pytest.approx(3.0)


def test_one_cluster_is_refused():
    with pytest.raises(ValueError, match="there are 1"):
        cluster_standard_error([0.0])


def test_normal_interval():
    assert normal_interval(1.0, 1.0) == pytest.approx((-0.96, 2.96), abs=1e-3)
    assert normal_interval(1.0, 1.0, least=0.0).low == 0.0


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (
            {"value": 31.4, "videos": 100, "noise_floor": 18.0, "rows": 1600, "dimensions": 2048},
            "few frames for 2048 dimensions: noise floor 18.0",
        ),
        (
            {"value": 90.0, "videos": 100, "noise_floor": 2.0, "rows": 6400, "dimensions": 2048},
            None,
        ),
        (
            {"value": 9.0, "videos": 100, "noise_floor": 5.0},
            "not far above what chance gives: noise floor 5.00",
        ),
        ({"value": 9.0, "videos": 3}, "few videos (3; 50 or more are advised)"),
        (
            {
                "value": 9.0,
                "videos": 3,
                "rows": 8,
                "dimensions": 8,
                "noise_floor": 0.5,
                "unit": "clips",
            },
            "few clips for 8 dimensions, few videos (3; 50 or more are advised): noise floor 0.500",
        ),
    ],
)
def test_verdict(facts, text):
    value = facts.pop("value")
    assert verdict(value, min_videos=50, **facts) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(18, "18.0"), (0.0012345, "0.00123"), (1234.5, "1234"), (0, "0.00"), (-0.5, "-0.500")],
)
def test_three_digits(value, text):
    assert three_digits(value) == text
