"""RAFT: its flow is that of VBench's copy of the reference, and of torchvision's, on one set of
weights; and a frame that two pairs share is encoded once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models import raft_large
from aigve_models.raft_large import (
    Flow,
    Products,
    Windows,
    build,
    checkpoint_to_state,
    flow_to_motion,
    frames_to_input,
    padding,
    published_names,
)
from torch import Tensor, nn
from torchvision.models import optical_flow
from torchvision.models.optical_flow.raft import CorrBlock

from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.weights import Located, network_card
from tests.networks.vbench_checkpoints import vbench_checkpoint
from tests.networks.vbench_weights import GOLDENS, golden, vbench_state

NAME = "raft-large"
OWN, THINGS = "c-t-v1", "things"
KEYS: dict[str, str | None] = json.loads(
    (GOLDENS / "raft_things_to_torchvision_keys.json").read_text(encoding="utf-8")
)
"""The reference's names to torchvision's; those that it has twice to None."""
RENAMED = {theirs: ours for theirs, ours in KEYS.items() if ours is not None}
LAST = "update_block.flow_head.conv2"
# Pixels. Other orders of sums, 20 iterations long, move these flows of up to 28 pixels by 5e-5; 19
# or 21 iterations by 1.4.
FLOW = 2e-4
# Relative. Means over a twentieth of the pixels: their round-off is smaller.
MOTION = 2e-6
# Relative. One pair in other company, on one machine.
SAME = 1e-6

Load = Callable[..., nn.Module]


def nothing(shape: tuple[int, ...]) -> Tensor:
    """Zeros that take no room, in memory or in a file."""
    return torch.zeros(()).expand(shape)


def copied(key: str) -> str:
    """The name under which the reference has such a tensor first."""
    return key.replace(".norm3.", ".downsample.1.")


def shapes() -> dict[str, tuple[int, ...]]:
    """The reference's names and shapes."""
    with torch.device("meta"):
        own = {key: tuple(value.shape) for key, value in build().state_dict().items()}
    return {key: own[RENAMED[copied(key)]] for key in KEYS}


def princetons(gain: float = 0.05, bias: float = 1.0) -> dict[str, Tensor]:
    """The reference's file, with the goldens' weights."""
    state = vbench_state(shapes().items(), gains={f"{LAST}.weight": gain})
    state[f"{LAST}.bias"] *= bias
    return {f"module.{key}": state[copied(key)] for key in state}


def torchvisions() -> dict[str, Tensor]:
    """torchvision's file, with the same weights."""
    return vbench_checkpoint("raft-large")


def empty(tag: str) -> dict[str, Tensor]:
    """The names and shapes of either file."""
    if tag == THINGS:
        return {f"module.{key}": nothing(shape) for key, shape in shapes().items()}
    return {RENAMED[key]: nothing(shape) for key, shape in shapes().items() if key in RENAMED}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    def load(checkpoint: dict[str, Any], tag: str = THINGS) -> nn.Module:
        card = network_card(NAME)
        path = tmp_path_factory.mktemp("raft") / card.entry(tag).file
        torch.save(checkpoint, path)
        located = Located(path, "0" * 64, "standard", False, tag, "BSD-3-Clause")
        try:
            return load_network(card, located, device="cpu")
        finally:
            path.unlink()

    return load


