"""VBench's background consistency: how much a video's frames are alike, by CLIP."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, OptionValue, Request, Value
from aigve_cli.metrics import _vbench


class BackgroundConsistency(_vbench.Consistency):
    """A score a video; the cosines of each frame are the curves."""

    card = Card(
        name="vbench-background-consistency",
        title="VBench background consistency: cosines of frames in CLIP's space",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-background-consistency", "higher", (-1.0, 1.0), "cosine"),),
        version=1,
        options=(
            _vbench.mode_option(
                "cosines below 0 count as they are, each video counts the same, a video of one "
                "frame has the score 1, and resized pixels are clamped to 0..255"
            ),
        ),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            "parity: a run's mean is over the frames of all videos; fixed: over videos.",
            "parity: a cosine below 0 counts as 0.",
            _vbench.OVERSHOOT,
            _vbench.ONE_FRAME_STOPS,
            "The middle of the whole frame is compared: no background is cut out. A frozen video "
            "has the best score, 1.",
            _vbench.FLOAT16,
        ),
        licence="MIT (weights of clip-vit-b-32)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """The middle of every frame."""
        view = _vbench.clip_view(options)
        return {"image": _vbench.every_frame("clip-vit-b-32:image", view, extent)}
