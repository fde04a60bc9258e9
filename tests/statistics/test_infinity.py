import numpy as np
import pytest

from aigve_cli.statistics.frechet import gaussians_to_frechet
from aigve_cli.statistics.gaussian import Gaussian, moments_to_gaussian, rows_to_gaussian
from aigve_cli.statistics.infinity import MAX_ROWS, rows_to_frechet_infinity
from aigve_cli.statistics.kernel import videos_to_kernel_rows

# FID_IS_infinity's rule on the pytorch-fid distance, numpy.random.seed(0): 15 sizes of feat64's x
# from 100 rows on, against all of its y. Float64 on both sides; sqrtm errs by 1e-13 here.
VALUE = 0.7799041308740284
SIZES = (100, 135, 171, 207, 242, 278, 314, 350, 385, 421, 457, 492, 528, 564, 600)
DISTANCES = [
    2.076104919977489,
    1.7508844614731416,
    1.3867845264570775,
    1.3610735766564943,
    1.2832062502021984,
    1.2525592446346394,
    1.2669005712112096,
    1.2258423245717651,
    1.0960204448672997,
    1.0608597318607025,
    1.0703223998153533,
    1.0424197059066103,
    0.9667587228707788,
    1.007132412124541,
    0.9817435389051141,
]


def gather(videos):
    named = ((f"{index:04}", rows) for index, rows in enumerate(videos))
    return videos_to_kernel_rows(named, max_rows=MAX_ROWS)


def extrapolate(videos, reference, **options):
    return rows_to_frechet_infinity(gather(videos), reference, **options)


def test_golden(goldens):
    x, y = goldens[0]["feat64"]
    result = extrapolate([*x[:, None]], [y[:123], y[123:]], min_size=100)
    assert result.sizes == SIZES
    np.testing.assert_allclose(result.distances, DISTANCES, rtol=1e-10)
    assert result.value == pytest.approx(VALUE, rel=1e-10)
    slope, intercept = np.polyfit(1 / np.array(SIZES), DISTANCES, 1)
    assert (result.value, result.slope) == pytest.approx((intercept, slope), rel=1e-9)
    low, high = result.interval
    assert high - low == pytest.approx(2 * 1.96 * result.standard_error, rel=1e-4)


@pytest.mark.parametrize(("videos", "first"), [(4, 2), (5, 2), (600, 300), (9_998, 4_999)])
def test_small_sets_start_at_half_of_the_videos(random, videos, first):
    moments = moments_to_gaussian(np.zeros(2), np.eye(2))
    assert extrapolate([*random.normal(size=(videos, 1, 2))], moments, points=3).sizes[0] == first


def test_large_sets_start_at_the_published_size(random):
    videos = [*random.normal(size=(12_000, 1, 2))]
    assert extrapolate(videos, videos[:9], points=3).sizes == (5_000, 8_500, 12_000)


def test_extrapolation_removes_the_bias_of_few_rows():
    # 5 videos a dimension, of one row each; N(0, I) and N(0.3, 1.3² I): 16 (0.3² + 0.3²) = 2.88.
    random = np.random.default_rng(8)
    moments = moments_to_gaussian(np.full(16, 0.3), 1.69 * np.eye(16))
    results = [extrapolate([*random.normal(size=(80, 1, 16))], moments) for _ in range(60)]
    left = np.array([result.value for result in results]) - 2.88
    raw = np.mean([result.distances[-1] for result in results]) - 2.88
    error = left.std() / np.sqrt(60)
    assert raw > 6 * error
    # -6 % of it is left at this size in longer simulations; three standard errors beside that.
    assert abs(left.mean() + 0.06 * raw) < 3 * error


def test_frames_of_one_video_do_not_hide_the_bias(clustered):
    # The same, with ten frames a video that are nearly one.
    random = np.random.default_rng(9)
    moments = moments_to_gaussian(np.full(16, 0.3), 1.69 * np.eye(16))
    left, raw = [], []
    for _ in range(20):
        frames = np.repeat(random.normal(size=(80, 1, 16)), 10, axis=1)
        result = extrapolate([*frames + 0.01 * random.normal(size=frames.shape)], moments)
        left.append(result.value - 2.88)
        raw.append(result.distances[-1] - 2.88)
    assert abs(np.mean(left)) < 0.3 * np.mean(raw)


def weighted(rows, weights):
    """The Gaussian of weighted rows, with the covariance's divisor N - 1."""
    mean = weights @ rows
    scale = np.sqrt(len(rows) / (len(rows) - 1) * weights)
    return Gaussian(len(rows), mean, scale[:, None] * (rows - mean), None)


