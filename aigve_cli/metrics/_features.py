"""Features by option, for statistics that are not tied to one network: frames or clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aigve_cli.contract import Extent, FeatureSet, Option, OptionValue, Request, Score
from aigve_cli.errors import UsageError
from aigve_cli.metrics import _clips, _i3d, _inception
from aigve_cli.metrics._sets import (
    RowsOf,
    SetMetric,
    Terms,
    chosen_rows_note,
    counts,
    sizes_of,
    too_few,
)
from aigve_cli.statistics.intervals import few_videos
from aigve_cli.statistics.kernel import KernelRows, videos_to_kernel_rows

STANDARD = "standard"
LICENCE = f"{_inception.LICENCE}; or {_i3d.LICENCE}"
_UNITS = {"inception": "frames", "i3d": "clips"}
_CONVENTIONS = {"inception": tuple(_inception.RESAMPLERS), "i3d": tuple(_i3d.CONVENTIONS)}
OPTIONS = (
    Option(
        "features",
        "inception",
        "2048-d features of frames (inception), or 400-d logits of clips (i3d).",
        choices=tuple(_UNITS),
    ),
    Option(
        "convention",
        STANDARD,
        "Preprocessing, as fid's for inception and fvd's for i3d; standard is their default.",
        choices=(STANDARD, *_CONVENTIONS["inception"], *_CONVENTIONS["i3d"]),
    ),
    *_clips.OPTIONS,
)


class FeatureMetric(SetMetric):
    """A statistic of rows of any network: a subclass has a card and ``measure``."""

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """The rows of both sides: the same request as fid's or fvd's.

        Raises:
            UsageError: The convention is not one of the network.
        """
        name, network = self.card.name, str(options["features"])
        convention = _convention(network, str(options["convention"]), name)
        chosen = {**options, "convention": convention}
        if network == "i3d":
            return {"rows": _i3d.i3d_request(name, chosen, extent)}
        request = _inception.inception_request(chosen, extent, output="features", role="each")
        return {"rows": request}

    def terms(self, options: Mapping[str, OptionValue]) -> Terms:
        """The protocol's number of videos, and network and convention behind every number."""
        network = str(options["features"])
        name = _convention(network, str(options["convention"]), self.card.name)
        note = f"{network} features, {name} convention"
        if network == "inception":
            return Terms(notes=(note,))
        return Terms(
            videos=_clips.protocol_videos(options), notes=(note, *_clips.clip_notes(options))
        )

    def measure(
        self, generated: KernelRows, reference: KernelRows, options: Mapping[str, OptionValue]
    ) -> Score:
        """The score of rows that were gathered of two sets."""
        raise NotImplementedError

    def compare(
        self,
        generated: FeatureSet,
        reference: FeatureSet | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        """The score of the sets, with their sizes and what a reader should know of them."""
        if reference is None:
            return Score.missing("needs reference videos")
        unit = _UNITS[str(options["features"])]
        sides = [RowsOf(side, "rows") for side in (generated, reference)]
        sizes = {"generated": sizes_of(sides[0]), "reference": sizes_of(sides[1])}
        if reason := too_few(unit, **sizes):
            return Score.missing(reason)
        ours, theirs = (videos_to_kernel_rows(side.labelled()) for side in sides)
        score = self.measure(ours, theirs, options)
        few = few_videos(min(size.videos for size in sizes.values()), self.card.min_videos)
        return replace(
            score,
            details={**score.details, **counts(unit, **sizes)},
            notes=(
                *self.terms(options).remarks(sizes),
                *([few] if few else []),
                *score.notes,
                *chosen_rows_note(unit, ours, theirs),
            ),
        )


def _convention(network: str, name: str, metric: str) -> str:
    if name == STANDARD:
        return {"inception": _inception.DEFAULT, "i3d": _i3d.DEFAULT}[network]
    if name not in _CONVENTIONS[network]:
        raise UsageError(
            f"{metric}.convention={name} is not one of {metric}.features={network}.",
            hint=f"Allowed: {', '.join(_CONVENTIONS[network])}.",
        )
    return name
