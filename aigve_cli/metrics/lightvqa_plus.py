"""Light-VQA+: quality of exposure-corrected videos, whose fusion head was never published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
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
    Text,
    Tile,
    Value,
    View,
)
from aigve_cli.metrics import _quality
from aigve_cli.video.sampling import FirstFrames, Spread, within

KEY_FRAMES = 8
SIZE = (672, 1120)
KEY_VIEW: View = (Resize(*SIZE, "pil-bilinear"), _quality.IMAGENET)
PATCHES: View = (
    Tile(224, 224),
    Normalise(
        (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255),
        (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255),
    ),
)
# What the checkpoint was trained on, word by word: ShaneXiangH/AIGVE_Tool 8916406 (MIT),
# lightvqa_plus_dataset.py.
BRIGHTNESS = (
    "an underexposed photo",
    "a slightly underexposed photo",
    "a well-exposed photo",
    "a slightly overexposed photo",
    "an overexposed photo",
)
NOISE = tuple(
    f"a photo with {how} noise" for how in ("no", "little", "considerable", "serious", "extreme")
)
WHY_NO_SCORE = (
    "output=features: everything up to the fusion head was made, --keep-features keeps it"
)
LEAST_VARYING = 2 * KEY_FRAMES
STEADY = f"fewer than {LEAST_VARYING} frames: brightness counts as steady where it cannot be told"
NOT_PROVEN = "not proven: the order of the fusion head's inputs is that of Light-VQA"


class LightVqaPlus(Metric):
    """A score a video, the mean over its key frames; their scores are the curve."""

    card = Card(
        name="lightvqa-plus",
        title="Light-VQA+: quality of videos after exposure correction",
        category="nn_based_video",
        values=(Value("lightvqa-plus", "higher", (0.0, 100.0), "MOS of VEC-QA"),),
        version=1,
        aliases=("lightvqa+",),
        options=(
            Option(
                "output",
                "score",
                "features stops before the fusion head, of which only a checkpoint can tell the "
                "layers, and reads no more than the trunk of it.",
                choices=("score", "features"),
            ),
        ),
        historical=Historical(
            file="lightvqaplus_results.json",
            score_key="LightVQAPlus_Score",
            mean_key="LightVQAPlus_Mean_Score",
            generated_key="video_name",
        ),
        cite="Zhou et al. 2024, Light-VQA+: A Video Quality Assessment Model for Exposure "
        "Correction with Vision-Language Guidance, arXiv:2405.03333",
        source="none public: ShaneXiangH/AIGVE_Tool 8916406 and wenzhouyidu/Light-VQA 32b6740 for "
        "the features",
        deviations=(
            "Not proven: the network's code was never published. The trunk and the features follow "
            "the evidence; the fusion head is what the checkpoint's own shapes tell, or refused.",
            "Patches are normalised once; motion is that of 8 clips with trained batch norms; "
            "brightness consistency is taken over frames (the wrapper in AIGVE_Tool differs in all "
            "of these).",
            "Videos of fewer than 16 frames, whose brightness consistency is not defined at every "
            "scale, count as of steady brightness there.",
        ),
        licence="none stated (weights of lightvqa-plus), MIT (weights of clip-vit-b-32), "
        "Apache-2.0 (weights of slowfast-r50)",
    )

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """The parts that the fusion head reads, and its scores unless only they are wanted."""
        keys = within(extent, Spread(KEY_FRAMES))
        every = within(extent, FirstFrames(None))
        only_features = options["output"] == "features"
        spatial = Request(
            "lightvqa-plus:spatial",
            (Frames(KEY_VIEW, keys),),
            variant="trunk" if only_features else "",
        )
        local = (Resize(*SIZE, "pil-bilinear"), *PATCHES)
        whole = (Resize(*SIZE, "cv2-linear"), *PATCHES)
        looks = (Frames(local, keys), Frames(whole, every))
        patches = [Request("clip-vit-b-32:image", (look,)) for look in looks]
        texts = [Request("clip-vit-b-32:text", (Text(words),)) for words in (BRIGHTNESS, NOISE)]
        sources = (*patches, *texts)
        words = {name: Request(f"light-words:{name}", sources) for name in ("bns", "consistency")}
        motion = _quality.motion_request(extent, count=_quality.SECONDS)
        if only_features:
            return {"spatial": spatial, "motion": motion, **words}
        scores = Request("lightvqa-plus:frame_scores", (spatial, motion, *words.values()))
        return {"scores": scores, "patches": patches[1]}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The mean over key frames."""
        if options["output"] == "features":
            return Score(reason=WHY_NO_SCORE, by_choice=True)
        rows = features.generated["scores"]
        score = _quality.rows_to_score("lightvqa-plus", rows, curve="key frame")
        short = len(features.generated["patches"]) < LEAST_VARYING
        return replace(score, notes=(NOT_PROVEN, STEADY) if short else (NOT_PROVEN,))
