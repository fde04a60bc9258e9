"""VBench's temporal flickering: how little neighbouring frames differ, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
    OptionValue,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.metrics import _vbench
from aigve_cli.video.sampling import Windows, within


class TemporalFlickering(_vbench.Dimension):
    """A score a video; the mean difference of each pair of frames is the curve."""

    card = Card(
        name="vbench-temporal-flickering",
        title="VBench temporal flickering: mean difference of neighbouring frames, from 1 down",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-temporal-flickering", "higher", (0.0, 1.0)),),
        version=1,
        options=(_vbench.mode_option("a video of one frame has the score 1"),),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            "It means something for videos whose scene stands still: VBench's suite leaves the "
            "others out beforehand. Movement counts as flickering.",
            "parity: a video of one frame has no score (VBench's is not a number, and so is then "
            "the mean); fixed: it stands still.",
            "A video that cannot be read has its reason; VBench leaves it out in silence.",
        ),
        licence="no weights",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Every pair of neighbouring frames at native size."""
        pairs = within(extent, Windows(2, still=_vbench.is_fixed(options)))
        return {"difference": Request("frame-difference:mean", (Frames((), pairs),))}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """(255 - the mean difference) / 255, summed in float32 as VBench does."""
        differences = features.generated["difference"][:, 0]
        still = _vbench.is_still(features.units["difference"])
        return Score(
            values={self.card.name: (255.0 - differences.mean().item()) / 255.0},
            curve={"pair": differences.tolist()},
            notes=(_vbench.ONE_FRAME,) if still else (),
        )
