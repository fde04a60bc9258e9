"""I3D: its numbers are those of the published implementations on the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models import r3d_18
from aigve_models.i3d_kinetics400 import (
    I3D,
    build,
    checkpoint_to_state,
    same_conv3d,
    same_max_pool,
)
from torch import Tensor, nn

from aigve_cli.contract import CentreCrop, Normalise, Resize, ResizeShorter
from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.video.views import frames_to_view
from aigve_cli.weights import Located, network_card
from tests.networks.det_weights import det_state, fill
from tests.networks.plain_i3d import plain_conv3d, plain_layers, plain_max_pool

GOLDENS = Path(__file__).parents[1] / "goldens" / "i3d"
TAG = "i3d"
TO_ONE = Normalise((127.5,) * 3, (127.5,) * 3)
VIEWS = {
    "squash": (Resize(224, 224, "torch-bilinear"), TO_ONE),
    "tf1": (Resize(224, 224, "tf1-bilinear"), TO_ONE),
    "crop": (ResizeShorter(224, "torch-bilinear", "up"), CentreCrop(224, 224), TO_ONE),
}
# Another order of float32 sums moves the numbers by 3e-7 to 6e-7; another resampler by 1e-2,
# a crop by 3e-2, the other epsilon by 8e-3.
PARITY = 1e-5
# Orders of sums of one network on one machine.
SAME = 1e-6

Load = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Deterministic weights by their published names."""
    return det_state(TAG, build())


