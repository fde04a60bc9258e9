"""VBench's subject consistency: how much a video's frames are alike, by DINO."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, OptionValue, Request, Value
from aigve_cli.metrics import _vbench


class SubjectConsistency(_vbench.Consistency):
    """A score a video; the cosines of each frame are the curves."""

    card = Card(
        name="vbench-subject-consistency",
        title="VBench subject consistency: cosines of frames in DINO's space",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-subject-consistency", "higher", (-1.0, 1.0), "cosine"),),
        version=1,
        options=(
            _vbench.mode_option(
                "cosines below 0 count as they are, each video counts the same, and a video of one "
                "frame has the score 1"
            ),
        ),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            "parity: a run's mean is over the frames of all videos, as VBench has it on one GPU "
            "(on several it is over videos); fixed: over videos.",
            "parity: a cosine below 0 counts as 0.",
            _vbench.ONE_FRAME_STOPS,
            "The whole frame is compared: no subject is cut out. A frozen video has the best "
            "score, 1.",
        ),
        licence="Apache-2.0 (weights of dino-vit-b-16)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Every frame whole, its shorter side 224 pixels."""
        output = "dino-vit-b-16:class_token"
        return {"image": _vbench.every_frame(output, _vbench.DINO_VIEW, extent)}
