"""R3D-18, a ResNet whose convolutions are all 3-D: upstream AIGVE's features for its FVD.

Paper: Tran et al., A Closer Look at Spatiotemporal Convolutions for Action Recognition, CVPR 2018
(arXiv:1711.11248). The layers, their names and the weights are torchvision's ``r3d_18``
(BSD-3-Clause). Different here: one forward gives the pooled features and the logits.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.video import r3d_18


class R3D18(nn.Module):
    """Input: float32 [B, 3, T, H, W], RGB.

    The published weights were trained on ``(x / 255 - mean) / std`` with Kinetics' mean (0.43216,
    0.394666, 0.37645) and std (0.22803, 0.22145, 0.216989) at 16 x 112 x 112; upstream AIGVE gives
    them 0.5 for both at 224 x 224.
    """

    def __init__(self) -> None:
        super().__init__()
        network = r3d_18(weights=None)
        self.stem = network.stem
        self.layer1 = network.layer1
        self.layer2 = network.layer2
        self.layer3 = network.layer3
        self.layer4 = network.layer4
        self.fc = network.fc

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, T, H, W] to ``features`` [B, 512] and ``logits`` [B, 400].

        The features are means over time and place of the last layer.
        """
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clips)))))
        features = x.mean((2, 3, 4))
        return {"features": features, "logits": self.fc(features)}


def build(variant: str = "") -> R3D18:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"r3d-18 has no variant '{variant}'")
    return R3D18()
