import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from aigve_cli.statistics.frechet import gaussians_to_frechet
from aigve_cli.statistics.gaussian import Gaussian, moments_to_gaussian, rows_to_gaussian

SETS = ["feat64", "feat400", "feat400_first16", "feat2048"]
METHODS = ["svd", "gram", "cholesky", "eigh"]


def exact(rows, ddof=1):
    """The Gaussian with its factor, however many rows there are."""
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    return Gaussian(
        len(rows),
        rows.mean(axis=0, dtype=np.float64),
        centred / np.sqrt(len(rows) - ddof),
        None,
    )


def without_factor(gaussian):
    return moments_to_gaussian(gaussian.mean, gaussian.covariance, rows=gaussian.rows)


def distance(x, y, **options):
    return gaussians_to_frechet(rows_to_gaussian([x]), rows_to_gaussian([y]), **options).value


def test_by_hand():
    # Variances 4 and 1, means 3 and 1: (3 - 1)² + 4 + 1 - 2 √(4·1) = 4 + 1 = 5.
    one = moments_to_gaussian(np.array([3.0]), np.array([[4.0]]))
    two = moments_to_gaussian(np.array([1.0]), np.array([[1.0]]))
    result = gaussians_to_frechet(one, two)
    assert result.mean_term == 4.0
    assert result.trace_term == pytest.approx(1.0, rel=1e-15)
    assert result.value == pytest.approx(5.0, rel=1e-15)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("ddof", [0, 1])
def test_golden(goldens, name, ddof):
    sets, values = goldens
    x, y = (rows_to_gaussian([rows], ddof=ddof) for rows in sets[name])
    # Both sides are exact to round-off of float64: 2e-14 is the largest difference seen.
    expected = values[name][f"frechet_exact_svd_ddof{ddof}"]
    assert gaussians_to_frechet(x, y).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", SETS[:3])
def test_published_implementations(goldens, name):
    sets, values = goldens
    # Square roots of singular products err by 1e-6 where rows are fewer than dimensions.
    for key in ("pytorch_fid_scipy", "torch_fidelity_eigvals"):
        assert distance(*sets[name]) == pytest.approx(values[name][key], rel=1e-6)


@pytest.mark.parametrize("name", SETS[:3])
@pytest.mark.parametrize("method", METHODS)
def test_every_way_gives_the_same(goldens, name, method):
    sets, values = goldens
    x, y = (exact(rows) for rows in sets[name])
    result = gaussians_to_frechet(x, y, method=method)
    # Roots of squares keep half of the digits of the smallest values: 2e-9 seen with `gram`.
    assert result.value == pytest.approx(values[name]["frechet_exact_svd_ddof1"], rel=1e-8)
    assert gaussians_to_frechet(y, x, method=method).value == pytest.approx(result.value, rel=1e-8)


@pytest.mark.parametrize("name", SETS[:3])
def test_one_side_as_saved_moments(goldens, name):
    sets, values = goldens
    x, y = (exact(rows) for rows in sets[name])
    expected = values[name]["frechet_exact_svd_ddof1"]
    pairs = [(without_factor(x), y), (x, without_factor(y)), (without_factor(x), without_factor(y))]
    for first, second in pairs:
        assert gaussians_to_frechet(first, second).value == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("rows", "dimensions", "method"),
    [
        ((40, 120), 32, "svd"),
        ((20, 300), 32, "gram"),  # beyond 4 rows a dimension the larger side has no factor
        ((300, 32), 32, "gram"),
        ((40, 300), 32, "cholesky"),
        ((300, 300), 32, "cholesky"),
        ((530, 560), 530, "gram"),
        ((560, 530), 520, "cholesky"),
    ],
)
def test_chosen_way(random, rows, dimensions, method):
    x, y = (random.normal(size=(n, dimensions)) for n in rows)
    assert gaussians_to_frechet(rows_to_gaussian([x]), rows_to_gaussian([y])).method == method


@pytest.mark.parametrize("rows", [2, 20, 50, 400])
def test_identical_sets_are_exactly_0(random, rows):
    x = random.lognormal(size=(rows, 40)).astype(np.float32)
    assert distance(x, x.copy()) == 0.0
    # Without that rule round-off stays below 1e-8 of the trace, for every way: `gram` takes roots
    # of squares, whose smallest are noise.
    gaussian = exact(x)
    for method in METHODS:
        raw = gaussians_to_frechet(gaussian, gaussian, method=method).raw_trace_term
        assert abs(raw) < 1e-8 * gaussian.trace


def test_shifted_and_scaled_gaussians(random):
    # Σ2 = c² Σ1 exactly (the same rows, scaled), so the trace term is (1 - c)² tr Σ1.
    x = random.normal(size=(500, 30)) @ random.normal(size=(30, 30))
    y = 1.5 * x + 2.0
    result = gaussians_to_frechet(rows_to_gaussian([x]), rows_to_gaussian([y]))
    trace = np.trace(np.cov(x.T))
    assert result.trace_term == pytest.approx(0.25 * trace, rel=1e-9)
    assert result.mean_term == pytest.approx(np.sum((0.5 * x.mean(axis=0) + 2.0) ** 2), rel=1e-12)


def test_constant_features_take_the_eigenvalue_way(random):
    x, y = random.normal(size=(300, 12)), 2 * random.normal(size=(300, 12))
    x[:, 3], x[:, 5] = 0.0, 7.0
    y[:, 3], y[:, 5] = 0.0, 8.0
    result = gaussians_to_frechet(rows_to_gaussian([x]), rows_to_gaussian([y]))
    assert result.method == "eigh"
    kept = [i for i in range(12) if i not in (3, 5)]
    # The two constant dimensions add (8 - 7)² to the mean term and nothing else.
    assert result.value == pytest.approx(distance(x[:, kept], y[:, kept]) + 1.0, rel=1e-10)


@pytest.mark.parametrize("rows", [2, 100])
def test_sets_of_one_point_each(rows):
    x, y = np.zeros((rows, 3)), np.full((rows, 3), 2.0)
    assert distance(x, y) == 12.0


def test_other_dimensions_are_refused(random):
    with pytest.raises(ValueError, match="5 and 6 dimensions"):
        distance(random.normal(size=(9, 5)), random.normal(size=(9, 6)))


def test_a_way_without_its_factor_is_refused(random):
    moments = without_factor(exact(random.normal(size=(9, 5))))
    with pytest.raises(ValueError, match="no factor"):
        gaussians_to_frechet(moments, moments, method="svd")


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.tuples(st.integers(2, 60), st.integers(2, 60)),
    dimensions=st.integers(1, 12),
    shift=st.floats(-100, 100),
)
def test_rotation_translation_and_order_of_sets_do_not_matter(seed, rows, dimensions, shift):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows[0], dimensions)) * random.uniform(0.1, 3, dimensions)
    y = random.normal(size=(rows[1], dimensions)) + random.normal(size=dimensions)
    value = distance(x, y)
    assert np.isfinite(value)
    assert value >= 0
    # Relative to the traces: a distance near 0 is a difference of large numbers.
    near = 1e-7 * (np.sum(x.var(axis=0)) + np.sum(y.var(axis=0))) + 1e-9
    rotation = np.linalg.qr(random.normal(size=(dimensions, dimensions)))[0]
    assert distance(x @ rotation, y @ rotation) == pytest.approx(value, abs=near)
    assert distance(x + shift, y + shift) == pytest.approx(value, abs=near)
    assert distance(y, x) == pytest.approx(value, abs=near)
