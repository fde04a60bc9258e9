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
    Request,
    ResizeShorter,
    Sample,
    SampleFeatures,
    Scale,
    Score,
    View,
)
from aigve_cli.lazy import np
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


def every_frame(output: str, view: View, extent: Extent) -> Request:
    """What a network gives of every frame."""
    return Request(output, (Frames(view, within(extent, FirstFrames(None))),))


class Consistency(Metric):
    """Base of the two consistencies: cosines with the frame before and with the first frame."""

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over frames but the first of the mean of both cosines; those are the curves."""
        name = self.card.name
        rows = features.generated["image"]
        if len(rows) == 1:
            return one_frame(name, 1.0, options)
        before, first = row_cosines(rows)
        if not is_fixed(options):
            before, first = before.clip(min=0), first.clip(min=0)
        return Score(
            values={name: float(((before + first) / 2).mean())},
            curve={"with the frame before": before.tolist(), "with the first": first.tolist()},
            weight=1.0 if is_fixed(options) else float(len(before)),
        )


def row_cosines(rows: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float32 [T, D] to the cosines [T - 1] with the row before and with the first row."""
    rows64 = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(rows64, axis=1, keepdims=True)
    units = rows64 / np.where(lengths > 0, lengths, 1)
    before = (units[1:] * units[:-1]).sum(axis=1)
    first = (units[1:] * units[0]).sum(axis=1)
    # A sum may be more than 1 by its last bit.
    return before.clip(-1, 1), first.clip(-1, 1)


def one_frame(name: str, still: float, options: Mapping[str, OptionValue]) -> Score:
    """The score of a video of one frame: none, or that of a video that stands still."""
    if not is_fixed(options):
        return Score.missing("one frame: there is no other to compare it with")
    return Score(values={name: still}, notes=(ONE_FRAME,))


def is_still(units: Indices | None) -> bool:
    """Whether the only window of a video is one frame again and again."""
    return units is not None and len(units) == 1 and bool((units == units[0, 0]).all())
