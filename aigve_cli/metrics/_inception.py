"""The 2015 Inception network as published metrics see it: one request for FID, KID and IS.

Conventions differ in how a frame reaches 299 x 299 pixels and in its normalisation: enough to move
the second digit of an FID. Sources: mseitzer/pytorch-fid b9c1811 (Apache-2.0),
toshas/torch-fidelity 5e211a9 (Apache-2.0), GaParmar/clean-fid e88c4d6 (MIT),
Lightning-AI/torchmetrics dab0333 (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Extent,
    Frames,
    Normalise,
    Option,
    OptionValue,
    Request,
    Resampler,
    Resize,
    Role,
    View,
)
from aigve_cli.video.sampling import frame_sampling

NETWORK = "inception-v3-fid"
LICENCE = "Apache-2.0 (weights of inception-v3-fid)"
DEFAULT = "torch-fidelity"
RESAMPLERS: Mapping[str, Resampler] = {
    "torch-fidelity": "tf1-bilinear",
    "pytorch-fid": "torch-bilinear",
    "clean-fid": "pil-bicubic-float",
    "torchmetrics": "torch-bilinear-antialias",
}
CONVENTION = Option(
    "convention",
    DEFAULT,
    "Resizing and normalisation: torch-fidelity is the original TensorFlow definition; the others "
    "are those of the packages of that name.",
    choices=tuple(RESAMPLERS),
)
SETS_DEVIATION = "All frames of all videos of a side are one set, up to --max-len a video."


def convention_to_view(convention: str) -> View:
    """Frames as one of the packages shows them to the network."""
    middle = 127.5 if convention == "pytorch-fid" else 128.0
    resize = Resize(299, 299, RESAMPLERS[convention])
    return (resize, Normalise((middle,) * 3, (middle,) * 3))


def inception_request(
    options: Mapping[str, OptionValue], extent: Extent, *, output: str, role: Role
) -> Request:
    """An output of the network for the first frames of each video."""
    view = convention_to_view(str(options.get("convention", DEFAULT)))
    return Request(f"{NETWORK}:{output}", (Frames(view, frame_sampling(extent), role),))
