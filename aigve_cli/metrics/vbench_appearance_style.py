"""VBench's appearance style: how near a video's frames are to the name of a style, by CLIP."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    Option,
    OptionValue,
    Prompt,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Text,
    Value,
)
from aigve_cli.metrics import _similarity, _vbench

FIELD = "appearance_style"


class AppearanceStyle(_vbench.Dimension):
    """A score a video, the mean over its frames; those are the curve."""

    card = Card(
        name="vbench-appearance-style",
        title="VBench appearance style: cosine of frames and a style's name in CLIP's space",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(Value("vbench-appearance-style", "higher", (-1.0, 1.0), "cosine"),),
        version=1,
        options=(
            Option(
                "style",
                "",
                "The style that all videos should have, such as Van Gogh style; empty: each its "
                f"own, '{FIELD}' in the annotations or in VBench's suite.",
            ),
        ),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            _vbench.OF_FRAMES,
            _vbench.FLOAT16,
        ),
        licence="MIT (weights of clip-vit-b-32)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """The middle of every frame, smoothed as Pillow does, and the style."""
        style = str(options["style"]).strip()
        text = Text((style,)) if style else Prompt(FIELD)
        output = "clip-vit-b-32:image"
        return {
            "image": _vbench.every_frame(output, _vbench.CLIP_PIL_VIEW, extent),
            "text": Request("clip-vit-b-32:text", (text,)),
        }

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean of the cosines of frames and style."""
        cosines = _similarity.cosines(features.generated["image"], features.generated["text"])
        return Score(
            values={self.card.name: float(cosines.mean())},
            curve={"frame": cosines.tolist()},
            weight=float(len(cosines)),
        )
