"""What tests share: real clips, small lossless clips, and `aigve` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before anything imports torch: each of several workers, and the processes that it starts, has its
# share of the processors. Threads that wait for each other spin.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import hypothesis
import jsonschema
import numpy as np
import pytest

from aigve_cli.results.files import results_schema
from aigve_cli.video.encode import LOSSLESS, frames_to_file
from aigve_cli.video.ffmpeg import ffmpeg_binary

# Machines that do other things meanwhile are slow, and nothing here is about time.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

ROOT = Path(__file__).parent.parent
MEDIA_VARIABLE = "AIGVE_TEST_MEDIA"


@pytest.fixture(scope="session")
def media() -> Path:
    """Folder of real generated clips; where it is promised and missing, the test fails."""
    named = os.environ.get(MEDIA_VARIABLE)
    if not named:
        pytest.skip(f"real clips: {MEDIA_VARIABLE} is not set")
    folder = Path(named)
    assert (folder / "lavie" / "annotations.json").is_file(), f"{folder} lacks the real clips"
    return folder


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> None:
    """No setting and no cache of the person who runs the tests, and no download."""
    for name in list(os.environ):
        if name.startswith("AIGVE_") and name != MEDIA_VARIABLE:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AIGVE_OFFLINE", "1")
    monkeypatch.setenv("AIGVE_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))


def moving_pattern(
    seed: int, frames: int = 20, *, height: int = 48, width: int = 64
) -> list[np.ndarray]:
    """uint8 [H, W, 3] RGB frames of smooth colours that move; each seed another scene."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : height / 16 : height * 1j, 0 : width / 16 : width * 1j]
    waves = random.uniform(0.3, 2.0, (3, 4))
    clip = []
    for time in range(frames):
        channels = [
            np.sin(a * x + b * y + c * time / 3) * np.cos(d * (x - y) + time / 5)
            for a, b, c, d in waves
        ]
        clip.append((127.5 + 127.5 * np.stack(channels, axis=-1)).astype(np.uint8))
    return clip


def write_clip(path: Path, frames: Sequence[np.ndarray], *, fps: float = 10.0) -> Path:
    """A lossless file: what is decoded equals ``frames`` to the last bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames_to_file(frames, path, fps=fps, codec=LOSSLESS)
    return path


def noisy(frames: Sequence[np.ndarray], seed: int, strength: float = 30.0) -> list[np.ndarray]:
    """The same frames with noise."""
    random = np.random.default_rng(seed)
    return [
        np.clip(frame + random.normal(0, strength, frame.shape), 0, 255).astype(np.uint8)
        for frame in frames
    ]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four lossless pairs ``clipN.mkv`` and ``clipN_synthetic.mkv`` of 18 frames."""
    folder = tmp_path_factory.mktemp("pairs")
    for seed in range(4):
        frames = moving_pattern(seed, 18)
        write_clip(folder / f"clip{seed}.mkv", frames)
        write_clip(folder / f"clip{seed}_synthetic.mkv", noisy(frames, seed))
    return folder


@dataclass(frozen=True)
class Done:
    """A finished process."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def aigve(tmp_path: Path) -> Callable[..., Done]:
    """Run `aigve ARGUMENTS` as a process, in a folder of its own."""

    def run(*arguments: object, cwd: Path = tmp_path, env: Mapping[str, str] | None = None) -> Done:
        done = subprocess.run(
            [sys.executable, "-c", "from aigve_cli.main import run; run()", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=process_environment(env),
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


def process_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child that imports this checkout."""
    paths = [str(ROOT), str(ROOT / "models")]
    fixed = {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120", "NO_COLOR": "1"}
    return {**os.environ, **fixed, **(more or {})}


def read_results(folder: Path) -> dict[str, Any]:
    """``results.json``, valid by its schema and free of NaN."""

    def refuse(token: str) -> None:
        raise AssertionError(f"results.json holds {token}")

    text = (folder / "results.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text, parse_constant=refuse)
    jsonschema.validate(document, results_schema())
    return document


def values_of(document: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a run by name."""
    return {record["value_name"]: record["value"] for record in document["results"]}


@dataclass(frozen=True)
class CountingFfmpeg:
    """A wrapper in place of the ffmpeg binary that writes down each call."""

    path: Path
    log: Path

    def decodes(self) -> int:
        """How many files were decoded to pixels."""
        if not self.log.exists():
            return 0
        return sum(
            "rawvideo" in line and "pipe:1" in line for line in self.log.read_text().splitlines()
        )


@pytest.fixture
def counting_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingFfmpeg:
    """Counts ffmpeg's calls; with KILL_AT=N in the environment, the Nth kills its caller.

    Calls of a caller that is being killed may be written down after its end: they go to a log of
    their own.
    """
    real = ffmpeg_binary()
    log, script = tmp_path / "ffmpeg.log", tmp_path / "ffmpeg"
    script.write_text(
        "#!/bin/sh\n"
        f"log='{log}'${{KILL_AT:+.killed}}\n"
        # One write a call: calls come at the same time.
        f"printf '%s\\n' \"$(echo \"$*\" | tr '\\n' ' ')\" >> \"$log\"\n"
        f'[ -n "$KILL_AT" ] && [ "$(wc -l < "$log")" -ge "$KILL_AT" ] && kill -9 $PPID\n'
        f"exec '{real}' \"$@\"\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    return CountingFfmpeg(script, log)
