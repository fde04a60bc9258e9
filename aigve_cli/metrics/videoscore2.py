"""VideoScore2: three ratings that a model writes down after it has thought about a video."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
    Option,
    OptionValue,
    Prompt,
    Request,
    ResizeArea,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.errors import UsageError
from aigve_cli.metrics import _rated, _similarity
from aigve_cli.video.sampling import AtRate, within

_COMMON_SENSE = r"common[\s_-]*sense"
ASPECTS: Mapping[str, re.Pattern[str]] = {
    "visual-quality": re.compile(r"\bvisual[\s_-]+quality\b", re.IGNORECASE),
    "text-alignment": re.compile(
        r"\b(?:text[\s_-]*to[\s_-]*video|text|t2v|prompt)[\s_-]+alignment\b", re.IGNORECASE
    ),
    "physical-consistency": re.compile(
        rf"\b(?:physical|physics|{_COMMON_SENSE})(?:\s*(?:/|and)\s*(?:physical|{_COMMON_SENSE}))?"
        rf"[\s_-]+consistency(?:\s*/\s*{_COMMON_SENSE})?\b",
        re.IGNORECASE,
    ),
}
"""What each is called in answers."""
ANY_ASPECT = re.compile("|".join(label.pattern for label in ASPECTS.values()), re.IGNORECASE)
FPS = 2.0
LOWEST, HIGHEST = 0.01, 100.0
"""Of temperatures, but for 0."""
SEEDS = 10**18
VIEW = (ResizeArea(128 * 28 * 28, 768 * 28 * 28),)
"""As qwen_vl_utils prepares the frames of videos."""


class VideoScore2(_rated.RatingsMetric):
    """Three ratings a video, and what the model expected where it wrote them."""

    card = Card(
        name="videoscore2",
        title="VideoScore2: three ratings that a model writes after thinking",
        category="multi_faceted",
        values=(
            *(Value(f"videoscore2-{a}", "higher", (1.0, 5.0), "rating") for a in ASPECTS),
            *(
                Value(f"videoscore2-{a}-expected", "higher", (1.0, 5.0), "expected rating")
                for a in ASPECTS
            ),
        ),
        version=1,
        needs=("prompt",),
        options=(
            _similarity.model_option(
                "TIGER-Lab/VideoScore2", "Another Qwen2.5-VL that answers as VideoScore2 does"
            ),
            Option(
                "temperature",
                0.0,
                "0: the likeliest answer, token by token. Above: one that is drawn, as published "
                "with 0.7.",
                minimum=0,
            ),
            Option("seed", 0, "Of a drawn answer, the same for every video.", minimum=0),
            Option(
                "frames", 120, "So many frames at most; of longer videos fewer a second.", minimum=4
            ),
        ),
        cite="He et al. 2025, VideoScore2: Think before You Score in Generative Video Evaluation, "
        "arXiv:2509.22799",
        source="TIGER-AI-Lab/VideoScore2 e6abe26 (vs2_inference.py), model card of VideoScore2",
        deviations=(
            "The likeliest answer; the program draws one (temperature=0.7).",
            "The question is that of the model's card, whose lines the program indents.",
            "Ratings are read wherever they stand behind their name; the program reads one form. "
            "One that cannot be read is missing.",
            "The program's number, the likeliest digit times its share, is among the details: it "
            "is less where the model is unsure. The expectation stands beside.",
            "Frames are shrunk by PIL, where qwen_vl_utils uses torchvision. Of videos longer than "
            "a minute 120 frames are taken (frames=), where it takes up to 768, ever smaller ones.",
            "On a GPU in bfloat16, in which the weights are saved; the program runs in float32 "
            "(--precision fp32).",
        ),
        licence="Apache-2.0 (weights of videoscore2)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Two frames a second, together with the prompt."""
        temperature = float(options["temperature"])
        if temperature and not LOWEST <= temperature <= HIGHEST:
            raise UsageError(
                f"videoscore2.temperature={temperature:g}: must be 0, or from {LOWEST:g} to "
                f"{HIGHEST:g}."
            )
        if int(options["seed"]) >= SEEDS:
            raise UsageError(f"videoscore2.seed={options['seed']}: must be below {SEEDS}.")
        written = f"{temperature:.6f}".rstrip("0").rstrip(".")
        variant = f"temperature={written},seed={options['seed']}" if temperature else ""
        sources = (Frames(VIEW, within(extent, AtRate(FPS, most=int(options["frames"])))), Prompt())
        return {
            "answers": Request(
                "videoscore2:answers", sources, variant, weights=str(options["model"])
            )
        }

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Every rating that can be read."""
        answer = _rated.only_answer(features)
        if answer is None:
            return _rated.nothing_shown()
        values: dict[str, float] = {}
        expected: dict[str, float] = {}
        soft: dict[str, Any] = {}
        unreadable: dict[str, str] = {}
        for aspect, label in ASPECTS.items():
            try:
                rating = _rated.text_to_aspect(answer["text"], label, ANY_ASPECT)
            except ValueError as error:
                unreadable[aspect] = _rated.why_unreadable(answer, error)
                continue
            values[f"videoscore2-{aspect}"] = rating.value
            if (expectation := _rated.rating_to_expectation(rating, answer)) is not None:
                expected[f"videoscore2-{aspect}-expected"] = expectation
                soft[aspect] = _rated.rating_to_soft_score(rating, answer)
        details = {**_rated.answer_details(answer), "soft scores": soft}
        return _rated.ratings_to_score(values | expected, unreadable, details)
