"""Which clips of a video the distances of clips look at: options and published protocols."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import Extent, Option, OptionValue, Sampling
from aigve_cli.errors import UsageError
from aigve_cli.video.sampling import Clips, Short, clip_sampling

MIN_LENGTH = 9
"""Frames that I3D needs: three strides of 2 over time, then a window of 2."""
NO_PROTOCOL = "none"
PROTOCOL_VIDEOS = 2048
PROTOCOLS: Mapping[str, Mapping[str, OptionValue]] = {
    name: {"length": length, "stride": stride, "clips-per-video": 1, "short": "drop"}
    for name, length, stride in (
        ("fvd2048-16f", 16, 1),
        ("fvd2048-128f", 128, 1),
        ("fvd2048-128f-subsample8f", 16, 8),
    )
}
SHORT: Mapping[str, Short] = {"drop": "drop", "loop": "loop", "repeat": "repeat"}
OPTIONS = (
    Option("length", 16, "Frames in a clip.", minimum=MIN_LENGTH),
    Option("clips-per-video", 1, "At most so many clips a video; 0 takes all that fit.", minimum=0),
    Option("stride", 1, "Every how many frames one is taken.", minimum=1),
    Option("offset", 0, "The frame that the first clip begins with.", minimum=0),
    Option(
        "short",
        "drop",
        "A video too short for a clip: left out, begun again, or its last frame held.",
        choices=tuple(SHORT),
    ),
    Option(
        "protocol",
        NO_PROTOCOL,
        "StyleGAN-V's clips: one a video, of the first 2,048 videos a side by content hash.",
        choices=(NO_PROTOCOL, *PROTOCOLS),
    ),
)
SETS_DEVIATION = (
    "Both sides' clips begin at `offset`; StyleGAN-V takes an unseeded random clip of each real "
    "video, of data that was cropped to squares of 128 or 256 pixels before."
)


def options_to_sampling(
    metric: str, options: Mapping[str, OptionValue], extent: Extent
) -> Sampling:
    """The clips that the options of a metric ask for.

    Raises:
        UsageError: A protocol was named, and something that it decides was set otherwise.
    """
    protocol = str(options["protocol"])
    fixed = PROTOCOLS.get(protocol, {})
    defaults = {option.name: option.default for option in OPTIONS}
    for name, value in fixed.items():
        if options[name] not in (value, defaults[name]):
            raise UsageError(
                f"{metric}.protocol={protocol} has {name}={value}; {options[name]} was given.",
                hint=f"Leave out {metric}.{name}, or {metric}.protocol.",
            )
    chosen = {**options, **fixed}
    sampling = Clips(
        int(chosen["length"]),
        stride=int(chosen["stride"]),
        offset=int(chosen["offset"]),
        count=int(chosen["clips-per-video"]) or None,
        short=SHORT[str(chosen["short"])],
        # StyleGAN-V leaves out videos that end within the last stride.
        whole_strides=bool(fixed),
    )
    needed = sampling.offset + sampling.span
    if extent.max_seconds is None and (extent.max_frames or needed) < needed:
        raise UsageError(
            f"'{metric}' looks at clips that need {needed} frames, and only {extent.max_frames} of "
            "each video are asked for.",
            hint=f"Raise --max-len, lower {metric}.length or {metric}.stride, or name the other "
            "metrics with --metrics.",
        )
    return clip_sampling(extent, sampling)


def protocol_videos(options: Mapping[str, OptionValue]) -> int | None:
    """Videos a side that a protocol takes; None without one."""
    return None if options["protocol"] == NO_PROTOCOL else PROTOCOL_VIDEOS


def clip_notes(options: Mapping[str, OptionValue]) -> tuple[str, ...]:
    """The protocol, for the reader of a number."""
    protocol = options["protocol"]
    return () if protocol == NO_PROTOCOL else (f"protocol {protocol}",)
