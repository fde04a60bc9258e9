"""What VBench's dimensions share: how they look at videos, their quirks, and their sums.

Huang et al. 2024, VBench: Comprehensive Benchmark Suite for Video Generative Models,
arXiv:2311.17982. Same numbers as Vchitect/VBench 45e79ec (Apache-2.0) on one GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aigve_cli.contract import (
    CentreCrop,
    Clamp,
    Extent,
    Frames,
    Metric,
    Normalise,
    Option,
    OptionValue,
    Quantise,
    Request,
    ResizeShorter,
    Sample,
    SampleFeatures,
    Scale,
    Score,
    View,
)
from aigve_cli.dataset.vbench_suite import DIMENSIONS_KEY
from aigve_cli.lazy import np
from aigve_cli.statistics.cosines import directions_to_cosines, rows_to_directions
from aigve_cli.video.sampling import FirstFrames, within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats, Indices

GROUP = "vbench"
CITE = (
    "Huang et al. 2024, VBench: Comprehensive Benchmark Suite for Video Generative Models, "
    "arXiv:2311.17982"
)
SOURCE = "Vchitect/VBench 45e79ec"
PARITY, FIXED = "parity", "fixed"
ONE_FRAME = "one frame: a video that stands still"
FLOAT16 = (
    "CLIP computes in float32; VBench's in float16 on a GPU, by which published numbers may differ "
    "in the third digit."
)
OF_FRAMES = "A run's mean is over the frames of all videos, as VBench has it on one GPU."

CLIP_VIEW: View = (
    ResizeShorter(224, "torch-bicubic"),
    CentreCrop(224, 224, "half-even"),
    Scale(divisor=255.0),
    Normalise((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
)
DINO_VIEW: View = (
    ResizeShorter(224, "torch-bilinear"),
    Scale(divisor=255.0),
    Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)
OVERSHOOT = (
    "parity: bicubic resizing makes some pixels brighter than white or darker than black, and the "
    "network sees them so; fixed: they are clamped."
)
ONE_FRAME_STOPS = (
    "parity: a video of one frame has no score (VBench stops there); fixed: it stands still."
)


def mode_option(fixed: str) -> Option:
    """The option that repairs VBench's quirks.

    Args:
        fixed: What is repaired, for people.
    """
    return Option(
        "mode",
        PARITY,
        f"parity: VBench's own arithmetic, quirks included. fixed: {fixed}.",
        choices=(PARITY, FIXED),
    )


def is_fixed(options: Mapping[str, OptionValue]) -> bool:
    """Whether quirks are repaired."""
    return options["mode"] == FIXED


def clip_view(options: Mapping[str, OptionValue]) -> View:
    """What CLIP sees of a frame: with bicubic overshoot as VBench has it, or without."""
    resize, *rest = CLIP_VIEW
    return (resize, Clamp(), *rest) if is_fixed(options) else CLIP_VIEW


CLIP_UINT8_VIEW: View = (
    ResizeShorter(224, "torch-bicubic"),
    Clamp(),
    Quantise("round"),
    *CLIP_VIEW[1:],
)
"""VBench's second way: resized pixels are whole numbers again."""
CLIP_PIL_VIEW: View = (ResizeShorter(224, "pil-bicubic"), *CLIP_VIEW[1:])
"""Its third: Pillow smooths what it shrinks."""


def every_frame(output: str, view: View, extent: Extent) -> Request:
    """What a network gives of every frame."""
    return Request(output, (Frames(view, within(extent, FirstFrames(None))),))


class Dimension(Metric):
    """Base of VBench's dimensions: which videos of its suite belong to one."""

    @property
    def dimension(self) -> str:
        """VBench's name of it."""
        return dimension_of(self.card.name)

    def left_out(self, sample: Sample, options: Mapping[str, OptionValue]) -> str | None:
        """Of the videos of VBench's suite, those whose prompt was not written for the dimension."""
        of = sample.extra.get(DIMENSIONS_KEY)
        if of is None or self.dimension in of:
            return None
        return "the prompt is for other dimensions of VBench's suite"


def dimension_of(metric: str) -> str:
    """VBench's name of the dimension that a metric computes."""
    return metric.removeprefix("vbench-").replace("-", "_")


class Consistency(Dimension):
    """Base of the two consistencies: cosines with the frame before and with the first frame."""

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over frames but the first of the mean of both cosines; those are the curves."""
        name = self.card.name
        rows = features.generated["image"]
        if len(rows) == 1:
            return one_frame(name, options)
        before, first = row_cosines(rows)
        if not is_fixed(options):
            before, first = before.clip(min=0), first.clip(min=0)
        return Score(
            values={name: float(((before + first) / 2).mean())},
            curve={"with the frame before": before.tolist(), "with the first": first.tolist()},
            details={"frames compared": len(before)},
            weight=1.0 if is_fixed(options) else float(len(before)),
        )


def row_cosines(rows: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float32 [T, D] to the cosines [T - 1] with the row before and with the first row."""
    directions = rows_to_directions(rows)
    before = directions_to_cosines(directions[1:], directions[:-1])
    return before, directions_to_cosines(directions[1:], directions[:1])


def one_frame(name: str, options: Mapping[str, OptionValue]) -> Score:
    """The score of a video of one frame: none, or that of a video that stands still."""
    if not is_fixed(options):
        return Score(reason="one frame: there is no other to compare it with", settled=True)
    return Score(values={name: 1.0}, notes=(ONE_FRAME,))


def is_still(units: Indices) -> bool:
    """Whether the only window of a video is one frame again and again."""
    return len(units) == 1 and bool((units == units[0, 0]).all())
