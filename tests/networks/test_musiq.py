"""MUSIQ: its numbers are those of VBench's imaging quality on the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import aigve_models.musiq
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from aigve_models.musiq import (
    MUSIQ,
    build,
    grid_cells,
    images_to_sizes,
    picture_to_patches,
    published_names,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.weights import Located, network_card
from tests.networks.vbench_checkpoints import vbench_checkpoint
from tests.networks.vbench_weights import golden, golden_shapes

SHAPES = golden_shapes("musiq_state_dict_shapes")
# Scores are near 40, where float32 has steps of 4e-6: ten of them.
SAME = 4e-5
ENCODER = "transformer_encoder"
BLOCK = f"{ENCODER}.transformer.encoderblock"

Load = Callable[[dict[str, Any]], nn.Module]


def published() -> dict[str, Tensor]:
    """The tensors of the goldens by their published names."""
    return vbench_checkpoint("musiq")


def empty() -> dict[str, Any]:
    """The published names and shapes, with zeros that take no room."""
    return {key: torch.zeros(()).expand(shape) for key, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    def load(checkpoint: dict[str, Any]) -> nn.Module:
        path = tmp_path_factory.mktemp("musiq") / "musiq_spaq_ckpt-358bb6af.pth"
        torch.save(checkpoint, path)
        located = Located(path, "0" * 64, "standard", False, "spaq", "CC-BY-NC-SA-4.0")
        try:
            return load_network(network_card("musiq"), located, device="cpu")
        finally:
            path.unlink()

    return load


@pytest.fixture(scope="module")
def network(load: Load) -> nn.Module:
    return load(published())


@pytest.fixture(scope="module")
def plain() -> MUSIQ:
    """For what is refused before any weight is read."""
    with torch.device("meta"):
        return build()


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def vbench_images(frames: NDArray[np.uint8], mode: str) -> Tensor:
    """What VBench does to uint8 [T, H, W, 3] before the network: float32 [T, 3, H, W] on 0..1."""
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    height, width = images.shape[2:]
    scale = 512 / max(height, width)
    if mode == "longer" and scale < 1:
        size = int(scale * height), int(scale * width)
        images = F.interpolate(images, size, mode="bilinear", antialias=False)
    return images / 255


def plain_quality(state: dict[str, Tensor], image: Tensor) -> Tensor:
    """The conversion step by step: float64 [1, 3, H, W] on -1..1 to [1, 1]."""
    weights = {key: tensor.double() for key, tensor in state.items()}

    def normed(x: Tensor, eps: float, dims: tuple[int, ...]) -> Tensor:
        variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
        return (x - mean) / (variance + eps).sqrt()

    def grouped(x: Tensor, name: str, eps: float) -> Tensor:
        x = normed(x.unflatten(1, (32, -1)), eps, (2, 3, 4)).flatten(1, 2)
        return x * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]

    def layered(x: Tensor, name: str) -> Tensor:
        x = normed(x, 1e-6, (-1,))
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def convolved(x: Tensor, name: str, **options: int) -> Tensor:
        rows = weights[f"{name}.weight"].flatten(1)
        rows = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-5)
        return F.conv2d(x, rows.view_as(weights[f"{name}.weight"]), **options)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    tokens, mask = [weights[f"{ENCODER}.cls"][0]], [torch.ones(1, dtype=torch.bool)]
    for index, (picture, full) in enumerate(zip(images_to_sizes(image), (49, 144, 0), strict=True)):
        patches = picture_to_patches(picture)
        rows, columns = patches.shape[1:3]
        missing = max(0, full - rows * columns)
        x = F.pad(patches.flatten(0, 2), (0, 0, 0, 0, 0, 0, 0, missing))
        x = convolved(F.pad(x, (2, 3, 2, 3)), "conv_root", stride=2)
        x = F.pad(grouped(x, "gn_root", 1e-6).relu(), (0, 1, 0, 1))
        x = F.max_pool2d(x, 3, 2)
        shortcut = grouped(convolved(x, "block1.conv_proj"), "block1.gn_proj", 1e-4)
        x = grouped(convolved(x, "block1.conv1"), "block1.gn1", 1e-4).relu()
        x = grouped(convolved(x, "block1.conv2", padding=1), "block1.gn2", 1e-4).relu()
        x = grouped(convolved(x, "block1.conv3"), "block1.gn3", 1e-4)
        x = linear((x + shortcut).relu().permute(0, 2, 3, 1).flatten(1), "embedding")
        cells = F.pad(grid_cells(rows, columns), (0, missing))
        x = x + weights[f"{ENCODER}.posembed_input.position_emb"][0, cells]
        tokens.append(x + weights[f"{ENCODER}.scaleembed_input.scale_emb"][index])
        mask.append(torch.arange(len(x)) < rows * columns)
    x, real = torch.cat(tokens), torch.cat(mask)
    assert not real.all()
    both = real[:, None] & real
    for block in (f"{BLOCK}_{index}" for index in range(14)):
        before = layered(x, f"{block}.norm1")
        query, key, value = (
            linear(before, f"{block}.attention.{part}").unflatten(1, (6, 64)).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        read = (query @ key.mT / 8).masked_fill(~both, -1e3).softmax(2) @ value
        x = x + linear(read.transpose(0, 1).flatten(1), f"{block}.attention.out")
        hidden = linear(layered(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        x = x + linear(hidden, f"{block}.mlp.fc2")
    return linear(layered(x[:1], f"{ENCODER}.encoder_norm"), "head")


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["small_longer", "big_longer", "big_None"])
def test_scores_are_the_golden_ones(network: nn.Module, case: str) -> None:
    expected = golden("imaging_quality_musiq")
    clip, mode = case.split("_")
    images = vbench_images(expected[f"frames_{clip}"], mode)
    assert tuple(images.shape[2:]) == tuple(expected[f"pre_hw_{case}"])
    seen = images[0, :, ::11, ::11].numpy()
    np.testing.assert_allclose(seen, expected[f"pre_sub_{case}"], rtol=0, atol=1e-6)
    quality = network(images)["quality"]
    assert quality.shape == (len(images), network_card("musiq").outputs["quality"])
    scores = quality[:, 0].double().numpy()
    # 8e-6 was seen.
    np.testing.assert_allclose(scores, expected[f"frame_scores_{case}"], rtol=0, atol=SAME)
    assert scores.mean() == pytest.approx(expected[f"video_score_{case}"], abs=SAME)
    assert scores.mean() / 100 == pytest.approx(expected[f"dimension_score_{case}"], abs=SAME / 100)


@pytest.mark.parametrize("size", [(96, 144), (300, 40), (64, 530)])
def test_batch_size_does_not_matter(network: nn.Module, size: tuple[int, int]) -> None:
    images = noise(2, 3, *size)
    before = images.clone()
    together = network(images)["quality"]
    alone = torch.cat([network(image[None])["quality"] for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=SAME)
    assert together.std() > 100 * SAME
    assert torch.equal(images, before)


def test_memory_order_does_not_matter(network: nn.Module) -> None:
    images = noise(2, 3, 70, 90)
    expected = network(images)["quality"]
    turned = network(images.contiguous(memory_format=torch.channels_last))["quality"]
    torch.testing.assert_close(turned, expected, rtol=0, atol=SAME)


def test_patches_are_encoded_one_by_one(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = noise(2, 3, 70, 90)
    expected = network(images)["quality"]
    monkeypatch.setattr(aigve_models.musiq, "PATCHES_AT_ONCE", 7)
    torch.testing.assert_close(network(images)["quality"], expected, rtol=0, atol=SAME)


def test_every_constant_of_the_conversion(network: nn.Module) -> None:
    """In float64, where what is added to a small deviation shows, and with its masked tokens."""
    images = noise(1, 3, 50, 128).double()
    quality = copy.deepcopy(network).double()(images)["quality"]
    expected = plain_quality(published(), images * 2 - 1)
    torch.testing.assert_close(quality, expected, rtol=1e-12, atol=0)


def test_convolutions_read_standardised_weights(network: nn.Module) -> None:
    assert isinstance(network, MUSIQ)
    scaled = copy.deepcopy(network)
    for module in scaled.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(4).add_(0.25)
    images = noise(1, 3, 70, 90)
    # What is added to a deviation, so that it is not 0, is 1e-5 of one that is not small.
    torch.testing.assert_close(
        scaled(images)["quality"], network(images)["quality"], rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("bias", [-70.0, 150.0])
def test_scores_are_not_clamped(network: nn.Module, bias: float) -> None:
    assert isinstance(network, MUSIQ)
    images = noise(1, 3, 40, 40)
    expected = network(images)["quality"] - network.head.bias + bias
    assert not 0 <= expected <= 100
    other = copy.copy(network)
    other._modules = network._modules | {"head": copy.deepcopy(network.head)}
    other.head.bias.fill_(bias)
    torch.testing.assert_close(other(images)["quality"], expected, rtol=0, atol=SAME)


def test_bfloat16_gives_float32(network: nn.Module) -> None:
    images = noise(2, 3, 64, 96)
    exact = network(images)["quality"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(images)["quality"]
    assert rough.dtype == torch.float32
    # 0.1 was seen.
    assert 1e-3 < (rough - exact).abs().max() < 1


# --- sizes, patches and positions -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "small", "middle"),
    [
        ((96, 144), (149, 224), (256, 384)),
        ((193, 512), (84, 224), (145, 384)),
        ((1080, 1920), (126, 224), (216, 384)),
        ((1920, 1080), (224, 126), (384, 216)),
        # Halves go to the even side: of 2.5 and 3.5 pixels.
        ((5, 448), (2, 224), (4, 384)),
        ((7, 448), (4, 224), (6, 384)),
    ],
)
def test_sizes(size: tuple[int, int], small: tuple[int, int], middle: tuple[int, int]) -> None:
    sizes = images_to_sizes(noise(1, 3, *size))
    assert [tuple(picture.shape) for picture in sizes] == [
        (1, 3, *small),
        (1, 3, *middle),
        (1, 3, *size),
    ]


def test_resizing_is_bicubic_without_antialiasing() -> None:
    """Halved, a row is the middle of a cubic through four pixels, whatever lies between."""
    image = noise(1, 3, 448, 448)
    small = images_to_sizes(image)[0]
    taps = torch.tensor([-0.09375, 0.59375, 0.59375, -0.09375])  # cubic convolution, a = -0.75
    rows = torch.einsum("bchwk,k->bchw", image[..., 1:-1].unfold(3, 4, 2), taps)
    both = torch.einsum("bchwk,k->bchw", rows[:, :, 1:-1].unfold(2, 4, 2), taps)
    torch.testing.assert_close(small[:, :, 1:-1, 1:-1], both, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 1), (95, 32)])
def test_patches_tile_the_padded_picture(size: tuple[int, int]) -> None:
    picture = noise(2, 3, *size) + 1
    height, width = size
    rows, columns = -(-height // 32), -(-width // 32)
    padded = torch.zeros(2, 3, 32 * rows, 32 * columns)
    top, left = (32 * rows - height) // 2, (32 * columns - width) // 2
    padded[:, :, top : top + height, left : left + width] = picture
    patches = picture_to_patches(picture)
    assert patches.shape == (2, rows, columns, 3, 32, 32)
    for row in range(rows):
        for column in range(columns):
            there = padded[:, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            assert torch.equal(patches[:, row, column], there)


def test_cells_are_those_of_nearest_interpolation() -> None:
    """That is how the conversion counts, in float32: up to 204 patches it is exact."""
    for count in range(1, 205):
        cells = F.interpolate(torch.arange(10.0)[None, None], count, mode="nearest").long()[0, 0]
        assert torch.equal(grid_cells(1, count), cells)
        assert torch.equal(grid_cells(count, 1), 10 * cells)
    assert grid_cells(2, 3).tolist() == [0, 3, 6, 50, 53, 56]


# --- what it takes --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 447), (447, 1), (31, 33), (224, 224), (384, 100)])
def test_any_size_has_a_score(network: nn.Module, size: tuple[int, int]) -> None:
    quality = network(noise(1, 3, *size))["quality"]
    assert quality.shape == (1, 1)
    assert torch.isfinite(quality).all()


@pytest.mark.parametrize("size", [(1, 448), (448, 1), (2, 900), (0, 5), (5, 0), (0, 0)])
def test_pictures_that_are_too_narrow_are_refused(plain: MUSIQ, size: tuple[int, int]) -> None:
    height, width = size
    with pytest.raises(ValueError, match=f"448 times .*these are {width} wide and {height} high"):
        plain(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 4, 64, 64), (2, 64, 64, 3)])
def test_other_shapes_are_refused(plain: MUSIQ, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images are \[B, 3, H, W\], not \["):
        plain(torch.zeros(shape))


def test_whole_numbers_are_refused(plain: MUSIQ) -> None:
    with pytest.raises(ValueError, match=r"images are float32 on 0\.\.1, not torch\.uint8"):
        plain(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="musiq has no variant 'ava'"):
        build("ava")


# --- weights --------------------------------------------------------------------------------------


def test_keys_and_shapes_are_the_published_ones(plain: MUSIQ) -> None:
    names = published_names({})
    ours = {names[key]: tuple(tensor.shape) for key, tensor in plain.state_dict().items()}
    assert ours == SHAPES
    assert len(ours) == 248
    assert sum(tensor.numel() for tensor in plain.parameters()) == 27_125_825


@pytest.mark.parametrize("wrapped", [False, True])
def test_every_published_tensor_is_loaded(load: Load, wrapped: bool) -> None:
    """A number of its own in each; also as IQA-PyTorch's loader takes it, from several GPUs."""
    numbered = {
        key: torch.full((), float(number)).expand(SHAPES[key])
        for number, key in enumerate(sorted(SHAPES))
    }
    given = {f"module.{key}": tensor for key, tensor in numbered.items()} if wrapped else numbered
    names = published_names(given)
    loaded = {names[key]: tensor for key, tensor in load(given).state_dict().items()}
    assert loaded.keys() == numbered.keys()
    assert all((loaded[key] == tensor.flatten()[0]).all() for key, tensor in numbered.items())


