"""Features by option, for statistics that are not tied to one network: frames or clips."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Extent, Option, OptionValue, Request
from aigve_cli.errors import UsageError
from aigve_cli.metrics import _clips, _i3d, _inception
from aigve_cli.metrics._sets import Terms

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


def feature_unit(options: Mapping[str, OptionValue]) -> str:
    """What a row is: ``frames`` or ``clips``."""
    return _UNITS[str(options["features"])]


def feature_request(metric: str, options: Mapping[str, OptionValue], extent: Extent) -> Request:
    """The rows of both sides: the same request as fid's or fvd's.

    Raises:
        UsageError: The convention is not one of the network.
    """
    network = str(options["features"])
    chosen = {**options, "convention": _convention(network, str(options["convention"]), metric)}
    if network == "i3d":
        return _i3d.i3d_request(metric, chosen, extent)
    return _inception.inception_request(chosen, extent, output="features", role="each")


def feature_terms(options: Mapping[str, OptionValue]) -> Terms:
    """The protocol's number of videos, and network and convention behind every number."""
    network = str(options["features"])
    name = _convention(network, str(options["convention"]))
    note = f"{network} features, {name} convention"
    if network == "inception":
        return Terms(notes=(note,))
    return Terms(videos=_clips.protocol_videos(options), notes=(note, *_clips.clip_notes(options)))


def _convention(network: str, name: str, metric: str = "metric") -> str:
    if name == STANDARD:
        return {"inception": _inception.DEFAULT, "i3d": _i3d.DEFAULT}[network]
    if name not in _CONVENTIONS[network]:
        raise UsageError(
            f"{metric}.convention={name} is not one of {metric}.features={network}.",
            hint=f"Allowed: {', '.join(_CONVENTIONS[network])}.",
        )
    return name
