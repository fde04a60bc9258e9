"""Light-VQA's brightness of a frame: grey means of 144 runs of pixels. It has no weights.

Paper: Dong et al., Light-VQA, ACM MM 2023 (arXiv:2305.09512). Reference:
https://github.com/wenzhouyidu/Light-VQA, commit 32b6740, file brightness_consistency.py, which
states no licence; no code is from there.

The reference means tiles of 80 x 80 pixels, but takes 6400 pixels that follow each other in a
row-major picture of 1280 x 720: five rows. Kept, since Light-VQA's weights were trained on it.
"""

from __future__ import annotations

from torch import Tensor, nn

HEIGHT, WIDTH = 720, 1280
RUNS = 144


class LightBrightness(nn.Module):
    """Input: float32 [B, 1, 720, 1280], grey, as ``(grey / 255 - 0.485) / 0.229``."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 1, 720, 1280] to ``tiles`` [B, 144].

        Raises:
            ValueError: Another shape.
        """
        if images.shape[1:] != (1, HEIGHT, WIDTH):
            raise ValueError(f"images are [B, 1, {HEIGHT}, {WIDTH}], not {list(images.shape)}")
        return {"tiles": images.float().reshape(len(images), RUNS, -1).mean(-1)}


def build(variant: str = "") -> LightBrightness:
    """The function; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"light-brightness has no variant '{variant}'")
    return LightBrightness()
