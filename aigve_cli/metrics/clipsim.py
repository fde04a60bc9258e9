"""CLIPSim: agreement of a video's frames with its prompt, by CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats

SCALES = {
    "raw": Value("clipsim", "higher", (-1.0, 1.0), "cosine"),
    "x100": Value("clipsim", "higher", (-100.0, 100.0), "100 x cosine"),
    "clamp100": Value("clipsim", "higher", (0.0, 100.0), "100 x cosine, below 0 as 0"),
    "2.5": Value("clipsim", "higher", (0.0, 2.5), "2.5 x cosine, below 0 as 0"),
    "logit": Value("clipsim", "higher", unit="the model's logit"),
}


class ClipSim(_similarity.PromptMetric):
    """A score a video, the mean over its frames; theirs are the curve."""

    card = Card(
        name="clipsim",
        title="CLIPSim: cosine of a video's frames and its prompt in CLIP's space",
        category="vision_language_similarity",
        values=(SCALES["raw"],),
        version=1,
        needs=("prompt",),
        options=(
            _similarity.model_option(
                "openai/clip-vit-base-patch32", "Another CLIP or SigLIP model"
            ),
            Option(
                "scale",
                "raw",
                "raw: the cosine. x100, or clamp100 (torchmetrics' CLIPScore), 2.5 (Hessel et al.; "
                "both take what is below 0 as 0, frame by frame), logit (the model's own factor).",
                choices=tuple(SCALES),
            ),
            _similarity.PREPROCESS,
        ),
        cite="Wu et al. 2021, GODIVA: Generating Open-DomaIn Videos from nAtural Descriptions, "
        "arXiv:2104.14806",
        source="transformers CLIPModel; ShaneXiangH/AIGVE_Tool 8916406 with preprocess=aigve; "
        "evalcrafter/EvalCrafter 1275bda with preprocess=evalcrafter",
        deviations=(
            "Frames keep their aspect: shorter side to 224 and a centre crop, as the model was "
            "trained, where AIGVE_Tool and EvalCrafter squash them (and the latter normalises "
            "nothing); preprocess=aigve|evalcrafter gives their numbers.",
        ),
        licence="MIT (weights of clip)",
    )

    def values(self, options: Mapping[str, OptionValue]) -> tuple[Value, ...]:
        """With the range and the unit of the chosen scale."""
        return (SCALES[str(options["scale"])],)

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Every frame, and the prompt."""
        return {
            "image": _similarity.image_request("clip", options, extent),
            **{
                output: _similarity.prompt_request("clip", options, output)
                for output in ("text", "tokens", "logit")
            },
        }

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over frames."""
        rows = features.generated
        cosines = _similarity.cosines(rows["image"], rows["text"])
        frames = _scaled(cosines, str(options["scale"]), rows["logit"])
        details, notes = _similarity.cut_facts(rows["tokens"])
        return Score(
            values={"clipsim": float(frames.mean())},
            curve={"frame": frames.tolist()},
            details=details,
            notes=notes,
        )


def _scaled(cosines: NDArray[numpy.float64], scale: str, logit: Floats) -> NDArray[numpy.float64]:
    match scale:
        case "x100":
            return 100 * cosines
        case "clamp100":
            return 100 * np.maximum(cosines, 0)
        case "2.5":
            return 2.5 * np.maximum(cosines, 0)
        case "logit":
            factor, bias = (float(number) for number in logit[0])
            return factor * cosines + bias
    return cosines
