"""Fréchet distance of clip descriptors on the network that installs with the package."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
    Historical,
    OptionValue,
    Request,
    Value,
)
from aigve_cli.metrics import _lite0
from aigve_cli.metrics._frechet import EXACT_DEVIATION, FrechetMetric
from aigve_cli.video.sampling import Clips, clip_sampling

CLIP_LENGTH = 16


class FvdLite0(FrechetMetric):
    """All 16-frame clips of all generated videos against those of all reference videos."""

    card = Card(
        name="fvd-lite0",
        title="Fréchet distance of 16-frame clips, EfficientNet-Lite0 over time",
        category="distribution_based",
        values=(Value("fvd-lite0", "lower", (0.0, None)),),
        version=1,
        needs=("reference",),
        stands_in_for="fvd",
        min_videos=100,
        historical=Historical(
            file="fvd-lite0_results.json",
            score_key="FVD_Score",
            mean_key="FVD_Mean_Score",
            generated_key="Generated video_name",
            reference_key="Real video_name",
        ),
        cite="Unterthiner et al. 2018, Towards Accurate Generative Models of Video, "
        "arXiv:1812.01717",
        source="aigve: fvd on the embedded network",
        deviations=(
            "Network: EfficientNet-Lite0 (ImageNet-1k, installed with the package) on each frame "
            "instead of a video network; motion enters as deviation over time and as the change "
            "from frame to frame. Values are not comparable with published ones.",
            "Clips of 16 frames that do not overlap, from the start of each video.",
            EXACT_DEVIATION,
        ),
        licence=_lite0.LICENCE,
    )

    unit = "clips"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Descriptors of both sides' clips, over the features that fid-lite0 sees."""
        sampling = clip_sampling(extent, Clips(CLIP_LENGTH))
        features = Request("efficientnet-lite0:features", (Frames(_lite0.VIEW, sampling, "each"),))
        return {"clips": Request("clip-descriptor:descriptor", (features,))}
