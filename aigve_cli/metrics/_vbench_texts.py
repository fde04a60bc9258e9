"""What VBench's two dimensions by ViCLIP share: a video and its prompt in one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aigve_cli.contract import (
    Extent,
    Frames,
    OptionValue,
    Prompt,
    Request,
    Sample,
    SampleFeatures,
    Score,
)
from aigve_cli.metrics import _similarity, _vbench
from aigve_cli.video.sampling import Middles, within

FRAMES = 8


class VideoAndPrompt(_vbench.Dimension, _similarity.PromptMetric):
    """Base: the cosine of a video of 8 frames and its prompt."""

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """The middles of 8 parts together, and the prompt."""
        frames = Frames(_vbench.CLIP_UINT8_VIEW, within(extent, Middles(FRAMES)))
        return {
            "video": Request("viclip:video", (frames,)),
            "text": Request("viclip:text", (Prompt(),)),
            "tokens": Request("viclip:tokens", (Prompt(),)),
        }

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The cosine."""
        rows = features.generated
        cosine = _similarity.cosines(rows["video"], rows["text"])[0]
        details, notes = _similarity.cut_facts(rows["tokens"])
        return Score(values={self.card.name: float(cosine)}, details=details, notes=notes)

    def summarise(self, scores: Sequence[Score]) -> Score:
        """The mean over videos, and how many prompts were cut."""
        return _similarity.PromptMetric.summarise(self, scores)


DEVIATIONS = (
    "ViCLIP computes in float32, and its published weights were not at hand: the network is proven "
    "on a tiny one of its layout.",
    "A prompt of more than 32 tokens is cut, with a note.",
)
