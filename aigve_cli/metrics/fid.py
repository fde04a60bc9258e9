"""FID as published: Fréchet distance of 2015-Inception features, set against set."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, Historical, Option, OptionValue, Request, Value
from aigve_cli.metrics import _inception
from aigve_cli.metrics._frechet import EXACT_DEVIATION, FrechetMetric

OUTPUTS = {2048: "features", 768: "features768", 192: "features192", 64: "features64"}


class Fid(FrechetMetric):
    """All frames of all generated videos against all frames of all reference videos."""

    card = Card(
        name="fid",
        title="Fréchet inception distance of frames",
        category="distribution_based",
        values=(Value("fid", "lower", (0.0, None)),),
        version=1,
        needs=("reference",),
        options=(
            _inception.CONVENTION,
            Option(
                "dims",
                2048,
                "Features of this layer; all but 2048 are other metrics than the published one.",
                choices=tuple(OUTPUTS),
            ),
        ),
        min_videos=50,
        historical=Historical(
            file="fid_results.json",
            score_key="FID_Score",
            mean_key="FID_Mean_Score",
            generated_key="Generated video_name",
            reference_key="Real video_name",
        ),
        cite="Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule, arXiv:1706.08500",
        source="torch-fidelity 5e211a9, pytorch-fid b9c1811, clean-fid e88c4d6 or "
        "torchmetrics dab0333, by option",
        deviations=(EXACT_DEVIATION, _inception.SETS_DEVIATION),
        licence=_inception.LICENCE,
    )

    unit = "frames"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Features of both sides' frames."""
        output = OUTPUTS[int(options["dims"])]
        return {"frames": _inception.inception_request(options, extent, output=output, role="each")}
