"""What the metrics on the network that installs with the package have in common."""

from __future__ import annotations

from aigve_cli.contract import Extent, Frames, Normalise, Request, Resize, View
from aigve_cli.video.sampling import frame_sampling

VIEW: View = (
    Resize(224, 224, "torch-bilinear-antialias-uint8"),
    Normalise((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
)
LICENCE = "Apache-2.0 (weights of efficientnet-lite0)"
NETWORK_DEVIATION = (
    "Network: EfficientNet-Lite0 (ImageNet-1k, installed with the package) instead of the "
    "published one, so values are not comparable with published ones."
)


def feature_frames(extent: Extent) -> Request:
    """Frames of both sides as 1280-d features: one request, so one pass, for FID and KID."""
    return Request("efficientnet-lite0:features", (Frames(VIEW, frame_sampling(extent), "each"),))
