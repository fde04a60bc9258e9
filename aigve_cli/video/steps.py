"""The named steps from a decoded frame to what a network sees; ``views`` does them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Resampler = Literal[
    "torch-bilinear",
    "torch-bilinear-antialias",
    "torch-bilinear-antialias-uint8",
    "tf1-bilinear",
    "pil-bilinear",
    "pil-bicubic",
    "pil-bicubic-float",
    "cv2-linear",
]


@dataclass(frozen=True)
class Resize:
    """Resize to ``height`` x ``width`` pixels, without keeping the aspect ratio.

    ``torch-bilinear-antialias-uint8`` takes and gives uint8 (integer arithmetic, the same on every
    device, about ten times cheaper than float); so do ``pil-bilinear`` and ``pil-bicubic``, which
    smooth what they shrink, and ``cv2-linear`` (OpenCV's ``INTER_LINEAR``), which does not.
    ``pil-bicubic-float`` takes uint8 and gives float32, channel by channel, clipped to 0..255 and
    never rounded (clean-fid). The others give float32; ``tf1-bilinear`` is TensorFlow 1's
    ``resize_bilinear`` (no half-pixel centres, no antialiasing).
    """

    height: int
    width: int
    resampler: Resampler

    def __str__(self) -> str:
        return f"resize {self.height}x{self.width} {self.resampler}"


@dataclass(frozen=True)
class ResizeShorter:
    """Resize so that the shorter side is ``size`` pixels.

    The other side is cut to whole pixels, as torchvision's ``Resize`` and transformers' image
    processors do; or with torch's resamplers rounded up, in float64 and with the steps of
    VideoGPT's code, whose round-off makes 225 of some 224. ``pil-bilinear``, ``pil-bicubic``
    and ``cv2-linear`` work on uint8. ``torch-bicubic`` may leave 0..255: see :class:`Clamp`.
    """

    size: int
    resampler: Literal[
        "torch-bilinear",
        "torch-bilinear-antialias",
        "torch-bicubic",
        "pil-bilinear",
        "pil-bicubic",
        "cv2-linear",
    ]
    other: Literal["cut", "up"] = "cut"
    """What is done with the fraction of a pixel of the other side; ``up`` with torch's only."""

    def __str__(self) -> str:
        rounded = "" if self.other == "cut" else ", other side up"
        return f"resize shorter side to {self.size} {self.resampler}{rounded}"


@dataclass(frozen=True)
class ResizeWithin:
    """Shrink so that the longer side is ``size`` pixels; smaller pictures stay as they are.

    ``pil-bicubic`` works on uint8 and rounds the other side to the nearest, and to 1 at least;
    ``torch-bilinear``, without antialiasing, cuts it to whole pixels.
    """

    size: int
    resampler: Literal["pil-bicubic", "torch-bilinear"] = "pil-bicubic"

    def __str__(self) -> str:
        return f"longer side at most {self.size} {self.resampler}"


@dataclass(frozen=True)
class ResizeBetween:
    """Resize uint8 as Idefics2's image processor does.

    First the longer side is shrunk to ``longer`` if it is larger, and the other one with it, cut to
    whole pixels; then each side that is smaller than ``shorter`` is stretched to it, alone.
    """

    shorter: int
    longer: int
    resampler: Literal["pil-bilinear", "pil-bicubic"] = "pil-bilinear"

    def __str__(self) -> str:
        return f"longer side at most {self.longer}, each at least {self.shorter} {self.resampler}"


@dataclass(frozen=True)
class ResizeArea:
    """Resize uint8 to sides that are multiples of ``multiple``, the aspect kept as far as they can.

    Height times width is ``least`` to ``most``: ``smart_resize`` of Qwen2-VL's image processor.
    """

    least: int
    most: int
    multiple: int = 28
    resampler: Literal["pil-bicubic"] = "pil-bicubic"

    def __str__(self) -> str:
        sides = f"sides multiples of {self.multiple}"
        return f"{self.least} to {self.most} pixels, {sides} {self.resampler}"


@dataclass(frozen=True)
class Grey:
    """uint8 RGB to one grey channel by PIL's integers (ITU-R 601-2 luma); stays [h, w, 1]."""

    def __str__(self) -> str:
        return "grey"


@dataclass(frozen=True)
class Tile:
    """Cut each picture into tiles of ``height`` x ``width``, without overlap.

    Tiles are counted down the columns: the second lies below the first. A frame's row then holds
    what the network gives of all of its tiles, one after another.
    """

    height: int
    width: int

    def __str__(self) -> str:
        return f"tiles of {self.height}x{self.width}, down the columns"


@dataclass(frozen=True)
class CentreCrop:
    """Cut ``height`` x ``width`` pixels from the middle.

    Of an odd margin, the larger half is at the end (``floor``), or as torchvision rounds it
    (``half-even``: 29.5 becomes 30, 28.5 becomes 28).
    """

    height: int
    width: int
    odd: Literal["floor", "half-even"] = "floor"

    def __str__(self) -> str:
        rounded = "" if self.odd == "floor" else f" {self.odd}"
        return f"centre crop {self.height}x{self.width}{rounded}"


@dataclass(frozen=True)
class Scale:
    """``x / divisor * factor``, in this order and in float32."""

    factor: float = 1.0
    divisor: float = 1.0

    def __str__(self) -> str:
        parts = [f"divide by {self.divisor:g}"] if self.divisor != 1 else []
        parts += [f"multiply by {self.factor:g}"] if self.factor != 1 else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Quantise:
    """To whole numbers: ``truncate`` as a plain conversion to uint8 does, or ``round``."""

    how: Literal["truncate", "round"]

    def __str__(self) -> str:
        return f"{self.how} to whole numbers"


@dataclass(frozen=True)
class Clamp:
    """Bring what a resampler has made brighter than white or darker than black back to 0..255."""

    def __str__(self) -> str:
        return "clamp to 0..255"


@dataclass(frozen=True)
class Normalise:
    """``(x - mean) / std`` per channel on the 0..255 scale; gives float32."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        return f"normalise mean={_floats(self.mean)} std={_floats(self.std)}"


@dataclass(frozen=True)
class AsPublished:
    """What the image processor in a model's folder does: a view of its own, without other steps.

    The engine puts named steps in its place once the folder is found. ``how`` is ``standard``, or
    names what a tool did before (``squashed``) or instead (``aigve``, ``evalcrafter``).
    """

    how: str = "standard"

    def __str__(self) -> str:
        return f"as the model's folder says ({self.how})"


Step = (
    Resize
    | ResizeShorter
    | ResizeWithin
    | ResizeBetween
    | ResizeArea
    | CentreCrop
    | Grey
    | Tile
    | Scale
    | Quantise
    | Clamp
    | Normalise
    | AsPublished
)
View = tuple[Step, ...]
"""Named steps from uint8 RGB frames at native size to a network's input. ``()`` is native."""


def _floats(values: Iterable[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
