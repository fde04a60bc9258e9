"""From decoded frames to what a network sees, step by step, by exactly named resamplers.

A view's first steps that work on uint8 run on the CPU beside the decoder, so that queues hold small
pictures; the rest runs on the network's device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import (
    CentreCrop,
    Normalise,
    Quantise,
    Resize,
    ResizeShorter,
    Scale,
    Step,
    View,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_ON_UINT8 = ("torch-bilinear-antialias-uint8", "pil-bicubic", "pil-bicubic-float")


def view_to_text(view: View) -> str:
    """The view in one line, for results and keys."""
    return "; ".join(str(step) for step in view) or "native"


def split_view(view: View) -> tuple[View, View]:
    """The steps for the CPU beside the decoder, and those for the network's device."""
    cut = 0
    while cut < len(view):
        step = view[cut]
        if not (isinstance(step, Resize) and step.resampler in _ON_UINT8):
            break
        cut += 1
    return view[:cut], view[cut:]


def frame_to_host_view(frame: NDArray[np.uint8], steps: View) -> NDArray[Any]:
    """uint8 [H, W, 3] → [h, w, 3] by the steps for the CPU: uint8, or float32 on 0..255."""
    resizers: dict[str, Callable[[NDArray[np.uint8], Resize], NDArray[Any]]] = {
        "pil-bicubic": _resize_with_pil,
        "pil-bicubic-float": _resize_channels_with_pil,
        "torch-bilinear-antialias-uint8": _resize_uint8,
    }
    seen: NDArray[Any] = frame
    for step in steps:
        if not isinstance(step, Resize) or step.resampler not in resizers or seen.dtype != "uint8":
            raise ValueError(f"'{step}' is not a step for uint8 frames")
        seen = resizers[step.resampler](seen, step)
    return seen


def frames_to_view(frames: torch.Tensor, steps: View) -> torch.Tensor:
    """[B, H, W, 3] on 0..255 → float32 [B, 3, h, w] by the steps for the device."""
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
            mean = torch.tensor(step.mean, device=batch.device).view(1, 3, 1, 1)
            std = torch.tensor(step.std, device=batch.device).view(1, 3, 1, 1)
            return (batch - mean) / std
        case Scale():
            return batch / step.divisor * step.factor
        case Quantise():
            return batch.trunc() if step.how == "truncate" else batch.round()
        case CentreCrop():
            top, left = (
                margin // 2 if step.odd == "floor" else round(margin / 2)
                for margin in (batch.shape[2] - step.height, batch.shape[3] - step.width)
            )
            return batch[:, :, top : top + step.height, left : left + step.width]
        case ResizeShorter():
            height, width = shorter_side_size(batch.shape[2], batch.shape[3], step.size)
            return _resize(batch, height, width, antialias=step.resampler.endswith("antialias"))
        case Resize(resampler="tf1-bilinear"):
            return _resize_as_tensorflow_1(batch, step.height, step.width)
        case Resize(resampler="torch-bilinear" | "torch-bilinear-antialias"):
            antialias = step.resampler.endswith("antialias")
            return _resize(batch, step.height, step.width, antialias=antialias)
    raise ValueError(f"'{step}' works on uint8 frames: put it before every other step")


def shorter_side_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width whose shorter side is ``size``; the other is rounded up.

    As VideoGPT (733d2b1) computes it: the scale first, and of a square the height is rounded up.
    """
    scale = size / min(height, width)
    if height < width:
        return size, math.ceil(width * scale)
    return math.ceil(height * scale), size


def _resize(batch: torch.Tensor, height: int, width: int, *, antialias: bool) -> torch.Tensor:
    import torch.nn.functional as F

    return F.interpolate(
        batch, size=(height, width), mode="bilinear", align_corners=False, antialias=antialias
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


def _resize_uint8(frame: NDArray[np.uint8], step: Resize) -> NDArray[np.uint8]:
    import torch
    import torch.nn.functional as F

    # [H, W, 3] seen as [1, 3, H, W] is channels_last: no copy, and the fast integer kernel.
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None]
    small = F.interpolate(
        picture,
        size=(step.height, step.width),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    result: NDArray[np.uint8] = small[0].permute(1, 2, 0).contiguous().numpy()
    return result


def _resize_with_pil(frame: NDArray[np.uint8], step: Resize) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(frame)
    return np.asarray(picture.resize((step.width, step.height), Image.Resampling.BICUBIC))


def _resize_channels_with_pil(frame: NDArray[np.uint8], step: Resize) -> NDArray[np.float32]:
    import numpy as np
    from PIL import Image

    # A float picture of PIL has one channel, and bicubic weights may leave 0..255.
    size = (step.width, step.height)
    channels = [
        Image.fromarray(frame[:, :, index].astype(np.float32)).resize(
            size, Image.Resampling.BICUBIC
        )
        for index in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 255)
