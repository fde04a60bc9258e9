import tomllib
from pathlib import Path

import numpy as np
import pytest
from aigve_models.clip_descriptor import build


def describe(clips):
    return build("")(np.asarray(clips, dtype=np.float32))["descriptor"]


def test_by_hand():
    # One clip of three frames, features 0, 3, 0: mean 1, variance (1 + 4 + 1) / 3 = 2, change 3.
    np.testing.assert_allclose(describe([[[0], [3], [0]]]), [[1, np.sqrt(2), 3]], rtol=1e-6)


def test_parts_lie_side_by_side(random):
    clips = random.normal(size=(4, 16, 5))
    descriptor = describe(clips)
    assert descriptor.shape == (4, 15)
    assert descriptor.dtype == np.float32
    np.testing.assert_allclose(descriptor[:, :5], clips.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(descriptor[:, 5:10], clips.std(axis=1), rtol=1e-5)


def test_only_the_change_knows_the_order_of_frames():
    ordered, shuffled = [[[0], [1], [2], [3]]], [[[0], [2], [1], [3]]]
    np.testing.assert_allclose(describe(ordered)[:, :2], describe(shuffled)[:, :2])
    assert describe(ordered)[0, 2] < describe(shuffled)[0, 2]


def test_still_single_and_absent_clips(random):
    still = describe(np.ones((2, 16, 3)))
    np.testing.assert_array_equal(still, [[1, 1, 1, 0, 0, 0, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(describe(random.normal(size=(2, 1, 3)))[:, 3:], 0)
    assert describe(np.zeros((0, 16, 3))).shape == (0, 9)


def test_clips_do_not_see_each_other(random):
    clips = random.normal(size=(6, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(describe(clips)[2:4], describe(clips[2:4]))


def test_bad_shapes_and_variants_are_refused():
    with pytest.raises(ValueError, match="clips, frames, dimensions"):
        describe(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="no variant 'fast'"):
        build("fast")


def test_card():
    path = Path(__file__).parents[2] / "models" / "aigve_models" / "clip_descriptor.toml"
    card = tomllib.loads(path.read_text())
    assert (card["name"], card["kind"]) == ("clip-descriptor", "function")
    assert card["outputs"] == {"descriptor": 0}
    assert "weights" not in card
