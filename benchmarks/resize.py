"""Milliseconds a frame of ways to make a frame 224 x 224, one thread.

python benchmarks/resize.py WIDTH HEIGHT
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from aigve_cli.contract import Resize
from aigve_cli.video.views import frame_to_host_view

ROUNDS = 15
VIEW = (Resize(224, 224, "torch-bilinear-antialias-uint8"),)


def as_float(frame: np.ndarray, *, antialias: bool) -> torch.Tensor:
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None].contiguous().float()
    return F.interpolate(picture, size=(224, 224), mode="bilinear", antialias=antialias)


WAYS: dict[str, Callable[[np.ndarray], object]] = {
    "uint8 antialias (ours)": lambda frame: frame_to_host_view(frame, VIEW),
    "float antialias": lambda frame: as_float(frame, antialias=True),
    "float, no antialias": lambda frame: as_float(frame, antialias=False),
    "PIL bilinear": lambda frame: np.asarray(
        Image.fromarray(frame).resize((224, 224), Image.Resampling.BILINEAR)
    ),
}


def main() -> None:
    width, height = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            start = time.process_time()
            for _ in range(4):
                way(frame)
            times[name].append((time.process_time() - start) / 4)
    for name, seconds in times.items():
        print(f"{name}\t{1000 * statistics.median(seconds):.2f}")


if __name__ == "__main__":
    main()
