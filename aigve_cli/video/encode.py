"""From frames to a file, and from a file to a degraded copy."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aigve_cli.errors import SetupError
from aigve_cli.video.ffmpeg import ffmpeg_binary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOSSLESS = ("-c:v", "libx264rgb", "-crf", "0", "-preset", "ultrafast")
"""RGB in, the same RGB out."""
GOOD = ("-c:v", "libx264", "-crf", "18", "-preset", "veryfast", "-pix_fmt", "yuv420p")


def frames_to_file(
    frames: Iterable[NDArray[np.uint8]],
    path: Path,
    *,
    fps: float,
    codec: Sequence[str] = GOOD,
) -> None:
    """Encode uint8 [H, W, 3] RGB frames of one size.

    Raises:
        SetupError: ffmpeg could not write the file.
    """
    iterator = iter(frames)
    first = next(iterator)
    size = f"{first.shape[1]}x{first.shape[0]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:g}", "-i", "pipe:0"]
    content = b"".join(frame.tobytes() for frame in (first, *iterator))
    _encode([*raw, *codec], path, content)


def file_to_copy(source: Path, path: Path, *, filters: str, codec: Sequence[str] = GOOD) -> None:
    """Encode a video again through ffmpeg filters.

    Raises:
        SetupError: ffmpeg could not read or write.
    """
    chain = ["-vf", filters] if filters else []
    _encode(["-i", f"file:{source}", "-fps_mode", "passthrough", *chain, *codec], path, b"")


def _encode(arguments: Sequence[str], path: Path, content: bytes) -> None:
    command = [ffmpeg_binary(), "-hide_banner", "-v", "error", "-y", *arguments, f"file:{path}"]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SetupError(f"Cannot write {path}: {reason[-1] if reason else 'ffmpeg failed'}.")
