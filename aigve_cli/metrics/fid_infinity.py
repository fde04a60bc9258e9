"""FID∞: the FID that unlimited generated videos would have."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, OptionValue, Request, Value
from aigve_cli.metrics import _inception, _infinity


class FidInfinity(_infinity.FrechetInfinityMetric):
    """FIDs of growing subsets of the generated videos, extrapolated."""

    card = Card(
        name="fid-infinity",
        title="Fréchet inception distance, extrapolated to unlimited videos",
        category="distribution_based",
        values=(Value("fid-infinity", "lower"),),
        version=1,
        needs=("reference",),
        options=(_inception.CONVENTION, *_infinity.OPTIONS),
        only_by_name=True,
        min_videos=50,
        cite=_infinity.CITE,
        source=_infinity.SOURCE,
        deviations=(*_infinity.DEVIATIONS, _inception.SETS_DEVIATION),
        licence=_inception.LICENCE,
    )

    unit = "frames"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Features of both sides' frames: the same request as fid's."""
        return {
            "frames": _inception.inception_request(options, extent, output="features", role="each")
        }