def weighted_value(sides, gains):
    """The extrapolation from its definition, where a video's rows weigh 1 + its gain."""
    rows = [np.vstack(side) for side in sides]
    weights = [np.repeat(1 + gain, 3) for gain in gains]
    random = np.random.RandomState(0)
    order = np.arange(len(sides[0]))
    goal = weighted(rows[1], weights[1] / weights[1].sum())
    sizes = np.linspace(len(order) // 2, len(order), 15).astype(int)
    distances = []
    for size in sizes:
        random.shuffle(order)
        seen = np.concatenate([3 * order[:size] + frame for frame in range(3)])
        subset = weighted(rows[0][seen], weights[0][seen] / weights[0][seen].sum())
        distances.append(gaussians_to_frechet(subset, goal, method="svd").value)
    return np.polyfit(1 / sizes, distances, 1)[1]


@pytest.mark.parametrize("dimensions", [3, 40])
def test_standard_error_is_made_of_derivatives(random, clustered, dimensions):
    # Shuffles depend on the number of videos, so leaving one out changes all subsets at once; the
    # derivative by a video's weight exists, here by central differences.
    sides = clustered(random, 20, 3, dimensions), clustered(random, 25, 3, dimensions, mean=0.5)
    variance = 0.0
    for side, videos in enumerate(map(len, sides)):
        for video in range(videos):
            values = []
            for step in (1e-4, -1e-4):
                gains = [np.zeros(len(videos)) for videos in sides]
                gains[side][video] = step
                values.append(weighted_value(sides, gains))
            variance += videos / (videos - 1) * ((values[0] - values[1]) / 2e-4) ** 2
    # The divisor n - 1, not n, of covariances makes a share of 1 / 30 at most.
    error = extrapolate(*sides).standard_error
    assert error == pytest.approx(np.sqrt(variance), rel=0.03)


def test_intervals_cover_a_known_distance(clustered):
    # N(0, I) and N(0.6, 1.7² I) in 3 dimensions: 3·0.6² + 3·0.7² = 2.55.
    random = np.random.default_rng(12)
    moments = moments_to_gaussian(np.full(3, 0.6), 1.7**2 * np.eye(3))
    hits = 0
    for _ in range(200):
        low, high = extrapolate(clustered(random, 80, 2, 3), moments).interval
        hits += low <= 2.55 <= high
    # 200 trials at 95 %: mean 190, deviation 3.1; three of those each way.
    assert 181 <= hits <= 199


def test_saved_moments_are_compared_but_have_no_known_error(random, clustered):
    x, y = clustered(random, 30, 3, 4), clustered(random, 20, 3, 4, mean=1.0)
    gaussian = rows_to_gaussian(y)
    moments = moments_to_gaussian(gaussian.mean, gaussian.covariance)
    rows, saved = extrapolate(x, y), extrapolate(x, moments)
    assert saved.value == pytest.approx(rows.value, rel=1e-9)
    assert (rows.reference_counts, saved.reference_counts) == (True, False)
    assert saved.standard_error < rows.standard_error


def test_an_estimate_may_be_negative(random, clustered):
    # A set against itself: 0 for all rows, more for fewer, so the line meets the axis below 0.
    x = clustered(random, 30, 3, 4)
    result = extrapolate(x, x)
    assert result.distances[-1] == pytest.approx(0.0, abs=1e-12)
    assert result.value < 0
    assert result.interval.low < result.value


def test_the_same_again_but_for_the_seed_and_videos_without_rows(random, clustered):
    x, y = clustered(random, 30, 4, 3), clustered(random, 20, 3, 3)
    empty = np.zeros((0, 3))
    result = extrapolate(x, y)
    assert extrapolate([empty, *x], [*y, empty]) == result
    assert extrapolate(x, y, seed=1).value != result.value
    # All videos, in whatever order, are the plain distance.
    plain = gaussians_to_frechet(rows_to_gaussian(x), rows_to_gaussian(y)).value
    assert extrapolate(x[::-1], y).distances[-1] == pytest.approx(plain, rel=1e-12)


def test_videos_of_unequal_length(random, clustered):
    x, y = clustered(random, 40, 6, 3), clustered(random, 30, 3, 3, mean=1.0)
    cut = [rows[: 1 + index % 6] for index, rows in enumerate(x)]
    assert extrapolate(cut, y).value == pytest.approx(
        extrapolate(x, y).value, abs=2 * extrapolate(cut, y).standard_error
    )


def test_scale(random, clustered):
    x, y = clustered(random, 30, 2, 3), clustered(random, 20, 2, 3, mean=1.0)
    one, ten = extrapolate(x, y), extrapolate([10 * v for v in x], [10 * v for v in y])
    assert ten.value == pytest.approx(100 * one.value, rel=1e-9)
    assert ten.standard_error == pytest.approx(100 * one.standard_error, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_size": 1}, "15 sizes from 1 to 8 videos: .* from 2 to 7"),
        ({"min_size": 8}, "15 sizes from 8 to 8 videos"),
        ({"points": 1}, "1 sizes from 4"),
    ],
)
def test_bad_sizes_are_refused(random, options, message):
    x = [*random.normal(size=(8, 2, 3))]
    with pytest.raises(ValueError, match=message):
        extrapolate(x, x, **options)


def test_bad_sets_are_refused(random):
    x = [*random.normal(size=(4, 2, 3))]
    with pytest.raises(ValueError, match="at least 4 videos; there are 3"):
        extrapolate(x[:3], x)
    with pytest.raises(ValueError, match="2 videos a set; there are 1"):
        extrapolate(x, [np.vstack(x)])
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        extrapolate(x, [v[:, :2] for v in x])
    with pytest.raises(ValueError, match="not finite"):
        extrapolate(x, [*x, np.full((1, 3), np.nan)])
