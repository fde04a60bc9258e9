"""VGG-16's statistics: those of GSTVQA's goldens, of torchvision's network, and exact ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from aigve_models.vgg16 import CHANNELS, CLASSIFIER, TAPS, VGG16, build
from torch import Tensor, nn

from aigve_cli.contract import Normalise
from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.video.views import frames_to_view
from aigve_cli.weights import Located, network_card
from tests.networks.det_weights import det_state, fill

GOLDENS = Path(__file__).parents[1] / "goldens" / "vqa"
TAG = "vgg16"
IMAGENET = Normalise((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# Orders of sums of one network on one machine.
SAME = 1e-6

Load = Callable[[dict[str, Tensor]], nn.Module]


def nothing(shape: tuple[int, ...]) -> Tensor:
    """Zeros that take no room, in memory or in a file."""
    return torch.zeros(()).expand(shape)


def published() -> dict[str, Tensor]:
    """The tensors of the published file; its classifier's numbers are not read."""
    classifier = {key: nothing(shape) for key, shape in CLASSIFIER.items()}
    return det_state(TAG, build()) | classifier


def empty() -> dict[str, Tensor]:
    """The published names and shapes."""
    shapes = json.loads((GOLDENS / "keys_vgg16.json").read_text(encoding="utf-8"))
    return {key: nothing(shape) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    def load(checkpoint: dict[str, Tensor]) -> nn.Module:
        path = tmp_path_factory.mktemp("vgg") / "vgg16-397923af.pth"
        torch.save(checkpoint, path)
        located = Located(path, "0" * 64, "standard", False, "imagenet", "BSD-3-Clause")
        return load_network(network_card("vgg16"), located, device="cpu")

    return load


@pytest.fixture(scope="module")
def network(load: Load) -> nn.Module:
    return load(published())


@pytest.fixture(scope="module")
def plain() -> VGG16:
    network = build().eval().requires_grad_(False)
    fill(TAG, network)
    return network


@pytest.fixture(scope="module")
def torchvisions() -> nn.Module:
    """torchvision's own layers, without the room that its classifier takes."""
    with torch.device("meta"):
        features: nn.Module = torchvision.models.vgg16(weights=None, init_weights=False).features
    features = features.to_empty(device="cpu")
    state = det_state(TAG, build())
    features.load_state_dict({key.removeprefix("features."): state[key] for key in state})
    return features.eval().requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


# --- numbers ----------------------------------------------------------------------------------


def test_taps_are_the_golden_ones(network: nn.Module) -> None:
    """Every fourth frame of a clip of 64 x 80 through the inferred extractor of GSTVQA."""
    expected = np.load(GOLDENS / "gstvqa_clip_a.npz")["taps"]
    frames = torch.from_numpy(np.load(GOLDENS / "clip_a.npy")[::4])
    taps = network(frames_to_view(frames, (IMAGENET,)))["taps"].numpy()
    assert taps.shape == expected.shape == (10, network_card("vgg16").outputs["taps"])
    # Of the values, and of their spread: orders of float32 sums.
    np.testing.assert_allclose(taps, expected, rtol=1e-5, atol=1e-5 * expected.std())


@pytest.mark.parametrize("size", [(64, 80), (33, 47), (16, 32), (143, 201)])
def test_taps_are_exact_statistics_of_torchvisions_maps(
    network: nn.Module, torchvisions: nn.Module, size: tuple[int, int]
) -> None:
    frames = noise(2, 3, *size)
    means, deviations = [], []
    x = frames
    for index, layer in enumerate(list(torchvisions.children())[: TAPS[-1] + 1]):
        x = layer(x)
        if index in TAPS:
            places = x.double().flatten(2)
            means.append(places.mean(2))
            deviations.append(places.std(2, correction=1))
    expected = torch.cat([*means, *deviations], dim=1)
    taps = network(frames)["taps"]
    assert taps.dtype == torch.float32
    assert taps.shape == (2, 2 * sum(CHANNELS))
    assert torch.isfinite(taps).all()
    sizes = CHANNELS * 2
    for ours, theirs in zip(taps.split(sizes, 1), expected.split(sizes, 1), strict=True):
        # Two memory orders of one network: sums of up to 4,608 products, layer after layer.
        assert (ours - theirs).norm() < 5e-6 * theirs.norm()


def test_a_deviation_that_is_small_beside_its_mean(plain: VGG16) -> None:
    """A difference of squares would lose it: of 100, a spread of 0.03 is 1e-7 of the square."""
    seen: list[Tensor] = []
    bias = plain.features[2].bias
    assert isinstance(bias, Tensor)
    own = bias.clone()
    hook = plain.features[TAPS[0]].register_forward_hook(lambda _, x, y: seen.append(y.clone()))
    bias.fill_(100)
    taps = plain(0.01 * noise(1, 3, 128, 160))["taps"]
    hook.remove()
    bias.copy_(own)
    places = seen[0].double().flatten(2)
    exact = places.std(2, correction=1)
    assert (exact < 1e-3 * places.mean(2)).all()
    assert ((taps[:, 1472 : 1472 + 64] - exact).abs() < 1e-6 * exact).all()


def test_batch_size_does_not_matter(network: nn.Module) -> None:
    frames = noise(3, 3, 48, 40)
    before = frames.clone()
    together = network(frames)["taps"]
    alone = torch.cat([network(frame[None])["taps"] for frame in frames])
    assert (together - alone).norm() < SAME * together.norm()
    # Its first ReLU works in place, on what the first convolution made.
    assert torch.equal(frames, before)


def test_bfloat16_gives_float32(network: nn.Module) -> None:
    frames = noise(1, 3, 64, 64)
    exact = network(frames)["taps"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(frames)["taps"]
    assert rough.dtype == torch.float32
    # bfloat16 has 8 bits: 4e-3 a number, and errors of many numbers average out.
    assert 1e-4 < (rough - exact).norm() / exact.norm() < 2e-2


# --- what it takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(31, 31), (16, 31), (31, 16), (15, 500), (1, 1)])
def test_frames_without_a_deviation_are_refused(plain: VGG16, size: tuple[int, int]) -> None:
    height, width = size
    with pytest.raises(ValueError, match=f"16 x 32 .*these are {width} wide and {height} high"):
        plain(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("size", [(16, 32), (32, 16)])
def test_the_smallest_frames_have_a_deviation(plain: VGG16, size: tuple[int, int]) -> None:
    taps = plain(noise(1, 3, *size))["taps"]
    assert torch.isfinite(taps).all()
    # The last tap has two places, which differ.
    assert taps[0, -512:].max() > 0


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 4, 64, 64)])
def test_other_shapes_are_refused(plain: VGG16, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"frames are \[B, 3, H, W\]"):
        plain(torch.zeros(shape))


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="variant 'bn'"):
        build("bn")


