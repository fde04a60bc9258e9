"""Fréchet distance of frame features on the network that installs with the package."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    Historical,
    OptionValue,
    Request,
    Value,
)
from aigve_cli.metrics import _lite0
from aigve_cli.metrics._frechet import EXACT_DEVIATION, FrechetMetric


class FidLite0(FrechetMetric):
    """All frames of all generated videos against all frames of all reference videos."""

    card = Card(
        name="fid-lite0",
        title="Fréchet distance of frames, EfficientNet-Lite0",
        category="distribution_based",
        values=(Value("fid-lite0", "lower", (0.0, None)),),
        version=1,
        needs=("reference",),
        stands_in_for="fid",
        min_videos=50,
        historical=Historical(
            file="fid-lite0_results.json",
            score_key="FID_Score",
            mean_key="FID_Mean_Score",
            generated_key="Generated video_name",
            reference_key="Real video_name",
        ),
        cite="Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule, arXiv:1706.08500",
        source="aigve: fid on the embedded network",
        deviations=(
            _lite0.NETWORK_DEVIATION,
            EXACT_DEVIATION,
        ),
        licence=_lite0.LICENCE,
    )

    unit = "frames"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Features of both sides' frames."""
        return {"frames": _lite0.feature_frames(extent)}
