"""VBench's dynamic degree: does a video move, by the flow that RAFT sees? And how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
    Option,
    OptionValue,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Value,
    VideoFacts,
)
from aigve_cli.lazy import np
from aigve_cli.metrics import _vbench
from aigve_cli.video.sampling import Windows, within

if TYPE_CHECKING:
    from aigve_cli.contract import Floats

RATE = 8.0
"""Frames a second that a video is thinned to."""
PAIRS = Windows(2, rate=RATE, still=True)
THRESHOLD = 6.0
"""Pixels above which a pair moves, where the shorter side has 256."""
ONE_COMPARED = "one frame is compared: there is none that it could have moved from"
NO_RATE = "the file states no frame rate: every frame was compared with the next"


class DynamicDegree(_vbench.Dimension):
    """Two values a video: 1 if it moves, else 0, and how far in pixels; pairs are the curve."""

    card = Card(
        name="vbench-dynamic-degree",
        title="VBench dynamic degree: share of videos that move, by RAFT",
        category="multi_faceted",
        group=_vbench.GROUP,
        values=(
            Value("vbench-dynamic-degree", "higher", (0.0, 1.0)),
            Value("vbench-flow-magnitude", "neither", (0.0, None), "px"),
        ),
        version=1,
        options=(
            _vbench.mode_option(
                "flow outside the picture does not count, and one pair at least must move"
            ),
            Option(
                "weights",
                "c-t-v1",
                "RAFT's: torchvision's C_T_V1, or raft-things.pth (things), which VBench takes. "
                "torchvision says that the one was made from the other.",
                choices=("c-t-v1", "things"),
            ),
            Option(
                "magnitude",
                True,
                "Also how far videos move; false looks at no more pairs than decide whether they "
                "do, which gives the same degree sooner.",
            ),
        ),
        cite=_vbench.CITE,
        source=_vbench.SOURCE,
        deviations=(
            "The flow magnitude is not VBench's: it is the mean over pairs of the number that "
            "VBench holds against its threshold (the mean of the fastest 5 % of pixels), in pixels "
            "from one compared frame to the next.",
            "parity: the fastest 5 % are those of the picture padded to multiples of 8.",
            "parity: of two compared frames none needs to move, so the video always does.",
            "A video of one compared frame does not move; its flow is that to itself.",
            "A side needs 121 pixels or more: RAFT's pyramid has nothing to compare below.",
            "A moving camera is movement.",
            "The frame rate of containers that count in milliseconds, such as webm, is known to "
            "two decimals: near 12, 20, 28 and so on another interval may be taken.",
            "By default RAFT's weights are torchvision's C_T_V1, which are stated to be those of "
            "VBench's raft-things.pth; weights=things takes that file.",
        ),
        licence="BSD-3-Clause (weights of raft-large)",
    )

    def values(self, options: Mapping[str, OptionValue]) -> tuple[Value, ...]:
        """The degree, and the magnitude unless it is not wanted."""
        return self.card.values if options["magnitude"] else self.card.values[:1]

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Neighbours among about 8 frames a second, at native size."""
        output = "motion_inside" if _vbench.is_fixed(options) else "motion"
        source = Frames((), within(extent, PAIRS))
        enough = None if options["magnitude"] else Decided()
        weights = str(options["weights"])
        request = Request(f"raft-large:{output}", (source,), weights=weights, enough=enough)
        return {"motion": request}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """1 if enough pairs move more than the threshold, and the mean over pairs."""
        facts = features.facts
        assert facts is not None
        motion = np.asarray(features.generated["motion"], np.float64)[:, 0]
        # There may be fewer rows: the others were not needed.
        pairs = features.units["motion"]
        # Of one compared frame, the pair is that frame twice.
        alone = _vbench.is_still(pairs)
        needed = pairs_needed(len(pairs), fixed=_vbench.is_fixed(options))
        moving = 0 if alone else int((motion > threshold(facts)).sum())
        degree = float(moving >= needed and not alone)
        notes = [ONE_COMPARED] if alone else []
        notes += [NO_RATE] if facts.fps <= 0 else []
        details = {"threshold in pixels": threshold(facts), "moving pairs needed": needed}
        if not options["magnitude"]:
            values = {"vbench-dynamic-degree": degree}
            return Score(values=values, details=details, notes=tuple(notes))
        return Score(
            values={
                "vbench-dynamic-degree": degree,
                "vbench-flow-magnitude": float(motion.mean()),
            },
            curve={"pair": motion.tolist()},
            details={**details, "moving pairs": moving},
            notes=tuple(notes),
        )


@dataclass(frozen=True)
class Decided:
    """When it is decided whether a video moves: enough pairs do, or too few are left."""

    def __call__(self, rows: Floats, units: int, facts: VideoFacts) -> bool:
        """Whether the rows of the other pairs cannot change it."""
        # A mode only matters where there is one pair, which is looked at anyway.
        needed = pairs_needed(units, fixed=False)
        moving = int((np.asarray(rows, np.float64)[:, 0] > threshold(facts)).sum())
        return moving >= needed or moving + units - len(rows) < needed


def threshold(facts: VideoFacts) -> float:
    """Pixels from one compared frame to the next above which a pair moves."""
    return THRESHOLD * (min(facts.height, facts.width) / 256.0)


def pairs_needed(pairs: int, *, fixed: bool) -> int:
    """Moving pairs that a video of so many pairs needs: a quarter of its frames, halves to even."""
    needed = round(4 * ((pairs + 1) / 16))
    return max(1, needed) if fixed else needed
