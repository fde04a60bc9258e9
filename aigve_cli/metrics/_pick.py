"""What ``pickscore`` and ``pickscore-win`` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aigve_cli.contract import Extent, OptionValue, Request, Role
from aigve_cli.metrics import _similarity

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats

OPTIONS = (
    _similarity.model_option("yuvalkirstain/PickScore_v1", "Another model of CLIP's kind"),
    _similarity.PREPROCESS,
)
CITE = (
    "Kirstain et al. 2023, Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image "
    "Generation, arXiv:2305.01569"
)
SOURCE = "yuvalkirstain/PickScore f79607f, frame by frame; transformers CLIPModel"
LICENCE = "none stated, code MIT (weights of pickscore); MIT (its image processor and tokenizer)"


def requests(
    options: Mapping[str, OptionValue], extent: Extent, role: Role
) -> Mapping[str, Request]:
    """Every frame of the videos of a role, and the prompt."""
    return {
        "image": _similarity.image_request("pickscore", options, extent, role=role),
        **{
            output: _similarity.prompt_request("pickscore", options, output)
            for output in ("text", "tokens", "logit")
        },
    }


def frames_to_scores(
    images: Floats, texts: Mapping[str, Floats]
) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """PickScores of frames [U], scaled as published, and the cosines behind them."""
    cosines = _similarity.cosines(images, texts["text"])
    factor, bias = (float(number) for number in texts["logit"][0])
    return factor * cosines + bias, cosines
