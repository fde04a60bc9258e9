"""VBench's motion smoothness: how well a network guesses each second frame from its neighbours."""

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
from aigve_cli.lazy import np
from aigve_cli.metrics import _vbench
from aigve_cli.video.sampling import Windows, within


class MotionSmoothness(_vbench.Dimension):
    """A score a video; the mean error of each guessed frame is the curve."""

    card = Card(
        name="vbench-motion-smoothness",
        title="VBench motion smoothness: error of frames interpolated by AMT-S, from 1 down",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-motion-smoothness", "higher", (0.0, 1.0)),),
        version=1,
        options=(
            _vbench.mode_option(
                "interpolated frames are not cut to whole numbers, and a video of one frame is "
                "interpolated from itself"
            ),
        ),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            "parity: an interpolated frame is cut to whole numbers, which makes it darker by half "
            "a step; fixed: it is compared as it is.",
            "parity: a video of one frame has no score (VBench stops there); fixed: it is "
            "interpolated from itself. Of two frames none can be interpolated.",
            "The last frame of a video with an even number of frames is not looked at.",
            "AMT's weights may not be used commercially (CC BY-NC 4.0).",
        ),
        licence="CC-BY-NC-4.0 (weights of amt-s)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Every second frame between its neighbours, at native size."""
        fixed = _vbench.is_fixed(options)
        triplets = within(extent, Windows(3, step=2, still=fixed))
        output = "amt-s:error_unrounded" if fixed else "amt-s:error"
        return {"error": Request(output, (Frames((), triplets),))}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """(255 - the mean error) / 255."""
        errors = np.asarray(features.generated["error"], np.float64)[:, 0]
        still = _vbench.is_still(features.units["error"])
        return Score(
            values={self.card.name: (255 - float(errors.mean())) / 255},
            curve={"interpolated frame": errors.tolist()},
            notes=(_vbench.ONE_FRAME,) if still else (),
        )
