"""SimpleVQA: the quality of a video, second by second, from a key frame and the motion around it.

Paper: Sun, Min, Lu & Zhai, A Deep Learning based No-reference Quality Assessment Model for UGC
Videos, ACM MM 2022 (arXiv:2204.14047). Reference: https://github.com/sunwei925/SimpleVQA, commit
017edda, ``UGC_BVQA_model.resnet50`` (Apache-2.0); no code is from there. The layers and their names
are those of torchvision's ``resnet50`` (BSD-3-Clause).

Different here: what is seen of a frame and what is made of it are two steps, ``forward`` and
``head``, so that the frames of many videos share batches.
"""

from __future__ import annotations

import torch
import torch.fx
from torch import Tensor, nn
from torchvision.models import resnet50

SPATIAL, MOTION = 7168, 2304
MAX_ONE_PLACE = 32
"""Pictures up to this height and width leave one place, which has no standard deviation."""


class SimpleVQA(nn.Module):
    """ResNet-50 whose last three stages are pooled, and two linear layers.

    Input: float32 [B, 3, H, W], RGB, ImageNet's mean and deviation. The metric gives it the middle
    448 x 448 of pictures whose shorter side is 520.
    """

    def __init__(self) -> None:
        super().__init__()
        network = resnet50(weights=None)
        self.conv1 = network.conv1
        self.bn1 = network.bn1
        self.relu = network.relu
        self.maxpool = network.maxpool
        self.layer1 = network.layer1
        self.layer2 = network.layer2
        self.layer3 = network.layer3
        self.layer4 = network.layer4
        # No activation between them: the published layers are these.
        self.quality = nn.Sequential(nn.Linear(SPATIAL + MOTION, 128), nn.Linear(128, 1))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, H, W] to ``spatial`` [B, 7168].

        Of each of the last three stages (512, 1024 and 2048 channels) the means over all places,
        then the unbiased standard deviations.

        Raises:
            ValueError: Another shape, or pictures that leave one place only.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(checked_pictures(pictures)))))
        second = self.layer2(self.layer1(x))
        third = self.layer3(second)
        fourth = self.layer4(third)
        return {"spatial": torch.cat([maps_to_moments(x) for x in (second, third, fourth)], dim=1)}

    def head(self, spatial: Tensor, motion: Tensor) -> dict[str, Tensor]:
        """The rows of one video, a second each, to ``frame_scores`` [U, 1].

        Args:
            spatial: float32 [U, 7168], from ``forward``.
            motion: float32 [U, 2304], ``features`` of slowfast-r50.

        Returns:
            On the scale of the opinions that the weights were trained on: about 0..100 for LSVQ's.

        Raises:
            ValueError: Other widths, or more rows of one than of the other.
        """
        if spatial.shape[1:] != (SPATIAL,) or motion.shape[1:] != (MOTION,):
            raise ValueError(
                f"simplevqa needs rows of {SPATIAL} and of {MOTION} numbers: "
                f"{list(spatial.shape)} and {list(motion.shape)}"
            )
        if len(spatial) != len(motion):
            raise ValueError(
                f"simplevqa needs as many rows of frames as of clips: "
                f"{len(spatial)} and {len(motion)}"
            )
        scores: Tensor = self.quality(torch.cat([spatial, motion], dim=1))
        return {"frame_scores": scores.float()}


def build(variant: str = "") -> SimpleVQA:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"simplevqa has no variant '{variant}'")
    return SimpleVQA()


def maps_to_moments(x: Tensor) -> Tensor:
    """[B, C, H, W] to float32 [B, 2 * C]: means over all places, then standard deviations."""
    deviations, means = torch.std_mean(x.float(), dim=(2, 3))
    return torch.cat([means, deviations], dim=1)


@torch.fx.wrap
def checked_pictures(pictures: Tensor) -> Tensor:
    """The same pictures, if the network can take them."""
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures are [B, 3, H, W], not {list(pictures.shape)}")
    height, width = pictures.shape[2:]
    if max(height, width) <= MAX_ONE_PLACE:
        raise ValueError(
            f"simplevqa needs a side of more than {MAX_ONE_PLACE} pixels: {height} x {width}"
        )
    return pictures
