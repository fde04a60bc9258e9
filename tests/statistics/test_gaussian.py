import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from aigve_cli.statistics.gaussian import moments_to_gaussian, rows_to_gaussian


def test_by_hand():
    # Rows 1, 2, 6: mean 3, squares of deviations 4 + 1 + 9 = 14, divided by 2 or by 3.
    rows = [np.array([[1.0], [2.0], [6.0]], dtype=np.float32)]
    assert rows_to_gaussian(rows).mean == [3.0]
    assert rows_to_gaussian(rows).covariance == pytest.approx(7.0)
    assert rows_to_gaussian(rows, ddof=0).trace == pytest.approx(14 / 3)


@pytest.mark.parametrize("rows", [40, 41, 80, 81, 400])
def test_same_moments_as_numpy_with_and_without_factor(random, rows):
    # A mean of 1,000 times the deviation: plain sums of squares would lose six digits.
    x = (random.normal(size=(rows, 10)) + 1000).astype(np.float32)
    gaussian = rows_to_gaussian([x])
    assert (gaussian.factor is not None) == (rows <= 40)
    exact = x.astype(np.float64)
    # float64 arithmetic on centred values: 1e-12 leaves room for the order of sums.
    np.testing.assert_allclose(gaussian.mean, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(gaussian.covariance, np.cov(exact.T), rtol=1e-10, atol=1e-12)
    assert gaussian.trace == pytest.approx(np.trace(np.cov(exact.T)), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 100), max_size=8), rows=st.integers(2, 100))
def test_same_bits_however_rows_are_cut(cuts, rows):
    x = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32)
    whole = rows_to_gaussian([x])
    pieces = rows_to_gaussian(np.split(x, sorted(min(cut, rows) for cut in cuts)))
    assert pieces.rows == whole.rows == rows
    np.testing.assert_array_equal(pieces.mean, whole.mean)
    np.testing.assert_array_equal(pieces.covariance, whole.covariance)


def test_a_reused_buffer_is_copied():
    def stream():
        buffer = np.zeros((2, 3), dtype=np.float32)
        for value in (1.0, 5.0):
            buffer[:] = value
            yield buffer

    np.testing.assert_array_equal(rows_to_gaussian(stream()).mean, [3.0, 3.0, 3.0])


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ([np.full((3, 2), np.nan, dtype=np.float32)], "not finite"),
        ([np.full((3, 2), np.inf, dtype=np.float32)], "not finite"),
        ([np.zeros(3)], "rows, dimensions"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], "4 dimensions, those before 3"),
        ([np.zeros((1, 3))], "at least 2 rows; there are 1"),
        ([], "there are 0"),
    ],
)
def test_bad_rows_are_refused(videos, message):
    with pytest.raises(ValueError, match=message):
        rows_to_gaussian(videos)


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        (np.zeros(2), np.eye(3), "square covariance"),
        (np.zeros(2), np.full((2, 2), np.nan), "not finite"),
        (np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), "not symmetric"),
    ],
)
def test_bad_moments_are_refused(mean, covariance, message):
    with pytest.raises(ValueError, match=message):
        moments_to_gaussian(mean, covariance)