@pytest.fixture(scope="module")
def network(load: Load) -> nn.Module:
    return load(princetons())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations, where the flow itself does not matter."""
    monkeypatch.setattr(raft_large, "ITERATIONS", 2)


def frames_of(name: str, clip: str = "frames") -> Tensor:
    """float32 [T, 3, H, W], those of a golden clip that VBench looks at."""
    arrays = golden(name)
    frames = torch.from_numpy(arrays[clip]).movedim(-1, 1).float()
    # A clip of 24 frames a second: eight of them.
    return frames[:: 3 if clip == "frames_b" else 1]


def pairs_of(frames: Tensor) -> Tensor:
    """float32 [T, 3, H, W] to [T - 1, 3, 2, H, W], in the memory order that the engine gives."""
    pairs = torch.stack([frames[:-1], frames[1:]], dim=2)
    return pairs.contiguous(memory_format=torch.channels_last_3d)


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clip(count: int, height: int = 128, width: int = 136, *, seed: int = 5) -> Tensor:
    """float32 [count, 3, H, W] on 0..255, each unlike the others."""
    return noise(count, 3, height, width, seed=seed).mul(50).add(128).clamp(0, 255)


@contextmanager
def encodings(network: nn.Module) -> Iterator[list[Tensor]]:
    """What goes through the feature encoder meanwhile."""
    seen: list[Tensor] = []
    hook = network.feature_encoder.register_forward_hook(lambda _, x, y: seen.append(x[0].clone()))
    try:
        yield seen
    finally:
        hook.remove()


# --- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "b"])
def test_flow_and_motion_are_the_golden_ones(network: nn.Module, name: str) -> None:
    """``b`` is 131 x 150, which is padded to 136 x 152."""
    expected = golden("dynamic_degree_raft")
    frames = frames_of("dynamic_degree_raft", f"frames_{name}")
    flow = network.flow(frames[:1], frames[1:2])
    for ours, theirs in zip(flow, ("low0", "up0"), strict=True):
        np.testing.assert_allclose(ours, expected[f"flow_{theirs}_{name}"], rtol=0, atol=FLOW)
    outputs = network(pairs_of(frames))
    scores = expected[f"pair_scores_{name}"]
    assert {key: rows.shape for key, rows in outputs.items()} == {
        key: (len(scores), width) for key, width in network_card(NAME).outputs.items()
    }
    assert all(rows.dtype == torch.float32 for rows in outputs.values())
    np.testing.assert_allclose(outputs["motion"][:, 0], scores, rtol=MOTION)
    same = torch.equal(outputs["motion"], outputs["motion_inside"])
    assert same == (name == "a"), "only b has a padding"


@pytest.mark.parametrize("gain", [0.004, 0.008])
def test_small_flows_are_the_golden_ones(load: Load, gain: float) -> None:
    """Of two or three pixels: one is below VBench's threshold and one above."""
    expected = golden("dynamic_degree_raft_lowgain")
    frames = frames_of("dynamic_degree_raft_lowgain")[:3]
    network = load(princetons(gain, bias=0.1))
    flow = network.flow(frames[:1], frames[1:2]).full
    np.testing.assert_allclose(flow, expected[f"flow_up0_g{gain}"], rtol=0, atol=FLOW)
    motion = network(pairs_of(frames))["motion"][:, 0]
    np.testing.assert_allclose(motion, expected[f"pair_scores_g{gain}"][:2], rtol=MOTION)


def test_flow_is_torchvisions(network: nn.Module) -> None:
    theirs = optical_flow.raft_large(weights=None).eval().requires_grad_(False)
    theirs.load_state_dict(torchvisions())
    frames = clip(2, 137, 203)
    first, second = (2 * torch.nn.functional.pad(frames / 255, (2, 3, 3, 4), "replicate") - 1)[
        :, None
    ]
    expected = theirs(first, second, num_flow_updates=20)[-1]
    flow = network.flow(frames[:1], frames[1:]).full
    assert flow.shape == expected.shape == (1, 2, 144, 208)
    torch.testing.assert_close(flow, expected, rtol=0, atol=FLOW)


def test_company_does_not_matter(network: nn.Module) -> None:
    pairs = torch.stack([clip(2, seed=1), clip(2, seed=2)], dim=2)
    before = pairs.clone()
    together = network(pairs)["motion"]
    alone = torch.cat([network(pair[None])["motion"] for pair in pairs])
    torch.testing.assert_close(together, alone, rtol=SAME, atol=0)
    assert torch.equal(pairs, before)


