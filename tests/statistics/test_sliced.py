import subprocess
import sys

import numpy as np
import pytest
import torch

from aigve_cli.statistics import sliced
from aigve_cli.statistics.kernel import videos_to_kernel_rows
from aigve_cli.statistics.sliced import rows_to_sliced_distance

# torch-fidelity 5e211a9, seed 2020, 1,000 directions; its projections are float32.
GOLDENS = {
    "feat64": 1.9766623377799988,
    "feat400": 12.657936662435532,
    "feat400_first16": 133.71267914772034,
    "feat2048": 257.3581008911133,
}


def gather(videos):
    return videos_to_kernel_rows((f"{index:04}", rows) for index, rows in enumerate(videos))


def distance(x, y, **options):
    return rows_to_sliced_distance(gather(x), gather(y), **options)


def directions(count, dimensions):
    generator = torch.Generator("cpu").manual_seed(2020)
    drawn = torch.randn(count, dimensions, generator=generator).double().numpy()
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def by_quantiles(x, y, count):
    """The same from quantile functions, which need no sets of one size."""
    x, y = np.vstack(x), np.vstack(y)
    units = directions(count, x.shape[1])
    ends = np.union1d(np.arange(1, len(x)) / len(x), np.arange(1, len(y)) / len(y))
    ends = np.concatenate([[0.0], ends, [1.0]])
    middles = (ends[1:] + ends[:-1]) / 2
    along_x, along_y = np.sort(units @ x.T, axis=1), np.sort(units @ y.T, axis=1)
    gaps = along_x[:, (middles * len(x)).astype(int)] - along_y[:, (middles * len(y)).astype(int)]
    return 3 * x.shape[1] * np.mean(gaps**2 @ np.diff(ends))


@pytest.mark.parametrize("name", GOLDENS)
def test_golden(goldens, name):
    x, y = goldens[0][name]
    result = distance([*x[:, None]], [*y[:, None]])
    assert result.value == pytest.approx(GOLDENS[name], rel=1e-6)
    assert result.rows == min(len(x), len(y))


def test_by_hand():
    # One dimension has the directions 1 and -1 alone: 0, 1 go to 3, 2 by 2 each; 3 · 2² = 12.
    x, y = [np.array([[0.0]]), np.array([[1.0]])], [np.array([[3.0]]), np.array([[2.0]])]
    assert distance(x, y).value == pytest.approx(12.0, rel=1e-12)


def test_a_shift_is_its_squared_length(random, clustered):
    # A mean of (u·s)² over directions is |s|² / D, times 3 D: 3 |s|², to the noise of directions.
    x = clustered(random, 20, 3, 8)
    shift = random.normal(size=8)
    units = directions(1_000, 8)
    value = distance(x, [rows + shift for rows in x]).value
    assert value == pytest.approx(24 * np.mean((units @ shift) ** 2), rel=1e-6)
    assert value == pytest.approx(3 * shift @ shift, rel=0.2)


def test_more_rows_approach_a_known_distance():
    # N(0, I) and N(0.5, 1.5² I): every direction has ((u·s)² + 0.5²), whose mean is
    # 0.5² + 0.5² with |s|² = 4 · 0.5²; 3 · 4 · 0.5 = 6 to the noise of directions.
    random = np.random.default_rng(2)
    exact = 12 * (0.25 + np.mean((directions(1_000, 4) @ np.full(4, 0.5)) ** 2))
    errors = []
    for rows in (30, 3_000):
        values = [
            distance([*random.normal(size=(rows, 1, 4))], [*random.normal(0.5, 1.5, (rows, 1, 4))])
            for _ in range(6)
        ]
        errors.append(np.mean([value.value for value in values]) - exact)
    assert errors[0] > 0.5
    # A hundredth of the bias, and three standard errors of six values (0.2 each).
    assert abs(errors[1]) < 0.25


def test_identical_sets_are_0(random, clustered):
    x = clustered(random, 10, 3, 5)
    result = distance(x, x)
    assert (result.value, result.standard_error) == (0.0, 0.0)


def test_order_and_sides_do_not_matter(random, clustered):
    x, y = clustered(random, 20, 3, 5), clustered(random, 20, 3, 5, mean=0.5)
    result = distance(x, y)
    for other in (distance(y, x), distance(x[::-1], y)):
        assert other.value == pytest.approx(result.value, rel=1e-12)
        assert other.standard_error == pytest.approx(result.standard_error, rel=1e-12)
    larger = distance([10 * rows for rows in x], [10 * rows for rows in y])
    assert larger.value == pytest.approx(100 * result.value, rel=1e-12)
    assert larger.standard_error == pytest.approx(100 * result.standard_error, rel=1e-12)


def test_blocks_of_any_size(random, clustered, monkeypatch):
    x, y = clustered(random, 9, 2, 3), clustered(random, 9, 2, 3, mean=0.4)
    whole = distance(x, y, directions=20)
    monkeypatch.setattr(sliced, "_DIRECTIONS_AT_ONCE", 7)
    monkeypatch.setattr(sliced, "_ROWS_AT_ONCE", 5)
    parts = distance(x, y, directions=20)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-12)


@pytest.mark.parametrize("dimensions", [2, 12])
def test_standard_error_agrees_with_the_jackknife(random, clustered, jackknife, dimensions):
    x = clustered(random, 60, 3, dimensions, mean=0.6)
    y = clustered(random, 60, 3, dimensions, scale=1.5)
    result = distance(x, y, directions=100)
    assert by_quantiles(x, y, 100) == pytest.approx(result.value, rel=1e-6)
    expected = jackknife(lambda a, b: by_quantiles(a, b, 100), x, y)
    # First order against delete-one: terms of order 1 / videos.
    assert result.standard_error == pytest.approx(expected, rel=0.08)


def test_the_larger_set_is_cut(random, clustered):
    x, y = clustered(random, 40, 3, 3), clustered(random, 15, 2, 3, mean=1.0)
    result = distance(x, y)
    assert result.rows == 30
    # The cut is another sample of the same source: the errors of both must overlap.
    whole = by_quantiles(x, y, 1_000)
    assert result.value == pytest.approx(whole, abs=3 * result.standard_error)
    assert distance(x, y, seed=1).value != result.value


def test_bad_sets_are_refused(random):
    x = [*random.normal(size=(4, 2, 3))]
    with pytest.raises(ValueError, match="2 rows a set; there are 8 and 1"):
        distance(x, [x[0][:1]])
    with pytest.raises(ValueError, match="2 videos a set; there are 1"):
        distance(x, [np.vstack(x)])
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        distance(x, [rows[:, :2] for rows in x])
    with pytest.raises(ValueError, match="0 directions"):
        distance(x, x, directions=0)
    with pytest.raises(ValueError, match="not finite"):
        distance(x, [*x, np.full((1, 3), np.nan)])


def test_the_mathematics_load_without_torch():
    code = (
        "import sys\n"
        "for name in ('sliced', 'neighbours', 'infinity'):\n"
        "    __import__(f'aigve_cli.statistics.{name}')\n"
        "heavy = {'numpy', 'scipy', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
