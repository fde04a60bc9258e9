"""Light-VQA+'s words: what CLIP finds under- or overexposed and noisy, in 15 patches of a frame.

Paper: Zhou et al., Light-VQA+: A Video Quality Assessment Model for Exposure Correction with
Vision-Language Guidance (arXiv:2405.03333). Its own code has not been published; the numbers here
are those of AIGVE's port, https://github.com/ShaneXiangH/AIGVE_Tool, commit 8916406, file
aigve/datasets/lightvqa_plus_dataset.py. No code is from there.

It has no weights. A patch is compared with five texts from dark to bright, and with five from
little to much noise; ten times the softmax of a hundred times the cosines is 5 numbers a patch, 75
a frame.

Different from AIGVE's port:

* key frames are normalised once, with CLIP's mean and deviation, where it normalises with
  ImageNet's first and so shows CLIP other pictures than it does for all frames
* the brightness consistency is taken over frames, [8, 300]; its rows are patches, [8, 20], which is
  not what the 300 numbers of the published sizes can be. This reading is inferred
* short videos, for which it gives NaN, get the numbers that ``frames_to_consistency`` and
  ``padded`` state
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KEY_FRAMES = 8
PATCHES = 15
DIMENSIONS = 512
TEXTS = 5
WORDS = PATCHES * TEXTS
TEMPERATURE = 100.0
"""``exp(logit_scale)`` of CLIP ViT-B/32."""
STEPS = (1, 2, 4, 8)

MIN_FRAMES = KEY_FRAMES
"""Shorter videos are made this long by repeating their last frame."""
MIN_VARYING_FRAMES = 2 * KEY_FRAMES
"""In shorter videos some series of the brightness consistency have one frame only, and count 0."""


class LightWords(nn.Module):
    """Rows of CLIP's image features of a video, and of ten texts, to words of its eight parts."""

    def head(
        self, local: Tensor, overall: Tensor, brightness_text: Tensor, noise_text: Tensor
    ) -> dict[str, Tensor]:
        """Rows of one video to eight rows, one for each key frame.

        Args:
            local: float32 [8, 15 x 512], CLIP's features of the patches of the key frames.
            overall: float32 [T, 15 x 512], those of all frames.
            brightness_text: float32 [5, 512], CLIP's features of the texts on brightness.
            noise_text: float32 [5, 512], of those on noise.

        Returns:
            ``bns`` [8, 300]: noise of the key frames, noise of eighths of the video, brightness of
            the key frames, brightness of eighths, 75 numbers of 0..10 each. ``consistency``
            [8, 300]: how much brightness varies in the part of the video around each key frame, at
            four scales of 75 numbers of 0 or more.

        Raises:
            ValueError: Other shapes.
        """
        _check("local", local, (KEY_FRAMES, PATCHES * DIMENSIONS))
        _check("overall", overall, (max(len(overall), 1), PATCHES * DIMENSIONS))
        _check("brightness_text", brightness_text, (TEXTS, DIMENSIONS))
        _check("noise_text", noise_text, (TEXTS, DIMENSIONS))
        brightness = padded(features_to_words(overall, brightness_text))
        noise = padded(features_to_words(overall, noise_text))
        bns = [
            features_to_words(local, noise_text),
            frames_to_eighths(noise),
            features_to_words(local, brightness_text),
            frames_to_eighths(brightness),
        ]
        return {"bns": torch.cat(bns, dim=1), "consistency": frames_to_consistency(brightness)}


def build(variant: str = "") -> LightWords:
    """The function; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"light-words has no variant '{variant}'")
    return LightWords()


def features_to_words(features: Tensor, texts: Tensor) -> Tensor:
    """[N, 15 x 512] features of patches and [5, 512] of texts to [N, 75], 0..10.

    The five numbers of a patch are ten times probabilities.
    """
    patches = F.normalize(features.float().reshape(-1, DIMENSIONS), dim=1)
    # bfloat16 would round logits by tenths.
    with torch.autocast(features.device.type, enabled=False):
        cosines = patches @ F.normalize(texts.float(), dim=1).T
    return 10 * (TEMPERATURE * cosines).softmax(1).reshape(len(features), WORDS)


def padded(words: Tensor) -> Tensor:
    """[T, 75] to [max(T, 8), 75]: the last frame again and again, as among the key frames."""
    missing = max(MIN_FRAMES - len(words), 0)
    return torch.cat([words, words[-1:].expand(missing, -1)])


def frames_to_eighths(words: Tensor) -> Tensor:
    """[T, 75] to the means [8, 75] over T // 8 frames each; the last takes what is left over."""
    return torch.stack([part.mean(0) for part in _parts(words, KEY_FRAMES)])


def frames_to_consistency(words: Tensor) -> Tensor:
    """[T, 75] of 8 frames or more to [8, 300]: variances (divisor n - 1) at the steps 1, 2, 4, 8.

    For a step, the video is cut into 8 / step parts, the last with what is left over. A part has as
    many series as the step, each of every step-th frame; the mean of their variances belongs to all
    eighths that lie in the part. A series of one frame, which a video of fewer than 16 frames may
    have, does not vary: 0.
    """
    scales = []
    for step in STEPS:
        parts = [_mean_variance(part, step) for part in _parts(words, KEY_FRAMES // step)]
        scales.append(torch.stack(parts).repeat_interleave(step, dim=0))
    return torch.cat(scales, dim=1)


def _mean_variance(part: Tensor, step: int) -> Tensor:
    """[n, 75] to [75]."""
    series = [part[start::step] for start in range(step)]
    variances = [one.var(0) if len(one) > 1 else torch.zeros_like(part[0]) for one in series]
    return torch.stack(variances).mean(0)


def _parts(words: Tensor, count: int) -> list[Tensor]:
    size = len(words) // count
    starts = [size * i for i in range(count)]
    ends = [*starts[1:], len(words)]
    return [words[start:end] for start, end in zip(starts, ends, strict=True)]


def _check(name: str, rows: Tensor, shape: tuple[int, int]) -> None:
    if tuple(rows.shape) != shape:
        raise ValueError(f"{name} is {list(shape)}, not {list(rows.shape)}")
