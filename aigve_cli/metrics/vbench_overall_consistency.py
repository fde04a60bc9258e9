"""VBench's overall consistency: how near a video and its prompt are, by ViCLIP."""

from __future__ import annotations

from aigve_cli.contract import Card, Value
from aigve_cli.metrics import _vbench
from aigve_cli.metrics._vbench_texts import DEVIATIONS, VideoAndPrompt


class OverallConsistency(VideoAndPrompt):
    """A score a video."""

    card = Card(
        name="vbench-overall-consistency",
        title="VBench overall consistency: cosine of a video and its prompt in ViCLIP's space",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-overall-consistency", "higher", (-1.0, 1.0), "cosine"),),
        version=1,
        needs=("prompt",),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=DEVIATIONS,
        licence="Apache-2.0 (weights of viclip; trained on InternVid, CC-BY-NC-SA-4.0)",
    )
