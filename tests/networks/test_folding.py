"""Folded batch norms: as many as there are, the same numbers, and none where it would be wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from aigve_models import efficientnet_lite0, inception_v3_fid
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations
from torchvision.models import resnet18
from torchvision.models.video import r2plus1d_18, r3d_18

from aigve_cli.engine.folding import fold_batch_norms
from tests.networks.det_weights import fill


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


def count_batch_norms(network: nn.Module) -> int:
    return sum(isinstance(layer, _BatchNorm) for layer in network.modules())


def filled(network: nn.Module) -> nn.Module:
    """With weights, shifts and statistics that no fold may forget, ready for inference."""
    fill("folding", network)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("build", "batch_norms", "shape", "round_off"),
    [
        (inception_v3_fid.build, 94, (1, 3, 299, 299), 1e-6),
        # Forty-nine layers deep and narrow: float32 is 2e-6 from float64, folded or not.
        (efficientnet_lite0.build, 49, (1, 3, 224, 224), 1e-5),
        (r3d_18, 20, (1, 3, 4, 56, 56), 1e-6),
        (r2plus1d_18, 37, (1, 3, 4, 56, 56), 1e-6),
        (resnet18, 20, (1, 3, 112, 112), 1e-6),
    ],
    ids=["inception-v3-fid", "efficientnet-lite0", "r3d_18", "r2plus1d_18", "resnet18"],
)
def test_whole_networks(
    build: Callable[[], nn.Module], batch_norms: int, shape: tuple[int, ...], round_off: float
) -> None:
    network, frames = filled(build()), noise(*shape)
    before = network(frames)
    assert fold_batch_norms(network) == count_batch_norms(build()) == batch_norms
    assert count_batch_norms(network) == 0
    after = network(frames)
    if isinstance(before, Tensor):
        before, after = {"output": before}, {"output": after}
    for name, rows in before.items():
        assert (after[name] - rows).norm() < round_off * rows.norm(), name


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 8, 3),
        nn.Conv2d(4, 8, (3, 1), bias=False, stride=2, padding=(1, 0), dilation=2),
        nn.Conv2d(4, 8, 3, groups=4, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 8, 3, padding="same"),
    ],
    ids=["bias", "no bias, dilation", "groups, reflection", "same"],
)
@pytest.mark.parametrize("affine", [True, False])
def test_in_float64_it_is_exact(conv: nn.Module, affine: bool) -> None:
    network = filled(nn.Sequential(conv, nn.BatchNorm2d(8, affine=affine, eps=0.1))).double()
    frames = noise(2, 4, 9, 9, dtype=torch.float64)
    before = network(frames)
    assert fold_batch_norms(network) == 1
    assert isinstance(network[1], nn.Identity)
    torch.testing.assert_close(network(frames), before, rtol=1e-12, atol=1e-12)


def test_weights_are_rounded_once() -> None:
    network = filled(nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5)))
    weight, norm = network[0].weight.double(), network[1]
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    fold_batch_norms(network)
    assert torch.equal(network[0].weight, (weight * scale.view(-1, 1, 1, 1)).float())
    assert not network[0].weight.requires_grad


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class ConvTwice(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.conv(x)))


class NormTwice(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.norm(self.conv(x)))


class OutputReadTwice(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x + self.norm(x)


class SomethingBetween(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.relu(self.conv(x)))


class WeightReadElsewhere(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + F.conv2d(x, self.conv.weight, padding=1)


class NormRegisteredTwice(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.same = nn.ModuleList([self.norm])

    def forward(self, x: Tensor) -> Tensor:
        return self.same[0](self.conv(x))


class PathDependsOnInput(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) if x.sum() > 0 else x


class StandardisedConv(nn.Conv2d):
    """Its weights, scaled, are scaled back at each call."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.normalize(self.weight.flatten(1)).view_as(self.weight)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


def standardised() -> nn.Module:
    return nn.Sequential(StandardisedConv(4, 4, 3, padding=1), nn.BatchNorm2d(4))


def transposed() -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.BatchNorm2d(4))


def without_statistics() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))


@pytest.mark.parametrize(
    "build",
    [
        ConvTwice,
        NormTwice,
        OutputReadTwice,
        SomethingBetween,
        WeightReadElsewhere,
        NormRegisteredTwice,
        PathDependsOnInput,
        standardised,
        transposed,
        without_statistics,
    ],
    ids=lambda build: build.__name__,
)
def test_left_alone(build: Callable[[], nn.Module]) -> None:
    network, frames = filled(build()), noise(2, 4, 8, 8)
    before = network(frames)
    assert fold_batch_norms(network) == 0
    assert torch.equal(network(frames), before)


@pytest.mark.parametrize("name", ["conv", "norm"])
@pytest.mark.parametrize("state", ["train", "hook", "pre-hook"])
def test_layers_in_another_state_are_left_alone(name: str, state: str) -> None:
    network = filled(Plain())
    layer = network.get_submodule(name)
    if state == "train":
        layer.train()
    elif state == "hook":
        layer.register_forward_hook(lambda layer, inputs, output: output + 1)
    else:
        layer.register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 1,))
    assert fold_batch_norms(network) == 0
    assert isinstance(network.norm, nn.BatchNorm2d)


def test_computed_weights_are_left_alone() -> None:
    network = filled(Plain())
    parametrizations.weight_norm(network.conv)
    assert fold_batch_norms(network) == 0


def test_shared_weights_stay_those_of_the_other_layer() -> None:
    network = filled(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)))
    network[2].weight = network[0].weight
    frames = noise(1, 4, 3, 3)
    before = network(frames)
    assert fold_batch_norms(network) == 1
    torch.testing.assert_close(network(frames), before)


def test_the_activation_inside_a_batch_norm_stays() -> None:
    norm = timm.layers.BatchNormAct2d(4, act_layer=nn.ReLU6)
    network = filled(nn.Sequential(nn.Conv2d(4, 4, 1), norm))
    frames = 40 * noise(1, 4, 8, 8) - 20
    before = network(frames)
    assert fold_batch_norms(network) == 1
    assert isinstance(network[1], nn.ReLU6)
    torch.testing.assert_close(network(frames), before)
