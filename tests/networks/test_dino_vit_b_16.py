"""DINO ViT-B/16: its class tokens are those of the reference, for pictures of any shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from aigve_models.dino_vit_b_16 import build
from timm.models.vision_transformer import vit_base_patch16_224
from torch import Tensor, nn

from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.metrics._vbench import DINO_VIEW
from aigve_cli.weights import Located, network_card
from tests.networks.vbench_checkpoints import vbench_checkpoint
from tests.networks.vbench_weights import golden
from tests.networks.vision_goldens import seen_as

# Other orders of sums in 12 blocks, of numbers up to 4.
PARITY = 2e-5
# One picture in other company.
SAME = 1e-5


def load(checkpoint: dict[str, Tensor], folder: Path) -> nn.Module:
    path = folder / "dino_vitbase16_pretrain.pth"
    torch.save(checkpoint, path)
    try:
        located = Located(path, "0" * 64, "standard", False, "imagenet", "Apache-2.0")
        return load_network(network_card("dino-vit-b-16"), located, device="cpu")
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    return load(vbench_checkpoint("dino-vit-b-16"), tmp_path_factory.mktemp("dino"))


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("clip", ["wide", "square", "tall"])
def test_class_tokens_are_the_golden_ones(network: nn.Module, clip: str) -> None:
    arrays = golden("subject_consistency_vitb16")
    seen = seen_as(DINO_VIEW, arrays[f"frames_{clip}"])
    assert list(seen.shape) == arrays[f"pre_shape_{clip}"].tolist()
    expected = torch.from_numpy(arrays[f"feat_{clip}"])
    torch.testing.assert_close(network(seen)["class_token"], expected, rtol=0, atol=PARITY)


def test_at_its_own_size_it_is_timms(network: nn.Module) -> None:
    theirs = vit_base_patch16_224(num_classes=0).eval()
    theirs.load_state_dict(network.state_dict())
    images = noise(1, 3, 224, 224)
    with torch.inference_mode():
        expected = theirs(images)
    torch.testing.assert_close(network(images)["class_token"], expected, rtol=0, atol=1e-4)


def test_pictures_do_not_see_each_other(network: nn.Module) -> None:
    images = noise(3, 3, 64, 96)
    rows = network(images)["class_token"]
    assert rows.shape == (3, 768)
    torch.testing.assert_close(network(images[1:2])["class_token"], rows[1:2], rtol=SAME, atol=SAME)


def test_what_is_less_than_a_patch_is_not_seen(network: nn.Module) -> None:
    images = noise(1, 3, 64, 95)
    other = images.clone()
    other[..., 80:] = 0
    assert torch.equal(network(images)["class_token"], network(other)["class_token"])


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 1, 224, 224), (1, 3, 15, 224)])
def test_other_pictures_are_refused(network: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images are \[B, 3, H, W\] of at least 16 pixels"):
        network(torch.zeros(shape))


def test_there_is_one_variant() -> None:
    with pytest.raises(ValueError, match="no variant 'small'"):
        build("small")


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    shapes = {key: tensor.shape for key, tensor in build().state_dict().items()}
    checkpoint = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    assert len(checkpoint) == 150
    checkpoint["head.weight"] = checkpoint.pop("blocks.11.mlp.fc2.bias")
    checkpoint["pos_embed"] = torch.zeros(()).expand(1, 785, 768)
    with pytest.raises(WeightsError) as caught:
        load(checkpoint, tmp_path)
    assert "1 missing: blocks.11.mlp.fc2.bias" in caught.value.message
    assert "1 unknown: head.weight" in caught.value.message
    assert "pos_embed (1, 785, 768) instead of (1, 197, 768)" in caught.value.message