def test_products_are_those_of_torchvision() -> None:
    """Of maps of an odd size, of which pooling drops a row and a column."""
    first, second = noise(2, 2, 256, 17, 19)
    block = CorrBlock(num_levels=4, radius=4)
    block.build_pyramid(first, second)
    products = Products(first, second)
    assert [tuple(level.shape[1:]) for level in products.pyramid] == [
        (1, 17, 19),
        (1, 8, 9),
        (1, 4, 4),
        (1, 2, 2),
    ]
    for ours, theirs in zip(products.pyramid, block.corr_pyramid, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    # A third of the places lies outside, where torchvision's products are 0 too.
    places = 10 + 10 * noise(2, 2, 17, 19, seed=6)
    expected = block.index_pyramid(centroids_coords=places)
    for correlations in (products, Windows(first, second)):
        found = correlations.look_up(places)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_large_frames_are_compared_place_by_place(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = pairs_of(frames_of("dynamic_degree_raft", "frames_b")[:4])
    expected = network(pairs)
    calls = []
    monkeypatch.setattr(raft_large, "Products", calls.append)
    needed = raft_large.products_bytes(17, 19)
    monkeypatch.setattr(raft_large, "LARGEST_PRODUCTS", needed - 1)
    found = network(pairs)
    assert not calls
    for name, motion in expected.items():
        torch.testing.assert_close(found[name], motion, rtol=MOTION, atol=0)
    monkeypatch.setattr(raft_large, "LARGEST_PRODUCTS", needed)
    with pytest.raises(TypeError):
        network(pairs)


def test_a_product_by_hand() -> None:
    first, second = noise(2, 1, 256, 16, 24)
    places = torch.zeros(1, 2, 16, 24)
    places[0, :, 3, 5] = torch.tensor([11.0, 7.0])
    found = Products(first, second).look_up(places)
    products = torch.einsum("c,cyx->yx", first[0, :, 3, 5], second[0]) / 16
    around = products[7 - 4 : 7 + 5, 11 - 4 : 11 + 5]
    # Columns come before rows.
    torch.testing.assert_close(found[0, :81, 3, 5].view(9, 9), around.T, rtol=1e-4, atol=1e-4)
    corner = found[0, :81, 0, 0].view(9, 9)
    # But for places that are 1e-7 of a step inside.
    assert corner[:4].abs().max() < 1e-5
    assert corner[:, :4].abs().max() < 1e-5
    assert corner[4:, 4:].abs().min() > 1e-4


# --- motion -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(128, 160), (131, 157)])
def test_motion_is_the_mean_of_the_fastest_twentieth(size: tuple[int, int]) -> None:
    flow = 10 * noise(3, 2, *size)
    lengths = np.sort(np.hypot(*flow.double().movedim(1, 0).numpy()).reshape(3, -1))
    count = size[0] * size[1] // 20
    motion = flow_to_motion(flow)
    assert motion.shape == (3, 1)
    np.testing.assert_allclose(motion[:, 0], lengths[:, -count:].mean(1), rtol=2e-7)


def test_the_padding_is_not_inside(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = torch.full((1, 2, 136, 160), 300.0)
    # Of three rows of padding one is before, and of three columns.
    flow[:, :, 1 : 1 + 133, 1 : 1 + 157] = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    monkeypatch.setattr(network, "flow", lambda first, second: Flow(flow, flow))
    outputs = network(torch.zeros(1, 3, 2, 133, 157))
    assert outputs["motion_inside"].item() == 5
    padded = 136 * 160 - 133 * 157
    count = 136 * 160 // 20
    assert padded < count
    expected = (padded * 300 * 2**0.5 + (count - padded) * 5) / count
    assert outputs["motion"].item() == pytest.approx(expected, rel=1e-6)


def test_frames_are_padded_with_their_edges() -> None:
    frames = clip(2, 131, 153)
    seen = frames_to_input(frames)
    assert seen.shape == (2, 3, 136, 160)
    assert [padding(size) for size in (8, 9, 15, 131, 153)] == [
        (0, 0),
        (3, 4),
        (0, 1),
        (2, 3),
        (3, 4),
    ]
    inside = seen[:, :, 2 : 2 + 131, 3 : 3 + 153]
    torch.testing.assert_close(inside, frames / 127.5 - 1)
    assert torch.equal(seen[:, :, 0, 0], inside[:, :, 0, 0])
    assert torch.equal(seen[:, :, -1, 3:-4], inside[:, :, -1])
    assert torch.equal(seen[:, :, 2:-3, -1], inside[..., -1])


# --- one encoding a frame ---------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[5], [1, 1, 1, 1, 1], [2, 3]])
@pytest.mark.usefixtures("short")
def test_a_frame_is_encoded_once(network: nn.Module, sizes: list[int]) -> None:
    frames = clip(6, seed=len(sizes) + sizes[0])
    with encodings(network) as seen:
        rows = [network(part)["motion"] for part in pairs_of(frames).split(sizes)]
    # One by one, in their order.
    assert torch.equal(torch.cat(seen), frames_to_input(frames))
    assert [len(frame) for frame in seen] == [1] * 6
    apart = []
    for pair in pairs_of(frames):
        network._last = None
        apart.append(network(pair[None])["motion"])
    torch.testing.assert_close(torch.cat(rows), torch.cat(apart), rtol=SAME, atol=0)


@pytest.mark.usefixtures("short")
def test_what_was_seen_before_does_not_matter(network: nn.Module) -> None:
    """The next pair may begin with a frame that differs from the last by little."""
    frames = clip(3)
    (pair,) = pairs_of(frames[1:])
    network._last = None
    expected = network(pair[None])["motion"]
    for pixel in (0, 0.001, 1, 100):
        near = frames.clone()
        near[1, 0, 64, 64] += pixel
        network(pairs_of(near[:2]))
        with encodings(network) as seen:
            motion = network(pair[None])["motion"]
        assert len(seen) == (2 if pixel else 1)
        assert torch.equal(motion, expected)


@pytest.mark.usefixtures("short")
def test_pairs_of_two_videos_in_one_batch(network: nn.Module) -> None:
    a, b = clip(4, seed=1), clip(3, seed=2)
    with encodings(network) as seen:
        network(torch.cat([pairs_of(a), pairs_of(b)]))
    assert len(seen) == 4 + 3
    # Pairs without a frame in common, and one without motion.
    with encodings(network) as seen:
        network(torch.stack([clip(4, seed=3)[::2], clip(4, seed=3)[1::2]], dim=2))
        network(torch.stack([a[:1], a[:1]], dim=2))
    assert len(seen) == 4 + 1


@pytest.mark.usefixtures("short")
def test_a_buffer_that_is_filled_again(network: nn.Module) -> None:
    """What is remembered is a copy: else new pixels would be taken for the old ones."""
    buffer = pairs_of(clip(2, seed=1))
    network(buffer)
    other = pairs_of(clip(2, seed=2))
    expected = network(other)["motion"]
    network(buffer)
    buffer.copy_(other)
    assert torch.equal(network(buffer)["motion"], expected)


@pytest.mark.usefixtures("short")
def test_one_frame_is_remembered_and_not_its_batch(network: nn.Module) -> None:
    network(pairs_of(clip(5)))
    _, *kept = network._last
    assert [tuple(tensor.shape) for tensor in kept] == [(1, 3, 128, 136), (1, 256, 16, 17)]
    for tensor in kept:
        assert tensor.untyped_storage().nbytes() == 4 * tensor.numel()
    assert network.state_dict().keys() == build().state_dict().keys()


@pytest.mark.usefixtures("short")
def test_other_numbers_are_encoded_anew(network: nn.Module) -> None:
    first, second, third = clip(3)[:, None]
    network(torch.stack([first, second], dim=2))
    pairs = torch.stack([second, third], dim=2)
    with encodings(network) as seen, torch.autocast("cpu", torch.bfloat16):
        network(pairs)
        network(torch.stack([third, first], dim=2))
    assert len(seen) == 3
    with encodings(network) as seen:
        network(pairs.flip(0))
    assert len(seen) == 2


@pytest.mark.usefixtures("short")
def test_other_weights_are_not_given_old_maps() -> None:
    network = build().eval().requires_grad_(False)
    pairs = pairs_of(clip(3))
    network(pairs[:1])
    network.load_state_dict({key: 2 * value for key, value in network.state_dict().items()})
    with encodings(network) as seen:
        network(pairs[1:])
    assert len(seen) == 2


def test_loading_leaves_nothing_behind(load: Load) -> None:
    """The search for batch norms to fold calls the network with symbols in place of pixels."""
    assert load(empty(OWN), OWN)._last is None


# --- bfloat16 ---------------------------------------------------------------------------------


def test_bfloat16_keeps_places_and_products(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = pairs_of(frames_of("dynamic_degree_raft", "frames_a")[:2])
    exact = network(pairs)
    types = set()

    look_up = Products.look_up

    def spy(products: Products, places: Tensor) -> Tensor:
        types.update(tensor.dtype for tensor in (*products.pyramid, places))
        return look_up(products, places)

    monkeypatch.setattr(Products, "look_up", spy)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(pairs)
    assert types == {torch.float32}
    for key, rows in rough.items():
        assert rows.dtype == torch.float32
        # bfloat16 has 8 bits: 4e-3 a number, and twenty steps add up.
        assert 1e-6 < abs(rows / exact[key] - 1).max() < 3e-2


def test_products_are_the_same_under_autocast() -> None:
    maps = noise(2, 1, 256, 16, 16)
    exact = Products(*maps).pyramid
    with torch.autocast("cpu", torch.bfloat16):
        rough = Products(*maps).pyramid
    assert all(torch.equal(*levels) for levels in zip(exact, rough, strict=True))


# --- what it takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(120, 128), (128, 120), (16, 500), (1, 1)])
def test_small_frames_are_refused(network: nn.Module, size: tuple[int, int]) -> None:
    height, width = size
    with pytest.raises(ValueError, match=f"121 x 121 .*these are {width} wide and {height} high"):
        network(torch.zeros(1, 3, 2, *size))


@pytest.mark.usefixtures("short")
def test_the_smallest_frames_have_a_flow(network: nn.Module) -> None:
    outputs = network(pairs_of(clip(2, 121, 121)))
    assert all(torch.isfinite(rows).all() for rows in outputs.values())


@pytest.mark.parametrize("shape", [(3, 2, 128, 128), (1, 3, 3, 128, 128), (1, 1, 2, 128, 128)])
def test_other_shapes_are_refused(network: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"pairs of frames are \[B, 3, 2, H, W\]"):
        network(torch.zeros(shape))


def test_two_frames_have_one_shape(network: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"two frames are \[B, 3, H, W\] each"):
        network.flow(torch.zeros(1, 3, 128, 128), torch.zeros(1, 3, 128, 136))


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="variant 'small'"):
        build("small")


# --- weights ----------------------------------------------------------------------------------


def test_names_are_the_published_ones() -> None:
    own = build().state_dict()
    assert len(KEYS) == 179
    assert sorted(own) == sorted(RENAMED.values())
    assert published_names(princetons_bare()) == {ours: theirs for theirs, ours in RENAMED.items()}
    assert published_names(own) == {}
    theirs = optical_flow.raft_large(weights=None).state_dict()
    assert {key: value.shape for key, value in own.items()} == {
        key: value.shape for key, value in theirs.items()
    }


def princetons_bare() -> dict[str, Tensor]:
    """As the engine gives it: without DataParallel's prefix."""
    return {key.removeprefix("module."): value for key, value in empty(THINGS).items()}


def test_both_files_hold_one_network(load: Load, network: nn.Module) -> None:
    own = torchvisions()
    other = load(own, OWN).state_dict()
    state = network.state_dict()
    assert other.keys() == state.keys() == own.keys()
    for key, value in own.items():
        assert torch.equal(other[key], value)
        assert torch.equal(state[key], value)


def test_weights_are_those_before_torchvisions_training() -> None:
    card = network_card(NAME)
    assert {tag: (entry.file, entry.sha256) for tag, entry in card.weights.items()} == {
        OWN: ("raft_large_C_T_V1-22a6c225.pth", "22a6c225"),
        THINGS: ("raft-things.pth", "unknown"),
    }
    assert card.entry().urls == (optical_flow.Raft_Large_Weights.C_T_V1.url,)


@pytest.mark.parametrize(
    ("tag", "key"),
    [
        (OWN, "feature_encoder.layer2.0.downsample.0.weight"),
        (OWN, "mask_predictor.conv.bias"),
        (THINGS, "fnet.layer3.1.conv2.bias"),
        (THINGS, "cnet.layer2.0.downsample.1.running_var"),
        (THINGS, "update_block.gru.convq2.weight"),
        (THINGS, "update_block.mask.0.bias"),
    ],
)
def test_a_missing_key_is_named_as_in_the_file(load: Load, tag: str, key: str) -> None:
    checkpoint = empty(tag)
    del checkpoint[f"module.{key}" if tag == THINGS else key]
    with pytest.raises(WeightsError, match=f"1 missing: {key}$".replace(".", r"\.")):
        load(checkpoint, tag)


@pytest.mark.parametrize(
    ("tag", "key"),
    [
        (OWN, "update_block.motion_encoder.convflow1.0.weight"),
        (THINGS, "update_block.encoder.convf1.weight"),
    ],
)
def test_another_shape_is_named_as_in_the_file(load: Load, tag: str, key: str) -> None:
    prefix = "module." if tag == THINGS else ""
    with pytest.raises(WeightsError, match=f"{key} ".replace(".", r"\.") + r"\(7, 2\) instead"):
        load(empty(tag) | {f"{prefix}{key}": nothing((7, 2))}, tag)


@pytest.mark.parametrize(
    ("tag", "key"),
    [
        (OWN, "cnet_extra.weight"),
        (OWN, "context_encoder.layer2.0.norm3.weight"),
        (THINGS, "cnet.layer1.0.norm3.weight"),
        (THINGS, "fnet.layer2.0.norm3.weight"),
    ],
)
def test_an_unknown_key_is_named(load: Load, tag: str, key: str) -> None:
    prefix = "module." if tag == THINGS else ""
    with pytest.raises(WeightsError, match=f"1 unknown: {key}$".replace(".", r"\.")):
        load(empty(tag) | {f"{prefix}{key}": nothing((3,))}, tag)


def test_copies_are_dropped_and_must_be_copies() -> None:
    checkpoint = princetons_bare()
    state = checkpoint_to_state(checkpoint)
    assert state.keys() == build().state_dict().keys()
    for key in [key for key in KEYS if KEYS[key] is None]:
        rest = {name: value for name, value in checkpoint.items() if name != key}
        assert checkpoint_to_state(rest).keys() == state.keys()
        other = torch.ones(checkpoint[key].shape)
        with pytest.raises(ValueError, match=f"{key} differs from {copied(key)}"):
            checkpoint_to_state(checkpoint | {key: other})


def test_a_copy_that_differs_is_named(load: Load) -> None:
    checkpoint = empty(THINGS) | {"module.cnet.layer3.0.norm3.bias": torch.ones(128)}
    with pytest.raises(WeightsError, match=r"cnet\.layer3\.0\.norm3\.bias differs from"):
        load(checkpoint)
