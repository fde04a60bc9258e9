import numpy as np
import pytest

from aigve_cli.statistics import kernel
from aigve_cli.statistics.kernel import (
    rows_to_kernel_distance,
    rows_to_kernel_subsets,
    rows_to_unbiased_mmd,
    videos_to_kernel_rows,
)

# torch-fidelity 5e211a9 on float64 features, 100 subsets, seed 2020: rows of a subset, mean and
# deviation. The same draws and the same float64 sums: 1e-14 apart.
SUBSETS = {
    "feat64": (100, 0.025005098383252256, 0.016084888697338675),
    "feat400": (100, 0.016040037655699568, 0.01095161933755778),
    "feat400_first16": (8, 0.11235970980393152, 0.1186562647446206),
    "feat2048": (32, 0.007544081186872664, 0.011612899809584892),
}


def gather(videos, **options):
    return videos_to_kernel_rows(
        ((f"{index:04}.mp4", rows) for index, rows in enumerate(videos)), **options
    )


def distance(x, y):
    return rows_to_kernel_distance(gather(x), gather(y))


def brute_force(x, y):
    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def mean(pairs):
        return np.mean([k(a, b) for a, b in pairs])

    own = [
        mean([(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (x, y)
    ]
    return own[0] + own[1] - 2 * mean([(a, b) for a in x for b in y])


def test_by_hand():
    # One dimension, x = {0, 1}, y = {1, 2}: k = (x y + 1)³.
    # xx: k(0, 1) = 1; yy: k(1, 2) = 27; xy: 1, 1, k(1, 1) = 8, k(1, 2) = 27, mean 9.25.
    x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    assert rows_to_unbiased_mmd(x, y) == pytest.approx(1 + 27 - 2 * 9.25)


@pytest.mark.parametrize("name", ["feat64", "feat400", "feat400_first16", "feat2048"])
def test_golden(goldens, name):
    sets, values = goldens
    x, y = ([row[None] for row in rows] for rows in sets[name])
    # float64 on both sides; the difference of means of about 2 loses two digits.
    expected = pytest.approx(values[name]["kid_full_unbiased"], rel=1e-10)
    result = distance(x, y)
    assert result.value == expected
    assert result.between_videos == expected  # a row a video: no pairs to leave out
    assert rows_to_unbiased_mmd(*sets[name]) == expected


@pytest.mark.parametrize("block", [1, 3, 7, 1024])
def test_brute_force_in_blocks_of_any_size(random, monkeypatch, block):
    monkeypatch.setattr(kernel, "_BLOCK", block)
    x, y = random.normal(size=(9, 4)), random.normal(size=(7, 4)) + 0.5
    assert rows_to_unbiased_mmd(x, y) == pytest.approx(brute_force(x, y), rel=1e-12)


def test_between_videos_leaves_out_pairs_of_one_video(random, clustered):
    x, y = clustered(random, 4, 3, 5), clustered(random, 6, 2, 5, mean=0.3)

    def apart(videos):
        pairs = [(a, b) for u in videos for v in videos if u is not v for a in u for b in v]
        return np.mean([(a @ b / 5 + 1) ** 3 for a, b in pairs])

    cross = np.mean([(a @ b / 5 + 1) ** 3 for a in np.vstack(x) for b in np.vstack(y)])
    assert distance(x, y).between_videos == pytest.approx(
        apart(x) + apart(y) - 2 * cross, rel=1e-10
    )


def test_unbiased_for_two_samples_of_one_source():
    random = np.random.default_rng(3)
    values = [
        rows_to_unbiased_mmd(random.normal(size=(12, 4)), random.normal(size=(15, 4)))
        for _ in range(2000)
    ]
    # Mean 0 within four standard errors of the mean; a biased estimator would be at 0.3.
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(2000)


def test_only_pairs_of_different_videos_are_unbiased_for_clusters(clustered):
    random = np.random.default_rng(5)
    results = [distance(clustered(random, 8, 6, 3), clustered(random, 8, 6, 3)) for _ in range(400)]
    between = np.array([result.between_videos for result in results])
    all_pairs = np.array([result.value for result in results])
    error = between.std() / 20
    assert abs(between.mean()) < 4 * error
    assert all_pairs.mean() > 8 * error


def test_standard_error_agrees_with_the_jackknife(random, clustered, jackknife):
    x, y = clustered(random, 60, 3, 4), clustered(random, 50, 3, 4, mean=0.4, scale=1.3)

    def value(first, second):
        return rows_to_unbiased_mmd(np.vstack(first), np.vstack(second))

    # They differ by terms of order 1 / videos.
    assert distance(x, y).standard_error == pytest.approx(jackknife(value, x, y), rel=0.08)


def test_intervals_cover_a_known_distance():
    # In one dimension k(x, y) = 1 + 3xy + 3x²y² + x³y³, so MMD² = 3 d1² + 3 d2² + d3² with d_k the
    # differences of the k-th moments. For 0 or 1 with probability p every moment is p:
    # 7 (0.8 - 0.2)² = 2.52, far from 0, where the square is nearly linear. (Nearer to 0, or with
    # heavy tails, intervals of 200 rows are skewed and cover 87 to 94 %.)
    random = np.random.default_rng(13)
    hits = 0
    for _ in range(400):
        x = list((random.random(size=(200, 1, 1)) < 0.2).astype(np.float32))
        y = list((random.random(size=(200, 1, 1)) < 0.8).astype(np.float32))
        interval = distance(x, y).interval
        hits += interval.low <= 2.52 <= interval.high
    # 400 trials at 95 %: mean 380, deviation 4.4; three of those each way.
    assert 367 <= hits <= 393


def test_large_sets_use_a_fixed_choice_of_rows(random):
    videos = [random.normal(size=(7, 2)).astype(np.float32) for _ in range(100)]
    named = [(f"v{index}", rows) for index, rows in enumerate(videos)]
    chosen = videos_to_kernel_rows(iter(named), max_rows=50)
    assert (len(chosen.rows), chosen.total) == (50, 700)
    whole = np.vstack(videos)
    positions = [int(np.flatnonzero((whole == row).all(axis=1))[0]) for row in chosen.rows]
    assert positions == sorted(positions)
    # Neither the order of videos nor how often the buffer was cut changes the choice.
    turned = videos_to_kernel_rows(reversed(named), max_rows=50)
    assert {*map(bytes, turned.rows)} == {*map(bytes, chosen.rows)}
    larger = videos_to_kernel_rows(iter(named), max_rows=60)
    assert {*map(bytes, chosen.rows)} < {*map(bytes, larger.rows)}
    assert (np.diff(chosen.video) >= 0).all()
    assert chosen.video[0] == 0
    assert (np.diff(chosen.video) <= 1).all()


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ([np.full((2, 2), np.nan)], "not finite"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], "unlike those before"),
        ([np.zeros((0, 3))], "no rows"),
    ],
)
def test_bad_rows_are_refused(videos, message):
    with pytest.raises(ValueError, match=message):
        gather(videos)


