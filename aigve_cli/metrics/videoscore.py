"""VideoScore: five ratings of a video and its prompt, by Idefics2 that people's ratings trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aigve_cli.contract import (
    AsPublished,
    Card,
    Extent,
    Frames,
    Metric,
    Option,
    OptionValue,
    Prompt,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.metrics import _similarity
from aigve_cli.video.sampling import Evenly, within

ASPECTS = (
    "visual-quality",
    "temporal-consistency",
    "dynamic-degree",
    "text-alignment",
    "factual-consistency",
)
"""In the order in which the network gives them."""
LATEST = "TIGER-Lab/VideoScore-v1.1"
TRAINED_ON = {"VideoScore": 16, "VideoScore-anno-only": 16, "v1": 16, "anno-only": 16}
"""Frames of a video, by the name of a model or its tag; of all others as many as of v1.1."""
FRAMES = 48


class VideoScore(Metric):
    """Five ratings a video; there is no overall one."""

    card = Card(
        name="videoscore",
        title="VideoScore: five ratings by a model that people's ratings trained",
        category="multi_faceted",
        values=tuple(
            Value(f"videoscore-{aspect}", "higher", (None, None), "rating, about 1 to 4")
            for aspect in ASPECTS
        ),
        version=1,
        needs=("prompt",),
        options=(
            _similarity.model_option(LATEST, "Another Idefics2 with VideoScore's five outputs"),
            Option(
                "frames",
                0,
                "So many frames at most. 0: as many as the model was trained on, by its name or "
                "its folder's: 16 of VideoScore and VideoScore-anno-only, 48 of others, and of "
                "what --model names.",
                minimum=0,
            ),
        ),
        cite="He et al. 2024, VideoScore: Building Automatic Metrics to Simulate Fine-grained "
        "Human Feedback for Video Generation, arXiv:2406.15252",
        source="TIGER-AI-Lab/VideoScore 194736f (examples/run_videoscore.py), Mantis 0e8a81c",
        deviations=(
            "Ratings are not rounded; VideoScore prints three digits.",
            "The rating is read at the text's last token; Mantis reads it before the first "
            "unknown one, wherever that is.",
        ),
        licence="Apache-2.0 (weights of videoscore)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Frames at equal steps, together with the prompt."""
        model = str(options["model"])
        sampling = within(extent, Evenly(int(options["frames"]) or trained_on(model)))
        sources = (Frames((AsPublished(),), sampling), Prompt())
        return {"ratings": Request("videoscore:ratings", sources, weights=model)}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The network's five numbers, as they are."""
        ratings = features.generated["ratings"][0]  # float32 [5]
        names = (value.name for value in self.card.values)
        return Score(values=dict(zip(names, map(float, ratings), strict=True)))


def trained_on(model: str) -> int:
    """Frames of a video that a model was trained on, by its id, its tag, or its folder's own name.

    The Hub's cache has ``models--TIGER-Lab--VideoScore/snapshots/COMMIT``.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        path = path.resolve()
    cached = path.parts[-3:-1] if path.parent.name == "snapshots" else ()
    name = cached[0].rpartition("--")[2] if cached else path.name
    return TRAINED_ON.get(name.partition("@")[0], FRAMES)