# --- weights ----------------------------------------------------------------------------------


def test_keys_and_shapes_are_the_published_ones() -> None:
    ours = {key: tuple(tensor.shape) for key, tensor in build().state_dict().items()}
    assert len(ours | CLASSIFIER) == 32
    assert ours | CLASSIFIER == {key: tuple(tensor.shape) for key, tensor in empty().items()}


def test_the_classifier_is_not_kept(network: nn.Module) -> None:
    assert not any(key.startswith("classifier") for key in network.state_dict())
    assert sum(tensor.numel() for tensor in network.state_dict().values()) == 14_714_688


@pytest.mark.parametrize("key", [*CLASSIFIER, "features.0.weight", "features.28.bias"])
def test_a_missing_key_is_named(load: Load, key: str) -> None:
    checkpoint = empty()
    del checkpoint[key]
    with pytest.raises(WeightsError, match=key.replace(".", r"\.")):
        load(checkpoint)


@pytest.mark.parametrize("key", ["classifier.0.weight", "classifier.6.bias", "features.7.weight"])
def test_a_key_of_another_shape_is_named(load: Load, key: str) -> None:
    with pytest.raises(WeightsError, match=key.replace(".", r"\.") + r" \(7, 2\) instead of"):
        load(empty() | {key: nothing((7, 2))})


@pytest.mark.parametrize("key", ["classifier.9.bias", "features.30.weight"])
def test_an_unknown_key_is_named(load: Load, key: str) -> None:
    with pytest.raises(WeightsError, match="1 unknown: " + key.replace(".", r"\.")):
        load(empty() | {key: nothing((3,))})
