"""Quality networks on a folder of videos, by `aigve` or by a plain loader; what its parts took.

    python benchmarks/quality_program.py FORWARDS aigve compute …
    python benchmarks/quality_program.py FORWARDS plain CHECKPOINTS VIDEOS METRIC …

FORWARDS is `all`, `vgg-of-N` (VGG-16 runs on one frame of N only) or `none`: instead of a forward
its inputs' shapes are read. What a head makes of the rows is no score then.

The plain loader is one metric after another; each decodes a video with OpenCV, holds what its
network sees of all of it as float32, and then runs the networks one frame or clip at a time. It is
kinder than the system that we replace: the networks are ours, a video is decoded once a metric, and
no tensor is there twice.

The last line is JSON: for each part how often it ran and its CPU seconds, those of the thread that
it ran in. Use one arithmetic thread.
"""

from __future__ import annotations

import atexit
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aigve_cli.engine import networks as engine_networks
from aigve_cli.weights import Located, network_card

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINETICS = ((0.45,) * 3, (0.225,) * 3)
SECONDS, CLIP_FRAMES, KEY_FRAMES = 8, 32, 8
LEAST_FRAMES = 29


class Parts:
    """CPU seconds by part; parts in different threads do not disturb each other."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.thread_time()
        try:
            yield
        finally:
            taken = self.taken.setdefault(name, [0, 0.0])
            taken[0] += 1
            taken[1] += time.thread_time() - start

    def wrap(self, owner: Any, function: str, name: Callable[..., str] | str) -> None:
        """Measure a function of a module or class, whose name may depend on its arguments."""
        inner = getattr(owner, function)

        def measured(*arguments: Any, **more: Any) -> Any:
            with self.part(name if isinstance(name, str) else name(*arguments)):
                return inner(*arguments, **more)

        setattr(owner, function, measured)

    def print(self) -> None:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.taken["decoders"] = [0, children.ru_utime + children.ru_stime]
        print()
        print(json.dumps(self.taken))


PARTS = Parts()


def measured_network(network: nn.Module, name: str, forwards: str) -> nn.Module:
    """The same network, whose forwards are measured and may be left out."""
    run, outputs, calls = network.forward, network_card(name).outputs, [0]
    every = int(forwards.removeprefix("vgg-of-")) if forwards.startswith("vgg-of-") else 1

    def forward(inputs: Tensor) -> dict[str, Tensor]:
        calls[0] += 1
        skipped = forwards == "none" or (name == "vgg16" and (calls[0] - 1) % every)
        # Light-VQA's brightness is preprocessing: it has no weights.
        if skipped and name != "light-brightness":
            return {key: torch.full((len(inputs), size), 0.5) for key, size in outputs.items()}
        with PARTS.part(f"forward {name}"):
            return run(inputs)

    network.forward = forward  # type: ignore[method-assign]
    return network


# --- aigve ------------------------------------------------------------------------------------


def aigve(forwards: str, arguments: list[str]) -> None:
    from aigve_cli import main
    from aigve_cli.engine import look, passes, produce
    from aigve_cli.video import prefetch
    from aigve_cli.video.views import view_to_text

    load_network, load_function = passes.load_network, passes.load_function

    def measured_load(card: Any, *rest: Any, **more: Any) -> nn.Module:
        with PARTS.part("load"):
            network = load_network(card, *rest, **more)
        return measured_network(network, card.name, forwards)

    def measured_function(card: Any, *rest: Any, **more: Any) -> Any:
        return measured_network(load_function(card, *rest, **more), card.name, forwards)

    passes.load_network, passes.load_function = measured_load, measured_function
    PARTS.wrap(look, "inspect", "hash and count")
    PARTS.wrap(prefetch, "frame_to_host_view", lambda _frame, steps: f"view {view_to_text(steps)}")
    PARTS.wrap(produce, "pixels_to_input", lambda _p, _f, steps: f"to input {view_to_text(steps)}")
    PARTS.wrap(produce.VideoRows, "_head", "heads")
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


# --- plain ------------------------------------------------------------------------------------


def plain(forwards: str, checkpoints: Path, videos: Path, metrics: list[str]) -> None:
    torch.set_grad_enabled(False)
    for metric in metrics:
        names = PLAIN[metric][1]
        networks = {name: plain_network(name, checkpoints, forwards) for name in names}
        for video in sorted(videos.iterdir()):
            score = PLAIN[metric][0](networks, video)
            print(f"{metric}\t{video.name}\t{score:.6f}")


def plain_network(name: str, checkpoints: Path, forwards: str) -> nn.Module:
    card = network_card(name)
    if not card.weights:
        return measured_network(import_module(card.module).build(), name, forwards)
    with PARTS.part("load"):
        file = checkpoints / card.entry().file
        located = Located(file, "0" * 64, "standard", False, "", "none")
        network = engine_networks.load_network(card, located, device="cpu")
    return measured_network(network, name, forwards)


def gstvqa(networks: dict[str, nn.Module], video: Path) -> float:
    whole: Tensor | None = None
    facts = count_and_rate(video)
    for index, frame in enumerate(read(video)):
        with PARTS.part("to input"):
            if whole is None:
                whole = torch.empty(facts[0], 3, *frame.shape[:2])
            whole[index] = torch.from_numpy(frame).permute(2, 0, 1)
    assert whole is not None
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    with PARTS.part("to input"):
        whole.div_(255).sub_(mean).div_(deviation)
    vgg = networks["vgg16"]
    taps = torch.cat([vgg(one_unit(frame))["taps"] for frame in whole])
    taps = torch.cat([taps, taps[-1:].expand(max(0, LEAST_FRAMES - len(taps)), -1)])
    return float(networks["gstvqa"].head(taps)["score"])


def simplevqa(networks: dict[str, nn.Module], video: Path) -> float:
    from torchvision import transforms

    rate = count_and_rate(video)[1]
    see_key = picture_transform(transforms.Resize(520), transforms.CenterCrop(448))
    see_clip = picture_transform(transforms.Resize((224, 224)), normal=KINETICS)
    keys, frames = [], []
    for index, frame in enumerate(read(video)):
        with PARTS.part("to input"):
            picture = to_picture(frame)
            if index % rate == 0:
                keys.append(see_key(picture))
            frames.append(see_clip(picture))
    seconds = max(1, len(frames) // rate)
    keys = keys[:seconds] + keys[seconds - 1 : seconds] * (SECONDS - seconds)
    motion = motion_rows(networks["slowfast-r50"], frames, rate, seconds)
    network = networks["simplevqa"]
    spatial = torch.cat([network(one_unit(key))["spatial"] for key in keys])
    return float(network.head(spatial, motion)["frame_scores"].mean())


def lightvqa(networks: dict[str, nn.Module], video: Path) -> float:
    from torchvision import transforms

    count, rate = count_and_rate(video)
    see_key = picture_transform(transforms.Resize((512, 960)))
    see_clip = picture_transform(transforms.Resize((224, 224)), normal=KINETICS)
    see_grey = picture_transform(
        transforms.Grayscale(), transforms.Resize((720, 1280)), normal=((0.485,), (0.229,))
    )
    wanted = {count * part // KEY_FRAMES for part in range(KEY_FRAMES)}
    keys, frames, greys = [], [], []
    for index, frame in enumerate(read(video)):
        with PARTS.part("to input"):
            picture = to_picture(frame)
            if index in wanted:
                keys.append(see_key(picture))
            frames.append(see_clip(picture))
            greys.append(see_grey(picture))
    seconds = max(1, len(frames) // rate)
    motion = motion_rows(networks["slowfast-r50"], frames, rate, seconds)[:SECONDS]
    brightness = networks["light-brightness"]
    tiles = torch.cat([brightness(grey[None])["tiles"] for grey in greys])
    network = networks["lightvqa"]
    spatial = torch.cat([network(one_unit(key))["spatial"] for key in keys])
    return float(network.head(spatial, motion, tiles)["frame_scores"].mean())


PLAIN: dict[str, tuple[Callable[[dict[str, nn.Module], Path], float], tuple[str, ...]]] = {
    "gstvqa": (gstvqa, ("vgg16", "gstvqa")),
    "simplevqa": (simplevqa, ("simplevqa", "slowfast-r50")),
    "lightvqa": (lightvqa, ("lightvqa", "slowfast-r50", "light-brightness")),
}


def motion_rows(network: nn.Module, frames: list[Tensor], rate: int, seconds: int) -> Tensor:
    """float32 [max(seconds, 8), 2304]; the last clip is looked at again, as they do."""
    clips = []
    for second in [*range(seconds), *[seconds - 1] * (SECONDS - seconds)]:
        with PARTS.part("to input"):
            clip = frames[second * rate : second * rate + CLIP_FRAMES]
            clips.append(torch.stack(clip + clip[-1:] * (CLIP_FRAMES - len(clip)), dim=1))
    return torch.cat([network(one_unit(clip))["features"] for clip in clips])


def one_unit(unit: Tensor) -> Tensor:
    """A batch of one, in the memory order in which networks are fastest."""
    batch = unit[None]
    layout = torch.channels_last if batch.ndim == 4 else torch.channels_last_3d
    return batch.contiguous(memory_format=layout)


def picture_transform(
    *steps: Any, normal: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
) -> Any:
    from torchvision import transforms

    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(*normal)])


def to_picture(frame: Any) -> Any:
    from PIL import Image

    return Image.fromarray(frame)


def count_and_rate(video: Path) -> tuple[int, int]:
    import cv2

    capture = cv2.VideoCapture(str(video))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count, max(1, round(capture.get(cv2.CAP_PROP_FPS)))


def read(video: Path) -> Iterator[Any]:
    """RGB frames, uint8 [H, W, 3]."""
    import cv2

    capture = cv2.VideoCapture(str(video))
    while True:
        with PARTS.part("read with OpenCV"):
            ok, frame = capture.read()
            if ok:
                frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if not ok:
            return
        yield frame


def main() -> None:
    forwards, way, *arguments = sys.argv[1:]
    atexit.register(PARTS.print)
    if way == "aigve":
        aigve(forwards, arguments)
    else:
        checkpoints, videos, *metrics = arguments
        plain(forwards, Path(checkpoints), Path(videos), metrics)


if __name__ == "__main__":
    main()
