"""A metric of another package: how strongly the network's features of a video spread."""

from __future__ import annotations

from aigve_cli.contract import Card, Metric, Option, Score, Value
from aigve_cli.lazy import np
from aigve_cli.metrics._lite0 import feature_frames


class Brightness(Metric):
    """Mean feature of a video's frames, times a factor."""

    card = Card(
        name="mean-feature",
        title="Mean feature of a video",
        category="nn_based_video",
        values=(Value("mean-feature", "higher", (0.0, None)),),
        version=1,
        options=(Option("factor", 1.0, "Multiplies the score."),),
        aliases=("mf",),
        cite="none",
        source="tests of aigve",
        licence="MIT",
    )

    def requests(self, options, extent):
        """The features that fid-lite0 looks at."""
        return {"frames": feature_frames(extent)}

    def score(self, features, sample, options):
        """The mean of all features; one video is made to fail."""
        if sample.name.startswith("clip1"):
            raise RuntimeError("clip1 is not to its taste")
        return Score(
            {"mean-feature": options["factor"] * float(np.mean(features.generated["frames"]))}
        )


class Impostor:
    """Not a metric."""
