"""AMT-S: the frames it guesses are those of VBench's motion smoothness on the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from aigve_models import _correlations
from aigve_models.amt_s import AMTS, MIN_SIDE, Correlations, build, warp
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.weights import Located, network_card
from tests.networks.vbench_checkpoints import vbench_checkpoint
from tests.networks.vbench_weights import golden, golden_shapes

SHAPES = golden_shapes("amt_s_state_dict_shapes")
Load = Callable[[Mapping[str, Any]], nn.Module]


def published() -> dict[str, Tensor]:
    """The tensors of the goldens by their published names."""
    tensors: dict[str, Tensor] = vbench_checkpoint("amt-s")["state_dict"]
    return tensors


def empty() -> dict[str, Any]:
    """The published names and shapes, with zeros that take no room."""
    return {key: torch.zeros(()).expand(shape) for key, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    def load(checkpoint: Mapping[str, Any]) -> nn.Module:
        path = tmp_path_factory.mktemp("amt") / "amt-s.pth"
        torch.save(checkpoint, path)
        located = Located(path, "0" * 64, "standard", False, "vimeo90k", "CC-BY-NC-4.0")
        return load_network(network_card("amt-s"), located, device="cpu")

    return load


@pytest.fixture(scope="module")
def network(load: Load) -> nn.Module:
    # As it is published: beside a number of epochs.
    return load({"epoch": 300, "state_dict": published()})


@pytest.fixture(scope="module")
def plain() -> AMTS:
    """For what is refused before any weight is read."""
    with torch.device("meta"):
        return build()


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def triplets(frames: NDArray[np.uint8]) -> Tensor:
    """Frames [T, H, W, 3] 0 to 2, 2 to 4 and so on: float32 [B, 3, 3, H, W]."""
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    return pictures.unfold(0, 3, 2).movedim(-1, 2)


def between(network: nn.Module, clips: Tensor) -> Tensor:
    guessed: Tensor = network.between(clips[:, :, 0] / 255, clips[:, :, 2] / 255)
    return guessed


# --- goldens ----------------------------------------------------------------------------------


def test_the_guessed_frame_is_the_golden_one(network: nn.Module) -> None:
    expected = golden("motion_smoothness_amts")
    guessed = between(network, triplets(expected["frames_odd"])[:1]).numpy()
    # 1.5e-5 was seen.
    np.testing.assert_allclose(guessed, expected["pred0_odd"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", ["odd", "even"])
def test_errors_are_the_golden_ones(network: nn.Module, case: str) -> None:
    """128 x 160 pixels and two triplets; 131 x 150, which is padded, and a last frame alone."""
    expected = golden("motion_smoothness_amts")
    clips = triplets(expected[f"frames_{case}"])
    errors = network(clips)
    assert errors.keys() == network_card("amt-s").outputs.keys()
    assert all(rows.shape == (len(clips), 1) for rows in errors.values())
    error = errors["error"][:, 0].double().numpy()
    # One pixel in 25,000 falls to the other side of a whole number.
    np.testing.assert_allclose(error, expected[f"diffs_{case}"], rtol=0, atol=1e-3)
    score = (255 - error.mean()) / 255
    assert score == pytest.approx(float(expected[f"score_{case}"]), abs=1e-5)


@pytest.mark.parametrize("case", ["odd", "even"])
def test_whole_numbers_are_the_golden_ones(network: nn.Module, case: str) -> None:
    expected = golden("motion_smoothness_amts")
    cut = (255 * between(network, triplets(expected[f"frames_{case}"]))).numpy().astype(np.uint8)
    theirs = expected[f"interp_uint8_{case}"].transpose(0, 3, 1, 2).astype(int)
    assert cut.shape == theirs.shape
    assert np.abs(cut - theirs).max() <= 1
    assert (cut != theirs).mean() < 1e-3


def test_frames_are_padded_to_multiples_of_16(network: nn.Module) -> None:
    expected = golden("motion_smoothness_amts")
    seen: list[Tensor] = []
    hook = network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    clips = triplets(expected["frames_even"])
    network(clips)
    hook.remove()
    (frames,) = seen
    assert tuple(frames.shape[2:]) == tuple(expected["padded_hw_even"]) == (144, 160)
    # 13 rows and 10 columns more, and less the mean of both, with what was padded.
    padded = F.pad(torch.cat([clips[:, :, 0], clips[:, :, 2]]) / 255, (5, 5, 6, 7), "replicate")
    torch.testing.assert_close(frames, padded - padded.mean(), rtol=0, atol=1e-6)


# --- errors -----------------------------------------------------------------------------------


def test_errors_are_exact_means(network: nn.Module) -> None:
    clips = (255 * noise(2, 3, 3, 128, 128)).floor()
    guessed = 255 * between(network, clips).double()
    # Clipped at both ends, or it would be no test of that.
    assert guessed.min() == 0
    assert guessed.max() == 255
    middle = clips[:, :, 1].double()
    errors = network(clips)
    exact = (guessed.floor() - middle).abs().mean((1, 2, 3))[:, None]
    torch.testing.assert_close(errors["error"].double(), exact, rtol=1e-6, atol=0)
    exact = (guessed - middle).abs().mean((1, 2, 3))[:, None]
    torch.testing.assert_close(errors["error_unrounded"].double(), exact, rtol=1e-6, atol=0)


def test_a_middle_frame_as_guessed_has_no_error(network: nn.Module) -> None:
    clips = 255 * noise(1, 3, 3, 128, 128)
    guessed = 255 * between(network, clips)
    clips[:, :, 1] = guessed
    assert network(clips)["error_unrounded"] == 0
    clips[:, :, 1] = guessed.floor()
    errors = network(clips)
    assert errors["error"] == 0
    assert 0.1 < errors["error_unrounded"] < 0.6


def test_random_weights_do_not_guess_that_nothing_moves(network: nn.Module) -> None:
    frame = (255 * noise(1, 3, 1, 128, 128)).floor()
    assert network(frame.expand(-1, -1, 3, -1, -1))["error"] > 1


def test_the_middle_frame_is_not_looked_at(network: nn.Module) -> None:
    clips = 255 * noise(1, 3, 3, 128, 128)
    black = clips.clone()
    black[:, :, 1] = 0
    guessed = 255 * between(network, clips)
    assert network(black)["error"].item() == pytest.approx(guessed.floor().mean().item(), rel=1e-6)


@pytest.mark.parametrize("size", [(128, 160), (119, 150)])
def test_batch_size_does_not_matter(network: nn.Module, size: tuple[int, int]) -> None:
    clips = 255 * noise(3, 3, 3, *size)
    # Frames of their own brightness: each pair has its own mean.
    clips *= torch.tensor([1, 0.5, 0.1]).view(3, 1, 1, 1, 1)
    before = clips.clone()
    together = network(clips)
    assert torch.equal(clips, before)
    alone = [network(clip[None]) for clip in clips]
    for name, rows in together.items():
        expected = torch.cat([errors[name] for errors in alone])
        # A pixel that falls to the other side of a whole number is 2e-5 of them.
        torch.testing.assert_close(rows, expected, rtol=1e-6, atol=1e-4)
        assert rows.std() > 1


@pytest.mark.parametrize("size", [(MIN_SIDE, MIN_SIDE), (129, 300), (240, 135)])
def test_other_sizes(network: nn.Module, size: tuple[int, int]) -> None:
    clips = 255 * noise(1, 3, 3, *size)
    guessed = between(network, clips)
    assert guessed.shape == (1, 3, *size)
    assert 0 <= guessed.min() < guessed.max() <= 1
    assert 0 < network(clips)["error"] < 255


def test_bfloat16_gives_float32(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = triplets(golden("motion_smoothness_amts")["frames_even"])
    exact = between(network, clips)
    seen: list[Tensor] = []
    look_up = Correlations.look_up

    def spied(self: Correlations, flows: Tensor) -> Tensor:
        seen.extend([flows, look_up(self, flows)])
        return seen[-1]

    monkeypatch.setattr(Correlations, "look_up", spied)
    with torch.autocast("cpu", torch.bfloat16):
        rough = between(network, clips)
        assert all(rows.dtype == torch.float32 for rows in network(clips).values())
    assert len(seen) == 12
    assert {tensor.dtype for tensor in seen} == {torch.float32}
    assert rough.dtype == torch.float32
    # Flows of eight bits move pixels of a picture with edges: most are near, some are not.
    assert 1e-5 < (rough - exact).abs().median() < 2e-2


# --- parts ------------------------------------------------------------------------------------


def all_pairs(first: Tensor, last: Tensor, flows: Tensor) -> Tensor:
    """What is looked up, out of a volume of all pairs of places, one query at a time: float64."""
    batch, channels, height, width = first.shape
    volume = torch.einsum("bcij,bckl->bijkl", first.double(), last.double()) / math.sqrt(channels)
    offsets = torch.arange(-3.0, 4.0, dtype=torch.float64)
    rows = []
    for forward in (True, False):
        level_pairs = volume if forward else volume.permute(0, 3, 4, 1, 2)
        towards = flows[:, 2:] if forward else flows[:, :2]
        for level in range(4):
            pairs = F.avg_pool2d(level_pairs.flatten(0, 2)[:, None], 2**level)
            tall, wide = pairs.shape[2:]
            ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            centre_x = (xs + 2 * towards[:, 0].double()).flatten() / 2**level
            centre_y = (ys + 2 * towards[:, 1].double()).flatten() / 2**level
            x = (centre_x[:, None, None] + offsets[:, None]).expand(-1, 7, 7)
            y = (centre_y[:, None, None] + offsets).expand(-1, 7, 7)
            grid = torch.stack([2 * x / (wide - 1) - 1, 2 * y / (tall - 1) - 1], dim=-1)
            looked_up = F.grid_sample(pairs, grid, align_corners=True)
            rows.append(looked_up.view(batch, height, width, 49))
    return torch.cat(rows, dim=3).permute(0, 3, 1, 2)


@pytest.mark.parametrize("at_once", [150_000, 22 << 20])
@pytest.mark.parametrize("reach", [0.3, 30])
def test_correlations_are_those_of_all_pairs(
    monkeypatch: pytest.MonkeyPatch, at_once: int, reach: float
) -> None:
    """Odd sizes, of which pooling leaves out the last, and flows that leave the frames."""
    monkeypatch.setattr(_correlations, "BYTES_AT_ONCE", at_once)
    first, last = torch.randn(2, 2, 84, 17, 21, generator=torch.Generator().manual_seed(1))
    flows = reach * (noise(2, 4, 17, 21, seed=3) - 0.5)
    flows[0, :, 4] = 1e6
    looked_up = Correlations(first, last).look_up(flows)
    expected = all_pairs(first, last, flows)
    assert looked_up.shape == (2, 392, 17, 21)
    assert not looked_up[0, :, 4].any()
    torch.testing.assert_close(looked_up.double(), expected, rtol=0, atol=5e-5)
    assert expected.std() > 0.1


def test_a_warp_moves_by_pixels() -> None:
    maps = noise(1, 5, 9, 12)
    flows = torch.zeros(1, 2, 9, 12)
    torch.testing.assert_close(warp(maps, flows), maps, rtol=0, atol=2e-6)
    flows[:, 0], flows[:, 1] = 2, -1
    # Rows come from one above, columns from two to the right; the border goes on.
    expected = F.pad(maps, (0, 2, 1, 0), "replicate")[:, :, :9, 2:]
    torch.testing.assert_close(warp(maps, flows), expected, rtol=0, atol=2e-6)
    flows[:, 0], flows[:, 1] = 0.5, 0
    halves = (maps[..., :-1] + maps[..., 1:]) / 2
    torch.testing.assert_close(warp(maps, flows)[..., :-1], halves, rtol=0, atol=2e-6)


class _Storages(TorchDispatchMode):
    """The bytes of the largest tensor that any operation gives."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return result


