"""VBench's spatial relationship: are two objects where they should be?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from aigve_cli.contract import Card, Sample, Score, Value
from aigve_cli.metrics import _vbench, _vbench_detections as _detections

LEAST_OVERLAP = 0.1
"""Of two boxes (intersection over union) from which on it costs."""


class SpatialRelationship(_detections.Detected):
    """A score a video, the share of its frames; those are the curve."""

    field = "spatial_relationship"
    wanted_words = (
        "object with object_a, object_b and relationship: on the left of, on the right of, on the "
        "top of, on the bottom of"
    )
    reads = ("label", "box")
    card = Card(
        name="vbench-spatial-relationship",
        title="VBench spatial relationship: two objects beside or above one another, from a file",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-spatial-relationship", "higher", (0.0, 1.0)),),
        version=1,
        options=(_detections.detections_option(),),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            *_detections.DEVIATIONS,
            "Which object is on which side is not checked, and two objects of one label count as a "
            "pair: both as in VBench.",
        ),
        licence="no weights",
    )

    def understands(self, wanted: Any) -> bool:
        """Two labels and a relation that is known."""
        names = ("object_a", "object_b", "relationship")
        texts = isinstance(wanted, Mapping) and all(isinstance(wanted.get(n), str) for n in names)
        return texts and _axis(wanted["relationship"]) is not None

    def frames_to_score(
        self, frames: Sequence[_detections.Frame], wanted: Any, sample: Sample
    ) -> Score:
        """The mean over frames of the best pair of boxes."""
        pair = {wanted["object_a"], wanted["object_b"]}
        hits = []
        for frame in frames:
            boxes = [f["box"] for f in frame.get("objects", ()) if f["label"] in pair]
            relation = wanted["relationship"]
            scores = [boxes_to_score(relation, *two) for two in itertools.combinations(boxes, 2)]
            hits.append(max(scores, default=0.0))
        return self.share(hits)


def boxes_to_score(relation: str, first: Sequence[float], second: Sequence[float]) -> float:
    """How well two boxes, left, top, right, bottom, are in a relation: 0 to 1.

    1 where they are further apart along its axis than across, less where they overlap. Which of
    them is on which side does not matter, in VBench either.
    """
    across = (second[0] + second[2] - first[0] - first[2]) / 2
    down = (second[1] + second[3] - first[1] - first[3]) / 2
    along, other = abs(across), abs(down)
    if _axis(relation) == "y":
        along, other = other, along
    if along <= other:
        return 0.0
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    common = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    overlap = common / (sum(areas) - common) if common else 0.0
    return 1.0 if overlap < LEAST_OVERLAP else LEAST_OVERLAP / overlap


def _axis(relation: str) -> str | None:
    """The axis of a relation, which may be a part of VBench's words, such as left of."""
    if relation and (relation in "on the right of" or relation in "on the left of"):
        return "x"
    if relation and (relation in "on the bottom of" or relation in "on the top of"):
        return "y"
    return None
