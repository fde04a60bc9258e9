"""From decoded frames to what a network sees, step by step, by exactly named resamplers.

A view's first steps that work on uint8 run on the CPU beside the decoder, so that queues hold small
pictures; the rest runs on the network's device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from aigve_cli.contract import (
    CentreCrop,
    Clamp,
    Grey,
    Normalise,
    Quantise,
    Resize,
    ResizeArea,
    ResizeBetween,
    ResizeShorter,
    ResizeWithin,
    Scale,
    Step,
    Tile,
    View,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image


def view_to_text(view: View) -> str:
    """The view in one line, for results and keys."""
    return "; ".join(str(step) for step in view) or "native"


def split_view(view: View) -> tuple[View, View]:
    """The steps for the CPU beside the decoder, and those for the network's device."""
    cut = 0
    while cut < len(view) and _step_on_uint8(view[cut]):
        cut += 1
    return view[:cut], view[cut:]


def frame_to_host_view(frame: NDArray[np.uint8], steps: View) -> NDArray[Any]:
    """uint8 [H, W, c] → [h, w, c] by the steps for the CPU: uint8, or float32 on 0..255.

    Raises:
        ValueError: A step for the device, or one for uint8 after one that gives float32.
    """
    seen: NDArray[Any] = frame
    for step in steps:
        apply = _step_on_uint8(step)
        if apply is None or seen.dtype != "uint8":
            raise ValueError(f"'{step}' is not a step for uint8 frames")
        seen = apply(seen)
    return seen


def _step_on_uint8(step: Step) -> Callable[[NDArray[np.uint8]], NDArray[Any]] | None:
    """What a step does to uint8 [H, W, c]; None for the steps of the device."""
    match step:
        case Resize(height, width, "torch-bilinear-antialias-uint8"):
            return partial(_resize_uint8, height=height, width=width)
        case Resize(height, width, "pil-bilinear" | "pil-bicubic"):
            resampler = step.resampler.removeprefix("pil-")
            return partial(_resize_with_pil, height=height, width=width, resampler=resampler)
        case Resize(height, width, "pil-bicubic-float"):
            return partial(_resize_channels_with_pil, height=height, width=width)
        case Resize(height, width, "cv2-linear"):
            return partial(_resize_as_opencv, height=height, width=width)
        case ResizeShorter(_, "pil-bilinear" | "pil-bicubic", "cut"):
            return partial(_resize_shorter_with_pil, step=step)
        case ResizeShorter(_, "cv2-linear", "cut"):
            return partial(_resize_shorter_as_opencv, step=step)
        case ResizeWithin(size, "pil-bicubic"):
            return partial(_resize_within_with_pil, size=size, resampler="bicubic")
        case ResizeBetween():
            return partial(_resize_by_rule_with_pil, step=step, size=size_between)
        case ResizeArea():
            return partial(_resize_by_rule_with_pil, step=step, size=size_of_area)
        case Grey():
            return _to_grey
    return None


def frames_to_view(frames: torch.Tensor, steps: View) -> torch.Tensor:
    """[B, H, W, c] on 0..255 → float32 [B, c, h, w] by the steps for the device.

    With tiles [B * k, c, h, w]: the k tiles of the first frame, then those of the second.

    Raises:
        ValueError: A step for uint8, a picture that is not a whole number of tiles, or means and
            deviations of another number of channels.
    """
    import torch

    # Seen as [B, 3, H, W] this is channels_last, which resizing and convolutions like best.
    batch = frames.permute(0, 3, 1, 2).to(torch.float32)
    for step in steps:
        batch = _apply(batch, step)
    return batch


def _apply(batch: torch.Tensor, step: Step) -> torch.Tensor:
    import torch

    match step:
        case Normalise():
            if not len(step.mean) == len(step.std) == batch.shape[1]:
                raise ValueError(f"'{step}' is not for pictures of {batch.shape[1]} channels")
            mean = torch.tensor(step.mean, device=batch.device).view(1, -1, 1, 1)
            std = torch.tensor(step.std, device=batch.device).view(1, -1, 1, 1)
            return (batch - mean) / std
        case Scale():
            return batch / step.divisor * step.factor
        case Quantise():
            return batch.trunc() if step.how == "truncate" else batch.round()
        case Clamp():
            return batch.clamp(0, 255)
        case CentreCrop():
            top, left = (
                margin // 2 if step.odd == "floor" else round(margin / 2)
                for margin in (batch.shape[2] - step.height, batch.shape[3] - step.width)
            )
            return batch[:, :, top : top + step.height, left : left + step.width]
        case Tile():
            return _cut_into_tiles(batch, step)
        case ResizeShorter(
            resampler="torch-bilinear" | "torch-bilinear-antialias" | "torch-bicubic"
        ):
            height, width = shorter_side_size(batch.shape[2], batch.shape[3], step)
            return _resize(batch, height, width, step.resampler)
        case ResizeWithin(resampler="torch-bilinear"):
            height, width = size_within(batch.shape[2], batch.shape[3], step.size)
            return _resize(batch, height, width, step.resampler)
        case Resize(resampler="tf1-bilinear"):
            return _resize_as_tensorflow_1(batch, step.height, step.width)
        case Resize(resampler="torch-bilinear" | "torch-bilinear-antialias"):
            return _resize(batch, step.height, step.width, step.resampler)
    raise ValueError(f"'{step}' works on uint8 frames: put it before every other step")


