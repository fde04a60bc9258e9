"""A clip's frame features to one row: how it looks, how much it varies, how much it moves.

A function without weights. For features x_1 … x_L of a clip's frames, three parts of D numbers:

* the mean over time
* the standard deviation over time (divisor L)
* the mean absolute change from frame to frame, |x_{t+1} - x_t|

Mean and deviation do not know the order of frames; the change does. It stands in for a video
network where none is installed, and has a name of its own: its distances are not published FVD
values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray


def build(
    variant: str = "",
) -> Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]:
    """The function, by its only variant "".

    Raises:
        ValueError: Another variant was asked for.
    """
    if variant:
        raise ValueError(f"clip-descriptor has no variant '{variant}'; leave it empty")
    return clips_to_descriptors


def clips_to_descriptors(features: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Describe clips.

    Args:
        features: float32 [U, L, D]: U clips of L frames. A clip of one frame does not move.

    Returns:
        ``descriptor``: float32 [U, 3 D].

    Raises:
        ValueError: The array is not three-dimensional, or clips have no frames.
    """
    if features.ndim != 3 or features.shape[1] < 1:
        raise ValueError(f"clips must be [clips, frames, dimensions], not {features.shape}")
    clips = features.astype(np.float64)
    mean = clips.mean(axis=1)
    deviation = clips.std(axis=1)
    if clips.shape[1] > 1:
        change = np.abs(np.diff(clips, axis=1)).mean(axis=1)
    else:
        change = np.zeros_like(mean)
    descriptor = np.concatenate([mean, deviation, change], axis=1)
    return {"descriptor": descriptor.astype(np.float32)}
