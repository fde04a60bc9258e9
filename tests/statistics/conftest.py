import json
from pathlib import Path

import numpy as np
import pytest

GOLDENS = Path(__file__).parents[1] / "goldens" / "distribution"


@pytest.fixture(scope="session")
def goldens():
    """Arrays x and y of each golden set, and the expected values."""
    both = np.load(GOLDENS / "feat64.npz")
    sets = {"feat64": (both["x"], both["y"])}
    for name in ("feat400", "feat2048"):
        sets[name] = tuple(np.load(GOLDENS / f"{name}_{side}.npz")["x"] for side in "xy")
    sets["feat400_first16"] = tuple(rows[:16] for rows in sets["feat400"])
    return sets, json.loads((GOLDENS / "values.json").read_text())


@pytest.fixture
def random():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def clustered():
    """Videos of L rows, each row N(mean, scale² I), rows of a video correlated by one half."""

    def make(random, videos, length, dimensions, *, mean=0.0, scale=1.0):
        shared = random.normal(size=(videos, 1, dimensions))
        own = random.normal(size=(videos, length, dimensions))
        return list(mean + scale * (shared + own) / np.sqrt(2))

    return make


@pytest.fixture(scope="session")
def jackknife():
    """Standard error by leaving out one video at a time, on each side in turn."""

    def error(statistic, *sides):
        variance = 0.0
        for side, videos in enumerate(sides):
            without = []
            for left_out in range(len(videos)):
                rest = [*videos[:left_out], *videos[left_out + 1 :]]
                without.append(statistic(*sides[:side], rest, *sides[side + 1 :]))
            count = len(videos)
            variance += (count - 1) * np.var(without)
        return np.sqrt(variance)

    return error