def test_too_few_rows_or_other_dimensions_are_refused(random):
    one, many = gather([np.zeros((1, 3))]), gather([np.zeros((4, 3))])
    with pytest.raises(ValueError, match="2 rows a set; there are 1 and 4"):
        rows_to_kernel_distance(one, many)
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        rows_to_kernel_distance(many, gather([np.zeros((4, 2))]))


@pytest.mark.parametrize("name", SUBSETS)
def test_published_subsets(goldens, name):
    size, mean, deviation = SUBSETS[name]
    result = rows_to_kernel_subsets(*goldens[0][name], size=size)
    assert result == pytest.approx((mean, deviation), rel=1e-10)


def test_subsets_of_all_rows_are_the_value_of_all_pairs(random):
    x, y = random.normal(size=(30, 4)), random.normal(size=(30, 4)) + 0.5
    mean, deviation = rows_to_kernel_subsets(x, y, size=30, subsets=5)
    assert mean == pytest.approx(rows_to_unbiased_mmd(x, y), rel=1e-12)
    assert deviation == pytest.approx(0.0, abs=1e-12)
    assert rows_to_kernel_subsets(x, y, size=9) != rows_to_kernel_subsets(x, y, size=9, seed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a subset has 1000 rows; the sets have 30 and 20"),
        ({"size": 21}, "a subset has 21 rows"),
        ({"size": 1}, "100 subsets of 1 rows"),
        ({"subsets": 0, "size": 9}, "0 subsets"),
    ],
)
def test_subsets_that_cannot_be_drawn_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rows_to_kernel_subsets(np.zeros((30, 2)), np.zeros((20, 2)), **options)
    with pytest.raises(ValueError, match="2 and 3 dimensions"):
        rows_to_kernel_subsets(np.zeros((30, 2)), np.zeros((20, 3)), size=9)
