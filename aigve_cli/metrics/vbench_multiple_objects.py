"""VBench's multiple objects: in how many frames were both objects found?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aigve_cli.contract import Card, Sample, Score, Value
from aigve_cli.metrics import _vbench, _vbench_detections as _detections


class MultipleObjects(_detections.Detected):
    """A score a video, the share of its frames; those are the curve."""

    field = "multiple_objects"
    wanted_words = "'A and B'"
    card = Card(
        name="vbench-multiple-objects",
        title="VBench multiple objects: share of frames with both objects, by detections of a file",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-multiple-objects", "higher", (0.0, 1.0)),),
        version=1,
        options=(_detections.detections_option(),),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(*_detections.DEVIATIONS,),
        licence="no weights",
    )

    def understands(self, wanted: Any) -> bool:
        """Two labels with an and between."""
        return isinstance(wanted, str) and len(wanted.split(" and ")) == 2

    def frames_to_score(
        self, frames: Sequence[_detections.Frame], wanted: Any, sample: Sample
    ) -> Score:
        """The share of frames with objects of both labels, as in bird and cat."""
        both = {label.strip() for label in wanted.split(" and ")}
        return self.share([both <= _detections.labels(frame) for frame in frames])
