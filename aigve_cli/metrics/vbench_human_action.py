"""VBench's human action: does a video show the action that its prompt names?"""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    CentreCrop,
    Extent,
    Frames,
    Normalise,
    OptionValue,
    Request,
    ResizeShorter,
    Sample,
    SampleFeatures,
    Scale,
    Score,
    Value,
    View,
)
from aigve_cli.lazy import np
from aigve_cli.metrics import _vbench
from aigve_cli.video.sampling import Middles, within

FRAMES = 16
LIKELIEST, SURE = 5, 0.85
"""So many of the likeliest actions count, as far as they are so sure."""
VIEW: View = (
    ResizeShorter(256, "cv2-linear"),
    CentreCrop(224, 224, "half-even"),
    Scale(divisor=255.0),
    Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)


class HumanAction(_vbench.Dimension):
    """1 a video that shows its action, else 0; what was seen instead is in the details."""

    card = Card(
        name="vbench-human-action",
        title="VBench human action: share of videos that show their action, by UMT",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-human-action", "higher", (0.0, 1.0)),),
        version=1,
        needs=("prompt",),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            "The action is read from the prompt, 'A person is ACTION'; VBench reads it from the "
            "file's name, which is the prompt in its suite.",
            "A prompt that names none of Kinetics' 400 actions is left out; VBench counts it as "
            "not shown.",
            "UMT's published weights were not at hand: the network is proven on a tiny one of its "
            "layout.",
        ),
        licence="MIT (weights of umt-large)",
    )

    def left_out(self, sample: Sample, options: Mapping[str, OptionValue]) -> str | None:
        """Also those whose prompt names no action."""
        if why := super().left_out(sample, options):
            return why
        known = sample.prompt is None or prompt_to_action(sample.prompt) in action_names()
        return None if known else "its prompt names none of the actions of Kinetics-400"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """The middles of 16 parts together."""
        frames = Frames(VIEW, within(extent, Middles(FRAMES)))
        return {"logits": Request("umt-large:logits", (frames,))}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Whether the action is among the likeliest ones, and sure enough."""
        action, names = prompt_to_action(sample.prompt or ""), action_names()
        logits = np.asarray(features.generated["logits"], np.float64)[0]
        # Rounded as VBench does before it compares.
        sureness = np.round(1 / (1 + np.exp(-logits)), 4)
        likeliest = np.argsort(-logits, kind="stable")[:LIKELIEST]
        seen = {names[i]: float(sureness[i]) for i in likeliest}
        shown = seen.get(action, 0.0) >= SURE
        return Score(
            values={self.card.name: float(shown)}, details={"action": action, "seen": seen}
        )


def action_names() -> list[str]:
    """The 400 actions in the order of UMT's outputs, in lower case."""
    from aigve_models._kinetics400 import ACTIONS

    return [name.lower() for name in ACTIONS]


def prompt_to_action(prompt: str) -> str:
    """The action of a prompt, as VBench cuts it out of the file's name."""
    return prompt.lower().split("-")[0].split("person is ")[-1].split("_")[0].strip()