@pytest.mark.parametrize(
    "key",
    [
        "conv_root.weight",
        "block1.gn_proj.bias",
        f"{ENCODER}.cls",
        f"{ENCODER}.scaleembed_input.scale_emb",
        f"{BLOCK}_13.mlp.fc2.weight",
        "head.bias",
    ],
)
def test_a_missing_key_is_named(load: Load, key: str) -> None:
    checkpoint = empty()
    del checkpoint[key]
    with pytest.raises(WeightsError) as caught:
        load(checkpoint)
    assert caught.value.message.endswith(f"does not fit musiq (248 keys):\n  1 missing: {key}")


@pytest.mark.parametrize("key", [f"{BLOCK}_14.norm1.bias", "conv_root.bias", "params"])
def test_an_unknown_key_is_named(load: Load, key: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load(empty() | {key: torch.zeros(3)})
    assert caught.value.message.endswith(f"(248 keys):\n  1 unknown: {key}")


def test_ten_classes_are_another_network(load: Load) -> None:
    """The weights for AVA give a distribution over ten scores."""
    checkpoint = empty()
    del checkpoint["head.weight"], checkpoint["head.bias"]
    checkpoint |= {"head.0.weight": torch.zeros(10, 384), "head.0.bias": torch.zeros(10)}
    with pytest.raises(WeightsError) as caught:
        load(checkpoint)
    assert "2 missing: head.bias, head.weight\n" in caught.value.message
    assert "2 unknown: head.0.bias, head.0.weight" in caught.value.message


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("embedding.weight", (384, 16384)),
        (f"{ENCODER}.posembed_input.position_emb", (1, 100, 384)),
        (f"{BLOCK}_0.attention.query.bias", (384,)),
    ],
)
def test_a_key_of_another_shape_is_named(load: Load, key: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(WeightsError) as caught:
        load(empty() | {key: torch.zeros(7, 2)})
    assert f"1 of another shape: {key} (7, 2) instead of {shape}" in caught.value.message


def test_card() -> None:
    card = network_card("musiq")
    entry = card.entry()
    assert (card.unit, dict(card.outputs), card.default_weights) == (
        "frame",
        {"quality": 1},
        "spaq",
    )
    assert entry.file == f"musiq_spaq_ckpt-{entry.sha256}.pth"
    assert all(url.endswith(f"/{entry.file}") for url in entry.urls)
