"""What the metrics of pictures and prompts in one space share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aigve_cli.contract import (
    AsPublished,
    Extent,
    Frames,
    Metric,
    Option,
    OptionValue,
    Prompt,
    Request,
    Role,
    Score,
)
from aigve_cli.statistics.cosines import directions_to_cosines, rows_to_directions
from aigve_cli.statistics.summaries import scores_to_mean
from aigve_cli.video.sampling import FirstFrames, within

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats

PREPROCESS = Option(
    "preprocess",
    "standard",
    "standard: as the model's own image processor. To reproduce old numbers: aigve (squashed to "
    "224 x 224 by OpenCV first) or evalcrafter (squashed, and not normalised at all).",
    choices=("standard", "aigve", "evalcrafter"),
)
_CUT, _WAS_CUT = "prompt tokens", "the prompt was cut"


def model_option(default: str, kind: str) -> Option:
    """The option that names another model.

    Args:
        default: Its id on the Hugging Face Hub.
        kind: What else may be named, for people.
    """
    words = f"{kind}: an id on the Hugging Face Hub, or a folder."
    return Option("model", default, words, names="model")


def image_request(
    network: str,
    options: Mapping[str, OptionValue],
    extent: Extent,
    *,
    output: str = "image",
    with_prompt: bool = False,
    role: Role = "generated",
    variant: str = "",
) -> Request:
    """What a network gives of every frame, alone or together with the prompt."""
    view = (AsPublished(str(options["preprocess"])),)
    frames = Frames(view, within(extent, FirstFrames(None)), role)
    sources = (frames, Prompt()) if with_prompt else (frames,)
    return Request(f"{network}:{output}", sources, variant, weights=str(options["model"]))


def prompt_request(
    network: str, options: Mapping[str, OptionValue], output: str = "text", variant: str = ""
) -> Request:
    """What a network gives of the prompt."""
    return Request(f"{network}:{output}", (Prompt(),), variant, weights=str(options["model"]))


def cosines(images: Floats, text: Floats) -> NDArray[numpy.float64]:
    """Cosine of each image [U, D] with one text [1, D]: float64 [U]."""
    return directions_to_cosines(rows_to_directions(images), rows_to_directions(text))


def cut_facts(tokens: Floats) -> tuple[dict[str, object], tuple[str, ...]]:
    """The details and the notes of a prompt that is longer than the model reads.

    Args:
        tokens: float32 [1, 2], how many tokens it has and how many are read at most.
    """
    has, most = (int(number) for number in tokens[0])
    if has <= most:
        return {}, ()
    note = f"{_WAS_CUT}: it has {has} tokens, and the model reads {most}"
    return {_CUT: has}, (note,)


class PromptMetric(Metric):
    """Base of the metrics that compare a video with its prompt."""

    def summarise(self, scores: Sequence[Score]) -> Score:
        """The mean over videos, and how many prompts were cut."""
        mean = scores_to_mean(scores)
        cut = sum(_CUT in score.details for score in scores)
        notes = tuple(note for note in mean.notes if not note.startswith(_WAS_CUT))
        if cut:
            notes += (f"{cut} of {len(scores)} prompts were cut to what the model reads",)
        return replace(mean, notes=notes)
