"""VBench's dimensions on a folder of videos, by `aigve` or in VBench's way; what each step took.

    vbench_program.py FORWARDS aigve compute …
    vbench_program.py plain VIDEOS DIMENSION …
    vbench_program.py forwards CHECKPOINTS DEVICE BATCHES

FORWARDS is `all`, or `none`: networks are not loaded, and instead of a forward its inputs' shapes
are read. What has no weights, the difference of frames, is computed by both.

`plain` is one dimension after another in one process, without networks. Each decodes every video
with OpenCV and holds it whole: four as float32, which torchvision's transforms go over as one
tensor; flickering as uint8, of which pairs become float32; smoothness as uint8 and every second
frame as a float tensor; dynamic degree all frames as float tensors, which are thinned afterwards.
It is kinder than VBench: no frame is there as uint8 too before it is float32, and what is made of
the rows is left out.

`forwards` runs networks alone, in batches that BATCHES names: JSON, a list of network, shape and
whether a clip begins with the frame that the one before ended with.

The last line is JSON: CPU seconds by part, those of the thread that it ran in; by stage CPU and
wall seconds and bytes of memory; and the batches that networks were given. Memory is read from
/proc, which only Linux has. Use one arithmetic thread.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_program import PARTS, count_and_rate, measured_network, plain_network
from torch import Tensor, nn

from aigve_cli.weights import network_card

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
AT_ONCE = 32
"""Frames in a batch of aesthetic quality."""
RATE, LONGER_SIDE = 8, 512


class Stages:
    """CPU and wall seconds, children's included, and memory from one step to the next."""

    def __init__(self) -> None:
        self.taken: dict[str, dict[str, float]] = {}
        self._name, self._begun = "start", {"cpu": 0.0, "wall": time.monotonic(), "before": 0.0}

    def begin(self, name: str) -> None:
        """End the stage that was, and begin another."""
        self.end()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # what was freed before is not part of this stage
        before = _bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is this much from now on
        self._name = name
        self._begun = {"cpu": _cpu_seconds(), "wall": time.monotonic(), "before": before}

    def end(self) -> None:
        """Write down what the stage has taken."""
        begun = self._begun
        self.taken[self._name] = {
            "cpu": _cpu_seconds() - begun["cpu"],
            "wall": time.monotonic() - begun["wall"],
            "before": begun["before"],
            "peak": _bytes("VmHWM"),
        }


