"""What the no-reference quality networks share: how they look at frames, and their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigve_cli.contract import Extent, Frames, Normalise, Request, Resize, Score, View
from aigve_cli.lazy import np
from aigve_cli.video.sampling import AtLeast, EverySecond, within

if TYPE_CHECKING:
    from aigve_cli.contract import Floats

SECONDS = 8
"""SimpleVQA and Light-VQA look at 8 seconds of a video, and at the last one again if it has fewer.

Light-VQA looks at no more.
"""
MOTION_FRAMES = 32
IMAGENET = Normalise(
    (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)
)
KINETICS_VIEW: View = (
    Resize(224, 224, "pil-bilinear"),
    Normalise((0.45 * 255,) * 3, (0.225 * 255,) * 3),
)


def motion_request(extent: Extent, *, count: int | None = None) -> Request:
    """SlowFast features of the 32 frames from each second on: the same clips for every metric.

    Args:
        extent: How much of each video was asked for.
        count: Seconds at most; None takes all.
    """
    clips = within(extent, EverySecond(MOTION_FRAMES, count))
    return Request("slowfast-r50:features", (Frames(KINETICS_VIEW, AtLeast(SECONDS, clips)),))


def rows_to_score(name: str, rows: Floats, *, curve: str) -> Score:
    """The mean of the scores of frames or seconds, which are the curve.

    Args:
        name: Of the metric's value.
        rows: float32 [U, 1].
        curve: What a row stands for, such as ``second``.
    """
    scores = np.asarray(rows, np.float64)[:, 0]
    if not np.isfinite(scores).all():
        return not_finite()
    return Score(values={name: float(scores.mean())}, curve={curve: scores.tolist()})


def not_finite() -> Score:
    """No score: the arithmetic of the published network has no number for this video."""
    return Score.missing("the network gives no finite number for this video")
