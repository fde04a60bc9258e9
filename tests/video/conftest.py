"""Video files made with the project's own ffmpeg binary."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aigve_cli.video.decode import Decoded, VideoReader
from aigve_cli.video.ffmpeg import ffmpeg_binary

MakeVideo = Callable[..., Path]


def _encoders() -> str:
    done = subprocess.run([ffmpeg_binary(), "-v", "error", "-encoders"], capture_output=True)
    return done.stdout.decode()


@pytest.fixture(scope="session")
def encoders() -> str:
    """What the binary can write."""
    return _encoders()


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """``make_video(name, *codec, source=…)``: a file of moving test pictures."""

    def make(
        name: str,
        *arguments: str,
        size: str = "64x48",
        frames: int = 20,
        rate: int = 10,
        pixels: str = "yuv420p",
        source: str = "testsrc2",
    ) -> Path:
        path = tmp_path / name
        seconds = frames / rate
        picture = f"{source}=size={size}:rate={rate}:duration={seconds}"
        codec = arguments or ("-c:v", "libx264", "-preset", "ultrafast")
        command = ["-f", "lavfi", "-i", picture, "-pix_fmt", pixels, *codec, f"file:{path}"]
        _run(command)
        return path

    return make


def _run(arguments: list[str]) -> None:
    command = [ffmpeg_binary(), "-nostdin", "-hide_banner", "-v", "error", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")


@pytest.fixture(scope="session")
def run_ffmpeg() -> Callable[[list[str]], None]:
    """Run the binary with the given arguments; it must succeed."""
    return _run


@pytest.fixture(scope="session")
def read() -> Callable[..., tuple[list[np.ndarray], Decoded]]:
    """All frames of a file, and what is known of it afterwards."""

    def frames_of(path: Path, **options: object) -> tuple[list[np.ndarray], Decoded]:
        with VideoReader(path, **options) as reader:  # type: ignore[arg-type]
            return list(reader), reader.decoded

    return frames_of


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a shell script in place of the binary."""

    def put(body: str) -> Path:
        script = tmp_path / "fake_ffmpeg"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
        return script

    return put


@pytest.fixture
def no_children() -> Callable[[], None]:
    """Fails if this process has a child, running or not waited for."""

    def check() -> None:
        with pytest.raises(ChildProcessError):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    return check