def shorter_side_size(height: int, width: int, step: ResizeShorter) -> tuple[int, int]:
    """Height and width whose shorter side is the step's size; the other is cut, or rounded up.

    Cut as torchvision's ``Resize`` computes it. Up as VideoGPT (733d2b1) does: the scale first, and
    of a square the height is rounded up.
    """
    size = step.size
    if step.other == "up":
        scale = size / min(height, width)
        if height < width:
            return size, math.ceil(width * scale)
        return math.ceil(height * scale), size
    longer = int(size * max(height, width) / min(height, width))
    return (size, longer) if height < width else (longer, size)


def size_within(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width whose longer side is at most ``size``, cut to whole pixels.

    As VBench (45e79ec) computes it: one scale for both sides, by which the longer one may lose a
    pixel to round-off.

    Raises:
        ValueError: Less than a pixel would be left.
    """
    longer = max(height, width)
    if longer <= size:
        return height, width
    scale = size / longer
    small = int(scale * height), int(scale * width)
    if not min(small):
        raise ValueError(f"{width}x{height} pixels are too narrow to be shrunk to {size}")
    return small


def _cut_into_tiles(batch: torch.Tensor, step: Tile) -> torch.Tensor:
    """[B, c, H, W] → [B * columns * rows, c, h, w]; of a picture, tile column * rows + row."""
    count, channels, height, width = batch.shape
    rows, below = divmod(height, step.height)
    columns, beside = divmod(width, step.width)
    if below or beside or not (rows and columns):
        raise ValueError(f"{height}x{width} pixels are not a whole number of {step}")
    cut = batch.reshape(count, channels, rows, step.height, columns, step.width)
    return cut.permute(0, 4, 2, 1, 3, 5).flatten(0, 2)


def _resize(batch: torch.Tensor, height: int, width: int, resampler: str) -> torch.Tensor:
    import torch.nn.functional as F

    return F.interpolate(
        batch,
        size=(height, width),
        mode="bicubic" if resampler == "torch-bicubic" else "bilinear",
        align_corners=False,
        antialias=resampler.endswith("antialias"),
    )


def _resize_as_tensorflow_1(batch: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """TensorFlow 1's ``resize_bilinear`` with ``align_corners=False``, float32.

    Output pixel i lies at i * in / out of the input: corners, not centres, are aligned. Between its
    neighbours it is interpolated along a row first, then along a column.
    """
    for dimension, size in ((3, width), (2, height)):
        length = batch.shape[dimension]
        if length != size:
            batch = _lerp_along(batch, dimension, length, size)
    return batch


def _lerp_along(batch: torch.Tensor, dimension: int, length: int, size: int) -> torch.Tensor:
    import torch

    place = torch.arange(size, dtype=torch.float32) * (length / size)
    before = place.floor().long().clamp(max=length - 1)
    after = (before + 1).clamp(max=length - 1)
    shape = [1, 1, 1, 1]
    shape[dimension] = size
    share = (place - before).view(shape).to(batch.device)
    first = batch.index_select(dimension, before.to(batch.device))
    second = batch.index_select(dimension, after.to(batch.device))
    return first + (second - first) * share


def _resize_uint8(frame: NDArray[np.uint8], *, height: int, width: int) -> NDArray[np.uint8]:
    import torch
    import torch.nn.functional as F

    # [H, W, c] seen as [1, c, H, W] is channels_last: no copy, and the fast integer kernel.
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None]
    small = F.interpolate(
        picture, size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )
    result: NDArray[np.uint8] = small[0].permute(1, 2, 0).contiguous().numpy()
    return result


def _resize_with_pil(
    frame: NDArray[np.uint8], *, height: int, width: int, resampler: str
) -> NDArray[np.uint8]:
    from PIL import Image

    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    return _to_array(_to_picture(frame).resize((width, height), filters[resampler]))


def _resize_shorter_with_pil(frame: NDArray[np.uint8], *, step: ResizeShorter) -> NDArray[np.uint8]:
    """As torchvision's ``Resize(size)`` on a picture of PIL: the other side is not rounded up."""
    height, width = shorter_side_size(frame.shape[0], frame.shape[1], step)
    resampler = step.resampler.removeprefix("pil-")
    return _resize_with_pil(frame, height=height, width=width, resampler=resampler)


def _resize_within_with_pil(
    frame: NDArray[np.uint8], *, size: int, resampler: str
) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    longer = max(height, width)
    if longer <= size:
        return frame
    # In whole numbers: a half is rounded up whatever the scale's last bit is.
    height, width = (max(1, (2 * side * size + longer) // (2 * longer)) for side in (height, width))
    return _resize_with_pil(frame, height=height, width=width, resampler=resampler)


def _resize_by_rule_with_pil(
    frame: NDArray[np.uint8], *, step: Any, size: Callable[[int, int, Any], tuple[int, int]]
) -> NDArray[np.uint8]:
    height, width = size(frame.shape[0], frame.shape[1], step)
    resampler = step.resampler.removeprefix("pil-")
    return _resize_with_pil(frame, height=height, width=width, resampler=resampler)


def size_between(height: int, width: int, step: ResizeBetween) -> tuple[int, int]:
    """Height and width that :class:`ResizeBetween` gives, in Idefics2's order of operations."""
    aspect = width / height
    if width >= height and width > step.longer:
        height, width = int(step.longer / aspect), step.longer
    elif height > width and height > step.longer:
        height, width = step.longer, int(step.longer * aspect)
    return max(height, step.shorter), max(width, step.shorter)


def size_of_area(height: int, width: int, step: ResizeArea) -> tuple[int, int]:
    """Height and width that :class:`ResizeArea` gives, in the order of operations of Qwen2-VL.

    Python's rounding of halves to even is part of it.
    """
    unit = step.multiple
    sides = [round(side / unit) * unit for side in (height, width)]
    if sides[0] * sides[1] > step.most:
        scale = math.sqrt(height * width / step.most)
        sides = [max(unit, math.floor(side / scale / unit) * unit) for side in (height, width)]
    elif sides[0] * sides[1] < step.least:
        scale = math.sqrt(step.least / (height * width))
        sides = [math.ceil(side * scale / unit) * unit for side in (height, width)]
    return sides[0], sides[1]


def _resize_channels_with_pil(
    frame: NDArray[np.uint8], *, height: int, width: int
) -> NDArray[np.float32]:
    import numpy as np
    from PIL import Image

    # A float picture of PIL has one channel, and bicubic weights may leave 0..255.
    channels = [
        Image.fromarray(channel.astype(np.float32)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for channel in np.moveaxis(frame, 2, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 255)


def _to_grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return _to_array(_to_picture(frame).convert("L"))


def _to_picture(frame: NDArray[np.uint8]) -> Image.Image:
    from PIL import Image

    # One channel is a picture of mode L, which PIL wants without the last axis.
    return Image.fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame)


def _to_array(picture: Image.Image) -> NDArray[np.uint8]:
    """[h, w, c], whatever c is."""
    import numpy as np

    # A copy: PIL's own memory is read-only, of which torch warns.
    return np.atleast_3d(np.array(picture))


class _Taps(NamedTuple):
    """Output pixel i is ``first[i] * pixel[before[i]] + second[i] * pixel[after[i]]`` / 2048."""

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    first: NDArray[np.int32]
    second: NDArray[np.int32]


def _resize_as_opencv(frame: NDArray[np.uint8], *, height: int, width: int) -> NDArray[np.uint8]:
    """``cv2.resize`` with ``INTER_LINEAR`` to the bit: weights are whole 2048ths, sums int32.

    Rows first, of which 4 of 11 bits are cut, then columns: each product is cut by 16 bits before
    the two are added, and the last 2 bits are rounded. Source: modules/imgproc/src/resize.cpp of
    OpenCV (Apache-2.0). Measured equal to 5.0.0 on x86; a test compares with the installed one.
    """
    import numpy as np

    along = _opencv_taps(frame.shape[1], width)
    # [H, width, c], up to 255 * 2048 / 16. In place, which halves the time.
    rows = frame.take(along.before, axis=1) * along.first[:, None]
    rows += frame.take(along.after, axis=1) * along.second[:, None]
    rows >>= 4
    down = _opencv_taps(frame.shape[0], height)
    upper = rows.take(down.before, axis=0)
    upper *= down.first[:, None, None]
    upper >>= 16
    lower = rows.take(down.after, axis=0)
    lower *= down.second[:, None, None]
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    return upper.astype(np.uint8)


def _resize_shorter_as_opencv(
    frame: NDArray[np.uint8], *, step: ResizeShorter
) -> NDArray[np.uint8]:
    height, width = shorter_side_size(frame.shape[0], frame.shape[1], step)
    return _resize_as_opencv(frame, height=height, width=width)


def _opencv_taps(length: int, size: int) -> _Taps:
    """Which two of ``length`` pixels make each of ``size``; centres are aligned.

    Outside the picture lies its outermost pixel. Along rows OpenCV takes all of it and not two
    shares, which is the same there: the shares add up to 2048.
    """
    import numpy as np

    # OpenCV's own order of operations: float64, then one rounding to float32.
    scale = 1 / (size / length)
    place = ((np.arange(size) + 0.5) * scale - 0.5).astype(np.float32)
    before = np.floor(place)
    share = place - before
    first, second = (np.rint(part * 2048).astype(np.int32) for part in (1 - share, share))
    index = before.astype(np.int64)
    return _Taps(
        before=index.clip(0, length - 1),
        after=(index + 1).clip(0, length - 1),
        first=first,
        second=second,
    )
