"""The FID Inception gives what pytorch-fid and torch-fidelity give with the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from aigve_models.inception_v3_fid import build
from numpy.typing import NDArray
from torch import Tensor, nn

from aigve_cli.contract import Normalise, Resize, View
from aigve_cli.engine.networks import load_network
from aigve_cli.video.views import frame_to_host_view, frames_to_view, split_view
from aigve_cli.weights import Located, network_card
from tests.networks.det_weights import det_state

GOLDENS = Path(__file__).parents[1] / "goldens" / "inception"
# Orders of float32 sums differ by 3e-7; the nearest of the other conventions by 2.7e-3.
ROUND_OFF = 1e-5

TO_UNIT = Normalise((127.5,) * 3, (127.5,) * 3)
AS_TENSORFLOW = Normalise((128.0,) * 3, (128.0,) * 3)
PYTORCH_FID: View = (Resize(299, 299, "torch-bilinear"), TO_UNIT)
TORCH_FIDELITY: View = (Resize(299, 299, "tf1-bilinear"), AS_TENSORFLOW)
TORCHMETRICS: View = (Resize(299, 299, "torch-bilinear-antialias"), AS_TENSORFLOW)
CLEAN_FID: View = (Resize(299, 299, "pil-bicubic-float"), AS_TENSORFLOW)

OUTPUTS = {
    "features": "2048",
    "logits": "logits_unbiased",
    "features64": "64",
    "features192": "192",
    "features768": "768",
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """Read from a file that is laid out as the published one."""
    card = network_card("inception-v3-fid")
    path = tmp_path_factory.mktemp("weights") / card.entry().file
    torch.save(det_state("fid_inception", build()), path)
    located = Located(path, "0" * 64, "standard", False, "fid", "Apache-2.0")
    return load_network(card, located, device="cpu")


def pictures(name: str, count: int) -> NDArray[np.uint8]:
    """uint8 [N, H, W, 3]."""
    with np.load(GOLDENS / f"{name}.npz") as archive:
        return archive["x"][:count]


def pictures_to_input(frames: NDArray[np.uint8], view: View) -> Tensor:
    """float32 [N, 3, 299, 299]."""
    host, device = split_view(view)
    seen = np.stack([frame_to_host_view(frame, host) for frame in frames])
    return frames_to_view(torch.from_numpy(seen), device)


def distance(ours: Tensor, expected: NDArray[np.float32]) -> float:
    """Relative L2."""
    assert ours.shape == expected.shape
    return float(np.linalg.norm(ours.numpy() - expected) / np.linalg.norm(expected))


def test_keys_and_shapes_are_the_published_ones() -> None:
    published = json.loads((GOLDENS / "keys_fid_inception.json").read_text())
    assert len(published) == 566
    assert {key: list(tensor.shape) for key, tensor in build().state_dict().items()} == published


@pytest.mark.parametrize(
    ("view", "file", "prefix", "name", "count"),
    [
        (PYTORCH_FID, "expected_pytorchfid", "", "img_A", 3),
        (PYTORCH_FID, "expected_pytorchfid", "", "img_B", 1),
        (PYTORCH_FID, "expected_pytorchfid", "", "img_299", 2),
        (PYTORCH_FID, "expected_pytorchfid", "", "img_big", 1),
        (TORCH_FIDELITY, "expected_torchfidelity", "", "img_A", 3),
        (TORCH_FIDELITY, "expected_torchfidelity", "", "img_B", 1),
        (TORCH_FIDELITY, "expected_torchfidelity", "", "img_big", 1),
        (TORCHMETRICS, "expected_variants", "torchmetrics_antialias/", "img_A", 2),
        (TORCHMETRICS, "expected_variants", "torchmetrics_antialias/", "img_big", 1),
        (CLEAN_FID, "expected_variants", "cleanfid/", "img_A", 2),
        (CLEAN_FID, "expected_variants", "cleanfid/", "img_big", 1),
    ],
)
def test_numbers_are_the_originals(
    network: nn.Module, view: View, file: str, prefix: str, name: str, count: int
) -> None:
    outputs = network(pictures_to_input(pictures(name, count), view))
    with np.load(GOLDENS / f"{file}.npz") as expected:
        distances = {
            output: distance(outputs[output], expected[f"{prefix}{name}/{layer}"][:count])
            for output, layer in OUTPUTS.items()
            if f"{prefix}{name}/{layer}" in expected
        }
    assert "features" in distances
    assert max(distances.values()) < ROUND_OFF, distances


@pytest.mark.parametrize(("name", "count"), [("img_A", 2), ("img_big", 1)])
def test_clean_fids_resizing_alone(name: str, count: int) -> None:
    row = pictures_to_input(pictures(name, count), CLEAN_FID[:1])[:, :, 150]
    with np.load(GOLDENS / "expected_variants.npz") as expected:
        assert distance(row, expected[f"cleanfid/{name}/input299_row150"][:count]) < 1e-6


def test_outputs_are_those_of_the_card(network: nn.Module) -> None:
    outputs = network(torch.zeros(2, 3, 299, 299))
    sizes = {name: rows.shape[1] for name, rows in outputs.items()}
    assert sizes == dict(network_card("inception-v3-fid").outputs)
    assert all(rows.shape[0] == 2 and rows.dtype == torch.float32 for rows in outputs.values())


def test_batch_size_does_not_matter(network: nn.Module) -> None:
    batch = pictures_to_input(pictures("img_B", 3), PYTORCH_FID)
    together = network(batch)
    alone = [network(picture[None]) for picture in batch]
    for name, rows in together.items():
        expected = torch.cat([outputs[name] for outputs in alone]).numpy()
        # Another batch may choose another kernel, which sums in another order.
        assert distance(rows, expected) < 1e-6


def test_it_is_loaded_for_speed(network: nn.Module) -> None:
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert len(weights) == 94
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="variant 'tf'"):
        build("tf")
