"""A place of its own for every test of weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from weights_kit import Server, serving

from aigve_cli.weights import WeightsPolicy
from aigve_cli.weights.download import Timeouts


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AIGVE_WEIGHTS_DIR", "AIGVE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIGVE_CACHE_DIR", str(tmp_path / "cache"))
    # A proxy would stand between the test and its own server.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def said() -> list[str]:
    """What the policy announced."""
    return []


@pytest.fixture
def policy(tmp_path: Path, said: list[str]) -> WeightsPolicy:
    return WeightsPolicy(
        cache_dir=tmp_path / "cache" / "weights",
        announce=said.append,
        timeouts=Timeouts(connect=1.0, read=0.3),
    )
