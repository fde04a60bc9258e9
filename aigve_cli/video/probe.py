"""What a video is, without decoding it: an exact scan of its packets."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from aigve_cli.contract import VideoFacts
from aigve_cli.errors import VideoError
from aigve_cli.video.ffmpeg import (
    STALL_SECONDS,
    Header,
    Messages,
    check_is_file,
    end_ffmpeg,
    input_arguments,
    start_ffmpeg,
)

_DISCARDED = 4
"""Flag of a packet before the start that an edit list sets: decoded, never shown."""
_STATED_TO = 0.00501
"""Half of the last decimal of a stated frame rate."""
_TIME_BASE = re.compile(rb"#tb 0: (\d+)/(\d+)")


@dataclass(frozen=True)
class Packets:
    """The packets of a video that are shown."""

    header: Header
    count: int
    end: float
    """Seconds from the start to the end of the last one."""
    fps: float
    """The average frame rate; 0.0 where the container states none."""


def probe(path: Path, *, seconds: float = STALL_SECONDS) -> VideoFacts:
    """Displayed size, frame rate and the exact number of frames of a video.

    Raises:
        VideoError: The file cannot be read or has no video.
    """
    packets = scan_packets(path, seconds=seconds)
    header = packets.header
    width, height = header.width, header.height
    if header.turned:
        width, height = height, width
    return VideoFacts(width=width, height=height, fps=packets.fps, frames=packets.count)


def scan_packets(path: Path, *, seconds: float = STALL_SECONDS) -> Packets:
    """Read every packet of a video and decode none.

    Raises:
        VideoError: The file cannot be read, has no video, or is not through in time.
    """
    check_is_file(path)
    process = start_ffmpeg([*input_arguments(path), "-c", "copy", "-f", "framecrc", "pipe:1"])
    assert process.stderr is not None
    messages = Messages(process.stderr)
    try:
        # `communicate` would read stderr too, which the other thread does.
        process.stderr = None
        listing, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise VideoError(f"the packet scan took longer than {seconds:g} s") from error
    finally:
        end_ffmpeg(process)
        process.wait()
        messages.close()
    rows = [line.split(b",") for line in listing.splitlines() if line[:1].isdigit()]
    shown = [row for row in rows if not _flags(row) & _DISCARDED]
    if not shown or not messages.header.width:
        if "matches no streams" in " ".join(messages.complaints):
            raise VideoError("the file holds no video stream", status="no_video")
        raise VideoError(messages.first_error or "no video packet could be read")
    base = _TIME_BASE.search(listing)
    unit = int(base[1]) / int(base[2]) if base else 0.0
    shown_for = sum(int(row[3]) for row in shown) * unit
    fps = _exact_rate(messages.header.fps, len(shown) / shown_for if shown_for > 0 else 0.0)
    return Packets(messages.header, len(shown), max(map(_end, shown)) * unit, fps)


def _exact_rate(stated: float, counted: float) -> float:
    """The frame rate to more than the two decimals that ffmpeg states.

    What packets count is exact in MP4 and its kin, where it gives what ffmpeg states when rounded;
    where times are whole milliseconds it does not, and the statement stands.
    """
    return counted if abs(counted - stated) <= _STATED_TO else stated


def _flags(row: list[bytes]) -> int:
    # stream, dts, pts, duration, size, checksum, then flags where they are not just "key"
    given = row[6].strip() if len(row) > 6 else b""
    return int(given[2:], 16) if given.startswith(b"F=") else 1


def _end(row: list[bytes]) -> int:
    dts, pts, duration = (number.strip() for number in row[1:4])
    return int(dts if pts == b"NOPTS" else pts) + int(duration)
