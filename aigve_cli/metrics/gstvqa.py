"""GSTVQA: quality of a video from the statistics of VGG-16's five stages, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
    Historical,
    Metric,
    Option,
    OptionValue,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.lazy import np
from aigve_cli.metrics import _quality
from aigve_cli.video.sampling import AtLeast, FirstFrames, within

LEAST_FRAMES = 29
"""Two convolutions of 15 frames each, without padding, need so many."""
MOST_FRAMES = 500
LARGEST_MOS: Mapping[str, float] = {
    "konvid": 4.64,
    "cvd14": 93.38,
    "liveq": 73.64276415152705,
    "livev": 94.2865,
}
"""The largest opinion score of each checkpoint's training set: 1 on the network's scale."""


class Gstvqa(Metric):
    """A score a video; the curve is the network's quality of each frame before its pooling."""

    card = Card(
        name="gstvqa",
        title="GSTVQA: generalised spatial-temporal quality of a video",
        category="nn_based_video",
        values=(Value("gstvqa", "higher"),),
        version=1,
        options=(
            Option(
                "weights",
                "konvid",
                "The data set that the network was trained on: KoNViD-1k, CVD2014, LIVE-Qualcomm "
                "or LIVE-VQC.",
                choices=tuple(LARGEST_MOS),
            ),
            Option(
                "scale",
                "network",
                "network is the network's own, about 0 to 1; mos is that of the opinion scores of "
                "its training set.",
                choices=("network", "mos"),
            ),
            Option(
                "gate",
                "first-500",
                "Frames that the channels' gate is computed of: the first 500, which the rest "
                "reads, or every-frame, as in the original.",
                choices=("first-500", "every-frame"),
            ),
        ),
        historical=Historical(
            file="gstvqa_results.json",
            score_key="GSTVQA_Score",
            mean_key="GSTVQA_Mean_Score",
            generated_key="video_name",
        ),
        cite="Chen et al. 2021, Learning Generalized Spatial-Temporal Deep Feature Representation "
        "for No-Reference Video Quality Assessment, arXiv:2012.13936",
        source="Baoliang93/GSTVQA 8463c9c",
        deviations=(
            "The public code reads features from files; its extractor is not public. Features are "
            "made as in VSFA, its base: ImageNet normalisation, native size, after each ReLU.",
            "Videos of fewer than 29 frames, which the original refuses, are held at the end.",
            "Only the first 500 frames are looked at; the original gates channels by all "
            "(gate=every-frame).",
        ),
        licence="none stated (weights of gstvqa), BSD-3-Clause (weights of vgg16)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """The head's two outputs over one run of VGG-16."""
        frames = FirstFrames(MOST_FRAMES if options["gate"] == "first-500" else None)
        sampling = AtLeast(LEAST_FRAMES, within(extent, frames))
        taps = Request("vgg16:taps", (Frames((_quality.IMAGENET,), sampling),))
        weights = str(options["weights"])
        return {
            name: Request(f"gstvqa:{name}", (taps,), weights=weights)
            for name in ("score", "frame_quality")
        }

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The network's number, or the same on the scale of its opinion scores."""
        score = float(features.generated["score"][0, 0])
        curve = features.generated["frame_quality"][:, 0]
        if not (np.isfinite(score) and np.isfinite(curve).all()):
            return _quality.not_finite()
        if options["scale"] == "mos":
            score *= LARGEST_MOS[str(options["weights"])]
        return Score(values={"gstvqa": score}, curve={"frame": curve.tolist()})