def test_memory_grows_with_the_pixels_on_any_device() -> None:
    """Without a GPU: shapes and devices of everything that a GPU would hold."""
    with FakeTensorMode(), torch.no_grad():
        with torch.device("cuda"):
            network = build().eval()
            clips = torch.zeros(1, 3, 3, 1080, 1920)
        with _Storages() as storages:
            errors = network(clips)
    assert {error.device.type for error in errors.values()} == {"cuda"}
    # What the last decoder gives is 24 numbers a pixel. All pairs were 4.3 GB.
    decoded = 24 * 4 * 1088 * 1920
    assert decoded <= storages.largest <= max(decoded, _correlations.BYTES_AT_ONCE_CUDA)


# --- what it takes ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(112, 400), (400, 112), (1, 1)])
def test_frames_that_are_too_small_are_refused(plain: AMTS, size: tuple[int, int]) -> None:
    height, width = size
    said = f"113 x 113 pixels or more.*these are {width} wide and {height} high"
    with pytest.raises(ValueError, match=said):
        plain(torch.zeros(1, 3, 3, *size))


@pytest.mark.parametrize(
    "shape",
    [(3, 3, 128, 128), (1, 3, 128, 128), (1, 3, 2, 128, 128), (1, 1, 3, 128, 128), (3, 128, 128)],
)
def test_other_shapes_are_refused(plain: AMTS, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"clips are \[B, 3, 3, H, W\], not \["):
        plain(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 3, 128, 144), (2, 3, 128, 128), (3, 128, 128)])
