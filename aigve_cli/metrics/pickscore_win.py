"""PickScore of two videos of one prompt, as the probability that the first is preferred."""

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
from aigve_cli.lazy import np
from aigve_cli.metrics import _pick, _similarity


class PickScoreWin(_similarity.PromptMetric):
    """A probability a pair; the other generator's videos are given as references."""

    card = Card(
        name="pickscore-win",
        title="Probability that a video is preferred to another one of the same prompt",
        category="vision_language_similarity",
        values=(Value("pickscore-win", "higher", (0.0, 1.0), "probability"),),
        version=1,
        needs=("reference", "prompt"),
        options=_pick.OPTIONS,
        only_by_name=True,
        cite=_pick.CITE,
        source=_pick.SOURCE,
        deviations=(
            "The published probability is for two pictures: here the softmax is over the means of "
            "the frames' scores.",
            "The other set is given with --reference-dir: its videos need not be real ones.",
        ),
        licence=_pick.LICENCE,
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Every frame of both videos, and the prompt."""
        return _pick.requests(options, extent, "each")

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The softmax of the two mean scores."""
        if features.reference is None:
            return Score.missing("no other video of this prompt")
        texts = features.generated
        ours, theirs = (
            float(_pick.frames_to_scores(side["image"], texts)[0].mean())
            for side in (features.generated, features.reference)
        )
        details, notes = _similarity.cut_facts(texts["tokens"])
        return Score(
            # The softmax of two; this form does not overflow.
            values={"pickscore-win": float(0.5 * (1 + np.tanh((ours - theirs) / 2)))},
            details={"pickscore": ours, "reference": theirs, **details},
            notes=notes,
        )
