"""CLIPTemp: how steady a video is in meaning, frame after frame, by CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from aigve_cli.contract import (
    Card,
    Extent,
    Metric,
    OptionValue,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.metrics import _similarity
from aigve_cli.statistics.cosines import directions_to_cosines, rows_to_directions
from aigve_cli.statistics.summaries import scores_to_mean

STILL = 1 - 1e-9
"""From here on all frames of a video are the same to the network."""
FROZEN = "all frames are the same to the network: a frozen video?"


class ClipTemp(Metric):
    """A score a video, the mean over neighbouring frames; their cosines are the curve."""

    card = Card(
        name="cliptemp",
        title="CLIPTemp: cosine of neighbouring frames in CLIP's space",
        category="vision_language_similarity",
        values=(Value("cliptemp", "higher", (-1.0, 1.0), "cosine"),),
        version=1,
        options=(
            _similarity.model_option(
                "openai/clip-vit-base-patch32", "Another CLIP or SigLIP model"
            ),
            _similarity.PREPROCESS,
        ),
        cite="Esser et al. 2023, Structure and Content-Guided Video Synthesis with Diffusion "
        "Models, arXiv:2302.03011",
        source="transformers CLIPModel; ShaneXiangH/AIGVE_Tool 8916406 with preprocess=aigve; "
        "evalcrafter/EvalCrafter 1275bda with preprocess=evalcrafter",
        deviations=(
            "A frozen video has the best score, 1: read it beside a metric of motion.",
            "Frames keep their aspect, as for clipsim.",
        ),
        licence="MIT (weights of clip)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Every frame: with frames left out, neighbours would differ more."""
        return {"image": _similarity.image_request("clip", options, extent)}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over pairs of neighbouring frames."""
        frames = rows_to_directions(features.generated["image"])
        if len(frames) < 2:
            return Score.missing("one frame: there are no neighbours to compare")
        pairs = directions_to_cosines(frames[:-1], frames[1:])
        mean = float(pairs.mean())
        still = mean > STILL
        return Score(
            values={"cliptemp": mean},
            curve={"pair": pairs.tolist()},
            notes=(FROZEN,) if still else (),
        )

    def summarise(self, scores: Sequence[Score]) -> Score:
        """The mean over videos, and how many of them may be frozen."""
        mean = scores_to_mean(scores)
        frozen = sum(FROZEN in score.notes for score in scores)
        if not frozen:
            return mean
        notes = [note for note in mean.notes if note != FROZEN]
        said = f"in {frozen} of {len(scores)} videos all frames are the same to the network"
        return replace(mean, notes=(*notes, said))
