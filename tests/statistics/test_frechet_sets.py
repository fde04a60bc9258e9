import numpy as np
import pytest

from aigve_cli.statistics.frechet import gaussians_to_frechet, gaussians_to_frechet_influence
from aigve_cli.statistics.frechet_sets import set_to_noise_floor, sets_to_frechet
from aigve_cli.statistics.gaussian import Gaussian, moments_to_gaussian, rows_to_gaussian


def weighted(rows, weights):
    """The Gaussian of rows with weights that sum to 1 (divisor N)."""
    mean = weights @ rows
    return Gaussian(len(rows), mean, np.sqrt(weights)[:, None] * (rows - mean), None)


def derivative(x, y, row):
    """Central difference of the distance towards weight 1 on one row of x."""
    weights = np.full(len(x), 1 / len(x))
    direction = -weights
    direction[row] += 1.0
    step = 1e-5
    values = [
        gaussians_to_frechet(
            weighted(x, weights + sign * step * direction),
            weighted(y, np.full(len(y), 1 / len(y))),
            method="svd",
        ).value
        for sign in (1, -1)
    ]
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize(
    ("rows", "method"),
    [
        ((8, 11), "svd"),
        ((11, 8), "svd"),
        ((8, 11), "gram"),
        ((11, 8), "gram"),
        ((8, 60), "svd"),
        ((60, 8), "gram"),
        ((60, 70), "svd"),
        ((60, 70), "gram"),
        ((70, 60), "cholesky"),
        ((60, 70), "eigh"),
    ],
)
def test_influence_is_the_derivative(random, rows, method):
    mix = random.normal(size=(20, 20))
    x = random.normal(size=(rows[0], 20)) @ mix + 0.5
    y = random.normal(size=(rows[1], 20)) @ mix.T
    gaussians = [weighted(side, np.full(len(side), 1 / len(side))) for side in (x, y)]
    coupled = gaussians_to_frechet_influence(*gaussians, method=method)
    assert coupled.frechet.method == method
    for side, other, influence in ((x, y, coupled.first), (y, x, coupled.second)):
        values = influence.rows_to_influence(side)
        values -= values.mean()
        numeric = [derivative(side, other, row) for row in range(6)]
        # Central differences with step 1e-5 are good to about six digits of the largest.
        np.testing.assert_allclose(values[:6], numeric, rtol=1e-5, atol=1e-5 * np.abs(values).max())


@pytest.mark.parametrize(("dimensions", "videos"), [(4, 60), (40, 30)])
def test_standard_error_agrees_with_the_jackknife(random, clustered, jackknife, dimensions, videos):
    x = clustered(random, videos, 3, dimensions, mean=0.4)
    y = clustered(random, videos + 10, 3, dimensions, scale=1.5)

    def value(first, second):
        return gaussians_to_frechet(rows_to_gaussian(first), rows_to_gaussian(second)).value

    # First order against delete-one: they differ by terms of order 1 / videos, more near the
    # rank limit (120 rows, 40 dimensions), where the distance is far from linear in weights.
    tolerance = 0.05 if dimensions == 4 else 0.2
    assert sets_to_frechet(x, y).standard_error == pytest.approx(
        jackknife(value, x, y), rel=tolerance
    )


def test_intervals_cover_a_known_distance(clustered):
    # N(0, I) and N(0.6, 1.7² I) in 3 dimensions: 3·0.6² + 3·0.7² = 2.55.
    random = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        x = clustered(random, 80, 2, 3)
        y = clustered(random, 80, 2, 3, mean=0.6, scale=1.7)
        interval = sets_to_frechet(x, y).interval
        hits += interval.low <= 2.55 <= interval.high
    # 400 trials at 95 %: mean 380, deviation 4.4. Three deviations up, and down to 92 %: normal
    # intervals of a biased, skewed statistic are known to cover a little less.
    assert 0.92 * 400 <= hits <= 393


def test_frames_of_one_video_are_no_new_evidence(random, clustered):
    x, y = clustered(random, 50, 1, 4), clustered(random, 50, 1, 4, mean=1.0)
    once = sets_to_frechet(x, y)
    tenfold = sets_to_frechet(
        [np.repeat(v, 10, axis=0) for v in x], [np.repeat(v, 10, axis=0) for v in y]
    )
    # Repeated frames change the divisor N - 1 of the covariance, 2 %, and nothing else.
    assert tenfold.standard_error == pytest.approx(once.standard_error, rel=0.03)


def test_streams_are_cut_anywhere_and_videos_without_rows_do_not_count(random, clustered):
    x, y = clustered(random, 9, 4, 5), clustered(random, 8, 4, 5, mean=1.0)
    empty = np.zeros((0, 5))
    assert sets_to_frechet([empty, *x], [*y, empty]) == sets_to_frechet(x, y)


def test_one_video_has_no_standard_error(random, clustered):
    with pytest.raises(ValueError, match="at least 2 videos"):
        sets_to_frechet(clustered(random, 1, 9, 3), clustered(random, 5, 9, 3))


def test_influence_of_a_set_on_itself_is_0(random):
    for rows in (10, 200):
        gaussian = rows_to_gaussian([x := random.normal(size=(rows, 20))])
        influence = gaussians_to_frechet_influence(gaussian, gaussian).first
        np.testing.assert_allclose(influence.rows_to_influence(x), 0.0, atol=1e-8)


def test_influence_on_saved_moments(random):
    x, y = random.normal(size=(15, 30)), random.normal(size=(25, 30)) + 1
    gaussian = rows_to_gaussian([y])
    moments = moments_to_gaussian(gaussian.mean, gaussian.covariance)
    with_rows = gaussians_to_frechet_influence(rows_to_gaussian([x]), gaussian).first
    without = gaussians_to_frechet_influence(rows_to_gaussian([x]), moments).first
    expected = with_rows.rows_to_influence(x)
    np.testing.assert_allclose(without.rows_to_influence(x), expected, rtol=1e-6)


def test_noise_floor_compares_alternate_videos(random, clustered):
    videos = clustered(random, 7, 3, 4)
    halves = rows_to_gaussian(videos[::2]), rows_to_gaussian(videos[1::2])
    assert set_to_noise_floor(videos) == gaussians_to_frechet(*halves).value
    assert set_to_noise_floor([v[:1] for v in videos[:3]]) is None
