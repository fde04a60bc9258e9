import numpy as np
import pytest

from aigve_cli.statistics import neighbours
from aigve_cli.statistics.kernel import videos_to_kernel_rows
from aigve_cli.statistics.neighbours import rows_to_neighbours

# torch-fidelity 5e211a9 with k = 3 and prdc with k = 5: precision and recall of each, then density
# and coverage of prdc; x is generated, y real. Shares of rows, so exact up to ties.
GOLDENS = {
    "feat64": (579 / 600, 271 / 500, 596 / 600, 338 / 500, 1.8573333333333335, 499 / 500),
    "feat400": (439 / 450, 203 / 420, 447 / 450, 268 / 420, 2.4955555555555557, 1.0),
    "feat400_first16": (1.0, 8 / 16, 1.0, 10 / 16, 1.4625, 1.0),
    "feat2048": (47 / 48, 20 / 40, 1.0, 29 / 40, 2.079166666666667, 1.0),
}
F_SCORES = {"feat64": 0.6941340308371579, "feat400": 0.6464077016514399}


def gather(videos):
    return videos_to_kernel_rows((f"{index:04}", rows) for index, rows in enumerate(videos))


def compare(x, y, **options):
    return rows_to_neighbours(gather(x), gather(y), **options)


def singles(rows):
    return [*np.asarray(rows, dtype=np.float64)[:, None]]


def values(result):
    names = ("precision", "recall", "f_score", "density", "coverage")
    return {name: getattr(result, name).value for name in names}


@pytest.mark.parametrize("name", GOLDENS)
def test_golden(goldens, name):
    x, y = (singles(rows) for rows in goldens[0][name])
    expected = GOLDENS[name]
    three = compare(x, y)
    assert (three.precision.value, three.recall.value) == pytest.approx(expected[:2], rel=1e-12)
    five = compare(x, y, precision_neighbours=5)
    assert (five.precision.value, five.recall.value) == pytest.approx(expected[2:4], rel=1e-12)
    assert (five.density.value, five.coverage.value) == pytest.approx(expected[4:], rel=1e-12)
    if name in F_SCORES:
        # Computed there from float32 shares.
        assert three.f_score.value == pytest.approx(F_SCORES[name], rel=1e-6)


def test_by_hand():
    # k = 1. Real 0, 1, 3: radii 1, 1, 2. Generated 1, 4, 10: radii 3, 3, 6.
    # 1 lies on the border of 0's ball, in 1's, on the border of 3's; 4 in 3's alone; 10 in none.
    # 0, 1 and 3 lie in the ball of the generated 1.
    result = compare(
        singles([[1], [4], [10]]),
        singles([[0], [1], [3]]),
        precision_neighbours=1,
        density_neighbours=1,
    )
    assert result.precision.value == pytest.approx(2 / 3)
    assert result.recall.value == 1.0
    assert result.f_score.value == pytest.approx(0.8)
    # Without borders: 1 in one ball, 4 in one ball; 0's ball holds nothing.
    assert result.density.value == pytest.approx(2 / 3)
    assert result.coverage.value == pytest.approx(2 / 3)


def brute_force(x, y, k):
    def apart(a, b):
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    radius_x, radius_y = (np.sort(apart(s, s), axis=1)[:, k] for s in (x, y))
    cross = apart(x, y)
    return {
        "precision": (cross <= radius_y).any(axis=1).mean(),
        "recall": (cross <= radius_x[:, None]).any(axis=0).mean(),
        "density": (cross < radius_y).sum() / k / len(x),
        "coverage": (cross < radius_y).any(axis=0).mean(),
    }


@pytest.mark.parametrize("block", [1, 3, 7, 1_024])
def test_brute_force_in_blocks_of_any_size(random, monkeypatch, block):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    x, y = random.normal(size=(23, 3)) + 40.0, random.normal(size=(17, 3)) + 40.3
    result = compare(singles(x), singles(y), precision_neighbours=2, density_neighbours=2)
    expected = brute_force(x, y, 2)
    assert expected["recall"] < 1
    got = values(result)
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_identical_sets(random, offset):
    # Every k-th neighbour is a tie here, which round-off must not decide: a row lies in k balls,
    # its own among them.
    x = random.normal(size=(60, 7)) + offset
    assert set(values(compare(singles(x), singles(x[::-1]))).values()) == {1.0}


def test_sets_far_apart(random):
    x = random.normal(size=(30, 4))
    result = compare(singles(x), singles(x + 1_000))
    assert set(values(result).values()) == {0.0}
    # Nothing seen in 30 videos is not nothing at all: Wilson's upper end is z² / (30 + z²).
    z2 = 1.959963984540054**2
    assert result.precision.standard_error == 0.0
    assert result.precision.interval == pytest.approx((0.0, z2 / (30 + z2)))
    assert 0 < result.f_score.interval.high < 1


