"""FVD as published: Fréchet distance of I3D logits of clips, set against set."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, Historical, OptionValue, Request, Value
from aigve_cli.metrics import _clips, _i3d
from aigve_cli.metrics._frechet import EXACT_DEVIATION, FrechetMetric
from aigve_cli.metrics._sets import Terms


class Fvd(FrechetMetric):
    """Clips of all generated videos against those of all reference videos."""

    card = Card(
        name="fvd",
        title="Fréchet video distance of clips, I3D",
        category="distribution_based",
        values=(Value("fvd", "lower", (0.0, None)),),
        version=1,
        needs=("reference",),
        options=_i3d.OPTIONS,
        min_videos=256,
        historical=Historical(
            file="fvd_results.json",
            score_key="FVD_Score",
            mean_key="FVD_Mean_Score",
            generated_key="Generated video_name",
            reference_key="Real video_name",
        ),
        cite="Unterthiner et al. 2018, Towards Accurate Generative Models of Video, "
        "arXiv:1812.01717",
        source="stylegan-v 3fecd69, google-research 0090728, VideoGPT 733d2b1 or cd-fvd a1e037a, "
        "by option",
        deviations=(
            EXACT_DEVIATION,
            "convention=stylegan-v: the resize is bilinear without antialiasing; the published "
            "TorchScript does it inside, where it cannot be read.",
            _clips.SETS_DEVIATION,
        ),
        licence=_i3d.LICENCE,
    )

    unit = "clips"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """I3D logits of both sides' clips."""
        return {"clips": _i3d.i3d_request(self.card.name, options, extent)}

    def terms(self, options: Mapping[str, OptionValue]) -> Terms:
        """The convention's divisor, and the protocol's number of videos."""
        return _i3d.i3d_terms(options)
