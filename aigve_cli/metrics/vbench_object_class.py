"""VBench's object class: in how many frames was the object found?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aigve_cli.contract import Card, Sample, Score, Value
from aigve_cli.metrics import _vbench, _vbench_detections as _detections


class ObjectClass(_detections.Detected):
    """A score a video, the share of its frames; those are the curve."""

    field = "object_class"
    card = Card(
        name="vbench-object-class",
        title="VBench object class: share of frames with the object, by detections of a file",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-object-class", "higher", (0.0, 1.0)),),
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
        """The share of frames with an object of this label."""
        return self.share([wanted in _detections.labels(frame) for frame in frames])
