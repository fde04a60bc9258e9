"""IS as published: inception score of the 2015 network's 1008 classes."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, Historical, OptionValue, Request, Value
from aigve_cli.metrics import _inception
from aigve_cli.metrics._inception_score import SPLITS, InceptionScoreMetric


class InceptionScore(InceptionScoreMetric):
    """Are frames clearly of some class each, and of many classes together? No reference needed."""

    card = Card(
        name="is",
        title="Inception score of frames",
        category="distribution_based",
        values=(Value("is", "higher", (1.0, 1008.0)),),
        version=1,
        options=(_inception.CONVENTION, SPLITS),
        min_videos=50,
        historical=Historical(
            file="is_results.json",
            score_key="IS_Score",
            mean_key="IS_Mean_Score",
            generated_key="Generated video_name",
        ),
        cite="Salimans et al. 2016, Improved Techniques for Training GANs, arXiv:1606.03498",
        source="torch-fidelity 5e211a9 (logits without bias, splits, shuffle); views as fid",
        deviations=(_inception.SETS_DEVIATION,),
        licence=_inception.LICENCE,
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Class logits of the generated frames, from the pass that gives fid its features."""
        request = _inception.inception_request(options, extent, output="logits", role="generated")
        return {"frames": request}
