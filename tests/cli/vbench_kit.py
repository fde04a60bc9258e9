"""What the tests of VBench's dimensions through the whole tool share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aigve_cli import evaluate
from aigve_cli.api import Results
from aigve_cli.weights import network_card
from tests.cli.finished import Finished
from tests.conftest import process_environment, write_clip
from tests.networks.vbench_checkpoints import write_vbench_checkpoint

DIMENSIONS = (
    "vbench-aesthetic-quality",
    "vbench-background-consistency",
    "vbench-dynamic-degree",
    "vbench-imaging-quality",
    "vbench-motion-smoothness",
    "vbench-subject-consistency",
    "vbench-temporal-flickering",
)
AESTHETIC, BACKGROUND, DEGREE, IMAGING, SMOOTHNESS, SUBJECT, FLICKERING = DIMENSIONS
MAGNITUDE = "vbench-flow-magnitude"
COMMAND = [sys.executable, "-c", "from aigve_cli.main import run; run()"]


def write_files(folder: Path, networks: Iterable[str]) -> dict[str, Path]:
    """The checkpoint of each network, all in one folder."""
    return {name: write_vbench_checkpoint(folder, name) for name in networks}


def custom(files: Mapping[str, Path]) -> dict[str, Path]:
    """Those whose published digest ours do not have: they are named outright."""
    return {n: path for n, path in files.items() if network_card(n).entry().sha256 != "unknown"}


def arguments(files: Mapping[str, Path]) -> list[str]:
    """Where the weights are."""
    folder = next(iter(files.values())).parent
    return [f"--weights-dir={folder}", *(f"--model={n}={p}" for n, p in custom(files).items())]


def scorer(files: Mapping[str, Path], tmp_path: Path) -> Callable[..., Results]:
    """Scores clips, by name, in this process."""

    def score(
        clips: Mapping[str, Any], metrics: str, *, fps: float = 8.0, **options: Any
    ) -> Results:
        folder = tmp_path / f"clips {len(list(tmp_path.iterdir()))}"
        for name, frames in clips.items():
            write_clip(folder / f"{name}.mkv", list(frames), fps=fps)
        return evaluate(
            folder,
            metrics=metrics,
            device="cpu",
            offline=True,
            weights_dir=next(iter(files.values())).parent,
            models=custom(files),
            output_dir=folder / "scores",
            **options,
        )

    return score


def process(out: Path, *more: object, env: Mapping[str, str] | None = None) -> Finished:
    """`aigve compute` as a process of its own, without the network."""
    done = subprocess.run(
        [*COMMAND, "compute", "--use-cpu", "--output-dir", str(out), *map(str, more)],
        env=process_environment({"AIGVE_OFFLINE": "1", **(env or {})}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Finished(done.returncode, done.stdout, done.stderr, out)


def of_videos(results: Results, metric: str, value: str = "") -> dict[str, float]:
    """A value of each video, by its clip's name."""
    return {
        video["sample"].removesuffix(".mkv"): video["scores"][metric]["values"][value or metric]
        for video in results.document["videos"]
    }


def frames_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key[7:]: value for key, value in arrays.items() if key.startswith("frames_")}
