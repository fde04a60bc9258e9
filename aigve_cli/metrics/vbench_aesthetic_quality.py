"""VBench's aesthetic quality: LAION's rating of each frame."""

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
from aigve_cli.metrics import _vbench

LARGEST = 10
"""Of the ratings that the predictor was trained on."""


class AestheticQuality(_vbench.Dimension):
    """A score a video, the mean over its frames; those are the curve."""

    card = Card(
        name="vbench-aesthetic-quality",
        title="VBench aesthetic quality: LAION's rating of frames, over 10",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-aesthetic-quality", "higher"),),
        version=1,
        options=(_vbench.mode_option("resized pixels are clamped to 0..255"),),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            _vbench.OVERSHOOT,
            _vbench.FLOAT16,
            "The predictor is linear: nothing keeps a score within 0..1.",
        ),
        licence="MIT (weights of clip-vit-l-14 and laion-aesthetic)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """The middle of every frame."""
        image = _vbench.every_frame("clip-vit-l-14:image", _vbench.clip_view(options), extent)
        return {"rating": Request("laion-aesthetic:rating", (image,))}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over frames of a tenth of the rating."""
        frames = np.asarray(features.generated["rating"], np.float64)[:, 0] / LARGEST
        return Score(
            values={self.card.name: float(frames.mean())}, curve={"frame": frames.tolist()}
        )
