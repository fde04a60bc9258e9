"""Inception score of frames on the network that installs with the package."""

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
from aigve_cli.metrics._inception_score import SPLITS, InceptionScoreMetric
from aigve_cli.video.sampling import frame_sampling


class IsLite0(InceptionScoreMetric):
    """Are frames clearly of some class each, and of many classes together? No reference needed."""

    card = Card(
        name="is-lite0",
        title="Inception score of frames, EfficientNet-Lite0",
        category="distribution_based",
        values=(Value("is-lite0", "higher", (1.0, 1000.0)),),
        version=1,
        options=(SPLITS,),
        stands_in_for="is",
        min_videos=50,
        historical=Historical(
            file="is-lite0_results.json",
            score_key="IS_Score",
            mean_key="IS_Mean_Score",
            generated_key="Generated video_name",
        ),
        cite="Salimans et al. 2016, Improved Techniques for Training GANs, arXiv:1606.03498",
        source="torch-fidelity 5e211a9 (splits, shuffle), on the embedded network",
        deviations=(
            _lite0.NETWORK_DEVIATION,
            "Softmax over the network's 1000 classes.",
        ),
        licence=_lite0.LICENCE,
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Class logits of the generated frames."""
        frames = Frames(_lite0.VIEW, frame_sampling(extent), "generated")
        return {"frames": Request("efficientnet-lite0:logits", (frames,))}
