"""Decode one file to RGB arrays, again and again, and print CPU milliseconds a pass.

    python benchmarks/decode.py ours|ours-1|cv2 FILE [PASSES]

`cv2` is what most tools do: `VideoCapture.read` and `cvtColor(BGR2RGB)`. `ours` is `VideoReader`,
`ours-1` the same with one decoder thread. Imports are not counted; the ffmpeg processes are.
"""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable
from pathlib import Path


def cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def with_cv2(path: Path) -> int:
    import cv2

    capture = cv2.VideoCapture(str(path))
    count = 0
    while True:
        read, frame = capture.read()
        if not read:
            return count
        cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        count += 1


def with_reader(path: Path, threads: int) -> int:
    from aigve_cli.video.decode import VideoReader

    with VideoReader(path, threads=threads) as reader:
        return sum(1 for _ in reader)


WAYS: dict[str, Callable[[Path], int]] = {
    "cv2": with_cv2,
    "ours": lambda path: with_reader(path, 0),
    "ours-1": lambda path: with_reader(path, 1),
}


def main() -> None:
    way, path, passes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    times, frames = [], 0
    for _ in range(passes + 1):
        start = cpu_seconds()
        frames = WAYS[way](path)
        times.append(cpu_seconds() - start)
    # The first pass imports libraries.
    print(frames, f"{1000 * statistics.median(times[1:]):.1f}")


if __name__ == "__main__":
    main()
