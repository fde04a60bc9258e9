"""VGG-16 as GSTVQA reads it: the mean and the spread of five of its layers.

Paper: Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
ICLR 2015 (arXiv:1409.1556). The layers, their names and the weights are torchvision's ``vgg16``
(BSD-3-Clause). What is read of them is that of VSFA (Li et al., ACM MM 2019), on which GSTVQA
(https://github.com/Baoliang93/GSTVQA, commit ec4777e) builds: its own extractor is not public.

Different here: the classifier, nine tenths of the published file, is compared with its shapes and
then left out, as nothing reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

TAPS = (3, 8, 15, 22, 29)
"""The last ReLU of each stage in torchvision's ``features``: relu1_2, 2_2, 3_3, 4_3 and 5_3."""
CHANNELS = (64, 128, 256, 512, 512)
STRIDE = 16
"""Pixels between two places of the last tap: four halvings, rounded down."""

CLASSIFIER = {
    "classifier.0.weight": (4096, 25088),
    "classifier.0.bias": (4096,),
    "classifier.3.weight": (4096, 4096),
    "classifier.3.bias": (4096,),
    "classifier.6.weight": (1000, 4096),
    "classifier.6.bias": (1000,),
}
"""Published tensors that are not in this network."""


class VGG16(nn.Module):
    """Input: float32 [B, 3, H, W], RGB, ``(x / 255 - mean) / std`` with ImageNet's; any size.

    H and W must leave two places at the last tap: 16 x 32 pixels, or 32 x 16.
    """

    def __init__(self) -> None:
        super().__init__()
        # What follows the last tap is not needed.
        self.features = make_layers(cfgs["D"], batch_norm=False)[: TAPS[-1] + 1]

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, H, W] to ``taps`` [B, 2944].

        1472 means over place, from the first tap to the last, and then as many standard deviations
        (of a sample: n - 1), all 0 or more.

        Raises:
            ValueError: Another shape, or frames that are too small.
        """
        check_frames(frames)
        means, deviations = [], []
        x = frames
        for index, layer in enumerate(self.features):
            # Its ReLUs work in place: of a 1360 x 768 frame, one map of 267 MB goes in and one out.
            x = layer(x)
            if index in TAPS:
                # On a CPU this adds up in float64: 6e-8 from the exact numbers over a million
                # places, where a mean of squares less the square of the mean is 4e-4 away.
                deviation, mean = torch.std_mean(x.float(), dim=(2, 3))
                means.append(mean)
                deviations.append(deviation)
        return {"taps": torch.cat([*means, *deviations], dim=1)}


def build(variant: str = "") -> VGG16:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"vgg16 has no variant '{variant}'")
    return VGG16()


def checkpoint_to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The published tensors without the classifier's, which must be there all the same.

    Raises:
        KeyError: One of the classifier is missing.
        ValueError: One of the classifier has another shape.
    """
    state = dict(checkpoint)
    for key, shape in CLASSIFIER.items():
        found = tuple(state.pop(key).shape)
        if found != shape:
            raise ValueError(f"{key} {found} instead of {shape}")
    return state


def check_frames(frames: Tensor) -> None:
    """Whether the network can take them.

    Raises:
        ValueError: It cannot.
    """
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(f"frames are [B, 3, H, W], not {list(frames.shape)}")
    height, width = frames.shape[2:]
    if (height // STRIDE) * (width // STRIDE) < 2:
        raise ValueError(
            "frames need 16 x 32 or 32 x 16 pixels or more, for a deviation over two places; "
            f"these are {width} wide and {height} high"
        )