def _cpu_seconds() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _bytes(kind: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, size = line.partition(":")
        if name == kind:
            return 1024.0 * int(size.split()[0])
    raise LookupError(kind)


STAGES = Stages()
Batch = tuple[str, list[int], bool]
"""A network, a shape, and whether a clip begins with the frame that the one before ended with."""
BATCHES: list[Batch] = []
"""What networks were given."""


def report() -> None:
    """Print what was measured, as the last line."""
    STAGES.end()
    print()
    print(json.dumps({"parts": PARTS.taken, "stages": STAGES.taken, "batches": BATCHES}))


# --- aigve ------------------------------------------------------------------------------------


def aigve(forwards: str, arguments: list[str]) -> None:
    """The tool, its networks measured or left out; stages are `start`, `load` and `look`."""
    from aigve_cli import main
    from aigve_cli.engine import look, passes, produce, producers
    from aigve_cli.video import prefetch
    from aigve_cli.video.views import view_to_text

    load_network, run, load = passes.load_network, passes.Passes.run, passes.Passes._load

    def one_network(card: Any, *rest: Any, **more: Any) -> nn.Module:
        if forwards == "none":
            return measured_network(Absent(), card.name, forwards)
        with PARTS.part("load"):
            network = load_network(card, *rest, **more)
        return recorded(network, card.name)

    def whole_run(self: Any, output: Any) -> Any:
        STAGES.begin("load")
        return run(self, output)

    def all_networks(self: Any, *arguments: Any) -> Any:
        loaded = load(self, *arguments)
        STAGES.begin("look")
        return loaded

    passes.load_network = one_network
    passes.Passes.run = whole_run  # type: ignore[method-assign]
    passes.Passes._load = all_networks  # type: ignore[method-assign]
    PARTS.wrap(look, "inspect", "hash and count")
    PARTS.wrap(produce, "pixels_to_input", lambda _p, _f, steps: f"view {view_to_text(steps)}")
    PARTS.wrap(produce._LeafRows, "_add", lambda rows, _u: f"unit {rows._leaf.producer.name}")
    PARTS.wrap(producers, "_run_network", lambda _p, producer, *_: f"batch {producer.name}")
    frames = prefetch.VideoReader.__iter__

    def measured_frames(reader: Any) -> Iterator[Any]:
        coming = frames(reader)
        while True:
            with PARTS.part("read a pipe"):
                frame = next(coming, None)
            if frame is None:
                return
            yield frame

    prefetch.VideoReader.__iter__ = measured_frames  # type: ignore[method-assign]
    sys.argv = ["aigve", *arguments]
    main.run()


class Absent(nn.Module):
    """Where a network would be: no weights."""

    def head(self, rows: Tensor) -> dict[str, Tensor]:
        """As LAION's, of any rows."""
        return {"rating": torch.full((len(rows), 1), 0.5)}


def recorded(network: nn.Module, name: str) -> nn.Module:
    """The same network, which writes down what it is given."""
    run = measured_network(network, name, "all").forward

    def forward(inputs: Tensor) -> dict[str, Tensor]:
        BATCHES.append((name, list(inputs.shape), True))
        return run(inputs)

    network.forward = forward  # type: ignore[method-assign]
    return network


# --- plain ------------------------------------------------------------------------------------


def plain(videos: Path, dimensions: list[str]) -> None:
    """One dimension after another, each of which is a stage."""
    import cv2  # noqa: F401 -- imports are not part of a dimension
    import torchvision.transforms  # noqa: F401

    torch.set_grad_enabled(False)
    for dimension in dimensions:
        STAGES.begin(dimension)
        for video in sorted(videos.iterdir()):
            if (score := PLAIN[dimension](video)) is not None:
                print(f"{dimension}\t{video.name}\t{score!r}")


def subject_consistency(video: Path) -> None:
    from torchvision.transforms import Normalize

    steps = (resized(224, "bilinear"), to_ones, Normalize(*IMAGENET))
    for frame in transformed(video_to_tensor(video), *steps):
        instead_of("dino-vit-b-16", frame[None])


def background_consistency(video: Path) -> None:
    instead_of("clip-vit-b-32", video_to_clips(video))


def aesthetic_quality(video: Path) -> None:
    for frames in video_to_clips(video).split(AT_ONCE):
        instead_of("clip-vit-l-14", frames)


def imaging_quality(video: Path) -> None:
    frames = video_to_tensor(video)
    height, width = frames.shape[2:]
    steps: list[Callable[[Tensor], Tensor]] = [to_ones]
    if (longer := max(height, width)) > LONGER_SIDE:
        size = [int(LONGER_SIDE / longer * side) for side in (height, width)]
        steps = [resized(size, "bilinear"), to_ones]
    for frame in transformed(frames, *steps):
        instead_of("musiq", frame[None])


def temporal_flickering(video: Path) -> float:
    import cv2

    frames = list(read(video, rgb=False))
    differences = []
    with PARTS.part("difference of frames"):
        for first, second in pairwise(frames):
            change = cv2.absdiff(first.astype(np.float32), second.astype(np.float32))
            differences.append(change.mean())
    return (255.0 - float(np.mean(differences))) / 255.0


def motion_smoothness(video: Path) -> None:
    frames = list(read(video))
    with PARTS.part("to input"):
        even = [picture_to_tensor(frame) / 255.0 for frame in frames[::2]]
    for first, last in pairwise(even):
        instead_of("amt-s", first, last)


def dynamic_degree(video: Path) -> None:
    frames = []
    for frame in read(video):
        with PARTS.part("to input"):
            frames.append(picture_to_tensor(frame))
    thinned = frames[:: max(1, round(cv2_rate(video) / RATE))]
    for first, second in pairwise(thinned):
        instead_of("raft-large", first, second)


PLAIN: dict[str, Callable[[Path], float | None]] = {
    f"vbench-{function.__name__.replace('_', '-')}": function
    for function in (
        *(aesthetic_quality, background_consistency, dynamic_degree, imaging_quality),
        *(motion_smoothness, subject_consistency, temporal_flickering),
    )
}


def instead_of(network: str, *inputs: Tensor) -> dict[str, Tensor]:
    """Rows of the shapes that a network would give, as in the tool's run without networks."""
    outputs = network_card(network).outputs
    return {name: torch.full((len(inputs[0]), size), 0.5) for name, size in outputs.items()}


def video_to_tensor(video: Path) -> Tensor:
    """float32 [T, 3, H, W], RGB on 0..255; in memory as decoded, which resizing likes best."""
    whole: Tensor | None = None
    for index, frame in enumerate(read(video)):
        with PARTS.part("to input"):
            if whole is None:
                whole = torch.empty(count_and_rate(video)[0], *frame.shape)
            whole[index] = torch.from_numpy(frame)
    assert whole is not None
    return whole.permute(0, 3, 1, 2)


def video_to_clips(video: Path) -> Tensor:
    """What CLIP sees, float32 [T, 3, 224, 224]."""
    from torchvision.transforms import CenterCrop, Normalize

    steps = (resized(224, "bicubic"), CenterCrop(224), to_ones, Normalize(*CLIP))
    return transformed(video_to_tensor(video), *steps)


def transformed(frames: Tensor, *steps: Callable[[Tensor], Tensor]) -> Tensor:
    """All frames by each step, and then by the next."""
    with PARTS.part("to input"):
        for step in steps:
            frames = step(frames)
    return frames


def resized(size: int | list[int], how: str) -> Callable[[Tensor], Tensor]:
    """Without antialiasing; one number is that of the shorter side."""
    from torchvision.transforms import InterpolationMode, Resize

    return Resize(size, InterpolationMode(how), antialias=False)


def to_ones(frames: Tensor) -> Tensor:
    """0..255 to 0..1."""
    return frames / 255.0


def picture_to_tensor(frame: Any) -> Tensor:
    """uint8 [H, W, 3] to float32 [1, 3, H, W], still on 0..255."""
    return torch.from_numpy(frame).permute(2, 0, 1).float()[None]


def cv2_rate(video: Path) -> float:
    import cv2

    return float(cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FPS))


