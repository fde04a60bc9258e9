"""Fréchet distance of clips on torchvision's R3D-18: what older tools called FVD."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    CentreCrop,
    Extent,
    Frames,
    Historical,
    Normalise,
    Option,
    OptionValue,
    Quantise,
    Request,
    Resize,
    Value,
    View,
)
from aigve_cli.metrics import _clips
from aigve_cli.metrics._frechet import EXACT_DEVIATION, FrechetMetric
from aigve_cli.metrics._sets import Terms

_KINETICS = Normalise(
    (0.43216 * 255, 0.394666 * 255, 0.37645 * 255), (0.22803 * 255, 0.22145 * 255, 0.216989 * 255)
)
VIEWS: Mapping[str, View] = {
    "torchvision": (
        Resize(128, 171, "torch-bilinear"),
        Quantise("round"),
        CentreCrop(112, 112, "half-even"),
        _KINETICS,
    ),
    "aigve": (
        Resize(224, 224, "torch-bilinear-antialias"),
        Normalise((127.5,) * 3, (127.5,) * 3),
    ),
}


class FvdR3d18(FrechetMetric):
    """Clips of all generated videos against those of all reference videos."""

    card = Card(
        name="fvd-r3d18",
        title="Fréchet distance of clips, R3D-18",
        category="distribution_based",
        values=(Value("fvd-r3d18", "lower", (0.0, None)),),
        version=1,
        needs=("reference",),
        options=(
            Option(
                "convention",
                "torchvision",
                "Preprocessing: the weights' own, or that of the earlier aigve (224 x 224).",
                choices=tuple(VIEWS),
            ),
            *_clips.OPTIONS,
        ),
        only_by_name=True,
        min_videos=256,
        historical=Historical(
            file="fvd-r3d18_results.json",
            score_key="FVD_Score",
            mean_key="FVD_Mean_Score",
            generated_key="Generated video_name",
            reference_key="Real video_name",
        ),
        cite="Tran et al. 2018, A Closer Look at Spatiotemporal Convolutions, arXiv:1711.11248",
        source="torchvision's R3D-18; aigve: fvd on that network",
        deviations=(
            "Network: R3D-18 (Kinetics-400) instead of I3D: not comparable with published FVDs.",
            EXACT_DEVIATION,
        ),
        licence="BSD-3-Clause (weights of r3d-18)",
    )

    unit = "clips"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Pooled features of both sides' clips."""
        sampling = _clips.options_to_sampling(self.card.name, options, extent)
        frames = Frames(VIEWS[str(options["convention"])], sampling, "each")
        return {"clips": Request("r3d-18:features", (frames,))}

    def terms(self, options: Mapping[str, OptionValue]) -> Terms:
        """The convention, and the protocol's number of videos."""
        notes = (f"{options['convention']} convention", *_clips.clip_notes(options))
        return Terms(videos=_clips.protocol_videos(options), notes=notes)