def test_collapse_and_scatter(random):
    real = random.normal(size=(200, 3))
    collapsed = compare(singles(0.01 * random.normal(size=(200, 3))), singles(real))
    assert collapsed.precision.value == 1.0
    assert max(collapsed.recall.value, collapsed.coverage.value) < 0.2
    scattered = compare(singles(5 * random.normal(size=(200, 3))), singles(real))
    assert scattered.precision.value < 0.5 < scattered.recall.value


def test_still_videos_have_balls_of_radius_0(random):
    still = [np.repeat(random.normal(size=(1, 4)), 8, axis=0) + 100.0 for _ in range(6)]
    result = compare(still, still)
    assert (result.precision.value, result.recall.value) == (1.0, 1.0)
    assert (result.density.value, result.coverage.value) == (0.0, 0.0)


def test_exchanged_sets_exchange_precision_and_recall(random, clustered):
    x, y = clustered(random, 20, 3, 3), clustered(random, 15, 4, 3, mean=0.7)
    one, two = compare(x, y), compare(y, x)
    assert (one.precision, one.recall) == (two.recall, two.precision)


def test_order_and_scale_do_not_matter(random, clustered):
    x, y = clustered(random, 20, 3, 3), clustered(random, 15, 4, 3, mean=0.7)
    expected = values(compare(x, y))
    assert values(compare(x[::-1], y[::-1])) == pytest.approx(expected, rel=1e-12)
    assert values(compare([7 * v for v in x], [7 * v for v in y])) == pytest.approx(
        expected, rel=1e-12
    )


def test_standard_errors_of_shares(random):
    # One row a video: the textbook error of a share, and Wilson's interval.
    x, y = random.normal(size=(80, 3)) + 0.8, random.normal(size=(90, 3))
    result = compare(singles(x), singles(y))
    for share, rows in ((result.precision, 80), (result.recall, 90), (result.coverage, 90)):
        p, n = share.value, rows - 1
        assert 0.2 < p < 0.99
        assert share.standard_error == pytest.approx(np.sqrt(p * (1 - p) / n), rel=1e-12)
        for end in share.interval:
            assert abs(end - p) == pytest.approx(
                1.959963984540054 * np.sqrt(end * (1 - end) / n), rel=1e-9
            )
    p, r, f = result.precision, result.recall, result.f_score
    assert f.value == pytest.approx(2 / (1 / p.value + 1 / r.value))
    step = 1e-6
    slopes = [
        (2 / (1 / (p.value + step) + 1 / r.value) - f.value) / step,
        (2 / (1 / p.value + 1 / (r.value + step)) - f.value) / step,
    ]
    expected = np.hypot(slopes[0] * p.standard_error, slopes[1] * r.standard_error)
    assert f.standard_error == pytest.approx(expected, rel=1e-4)
    assert f.interval.low < f.value < f.interval.high


def test_frames_of_one_video_are_no_new_evidence(random):
    x, y = random.normal(size=(60, 3)) + 0.8, random.normal(size=(90, 3))
    once = compare(singles(x), singles(y)).precision
    tenfold = compare([np.repeat(row, 10, axis=0) for row in singles(x)], singles(y)).precision
    assert tenfold.standard_error == pytest.approx(once.standard_error, rel=1e-9)
    assert tenfold.interval == pytest.approx(once.interval, rel=1e-9)


def test_standard_error_of_precision_agrees_with_the_jackknife(random, clustered, jackknife):
    x, y = clustered(random, 40, 3, 3), clustered(random, 50, 2, 3, mean=0.8)

    def value(videos):
        # Against the same real balls: leaving out a generated video moves nothing else.
        return compare(videos, y).precision.value

    # A mean of videos of one length: equal up to the factor (V - 1) / V, here in both.
    assert compare(x, y).precision.standard_error == pytest.approx(jackknife(value, x), rel=0.03)


def test_bad_sets_are_refused(random):
    x = [*random.normal(size=(4, 2, 3))]
    with pytest.raises(ValueError, match="5 neighbours need 6 rows a set; there are 8 and 5"):
        compare(x, [np.vstack(x)[:5]])
    with pytest.raises(ValueError, match="2 videos a set; there are 1"):
        compare(x, [np.vstack(x)])
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        compare(x, [rows[:, :2] for rows in x])
    with pytest.raises(ValueError, match="at least 1"):
        compare(x, x, density_neighbours=0)
    with pytest.raises(ValueError, match="not finite"):
        compare(x, [*x, np.full((1, 3), np.inf)])
