"""How the frames of a video are put before a judge, and what of it goes over a wire."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

from aigve_cli.contract import SHOWN
from aigve_cli.judges.backend import Clip, Part, Picture
from aigve_cli.lazy import np
from aigve_cli.video.encode import frames_to_file

if TYPE_CHECKING:
    from aigve_cli.judges.backend import Pixels

BORDER = 4
"""Pixels around each frame in a grid."""
BORDER_LEVEL = 128
"""Grey: dark and bright frames both end where they end."""
JPEG_QUALITY = 95
_UNKNOWN_RATE = 1.0
"""Frames a second of a clip where a video states no rate: some number must be given."""
# Every frame is a key frame, so a server that seeks finds each; the matrix that decoders take where
# none is stated is stated, so those that look and those that do not see the same colours.
_CLIP_CODEC = (
    *("-c:v", "libx264", "-crf", "10", "-preset", "veryfast", "-g", "1"),
    *("-vf", "scale=out_color_matrix=smpte170m:out_range=tv:flags=accurate_rnd+full_chroma_int"),
    *("-pix_fmt", "yuv420p", "-color_range", "tv", "-colorspace", "smpte170m"),
    *("-color_primaries", "smpte170m", "-color_trc", "smpte170m"),
    *("-fps_mode", "passthrough", "-movflags", "+faststart"),
)


@dataclass(frozen=True, eq=False)
class Shown:
    """The frames that one question is about."""

    frames: tuple[Pixels, ...]
    """RGB uint8 [h, w, 3] each, in order of time."""
    indices: tuple[int, ...]
    """Their places in the video."""
    fps: float
    """The video's frames a second; 0.0 where it states none, and no times are given then."""


def shown_to_parts(shown: Shown, how: str) -> tuple[Part, ...]:
    """The parts of a message that show frames in one of the ways of :data:`contract.SHOWN`.

    One frame is a picture whatever the way: a grid or a video of it would be the same thing.

    Raises:
        ValueError: Another way, no frames, another number of places, or frames of several sizes in
            a grid or a video.
    """
    if how not in SHOWN:
        raise ValueError(f"frames are shown as {', '.join(SHOWN)}, not '{how}'")
    if not shown.frames or len(shown.frames) != len(shown.indices):
        raise ValueError(f"{len(shown.frames)} frames at {len(shown.indices)} places")
    if len(shown.frames) == 1:
        return f"One frame of a video{_at_times(shown)}:", Picture(shown.frames[0])
    if how == "multi":
        return _one_by_one(shown)
    if len({frame.shape for frame in shown.frames}) > 1:
        raise ValueError(f"frames of several sizes cannot be shown as {how}")
    return _as_grid(shown) if how == "grid" else _as_video(shown)


def frames_to_grid(frames: Sequence[Pixels]) -> tuple[Pixels, int]:
    """Frames as one picture, row by row, as nearly square as whole rows allow.

    Args:
        frames: RGB uint8 [h, w, 3], of one size.

    Returns:
        RGB uint8 [H, W, 3] with a grey border around each frame, and how many are in a row. Places
        behind the last frame are grey.
    """
    count = len(frames)
    height, width = (side + BORDER for side in frames[0].shape[:2])

    def badness(columns: int) -> tuple[float, int]:
        rows = -(-count // columns)
        return abs(log(columns * width / (rows * height))), rows * columns - count

    columns = min(range(1, count + 1), key=badness)
    rows = -(-count // columns)
    grid = np.full((rows * height + BORDER, columns * width + BORDER, 3), BORDER_LEVEL, np.uint8)
    for place, frame in enumerate(frames):
        row, column = divmod(place, columns)
        top, left = row * height + BORDER, column * width + BORDER
        grid[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return grid, columns


def picture_to_jpeg(pixels: Pixels) -> bytes:
    """A JPEG file of RGB uint8 [h, w, 3], with colours at full resolution."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def clip_to_mp4(clip: Clip) -> bytes:
    """An mp4 file (H.264, 4:2:0) of a clip, every frame of it once.

    An odd side is made even by repeating the last row or column: the format has no odd ones.

    Raises:
        SetupError: ffmpeg could not write it.
    """
    with tempfile.TemporaryDirectory(prefix="aigve-clip-") as folder:
        path = Path(folder) / "clip.mp4"
        frames_to_file(map(_to_even, clip.frames), path, fps=clip.fps, codec=_CLIP_CODEC)
        return path.read_bytes()


def part_digest(part: Picture | Clip) -> str:
    """sha256, in hex, of sizes and pixels, and of a clip's rate: whatever encodes them later."""
    frames = part.frames if isinstance(part, Clip) else (part.pixels,)
    rate = f"{part.fps!r}" if isinstance(part, Clip) else ""
    digest = hashlib.sha256(f"{type(part).__name__} {rate}\n".encode())
    for frame in frames:
        digest.update(f"{frame.shape} {frame.dtype}\n".encode())
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


def _one_by_one(shown: Shown) -> tuple[Part, ...]:
    times = _times(shown)
    count = len(shown.frames)
    parts: list[Part] = []
    for place, frame in enumerate(shown.frames):
        time = f", at {times[place]}" if times else ""
        parts += [f"Frame {place + 1} of {count}{time}:", Picture(frame)]
    return tuple(parts)


def _as_grid(shown: Shown) -> tuple[Part, ...]:
    grid, columns = frames_to_grid(shown.frames)
    count = len(shown.frames)
    row = "one below the other" if columns == 1 else f"row by row, {columns} in a row"
    sentence = f"The picture shows {count} frames of one video in order of time, {row}"
    if count % columns:
        sentence += ", the places behind the last one grey"
    return f"{sentence}{_at_times(shown)}:", Picture(grid)


def _as_video(shown: Shown) -> tuple[Part, ...]:
    count = len(shown.frames)
    sentence = f"The video is shown by {count} of its frames{_at_times(shown)}:"
    return sentence, Clip(shown.frames, _clip_rate(shown))


def _at_times(shown: Shown) -> str:
    times = _times(shown)
    if len(times) < 2:
        return "".join(f", at {time}" for time in times)
    return f", at {', '.join(times[:-1])} and {times[-1]}"


def _times(shown: Shown) -> list[str]:
    """Where in the video each frame is; nothing where the video states no rate."""
    return [f"{index / shown.fps:.2f} s" for index in shown.indices] if shown.fps > 0 else []


def _clip_rate(shown: Shown) -> float:
    """Frames a second with which the frames of a selection last as long as it does."""
    if shown.fps <= 0:
        return _UNKNOWN_RATE
    steps = [after - before for before, after in pairwise(shown.indices)]
    mean_step = sum(steps) / len(steps)
    return shown.fps / mean_step if mean_step > 0 else shown.fps


def _to_even(frame: Pixels) -> Pixels:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
