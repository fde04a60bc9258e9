"""PickScore: what people would prefer among pictures of a prompt, as a score of frames."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    OptionValue,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.metrics import _pick, _similarity


class PickScore(_similarity.PromptMetric):
    """A score a video, the mean over its frames; theirs are the curve."""

    card = Card(
        name="pickscore",
        title="PickScore: preference for a video's frames, given its prompt",
        category="vision_language_similarity",
        values=(
            Value("pickscore", "higher", unit="the model's logit: about 100 x cosine"),
            Value("pickscore-cosine", "higher", (-1.0, 1.0), "cosine"),
        ),
        version=1,
        needs=("prompt",),
        options=_pick.OPTIONS,
        cite=_pick.CITE,
        source=_pick.SOURCE,
        deviations=(
            "Scaled by the learned factor, as published; AIGVE_Tool reports the cosine, which is "
            "pickscore-cosine here.",
        ),
        licence=_pick.LICENCE,
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Every frame, and the prompt."""
        return _pick.requests(options, extent, "generated")

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The means over frames."""
        rows = features.generated
        scores, cosines = _pick.frames_to_scores(rows["image"], rows)
        details, notes = _similarity.cut_facts(rows["tokens"])
        return Score(
            values={"pickscore": float(scores.mean()), "pickscore-cosine": float(cosines.mean())},
            curve={"frame": scores.tolist()},
            details=details,
            notes=notes,
        )
