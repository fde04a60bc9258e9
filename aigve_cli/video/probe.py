"""What a video is, without decoding it: an exact scan of its packets."""

from __future__ import annotations

import subprocess
from pathlib import Path

from aigve_cli.contract import VideoFacts
from aigve_cli.errors import VideoError
from aigve_cli.video.decode import STALL_SECONDS, check_is_file, start_ffmpeg
from aigve_cli.video.ffmpeg import Messages, input_arguments


def probe(path: Path, *, seconds: float = STALL_SECONDS) -> VideoFacts:
    """Size, frame rate and the exact number of packets of a video.

    Width and height are the stream's own (before rotation).

    Raises:
        VideoError: The file cannot be read or has no video.
    """
    check_is_file(path)
    process = start_ffmpeg([*input_arguments(path), "-c", "copy", "-f", "framemd5", "pipe:1"])
    assert process.stdout is not None
    assert process.stderr is not None
    messages = Messages(process.stderr)
    try:
        # `communicate` would read stderr too, which the other thread does.
        process.stderr = None
        listing, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise VideoError(f"the packet scan took longer than {seconds:g} s") from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        messages.close()
    packets = sum(1 for line in listing.splitlines() if line[:1].isdigit())
    if packets == 0:
        if "matches no streams" in " ".join(messages.complaints):
            raise VideoError("the file holds no video stream", status="no_video")
        raise VideoError(messages.first_error or "no video packet could be read")
    header = messages.header
    return VideoFacts(width=header.width, height=header.height, fps=header.fps, frames=packets)
