"""Light-VQA: quality of enhanced low-light videos, from 8 key frames and their surroundings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
    Grey,
    Historical,
    Metric,
    Normalise,
    Option,
    OptionValue,
    Request,
    Resize,
    Sample,
    SampleFeatures,
    Score,
    Value,
    View,
)
from aigve_cli.metrics import _quality
from aigve_cli.video.sampling import AtLeast, FirstFrames, Spread, within

KEY_FRAMES = 8
LEAST_VARYING = 2 * KEY_FRAMES
STEADY = f"fewer than {LEAST_VARYING} frames: brightness counts as steady"
KEY_VIEW: View = (Resize(512, 960, "pil-bilinear"), _quality.IMAGENET)
GREY_VIEW: View = (
    Grey(),
    Resize(720, 1280, "pil-bilinear"),
    Normalise((0.485 * 255,), (0.229 * 255,)),
)


class LightVqa(Metric):
    """A score a video, the mean over its key frames; their scores are the curve."""

    card = Card(
        name="lightvqa",
        title="Light-VQA: quality of low-light videos after enhancement",
        category="nn_based_video",
        values=(Value("lightvqa", "higher", (0.0, 100.0), "MOS of LLVE-QA"),),
        version=1,
        options=(
            Option(
                "key-frames",
                "spread",
                "spread takes the first frame of each of 8 equal parts; first takes the first 8, "
                "which is what the published script does.",
                choices=("spread", "first"),
            ),
        ),
        historical=Historical(
            file="lightvqa_results.json",
            score_key="LightVQA_Score",
            mean_key="LightVQA_Mean_Score",
            generated_key="video_name",
        ),
        cite="Dong et al. 2023, Light-VQA: A Multi-Dimensional Quality Assessment Model for "
        "Low-Light Video Enhancement, arXiv:2305.09512",
        source="wenzhouyidu/Light-VQA 32b6740",
        deviations=(
            "Frames of any size are resized to 512 x 960; the original takes that size only.",
            "The published script means to take 8 key frames over the whole video and reads the "
            "first 8 (key-frames=first).",
            "Videos of fewer than 16 frames, whose brightness consistency is not defined, count as "
            "of steady brightness; fewer than 8 frames or seconds are held at the end.",
        ),
        licence="none stated (weights of lightvqa), Apache-2.0 (weights of slowfast-r50)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Scores of key frames; each goes with a second's motion and an eighth's brightness."""
        if options["key-frames"] == "first":
            keys = within(extent, AtLeast(KEY_FRAMES, FirstFrames(KEY_FRAMES)))
        else:
            keys = within(extent, Spread(KEY_FRAMES, to_the_end=False))
        spatial = Request("lightvqa:spatial", (Frames(KEY_VIEW, keys),))
        every = within(extent, FirstFrames(None))
        tiles = Request("light-brightness:tiles", (Frames(GREY_VIEW, every),))
        motion = _quality.motion_request(extent, count=_quality.SECONDS)
        scores = Request("lightvqa:frame_scores", (spatial, motion, tiles))
        return {"scores": scores, "brightness": tiles}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over key frames."""
        score = _quality.rows_to_score("lightvqa", features.generated["scores"], curve="key frame")
        short = len(features.generated["brightness"]) < LEAST_VARYING
        return replace(score, notes=(STEADY,)) if short and score.values else score
