"""Inception score of frames on the network that installs with the package."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    FeatureSet,
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
from aigve_cli.metrics import _lite0
from aigve_cli.statistics.inception_score import logits_to_inception_score
from aigve_cli.statistics.intervals import normal_interval, verdict
from aigve_cli.video.sampling import frame_sampling


class IsLite0(Metric):
    """Are frames clearly of some class each, and of many classes together? No reference needed."""

    card = Card(
        name="is-lite0",
        title="Inception score of frames, EfficientNet-Lite0",
        category="distribution_based",
        values=(Value("is-lite0", "higher", (1.0, 1000.0)),),
        version=1,
        options=(Option("splits", 10, "Parts whose scores are averaged.", minimum=1),),
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

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Score of one video's frames, in one split."""
        logits = features.generated["frames"]
        if len(logits) < 2:
            return Score.missing(f"needs at least 2 frames; there {_lite0.are(len(logits))}")
        result = logits_to_inception_score([logits], splits=1)
        return Score(
            values={self.card.name: result.value},
            details={"frames": result.rows, "splits": 1},
            notes=("the score of one video's frames; it is not the score of the set",),
        )

    def compare(
        self,
        generated: FeatureSet,
        reference: FeatureSet | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        """Score of the set of frames."""
        splits = int(options["splits"])
        videos = _lite0.RowsOf(generated, "frames")
        size = _lite0.sizes_of(videos)
        if size.videos < 2:
            return Score.missing(
                f"needs at least 2 generated videos with frames; there {_lite0.are(size.videos)}"
            )
        if size.rows < splits:
            return Score.missing(
                f"needs at least one frame for each of {splits} splits; there are {size.rows}"
            )
        result = logits_to_inception_score(videos, splits=splits)
        error = result.standard_error
        note = verdict(result.value, videos=size.videos, min_videos=self.card.min_videos)
        return Score(
            values={self.card.name: result.value},
            standard_errors={} if error is None else {self.card.name: error},
            details={
                "split_deviation": result.split_deviation,
                "splits": splits,
                "interval95": (
                    None if error is None else list(normal_interval(result.value, error, least=1.0))
                ),
                "frames": {"generated": size.rows},
                "videos": {"generated": size.videos},
                "dimensions": size.dimensions,
            },
            notes=(note,) if note else (),
        )
