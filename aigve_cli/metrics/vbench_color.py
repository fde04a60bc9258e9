"""VBench's color: is the object in its color?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aigve_cli.contract import Card, Sample, Score, Value
from aigve_cli.metrics import _vbench, _vbench_detections as _detections


class Color(_detections.Detected):
    """A score a video, the share of its frames; those are the curve."""

    field = "color"
    wanted_words = f"color of {', '.join(_detections.COLOURS)}"
    reads = ("label", "caption")
    card = Card(
        name="vbench-color",
        title="VBench color: of frames with the object in a color, those in its own, from a file",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-color", "higher", (0.0, 1.0)),),
        version=1,
        needs=("prompt",),
        options=(_detections.detections_option(),),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            *_detections.DEVIATIONS,
            "A video of which no frame shows the object in any color is left out, as in VBench.",
        ),
        licence="no weights",
    )

    def understands(self, wanted: Any) -> bool:
        """A color that counts as one."""
        return wanted in _detections.COLOURS

    def frames_to_score(
        self, frames: Sequence[_detections.Frame], wanted: Any, sample: Sample
    ) -> Score:
        """Frames where a caption of the object has the color, of those where it has any."""
        label = prompt_to_object(sample.prompt or "", str(wanted))
        captions = [
            [found["caption"] for found in frame.get("objects", ()) if found["label"] == label]
            for frame in frames
        ]
        any_color = sum(
            any(color in text for text in texts for color in _detections.COLOURS)
            for texts in captions
        )
        own = sum(any(wanted in text for text in texts) for texts in captions)
        if not any_color:
            # VBench leaves the video out of its mean.
            return Score(reason=f"in no frame a '{label}' in any color", by_choice=True)
        return Score(
            values={self.card.name: own / any_color},
            details={"object": label, "frames in a color": any_color, "in its own": own},
        )


def prompt_to_object(prompt: str, color: str) -> str:
    """The object of a prompt such as a red car, in VBench's order of cuts."""
    return prompt.replace("a ", "").replace("an ", "").replace(color, "").strip()
