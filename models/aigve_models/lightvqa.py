"""Light-VQA: the quality of low-light videos that were made brighter.

Paper: Dong et al., Light-VQA: A Multi-Dimensional Quality Assessment Model for Low-Light Video
Enhancement, ACM MM 2023 (arXiv:2305.09512). Reference: https://github.com/wenzhouyidu/Light-VQA,
commit 32b6740, which states no licence; no code is from there.

Eight key frames go through Swin-S, beside brightness and noise of their grey values; SlowFast's
features of eight clips and the variance of brightness over time join them in a head of three
layers.

Kept as the reference has them, since its weights were trained on them: noise is taken over runs of
240 consecutive pixels of a picture, not over tiles; the numbers of brightness are divided by 10,
those of its consistency multiplied by 10.

Different here: a video of fewer than 16 frames has a brightness consistency of 0, where the
reference's variance of a single number is not a number.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigve_models._swin_small import SwinSmall

HEIGHT, WIDTH = 512, 960
KEY_FRAMES = 8
SPATIAL = 1664
"""768 of the last stage, 64 of brightness, 64 of noise, 768 of the third stage."""
MOTION = 2304
TILES = 144
MIN_VARYING_FRAMES = 2 * KEY_FRAMES
"""In a video of fewer frames the brightness consistency is 0: no eighth has two to compare."""

HEAD_LAYERS = ("head", "head1", "head2")
"""Published names of the head's layers, in their order."""

_PATCH = (16, 15)
_ROWS, _COLUMNS = HEIGHT // _PATCH[0], WIDTH // _PATCH[1]


class LightVQA(SwinSmall):
    """Input: float32 [B, 3, 512, 960], RGB, normalised with ImageNet's mean and deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.fusion = fusion_layers(SPATIAL + MOTION + TILES)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 512, 960] to ``spatial`` [B, 1664].

        Raises:
            ValueError: Another shape.
        """
        if images.shape[1:] != (3, HEIGHT, WIDTH):
            shape = list(images.shape)
            raise ValueError(f"images are [B, 3, {HEIGHT}, {WIDTH}], not {shape}")
        pooled = self.images_to_pooled(images)
        parts = [pooled.last, *images_to_brightness_and_noise(images.float()), pooled.third]
        return {"spatial": torch.cat(parts, dim=1)}

    def head(self, spatial: Tensor, motion: Tensor, tiles: Tensor) -> dict[str, Tensor]:
        """The scores of a video's key frames; their mean is the video's.

        Args:
            spatial: float32 [8, 1664], ``spatial`` of the key frames.
            motion: float32 [8, 2304], SlowFast's features of the first eight clips.
            tiles: float32 [T, 144], ``light-brightness:tiles`` of every frame.

        Returns:
            ``frame_scores`` [8, 1], 0..100, and ``unclamped``, the same without these bounds.

        Raises:
            ValueError: Other shapes.
        """
        check_rows("tiles", tiles, None, TILES)
        return self.scores(spatial, motion, tiles_to_consistency(tiles))

    def scores(self, spatial: Tensor, motion: Tensor, consistency: Tensor) -> dict[str, Tensor]:
        """As ``head``, of a brightness consistency, float32 [8, 144], that is there already."""
        check_rows("spatial", spatial, KEY_FRAMES, SPATIAL)
        check_rows("motion", motion, KEY_FRAMES, MOTION)
        check_rows("consistency", consistency, KEY_FRAMES, TILES)
        unclamped = self.fusion(torch.cat([spatial, motion, consistency], dim=1)).float()
        return {"frame_scores": unclamped.clamp(0, 100), "unclamped": unclamped}


def build(variant: str = "") -> LightVQA:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"lightvqa has no variant '{variant}'")
    return LightVQA()


def checkpoint_to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Published names to ours: only those of the head differ."""
    return {our_name(key): value for key, value in checkpoint.items()}


def published_names(_checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Our names to those in a file, where they differ."""
    keys = [f"{layer}.{kind}" for layer in HEAD_LAYERS for kind in ("weight", "bias")]
    return {our_name(key): key for key in keys}


def our_name(key: str) -> str:
    """``head1.bias`` to ``fusion.head1.bias``: here ``head`` is what scores a video."""
    return f"fusion.{key}" if key.partition(".")[0] in HEAD_LAYERS else key


def fusion_layers(inputs: int, hidden: int = 1024, bottleneck: int = 64) -> nn.Sequential:
    """The head: [8, inputs] to [8, 1]."""
    return nn.Sequential(
        OrderedDict(
            head=nn.Linear(inputs, hidden),
            relu=nn.ReLU(),
            head1=nn.Linear(hidden, bottleneck),
            relu1=nn.ReLU(),
            head2=nn.Linear(bottleneck, 1),
        )
    )


def check_rows(name: str, rows: Tensor, count: int | None, size: int) -> None:
    """Raise a ValueError unless rows are [count, size]; any count of 1 or more if it is None."""
    good = rows.ndim == 2 and rows.shape[1] == size
    if not good or len(rows) < 1 or (count is not None and len(rows) != count):
        raise ValueError(f"{name} is [{count or 'T'}, {size}], not {list(rows.shape)}")


def images_to_brightness_and_noise(images: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 3, 512, 960] to two times [B, 64].

    Brightness: the largest grey values of patches of 16 x 15 pixels, as means of each column of
    patches, over 10. Noise: the variances of runs of 240 consecutive pixels, as means of every
    64th run.
    """
    grey = images.mean(1)
    largest = F.max_pool2d(grey[:, None], _PATCH)[:, 0]  # [B, 32, 64]
    runs = grey.reshape(-1, _ROWS, _COLUMNS, _PATCH[0] * _PATCH[1])
    return largest.mean(1) / 10, runs.var(-1).mean(1)


def tiles_to_consistency(tiles: Tensor) -> Tensor:
    """[T, 144] to [8, 144]: ten times the variance (divisor n - 1) in each eighth of a video.

    An eighth has n = T // 8 frames, and those that are left over at the end do not count. It is 0
    if n is less than 2.
    """
    count = len(tiles) // KEY_FRAMES
    if count < 2:
        return tiles.new_zeros(KEY_FRAMES, tiles.shape[1])
    eighths = tiles[: KEY_FRAMES * count].reshape(KEY_FRAMES, count, -1)
    return 10 * eighths.var(1)
