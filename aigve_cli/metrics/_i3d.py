"""I3D as published video distances see it: one request for FVD and KVD.

Conventions differ in how a frame reaches 224 x 224 pixels, in the epsilon of batch normalisation
and in the divisor of the covariance. Sources: google-research frechet_video_distance 0090728
(Apache-2.0) with the TF-Hub module's graph; universome/stylegan-v 3fecd69 (formulas only);
wilson1yan/VideoGPT 733d2b1 (MIT); songweige/content-debiased-fvd a1e037a (MIT).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aigve_cli.contract import (
    CentreCrop,
    Extent,
    Frames,
    Normalise,
    Option,
    OptionValue,
    Quantise,
    Request,
    Resize,
    ResizeShorter,
    Scale,
    View,
)
from aigve_cli.metrics import _clips
from aigve_cli.metrics._sets import Terms

NETWORK = "i3d-kinetics400"
LICENCE = "weights of i3d-kinetics400: see `aigve models list`"
DEFAULT = "stylegan-v"
_TO_ONE = Normalise((127.5,) * 3, (127.5,) * 3)
_SQUASH = Resize(224, 224, "torch-bilinear")


@dataclass(frozen=True)
class Convention:
    """One way to FVD.

    Attributes:
        view: From decoded frames to the network's input.
        variant: Of the network: the epsilon of its batch normalisation.
        ddof: Covariances are divided by ``clips - ddof``.
    """

    view: View
    variant: str
    ddof: int


CONVENTIONS: Mapping[str, Convention] = {
    "stylegan-v": Convention((_SQUASH, _TO_ONE), "eps1e-3", 0),
    "tensorflow": Convention((Resize(224, 224, "tf1-bilinear"), _TO_ONE), "eps1e-3", 1),
    "videogpt": Convention(
        (ResizeShorter(224, "torch-bilinear", "up"), CentreCrop(224, 224), _TO_ONE), "eps1e-5", 1
    ),
    "cd-fvd": Convention(
        (
            Scale(divisor=255.0),
            ResizeShorter(128, "torch-bilinear-antialias", "up"),
            CentreCrop(128, 128),
            Scale(255.0),
            Quantise("truncate"),
            _SQUASH,
            _TO_ONE,
        ),
        "eps1e-5",
        0,
    ),
}
CONVENTION = Option(
    "convention",
    DEFAULT,
    "Resizing, epsilon of batch normalisation and divisor of the covariance, as in the code of "
    "that name.",
    choices=tuple(CONVENTIONS),
)
OPTIONS = (CONVENTION, *_clips.OPTIONS)


def i3d_request(metric: str, options: Mapping[str, OptionValue], extent: Extent) -> Request:
    """Logits of both sides' clips, averaged over time."""
    convention = CONVENTIONS[str(options["convention"])]
    sampling = _clips.options_to_sampling(metric, options, extent)
    frames = Frames(convention.view, sampling, "each")
    return Request(f"{NETWORK}:logits", (frames,), convention.variant)


def i3d_terms(options: Mapping[str, OptionValue]) -> Terms:
    """The convention's divisor, and what stands behind every number."""
    name = str(options["convention"])
    notes = (f"{name} convention", *_clips.clip_notes(options))
    return Terms(CONVENTIONS[name].ddof, _clips.protocol_videos(options), notes)
