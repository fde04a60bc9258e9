"""FVD∞: the FVD that unlimited generated videos would have."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Card, Extent, OptionValue, Request, Value
from aigve_cli.metrics import _clips, _i3d, _infinity
from aigve_cli.metrics._sets import Terms


class FvdInfinity(_infinity.FrechetInfinityMetric):
    """FVDs of growing subsets of the generated videos, extrapolated."""

    card = Card(
        name="fvd-infinity",
        title="Fréchet video distance, extrapolated to unlimited videos",
        category="distribution_based",
        values=(Value("fvd-infinity", "lower"),),
        version=1,
        needs=("reference",),
        options=(*_i3d.OPTIONS, *_infinity.OPTIONS),
        only_by_name=True,
        min_videos=256,
        cite=_infinity.CITE,
        source=_infinity.SOURCE,
        deviations=(*_infinity.DEVIATIONS, _clips.SETS_DEVIATION),
        licence=_i3d.LICENCE,
    )

    unit = "clips"

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """I3D logits of both sides' clips: the same request as fvd's."""
        return {"clips": _i3d.i3d_request(self.card.name, options, extent)}

    def terms(self, options: Mapping[str, OptionValue]) -> Terms:
        """The convention and the protocol's number of videos."""
        return _i3d.i3d_terms(options)
