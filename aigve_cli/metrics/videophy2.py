"""VideoPhy-2: ratings of prompt following and of physical commonsense, written as digits."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
    OptionValue,
    Prompt,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.metrics import _rated, _similarity
from aigve_cli.metrics.videophy import FRAMES, VIEW
from aigve_cli.video.sampling import Segments, within

ASPECTS = ("semantic", "physics")
HIGH = 4
"""Both ratings at least this: the joint score counts the video."""


class VideoPhy2(_rated.RatingsMetric):
    """Two ratings a video, whether both are high, and what the model expected."""

    card = Card(
        name="videophy2",
        title="VideoPhy-2: semantic adherence and physical commonsense, rated by AutoEval",
        category="multi_faceted",
        values=(
            Value("videophy2-semantic", "higher", (1.0, 5.0), "rating"),
            Value("videophy2-physics", "higher", (1.0, 5.0), "rating"),
            Value("videophy2-joint", "higher", (0.0, 1.0), "share of videos with both 4 or 5"),
            Value("videophy2-semantic-expected", "higher", (1.0, 5.0), "expected rating"),
            Value("videophy2-physics-expected", "higher", (1.0, 5.0), "expected rating"),
        ),
        version=1,
        needs=("prompt",),
        options=(
            _similarity.model_option(
                "videophysics/videophy_2_auto", "Another mPLUG-Owl-Video that answers 1 to 5"
            ),
        ),
        cite="Bansal et al. 2025, VideoPhy-2: A Challenging Action-Centric Physical Commonsense "
        "Evaluation in Video Generation, arXiv:2503.06800",
        source="Hritikbansal/videophy 01d366c (VIDEOPHY2)",
        deviations=(
            "Frames are squashed by PIL's bilinear, where decord does it with its ffmpeg's.",
            "An answer that is not one number from 1 to 5 has no rating; the original takes the "
            "first name of a number in it, or 0.",
            "The rule task, which needs a rule a video, is not asked.",
        ),
        licence="none stated (weights of videophy2, made from LLaMA-7B; code MIT)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """32 frames, together with the prompt: one look for both questions."""
        frames = Frames(VIEW, within(extent, Segments(FRAMES)))
        sources = (frames, Prompt())
        return {"answers": Request("videophy2:answers", sources, weights=str(options["model"]))}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Both ratings, as far as they can be read."""
        answers = _rated.only_answer(features)
        if answers is None:
            return _rated.nothing_shown()
        values: dict[str, float] = {}
        unreadable: dict[str, str] = {}
        for aspect in ASPECTS:
            answer = answers[aspect]
            try:
                rating = _rated.text_to_rating(answer["text"])
            except ValueError as error:
                unreadable[aspect] = _rated.why_unreadable(answer, error)
                continue
            values[f"videophy2-{aspect}"] = rating.value
            if (expectation := _rated.rating_to_expectation(rating, answer)) is not None:
                values[f"videophy2-{aspect}-expected"] = expectation
        high = [values[name] >= HIGH for a in ASPECTS if (name := f"videophy2-{a}") in values]
        # One that is low decides, whatever the other one is.
        if not unreadable or not all(high):
            values["videophy2-joint"] = float(all(high))
        details = {aspect: _rated.answer_details(answers[aspect]) for aspect in ASPECTS}
        return _rated.ratings_to_score(values, unreadable, details)
