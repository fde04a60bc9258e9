"""The embedded network with its real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from aigve_models.efficientnet_lite0 import build, checkpoint_to_state
from torch import Tensor, nn

from aigve_cli.engine.networks import load_network
from aigve_cli.weights import locate_weights, network_card, weights_policy


@pytest.fixture(scope="module")
def weights_file() -> Path:
    policy = weights_policy(environ={"HOME": "/nowhere"}, offline=True)
    return locate_weights(network_card("efficientnet-lite0"), policy).path


@pytest.fixture(scope="module")
def network() -> nn.Module:
    card = network_card("efficientnet-lite0")
    policy = weights_policy(environ={"HOME": "/nowhere"}, offline=True)
    return load_network(card, locate_weights(card, policy), device="cpu")


def noise(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, 224, 224, generator=generator)


Image = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Y, X = np.mgrid[0:224, 0:224] / 224


def paint(image: Image, where: Image, *rgb: int) -> Image:
    return np.where(where, np.array(rgb, float)[:, None, None], image)


def disc(x: float, y: float, radius: float) -> Image:
    return (X - x) ** 2 + (Y - y) ** 2 < radius**2


def stroke(x: float, y: float, width: float) -> Image:
    """A line from the middle of the image."""
    along = np.clip(((X - 0.5) * x + (Y - 0.5) * y) / (x * x + y * y), 0, 1)
    return (X - 0.5 - along * x) ** 2 + (Y - 0.5 - along * y) ** 2 < width**2


def traffic_light() -> Image:
    """A green one on a pole, before the sky: 0..255 RGB [3, 224, 224]."""
    image = np.stack([110 + 90 * Y, 160 + 60 * Y, 225 + 20 * Y])
    image = paint(image, (abs(X - 0.5) < 0.03) & (Y > 0.85), 60, 60, 60)
    image = paint(image, (abs(X - 0.5) < 0.15) & (abs(Y - 0.47) < 0.4), 25, 28, 25)
    for y, rgb in ((0.2, (70, 15, 10)), (0.47, (80, 60, 10)), (0.74, (30, 240, 120))):
        image = paint(image, disc(0.5, y, 0.1), *rgb)
    return image


def wall_clock() -> Image:
    """A white dial with twelve dots and two hands: 0..255 RGB [3, 224, 224]."""
    image = np.full((3, 224, 224), 170.0)
    image = paint(image, disc(0.5, 0.5, 0.42), 40, 30, 25)
    image = paint(image, disc(0.5, 0.5, 0.38), 245, 245, 240)
    for angle in np.arange(12) * np.pi / 6:
        dot = disc(0.5 + 0.33 * np.sin(angle), 0.5 - 0.33 * np.cos(angle), 0.02)
        image = paint(image, dot, 20, 20, 20)
    image = paint(image, stroke(-0.14, -0.12, 0.016), 10, 10, 10)
    return paint(image, stroke(0.22, -0.18, 0.011), 10, 10, 10)


def test_all_296_keys_have_a_place_of_their_own(weights_file: Path) -> None:
    checkpoint = torch.load(weights_file, weights_only=True)
    state = checkpoint_to_state(checkpoint)
    assert len(checkpoint) == len(state) == 296
    assert state.keys() == build().state_dict().keys()


def test_unknown_names_stay(weights_file: Path) -> None:
    names = ["_blocks.99._bn1.weight", "_blocks.0._expand_conv.weight", "head.weight"]
    assert list(checkpoint_to_state({name: torch.ones(1) for name in names})) == names


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="variant 'b0'"):
        build("b0")


def test_outputs_are_those_of_the_card(network: nn.Module) -> None:
    outputs = network(noise(2))
    sizes = {name: tensor.shape[1] for name, tensor in outputs.items()}
    assert sizes == dict(network_card("efficientnet-lite0").outputs)
    for tensor in outputs.values():
        assert tensor.shape[0] == 2
        assert tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()


def test_logits_are_the_classifier_of_the_features(network: nn.Module) -> None:
    outputs = network(noise(2))
    state = network.state_dict()
    expected = (
        outputs["features"].double() @ state["net.classifier.weight"].double().T
        + state["net.classifier.bias"].double()
    )
    # float32 sums of 1280 products of size 1: about 1e-6.
    torch.testing.assert_close(outputs["logits"].double(), expected, rtol=1e-5, atol=1e-5)


def test_same_input_same_numbers(network: nn.Module) -> None:
    first, second = network(noise(2)), network(noise(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_batch_size_does_not_matter(network: nn.Module) -> None:
    frames = noise(5)
    together = network(frames)
    alone = [network(frames[i : i + 1]) for i in range(5)]
    for name, tensor in together.items():
        rows = torch.cat([outputs[name] for outputs in alone])
        assert (tensor - rows).norm() <= 1e-5 * rows.norm()


@pytest.mark.parametrize(
    ("image", "label", "probability", "norm"),
    [
        (traffic_light(), 920, 0.60157, 15.4631),
        (wall_clock(), 892, 0.80202, 19.7443),
    ],
    ids=["traffic light", "wall clock"],
)
def test_it_sees_what_is_drawn(
    network: nn.Module, image: Image, label: int, probability: float, norm: float
) -> None:
    pixels = (np.clip(np.rint(image), 0, 255) - 127) / 128
    outputs = network(torch.from_numpy(pixels[None].astype(np.float32)))
    probabilities = outputs["logits"].softmax(1)[0]
    assert int(probabilities.argmax()) == label
    # Made with torch 2.15 on a CPU. Another order of float32 sums moves them by about 1e-6; wrong
    # padding, epsilon or normalisation by more than 1e-2.
    assert float(probabilities[label]) == pytest.approx(probability, rel=1e-3)
    assert float(outputs["features"].norm()) == pytest.approx(norm, rel=1e-4)
