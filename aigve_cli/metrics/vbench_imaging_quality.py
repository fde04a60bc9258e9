"""VBench's imaging quality: MUSIQ's score of each frame."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    OptionValue,
    Request,
    ResizeWithin,
    Sample,
    SampleFeatures,
    Scale,
    Score,
    Value,
    View,
)
from aigve_cli.lazy import np
from aigve_cli.metrics import _vbench

VIEW: View = (ResizeWithin(512, "torch-bilinear"), Scale(divisor=255.0))
LARGEST = 100
"""Of the opinion scores of SPAQ, which MUSIQ was trained on."""


class ImagingQuality(_vbench.Dimension):
    """A score a video, the mean over its frames; those are the curve."""

    card = Card(
        name="vbench-imaging-quality",
        title="VBench imaging quality: MUSIQ's score of frames, over 100",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-imaging-quality", "higher"),),
        version=1,
        cite=_vbench.CITE,
        source=f"{_vbench.SOURCE}, with imaging_quality_preprocessing_mode longer",
        deviations=(
            "A video's score is on the scale of the dimension, 0 to 1; VBench's file has 100 times "
            "that for each video.",
            "Nothing keeps MUSIQ's score within 0..100.",
            "The weights, converted from Google's, may not be used commercially (CC-BY-NC-SA-4.0).",
        ),
        licence="CC-BY-NC-SA-4.0 (converted weights of musiq; none stated for Google's own)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Every frame whole, its longer side 512 pixels at most."""
        return {"quality": _vbench.every_frame("musiq:quality", VIEW, extent)}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over frames of a hundredth of MUSIQ's score."""
        frames = np.asarray(features.generated["quality"], np.float64)[:, 0] / LARGEST
        return Score(
            values={self.card.name: float(frames.mean())}, curve={"frame": frames.tolist()}
        )
