import numpy as np
import pytest

from aigve_cli.statistics.inception_score import logits_to_inception_score


def test_by_hand():
    # Two frames, each surely of its own class: every divergence is ln 2, the score exp(ln 2) = 2.
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]])
    assert logits_to_inception_score([logits], splits=1).value == pytest.approx(2.0)
    # Alike frames say nothing: 1.
    assert logits_to_inception_score([np.ones((5, 7))], splits=1).value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("key", "splits", "seed"),
    [
        ("splits10_shuffle2020", 10, 2020),
        ("splits10_noshuffle", 10, None),
        ("splits1", 1, None),
        ("splits1", 1, 2020),
    ],
)
def test_golden(goldens, key, splits, seed):
    sets, values = goldens
    logits = 4 * sets["feat64"][0].astype(np.float64)
    result = logits_to_inception_score([logits], splits=splits, shuffle_seed=seed)
    expected = values["feat64_inception_score"][key]
    # The same float64 formula: only the order of sums differs.
    assert result.value == pytest.approx(expected["inception_score_mean"], rel=1e-12)
    assert result.split_deviation == pytest.approx(expected["inception_score_std"], rel=1e-10)
    assert result.standard_error is None


def test_cuts_into_videos_do_not_matter(goldens):
    logits = goldens[0]["feat64"][0]
    whole = logits_to_inception_score([logits])
    videos = np.split(logits, [1, 7, 7, 300])
    assert logits_to_inception_score(videos).value == pytest.approx(whole.value, rel=1e-13)


def test_standard_error_agrees_with_the_jackknife(random, clustered, jackknife):
    videos = [2 * rows for rows in clustered(random, 80, 3, 6)]

    def value(side):
        return logits_to_inception_score(side, splits=1).value

    result = logits_to_inception_score(videos, splits=1)
    # They differ by terms of order 1 / videos.
    assert result.standard_error == pytest.approx(jackknife(value, videos), rel=0.05)


def test_standard_error_describes_the_spread_of_replications(clustered):
    random = np.random.default_rng(2)
    results = [
        logits_to_inception_score([2 * v for v in clustered(random, 100, 2, 5)], splits=4)
        for _ in range(300)
    ]
    spread = np.std([result.value for result in results])
    # A standard deviation of 300 values is known to 4 %; three of those.
    assert np.mean([r.standard_error for r in results]) == pytest.approx(spread, rel=0.12)


def test_too_few_rows_or_bad_logits_are_refused():
    with pytest.raises(ValueError, match="9 frames cannot be cut into 10 splits"):
        logits_to_inception_score([np.zeros((9, 3))])
    with pytest.raises(ValueError, match="not finite"):
        logits_to_inception_score([np.full((10, 3), np.nan)])


def test_extreme_logits_stay_finite():
    logits = np.zeros((20, 3), dtype=np.float32)
    logits[:, 0] = 3e38
    assert logits_to_inception_score([logits]).value == pytest.approx(1.0)
