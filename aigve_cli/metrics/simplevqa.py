"""SimpleVQA: quality of a video from a frame and a clip of each of its seconds."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    CentreCrop,
    Extent,
    Frames,
    Historical,
    Metric,
    OptionValue,
    Request,
    ResizeShorter,
    Sample,
    SampleFeatures,
    Score,
    Value,
    View,
)
from aigve_cli.metrics import _quality
from aigve_cli.video.sampling import AtLeast, EverySecond, within

FRAME_VIEW: View = (
    ResizeShorter(520, "pil-bilinear"),
    CentreCrop(448, 448, "half-even"),
    _quality.IMAGENET,
)


class SimpleVqa(Metric):
    """A score a video, the mean over its seconds; their scores are the curve."""

    card = Card(
        name="simplevqa",
        title="SimpleVQA: quality of a video, second by second",
        category="nn_based_video",
        values=(Value("simplevqa", "higher", unit="MOS of LSVQ, about 0 to 100"),),
        version=1,
        historical=Historical(
            file="simplevqa_results.json",
            score_key="SimpleVQA_Score",
            mean_key="SimpleVQA_Mean_Score",
            generated_key="video_name",
        ),
        cite="Sun et al. 2022, A Deep Learning based No-reference Quality Assessment Model for UGC "
        "Videos, arXiv:2204.14047",
        source="sunwei925/SimpleVQA 017edda",
        deviations=(
            "SlowFast's batch norms use their trained statistics, as in the features that the "
            "network was trained on; the public demo leaves them in training mode.",
            "Frames are resized as in the public demo (PIL), not as for the paper's tables (OpenCV "
            "to files): 4e-4 to 7e-3 relative, measured.",
            "Fewer than 8 seconds, where the demo fails, are filled up with the last one, as in "
            "training; a video under a second counts as one.",
        ),
        licence="Apache-2.0 (weights of simplevqa and slowfast-r50)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Scores of seconds, of a frame and a clip each."""
        seconds = AtLeast(_quality.SECONDS, within(extent, EverySecond()))
        spatial = Request("simplevqa:spatial", (Frames(FRAME_VIEW, seconds),))
        motion = _quality.motion_request(extent)
        return {"scores": Request("simplevqa:frame_scores", (spatial, motion))}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over seconds."""
        rows = features.generated["scores"]
        return _quality.rows_to_score("simplevqa", rows, curve="second")
