"""VBench's scene: how many frames are described as the scene?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aigve_cli.contract import Card, Sample, Score, Value
from aigve_cli.metrics import _vbench, _vbench_detections as _detections


class Scene(_detections.Detected):
    """A score a video, the share of its frames; those are the curve."""

    field = "scene"
    reads = ()
    reads_of_frame = "caption"
    card = Card(
        name="vbench-scene",
        title="VBench scene: share of frames whose caption, of a file, names the scene",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-scene", "higher", (0.0, 1.0)),),
        version=1,
        options=(_detections.detections_option(),),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(*_detections.DEVIATIONS,),
        licence="no weights",
    )

    def frames_to_score(
        self, frames: Sequence[_detections.Frame], wanted: Any, sample: Sample
    ) -> Score:
        """The share of frames whose caption has the scene's words, as words or parts of words."""
        words = wanted.split(" ")
        captions = [frame["caption"] for frame in frames]
        return self.share([all(word in caption for word in words) for caption in captions])