def test_frames_of_two_shapes_are_refused(plain: AMTS, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"two batches of frames \[B, 3, H, W\]"):
        plain.between(torch.zeros(1, 3, 128, 128), torch.zeros(shape))


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="variant 'l'"):
        build("l")


# --- weights ----------------------------------------------------------------------------------


def test_keys_and_shapes_are_the_published_ones(plain: AMTS) -> None:
    ours = {key: tuple(tensor.shape) for key, tensor in plain.state_dict().items()}
    assert ours == SHAPES
    assert sum(math.prod(shape) for shape in SHAPES.values()) == 2_990_543


def test_bare_tensors_of_a_parallel_network_load(network: nn.Module, load: Load) -> None:
    ours = network.state_dict()
    theirs = load({f"module.{key}": tensor for key, tensor in published().items()}).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    "key", ["feat_encoder.layer2.0.downsample.0.bias", "decoder4.convblock.1.prelu.weight"]
)
def test_a_missing_key_is_named(load: Load, key: str) -> None:
    checkpoint = empty()
    del checkpoint[key]
    with pytest.raises(WeightsError, match="1 missing: " + key.replace(".", r"\.")):
        load({"state_dict": checkpoint})


@pytest.mark.parametrize("key", ["update5.conv.weight", "update4.convc2.weight"])
def test_an_unknown_key_is_named(load: Load, key: str) -> None:
    """AMT-L has a second convolution of correlations."""
    with pytest.raises(WeightsError, match="1 unknown: " + key.replace(".", r"\.")):
        load({"state_dict": empty() | {key: torch.zeros(3)}})


@pytest.mark.parametrize("key", ["update4.convc1.weight", "comb_block.1.weight"])
def test_a_key_of_another_shape_is_named(load: Load, key: str) -> None:
    with pytest.raises(WeightsError, match=key.replace(".", r"\.") + r" \(7, 2\) instead of"):
        load({"state_dict": empty() | {key: torch.zeros(7, 2)}})