@pytest.fixture(scope="module")
def load(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Write a checkpoint, these weights if nothing else, and load it as the engine does."""

    def load(checkpoint: Any = None, *, variant: str = "") -> nn.Module:
        path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
        torch.save(state if checkpoint is None else checkpoint, path)
        return load_file(path, variant)

    return load


def load_file(path: Path, variant: str = "") -> nn.Module:
    located = Located(path, "0" * 64, "standard", False, "kinetics400", "unknown")
    return load_network(network_card("i3d-kinetics400"), located, device="cpu", variant=variant)


@pytest.fixture(scope="module")
def networks(load: Load) -> dict[str, nn.Module]:
    return {variant: load(variant=variant) for variant in ("eps1e-3", "eps1e-5")}


@pytest.fixture(scope="module")
def network(networks: dict[str, nn.Module]) -> nn.Module:
    return networks["eps1e-3"]


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    """Neither folded nor in another memory order."""
    network = build().eval().requires_grad_(False)
    fill(TAG, network)
    return network


@pytest.fixture(scope="module")
def expected() -> Any:
    with np.load(GOLDENS / "expected_i3d.npz") as arrays:
        return dict(arrays)


def golden_clips(name: str, view: str) -> Tensor:
    """float32 [N, 3, T, 224, 224]; ``vid_A1`` and ``vid_A2`` are the first clips of ``vid_A``."""
    file, count = {"vid_A1": ("vid_A", 1), "vid_A2": ("vid_A", 2)}.get(name, (name, None))
    with np.load(GOLDENS / f"{file}.npz") as arrays:
        frames = torch.from_numpy(arrays["x"])[:count]
    pictures = frames_to_view(frames.flatten(0, 1), VIEWS[view])
    return pictures.unflatten(0, frames.shape[:2]).movedim(2, 1)


def noise(*shape: int, seed: int = 3) -> Tensor:
    """-1..1."""
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 1


def distance(ours: Tensor, theirs: Tensor | np.ndarray) -> float:
    """Relative L2."""
    theirs = torch.as_tensor(theirs).double()
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs).norm() / theirs.norm())


def keys(layout: str) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = json.loads((GOLDENS / f"keys_i3d_{layout}.json").read_text())
    return shapes


def hassony2_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint in that layout. Its list of keys and ours have the layers in the same order."""
    ours = [key for key in keys("piergiaj") if not key.startswith("logits.")]
    ours += ["logits.conv3d.weight", "logits.conv3d.bias"]
    return dict(zip(keys("hassony2"), (state[key] for key in ours), strict=True))


# --- weights ----------------------------------------------------------------------------------


def test_keys_and_shapes_are_the_published_ones(state: dict[str, Tensor]) -> None:
    assert len(state) == 344
    assert {key: list(tensor.shape) for key, tensor in state.items()} == keys("piergiaj")


def test_every_hassony2_key_has_a_place_of_its_own(state: dict[str, Tensor]) -> None:
    theirs = {key: torch.empty(shape) for key, shape in keys("hassony2").items()}
    ours = checkpoint_to_state(theirs)
    assert {key: list(tensor.shape) for key, tensor in ours.items()} == keys("piergiaj")


def without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As files from before PyTorch 0.4.1 are."""
    return {key: tensor for key, tensor in state.items() if "num_batches" not in key}


@pytest.mark.parametrize(
    "layout",
    [
        hassony2_names,
        without_counters,
        lambda state: {"state_dict": {f"module.{key}": state[key] for key in state}},
        lambda state: {"epoch": 3, "model": state},
    ],
    ids=["hassony2", "old", "module", "model"],
)
def test_other_layouts_load_to_the_same_network(
    network: nn.Module, load: Load, state: dict[str, Tensor], layout: Callable[..., Any]
) -> None:
    clips = noise(1, 3, 9, 193, 193)
    assert torch.equal(load(layout(state))(clips)["logits"], network(clips)["logits"])


def test_another_network_is_refused_with_names(load: Load) -> None:
    with pytest.raises(WeightsError) as caught:
        load(r3d_18.build().state_dict())
    assert "344 missing: Conv3d_1a_7x7.bn.bias" in caught.value.message
    assert "122 unknown: fc.bias" in caught.value.message


def test_unknown_names_stay() -> None:
    names = ["mixed_9a.branch_0.conv3d.weight", "mixed_3b.branch_0.gn.weight", "head", "a.b"]
    assert list(checkpoint_to_state(dict.fromkeys(names))) == names


# torch deprecates the writing of such files, by the type that its version has.
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_is_named_with_the_file_to_take(tmp_path: Path) -> None:
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.save(torch.jit.trace(nn.ReLU(), torch.ones(1)), path)
    with pytest.raises(WeightsError, match="TorchScript") as caught:
        load_file(path)
    assert str(path) in caught.value.message
    assert "i3d_pretrained_400.pt" in str(caught.value.hint)


def test_there_are_two_variants() -> None:
    with pytest.raises(ValueError, match="variant 'eps1'"):
        build("eps1")
    epsilons = {
        variant: {m.eps for m in build(variant).modules() if isinstance(m, nn.BatchNorm3d)}
        for variant in ("", "eps1e-3", "eps1e-5")
    }
    assert epsilons == {"": {1e-3}, "eps1e-3": {1e-3}, "eps1e-5": {1e-5}}


# --- parity with the published implementations --------------------------------------------------


@pytest.mark.parametrize(
    ("clips", "view", "variant"),
    [
        ("vid_A", "squash", "eps1e-3"),
        ("vid_B", "squash", "eps1e-3"),
        ("vid_T24", "squash", "eps1e-3"),
        ("vid_T11", "squash", "eps1e-3"),
        ("vid_A2", "tf1", "eps1e-3"),
        ("vid_A2", "crop", "eps1e-3"),
        ("vid_A2", "squash", "eps1e-5"),
        ("vid_A2", "crop", "eps1e-5"),
        ("vid_T24", "crop", "eps1e-5"),
        ("vid_T11", "crop", "eps1e-5"),
    ],
)
def test_logits(
    networks: dict[str, nn.Module], expected: Any, clips: str, view: str, variant: str
) -> None:
    logits = networks[variant](golden_clips(clips, view))["logits"]
    assert distance(logits, expected[f"{clips}/{view}_{variant}/logits400"]) < PARITY


def test_features(network: nn.Module, expected: Any) -> None:
    features = network(golden_clips("vid_A2", "squash"))["features"]
    assert distance(features, expected["vid_A2/squash_eps1e-3/pooled1024"]) < PARITY


def test_logits_of_float64(network: nn.Module, expected: Any) -> None:
    logits = network(golden_clips("vid_A1", "squash"))["logits"]
    assert distance(logits, expected["vid_A1_f64/squash_eps1e-3/logits400"]) < PARITY


@pytest.mark.parametrize(("name", "steps"), [("vid_T24", 2), ("vid_T11", 1)])
def test_logits_before_the_mean_over_time(
    network: I3D, expected: Any, name: str, steps: int
) -> None:
    logits = network.maps_to_logits(network.clips_to_maps(golden_clips(name, "squash")))
    assert logits.shape == (1, 400, steps, 1, 1)
    theirs = expected[f"{name}/squash_eps1e-3/logits_time"]
    assert distance(logits[:, :, :, 0, 0], theirs) < PARITY


# --- fast ways --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 16, 224, 224), (1, 3, 9, 193, 193), (1, 3, 13, 201, 230)],
    ids=["usual", "smallest", "odd"],
)
def test_loaded_network_equals_the_plain_one(
    network: nn.Module, plain: nn.Module, shape: tuple[int, ...]
) -> None:
    clips = noise(*shape)
    with plain_layers():
        theirs = plain(clips)
    ours = network(clips)
    for name, size in network_card("i3d-kinetics400").outputs.items():
        assert ours[name].shape == (shape[0], size)
        assert ours[name].dtype == torch.float32
        assert distance(ours[name], theirs[name]) < SAME


def test_all_batch_norms_are_folded(network: nn.Module, plain: nn.Module) -> None:
    assert sum(isinstance(layer, nn.BatchNorm3d) for layer in plain.modules()) == 57
    assert not any(isinstance(layer, nn.BatchNorm3d) for layer in network.modules())


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 1), (1, 1)])
def test_convolution(kernel: int, stride: int, with_bias: bool, order: torch.memory_format) -> None:
    weight = noise(16, 8, kernel, kernel, kernel)
    bias = noise(16) if with_bias else None
    for shape in ((2, 8, 5, 12, 11), (1, 8, 6, 9, 8)):
        x = noise(*shape).contiguous(memory_format=order)
        ours = same_conv3d(x, weight, bias, (stride,) * 3)
        assert distance(ours, plain_conv3d(x, weight, bias, (stride,) * 3)) < SAME


def test_convolution_where_onednn_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    x, weight = noise(1, 8, 5, 12, 11), noise(16, 8, 3, 3, 3)
    ours = same_conv3d(x, weight, None, (1, 1, 1))
    assert distance(ours, plain_conv3d(x, weight, None, (1, 1, 1))) < SAME


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [
        ((1, 3, 3), (1, 2, 2)),
        ((3, 3, 3), (2, 2, 2)),
        ((2, 2, 2), (2, 2, 2)),
        ((3, 3, 3), (1, 1, 1)),
    ],
)
def test_max_pooling_is_the_same_to_the_bit(
    kernel: tuple[int, int, int], stride: tuple[int, int, int], order: torch.memory_format
) -> None:
    for shape in ((2, 8, 5, 12, 11), (1, 8, 6, 9, 8), (1, 8, 2, 7, 7)):
        x = noise(*shape).relu().contiguous(memory_format=order)
        assert torch.equal(same_max_pool(x, kernel, stride), plain_max_pool(x, kernel, stride))


# --- behaviour --------------------------------------------------------------------------------


def test_batch_size_does_not_matter(network: nn.Module) -> None:
    clips = noise(3, 3, 9, 193, 193)
    together = network(clips)
    alone = [network(clip[None]) for clip in clips]
    for name, rows in together.items():
        assert distance(rows, torch.cat([outputs[name] for outputs in alone])) < SAME


def test_bfloat16(network: nn.Module) -> None:
    clips = noise(1, 3, 16, 224, 224)
    exact = network(clips)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(clips)
    for name in exact:
        assert rough[name].dtype == torch.float32
        # bfloat16 has 8 bits: 4e-3 a number, and errors of many numbers average out.
        assert 1e-4 < distance(rough[name], exact[name]) < 2e-2


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 3, 8, 224, 224), "clips of 9 frames or more: 8"),
        ((1, 3, 16, 192, 224), "193 x 193 pixels or more: 192 x 224"),
        ((1, 16, 3, 224, 224), r"\[B, 3, T, H, W\], not \[1, 16, 3, 224, 224\]"),
        ((3, 16, 224, 224), r"not \[3, 16, 224, 224\]"),
    ],
)
def test_other_clips_are_refused(network: nn.Module, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        network(torch.zeros(shape))


def test_card(state: dict[str, Tensor]) -> None:
    card = network_card("i3d-kinetics400")
    assert card.unit == "clip"
    assert card.outputs["logits"] == len(state["logits.conv3d.bias"])
    assert card.outputs["features"] == state["logits.conv3d.weight"].shape[1]
    assert len(card.entry().urls) == 4
