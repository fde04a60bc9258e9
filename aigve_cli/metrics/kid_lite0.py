"""Kernel distance of frame features on the network that installs with the package."""

from __future__ import annotations

from collections.abc import Mapping

from aigve_cli.contract import (
    Card,
    Extent,
    FeatureSet,
    Metric,
    OptionValue,
    Request,
    Sample,
    SampleFeatures,
    Score,
    Value,
)
from aigve_cli.metrics import _lite0
from aigve_cli.statistics.intervals import verdict
from aigve_cli.statistics.kernel import (
    MAX_ROWS,
    rows_to_kernel_distance,
    rows_to_unbiased_mmd,
    videos_to_kernel_rows,
)


class KidLite0(Metric):
    """Squared maximum mean discrepancy between all generated and all reference frames."""

    card = Card(
        name="kid-lite0",
        title="Kernel distance of frames, EfficientNet-Lite0",
        category="distribution_based",
        values=(Value("kid-lite0", "lower"),),
        version=1,
        needs=("reference",),
        stands_in_for="kid",
        min_videos=20,
        cite="Bińkowski et al. 2018, Demystifying MMD GANs, arXiv:1801.01401",
        source="aigve: kid on the embedded network",
        deviations=(
            _lite0.NETWORK_DEVIATION,
            f"All pairs of frames, up to {MAX_ROWS} frames a side, instead of 100 random subsets.",
        ),
        licence=_lite0.LICENCE,
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Features of both sides' frames: the same request as fid-lite0's."""
        return {"frames": _lite0.feature_frames(extent)}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Distance of one generated video's frames from its reference video's."""
        reason = _lite0.pair_too_few(features, "frames", "frames")
        if reason or features.reference is None:
            return Score.missing(reason or "needs a reference video")
        rows = features.generated["frames"], features.reference["frames"]
        return Score(
            values={self.card.name: rows_to_unbiased_mmd(*rows)},
            details={
                "frames": {"generated": len(rows[0]), "reference": len(rows[1])},
                "dimensions": int(rows[0].shape[1]),
            },
            notes=(_lite0.PAIR_NOTE,),
        )

    def compare(
        self,
        generated: FeatureSet,
        reference: FeatureSet | None,
        options: Mapping[str, OptionValue],
    ) -> Score:
        """Distance of the sets of frames."""
        if reference is None:
            return Score.missing("needs reference videos")
        ours, theirs = _lite0.RowsOf(generated, "frames"), _lite0.RowsOf(reference, "frames")
        our_size, their_size = _lite0.sizes_of(ours), _lite0.sizes_of(theirs)
        if reason := _lite0.too_few(our_size, their_size, "frames"):
            return Score.missing(reason)
        samples = (
            videos_to_kernel_rows(ours.labelled()),
            videos_to_kernel_rows(theirs.labelled()),
        )
        result = rows_to_kernel_distance(*samples)
        floor = _noise_floor(theirs)
        note = verdict(
            result.value,
            videos=min(our_size.videos, their_size.videos),
            min_videos=self.card.min_videos,
            noise_floor=floor,
        )
        notes = [note] if note else []
        if any(sample.total > len(sample.rows) for sample in samples):
            notes.append(f"computed on {MAX_ROWS} frames a side, chosen by hash")
        return Score(
            values={self.card.name: result.value},
            standard_errors={self.card.name: result.standard_error},
            details={
                "between_videos": result.between_videos,
                "noise_floor": floor,
                "interval95": list(result.interval),
                **_lite0.counts(our_size, their_size, "frames"),
            },
            notes=tuple(notes),
        )


def _noise_floor(videos: _lite0.RowsOf) -> float | None:
    """Kernel distance of a set's even-numbered videos from its odd-numbered ones."""
    halves = [
        videos_to_kernel_rows(v for i, v in enumerate(videos.labelled()) if i % 2 == half)
        for half in (0, 1)
    ]
    if min(len(half.rows) for half in halves) < 2:
        return None
    return rows_to_unbiased_mmd(halves[0].rows, halves[1].rows)