def read(video: Path, *, rgb: bool = True) -> Iterator[Any]:
    """uint8 [H, W, 3]."""
    import cv2

    capture = cv2.VideoCapture(str(video))
    while True:
        with PARTS.part("read with OpenCV"):
            ok, frame = capture.read()
            if ok and rgb:
                frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if not ok:
            return
        yield frame


# --- forwards ---------------------------------------------------------------------------------


def forwards_alone(checkpoints: Path, device: str, batches: Sequence[Batch]) -> None:
    """Seconds of forwards by network, CPU seconds or on a GPU those of the clock.

    Each shape is run once before.
    """
    from aigve_cli.engine.producers import set_arithmetic

    set_arithmetic("fp32")
    clock = time.thread_time if device == "cpu" else time.monotonic
    networks = {
        name: plain_network(name, checkpoints, "all").to(device) for name in {b[0] for b in batches}
    }
    seen: set[str] = set()
    last: dict[str, Tensor] = {}
    STAGES.begin("forwards")
    for name, shape, follows in batches:
        batch = torch.rand(shape, device=device)
        if len(shape) == 5:
            batch *= 255
            if shape[2] == 2 and follows:
                first = last.get(name, batch[:1, :, 0])
                batch[:, :, 0] = torch.cat([first, batch[:-1, :, 1]])
                last[name] = batch[-1:, :, 1].clone()
        layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        batch = batch.contiguous(memory_format=layout)
        with torch.inference_mode():
            if str((name, shape)) not in seen:
                seen.add(str((name, shape)))
                networks[name](batch)
            if device != "cpu":
                torch.cuda.synchronize()
            start = clock()
            for output in networks[name](batch).values():
                output.cpu()
        taken = PARTS.taken.setdefault(f"alone {name}{'' if follows else ', apart'}", [0, 0.0])
        taken[0] += len(batch)
        taken[1] += clock() - start


def main() -> None:
    atexit.register(report)
    match sys.argv[1:]:
        case ["plain", videos, *dimensions]:
            plain(Path(videos), dimensions)
        case ["forwards", checkpoints, device, batches]:
            forwards_alone(Path(checkpoints), device, json.loads(Path(batches).read_text()))
        case [forwards, "aigve", *arguments]:
            aigve(forwards, arguments)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
