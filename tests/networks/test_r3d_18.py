"""R3D-18: torchvision's network, with the features that come before its classifier."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models.r3d_18 import build
from torch import Tensor, nn
from torchvision.models import video
from torchvision.models.video import R3D_18_Weights

from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.metrics.fvd_r3d18 import VIEWS
from aigve_cli.video.views import frames_to_view
from aigve_cli.weights import Located, network_card
from tests.networks.det_weights import det_state

KEYS = Path(__file__).parents[1] / "goldens" / "i3d" / "keys_torchvision_r3d_18.json"
# Orders of sums of one network on one machine.
SAME = 1e-6

Load = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return det_state("r3d_18", build())


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    def load(checkpoint: Any) -> nn.Module:
        path = tmp_path_factory.mktemp("r3d") / "r3d_18-b3b3357e.pth"
        torch.save(checkpoint, path)
        located = Located(path, "0" * 64, "standard", False, "kinetics400", "BSD-3-Clause")
        return load_network(network_card("r3d-18"), located, device="cpu")

    return load


@pytest.fixture(scope="module")
def network(load: Load, state: dict[str, Tensor]) -> nn.Module:
    return load(state)


@pytest.fixture(scope="module")
def torchvisions(state: dict[str, Tensor]) -> nn.Module:
    network = video.r3d_18(weights=None)
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Relative L2."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / theirs.norm())


def test_keys_and_shapes_are_the_published_ones(state: dict[str, Tensor]) -> None:
    shapes = {key: list(tensor.shape) for key, tensor in state.items()}
    assert shapes == json.loads(KEYS.read_text())


@pytest.mark.parametrize("shape", [(2, 3, 16, 112, 112), (1, 3, 1, 57, 90), (1, 3, 7, 224, 224)])
def test_numbers_are_torchvisions(
    network: nn.Module, torchvisions: nn.Module, shape: tuple[int, ...]
) -> None:
    clips = noise(*shape)
    ours, logits = network(clips), torchvisions(clips)
    fc, torchvisions.fc = torchvisions.fc, nn.Identity()
    features = torchvisions(clips)
    torchvisions.fc = fc
    assert distance(ours["logits"], logits) < SAME
    assert distance(ours["features"], features) < SAME
    sizes = {name: rows.shape[1] for name, rows in ours.items()}
    assert sizes == dict(network_card("r3d-18").outputs)


def test_all_batch_norms_are_folded(network: nn.Module) -> None:
    assert not any(isinstance(layer, nn.BatchNorm3d) for layer in network.modules())


def test_batch_size_does_not_matter(network: nn.Module) -> None:
    clips = noise(3, 3, 8, 64, 64)
    together = network(clips)
    alone = [network(clip[None]) for clip in clips]
    for name, rows in together.items():
        assert distance(rows, torch.cat([outputs[name] for outputs in alone])) < SAME


def test_module_prefix_and_wrapper(
    network: nn.Module, load: Load, state: dict[str, Tensor]
) -> None:
    wrapped = load({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}})
    clips = noise(1, 3, 4, 64, 64)
    assert torch.equal(wrapped(clips)["logits"], network(clips)["logits"])


def test_another_classifier_is_refused(load: Load, state: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError, match=r"fc\.bias \(101,\) instead of \(400,\)"):
        load(state | {"fc.bias": torch.zeros(101)})


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="variant 'mc3'"):
        build("mc3")


@pytest.mark.parametrize("size", [(96, 120), (240, 426)])
def test_the_view_is_that_of_the_weights(size: tuple[int, int]) -> None:
    """torchvision's own transforms: resized as uint8, a crop that rounds 29.5 to 30."""
    frames = np.random.default_rng(3).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    clip = torch.from_numpy(frames)
    expected = R3D_18_Weights.KINETICS400_V1.transforms()(clip.permute(0, 3, 1, 2))
    seen = frames_to_view(clip, VIEWS["torchvision"]).permute(1, 0, 2, 3)
    # torchvision divides by 255 first: round-off of float32 numbers up to 2.8.
    assert torch.allclose(seen, expected, rtol=0, atol=2e-6)
