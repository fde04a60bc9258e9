"""From decoded frames to what a network sees, step by step, by exactly named resamplers.

A view's first steps that keep uint8 run on the CPU beside the decoder, so that queues hold small
pictures; the rest runs on the network's device, a batch at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigve_cli.contract import Normalise, Resize, View

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_ON_UINT8 = ("torch-bilinear-antialias-uint8", "pil-bicubic")


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


def frame_to_host_view(frame: NDArray[np.uint8], steps: View) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] → uint8 [h, w, 3] by the steps for the CPU."""
    for step in steps:
        if not isinstance(step, Resize):
            raise ValueError(f"'{step}' is not a step for uint8 frames")
        if step.resampler == "pil-bicubic":
            frame = _resize_with_pil(frame, step)
        else:
            frame = _resize_uint8(frame, step)
    return frame


def frames_to_view(frames: torch.Tensor, steps: View) -> torch.Tensor:
    """uint8 [B, H, W, 3] → float32 [B, 3, h, w] by the steps for the device."""
    import torch
    import torch.nn.functional as F

    batch = frames.permute(0, 3, 1, 2).to(torch.float32)
    for step in steps:
        if isinstance(step, Normalise):
            mean = torch.tensor(step.mean, device=batch.device).view(1, 3, 1, 1)
            std = torch.tensor(step.std, device=batch.device).view(1, 3, 1, 1)
            batch = (batch - mean) / std
        elif step.resampler in ("torch-bilinear", "torch-bilinear-antialias"):
            batch = F.interpolate(
                batch,
                size=(step.height, step.width),
                mode="bilinear",
                align_corners=False,
                antialias=step.resampler.endswith("antialias"),
            )
        else:
            raise ValueError(f"'{step}' works on uint8 frames: put it before every other step")
    return batch


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
