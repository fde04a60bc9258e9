"""VideoPhy: does a video show its prompt, and does it obey the laws of physics?"""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    AsPublished,
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
from aigve_cli.metrics import _similarity
from aigve_cli.metrics._similarity import PromptMetric
from aigve_cli.video.sampling import Segments, within

FRAMES = 32
VIEW = (AsPublished("squashed"),)
OUTPUTS = ("semantic", "physics", "tokens")


class VideoPhy(PromptMetric):
    """Two probabilities a video."""

    card = Card(
        name="videophy",
        title="VideoPhy: semantic adherence and physical commonsense, by VideoCon-Physics",
        category="multi_faceted",
        values=(
            Value("videophy-semantic", "higher", (0.0, 1.0), "probability of yes"),
            Value("videophy-physics", "higher", (0.0, 1.0), "probability of yes"),
        ),
        version=1,
        needs=("prompt",),
        options=(
            _similarity.model_option(
                "videophysics/videocon_physics", "Another mPLUG-Owl-Video that answers yes or no"
            ),
        ),
        cite="Bansal et al. 2024, VideoPhy: Evaluating Physical Commonsense for Video Generation, "
        "arXiv:2406.03520",
        source="Hritikbansal/videophy 01d366c",
        deviations=(
            "Frames are squashed by PIL's bilinear, where decord does it with its ffmpeg's: the "
            "mean difference is 0.6 to 1.7 of 255 on real clips.",
            "A long prompt is read whole; the original stops after 257 tokens, in the middle of "
            "the question.",
        ),
        licence="none stated (weights of videophy, made from LLaMA-7B; code MIT)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """32 frames, together with the prompt: one look for both questions."""
        frames = Frames(VIEW, within(extent, Segments(FRAMES)))
        model = str(options["model"])
        return {
            name: Request(f"videophy:{name}", (frames, Prompt()), weights=model) for name in OUTPUTS
        }

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The network's two probabilities."""
        rows = features.generated
        read, most = (int(count) for count in rows["tokens"][0])
        longer = f"a long prompt, read whole: {read} tokens, where the original stops after {most}"
        return Score(
            values={
                "videophy-semantic": float(rows["semantic"][0, 0]),
                "videophy-physics": float(rows["physics"][0, 0]),
            },
            notes=(longer,) if read > most else (),
        )
