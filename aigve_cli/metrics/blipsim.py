"""BLIPSim: agreement of a video's frames with its prompt, by BLIP."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    Option,
    OptionValue,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.lazy import np
from aigve_cli.metrics import _similarity

ALL_TOKENS = 512
"""As many as the published models read."""
HEADS = {
    "itc": Value("blipsim", "higher", (-1.0, 1.0), "cosine"),
    "itm": Value("blipsim", "higher", (0.0, 1.0), "probability of a match"),
}


class BlipSim(_similarity.PromptMetric):
    """A score a video, the mean over its frames; theirs are the curve."""

    card = Card(
        name="blipsim",
        title="BLIPSim: a video's frames and its prompt by BLIP",
        category="vision_language_similarity",
        values=(HEADS["itc"],),
        version=1,
        needs=("prompt",),
        options=(
            _similarity.model_option(
                "Salesforce/blip-itm-base-coco", "Another BLIP model for image-text retrieval"
            ),
            Option(
                "head",
                "itc",
                "itc: cosine of picture and text. itm: probability that they match, from a network "
                "that reads both together.",
                choices=tuple(HEADS),
            ),
            Option(
                "max-tokens",
                ALL_TOKENS,
                "A longer prompt is cut there; BLIP's own code reads 35, AIGVE_Tool 77.",
                minimum=3,
            ),
            _similarity.PREPROCESS,
        ),
        cite="Li et al. 2022, BLIP: Bootstrapping Language-Image Pre-training for Unified "
        "Vision-Language Understanding and Generation, arXiv:2201.12086",
        source="transformers BlipForImageTextRetrieval; ShaneXiangH/AIGVE_Tool 8916406",
        deviations=(
            "Padding of the text is masked, where AIGVE_Tool lets the network read it.",
            "For itm the first token stays as in transformers; LAVIS puts [ENC] in its place.",
        ),
        licence="BSD-3-Clause (weights of blip-itm)",
    )

    def values(self, options: Mapping[str, OptionValue]) -> tuple[Value, ...]:
        """With the range and the unit of the chosen head."""
        return (HEADS[str(options["head"])],)

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Every frame and the prompt: apart, or together."""
        most = int(options["max-tokens"])
        variant = f"tokens={most}" if most < ALL_TOKENS else ""
        tokens = _similarity.prompt_request("blip-itm", options, "tokens", variant)
        if options["head"] == "itm":
            itm = _similarity.image_request(
                "blip-itm", options, extent, output="itm", with_prompt=True, variant=variant
            )
            return {"itm": itm, "tokens": tokens}
        return {
            "image": _similarity.image_request("blip-itm", options, extent, variant=variant),
            "text": _similarity.prompt_request("blip-itm", options, variant=variant),
            "tokens": tokens,
        }

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over frames."""
        rows = features.generated
        if options["head"] == "itm":
            frames = np.asarray(rows["itm"], np.float64)[:, 0]
        else:
            frames = _similarity.cosines(rows["image"], rows["text"])
        details, notes = _similarity.cut_facts(rows["tokens"])
        return Score(
            values={"blipsim": float(frames.mean())},
            curve={"frame": frames.tolist()},
            details=details,
            notes=notes,
        )
