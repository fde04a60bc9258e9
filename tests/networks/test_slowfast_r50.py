"""SlowFast R50: its numbers are those of pytorchvideo on the same weights.

The features of clip_a come with SimpleVQA's goldens. slowfast_r50_clip_a.npz was made by
pytorchvideo 0.1.5 (``create_slowfast`` with depth 50 and fusion kernel (7, 1, 1), in eval mode, its
inputs [linspace(0, 31, 8) of the frames, all of them]): ``logits`` of the first two clips, and
``wide_*`` of the first at 224 x 256, which leaves two places instead of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models.slowfast_r50 import SLOW_FRAMES, FrameConv3d, build, checkpoint_to_state
from torch import Tensor, nn

from aigve_cli.contract import Normalise, Resize
from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.video.views import frame_to_host_view, frames_to_view
from aigve_cli.weights import Located, network_card
from tests.networks.checkpoints import SLOWFAST, published_checkpoint, published_state

GOLDENS = Path(__file__).parents[1] / "goldens" / "vqa"
FPS = 5
# Another order of float32 sums moves the numbers by 2e-7 to 8e-7; every fourth frame in the slow
# pathway, without the last one, by 1e-2.
PARITY = 5e-6
# One clip in other company, on one machine.
SAME = 1e-6
A = "blocks.1.multipathway_blocks.0.res_blocks.0.branch2.conv_a.weight"

Load = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return published_state(SLOWFAST)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    def load(checkpoint: Any) -> nn.Module:
        path = tmp_path_factory.mktemp("slowfast") / "SLOWFAST_8x8_R50.pyth"
        torch.save(checkpoint, path)
        located = Located(path, "0" * 64, "standard", False, "kinetics400", "Apache-2.0")
        try:
            return load_network(network_card(SLOWFAST), located, device="cpu")
        finally:
            path.unlink()

    return load


@pytest.fixture(scope="module")
def network(load: Load) -> nn.Module:
    return load(published_checkpoint(SLOWFAST))


@pytest.fixture(scope="module")
def plain(state: dict[str, Tensor]) -> nn.Module:
    """Neither folded nor in another memory order."""
    network = build().eval().requires_grad_(False)
    network.load_state_dict(state)
    return network


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    with np.load(GOLDENS / "simplevqa_clip_a.npz") as simplevqas:
        arrays = dict(simplevqas)
    with np.load(GOLDENS / "slowfast_r50_clip_a.npz") as ours:
        return arrays | dict(ours)


def golden_clips(*seconds: int, width: int = 224) -> Tensor:
    """float32 [N, 3, 32, 224, width]: what SimpleVQA sees of clip_a from these seconds on."""
    frames = np.load(GOLDENS / "clip_a.npy")
    resize = Resize(224, width, "pil-bilinear")
    small = np.stack([frame_to_host_view(frame, (resize,)) for frame in frames])
    normalise = Normalise((0.45 * 255,) * 3, (0.225 * 255,) * 3)
    seen = frames_to_view(torch.from_numpy(small), (normalise,))
    # Where a clip ends early its last frame is repeated.
    times = [torch.arange(32).add(FPS * second).clamp(max=len(seen) - 1) for second in seconds]
    return seen[torch.stack(times)].movedim(2, 1)


@pytest.fixture(scope="module")
def outputs(network: nn.Module) -> dict[str, Tensor]:
    """Of the clips of the first, the second and the last second together."""
    rows: dict[str, Tensor] = network(golden_clips(0, 1, 7))
    return rows


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def distance(ours: Tensor, theirs: Tensor | np.ndarray) -> float:
    """Relative L2."""
    theirs = torch.as_tensor(theirs).double()
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs).norm() / theirs.norm())


# --- weights ----------------------------------------------------------------------------------


def test_keys_and_shapes_are_the_published_ones() -> None:
    published = json.loads((GOLDENS / "keys_slowfast_r50.json").read_text(encoding="utf-8"))
    own = build().state_dict()
    assert list(own) == list(published)
    for key, tensor in own.items():
        if not key.endswith("num_batches_tracked"):
            assert list(tensor.shape) == published[key]


def test_the_tensors_alone_load_too(
    network: nn.Module, load: Load, state: dict[str, Tensor]
) -> None:
    ours, theirs = load(state).state_dict(), network.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_training_state_beside_the_tensors_is_not_read() -> None:
    checkpoint = {"epoch": 196, "model_state": {"a": 1}, "optimizer_state": {"b": 2}, "cfg": ""}
    assert checkpoint_to_state(checkpoint) == {"a": 1}


def test_unknown_names_stay() -> None:
    assert list(checkpoint_to_state({"model_state": dict.fromkeys(["head", A])})) == ["head", A]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: without(state, A), [f"1 missing: {A}"]),
        (
            lambda state: without(state, A) | {"blocks.1.a": state[A]},
            [f"1 missing: {A}", "1 unknown: blocks.1.a"],
        ),
        (lambda state: state | {A: state[A][1:]}, [f"{A} (63, 80, 1, 1, 1) instead of (64, 80,"]),
    ],
    ids=["missing", "renamed", "shape"],
)
def test_other_weights_are_refused_with_names(
    load: Load, state: dict[str, Tensor], change: Callable[..., Any], says: list[str]
) -> None:
    with pytest.raises(WeightsError) as caught:
        load({"model_state": change(state)})
    assert all(words in caught.value.message for words in says)


def without(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {other: state[other] for other in state if other != key}


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="variant 'r101'"):
        build("r101")


# --- parity with pytorchvideo -------------------------------------------------------------------


def test_the_clips_are_those_of_the_goldens(expected: dict[str, Any]) -> None:
    sample = golden_clips(*range(8))[:, :, ::4, ::56, ::56].movedim(1, 2)
    assert distance(sample, expected["motion_clip_sample"]) < SAME


def test_features(outputs: dict[str, Tensor], expected: dict[str, Any]) -> None:
    """The last clip has five frames of its own."""
    assert distance(outputs["features"], expected["motion_eval"][[0, 1, 7]]) < PARITY


def test_logits(outputs: dict[str, Tensor], expected: dict[str, Any]) -> None:
    assert distance(outputs["logits"][:2], expected["logits"]) < PARITY


def test_means_over_two_places(network: nn.Module, expected: dict[str, Any]) -> None:
    outputs = network(golden_clips(0, width=256))
    assert distance(outputs["features"], expected["wide_features"]) < PARITY
    assert distance(outputs["logits"], expected["wide_logits"]) < PARITY


def test_slow_frames() -> None:
    assert list(SLOW_FRAMES) == torch.linspace(0, 31, 8).long().tolist()


# --- fast ways --------------------------------------------------------------------------------


def test_all_batch_norms_are_folded(network: nn.Module, plain: nn.Module) -> None:
    assert sum(isinstance(layer, nn.BatchNorm3d) for layer in plain.modules()) == 110
    assert not any(isinstance(layer, nn.BatchNorm3d) for layer in network.modules())


def test_folding_moves_nothing(network: nn.Module, plain: nn.Module) -> None:
    clips = noise(1, 3, 32, 193, 193)
    ours, theirs = network(clips), plain(clips)
    for name in theirs:
        assert distance(ours[name], theirs[name]) < PARITY


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)])
def test_convolution_within_frames(
    kernel: int, stride: int, with_bias: bool, order: torch.memory_format
) -> None:
    layer = FrameConv3d(
        8,
        16,
        (1, kernel, kernel),
        (1, stride, stride),
        padding=(0, kernel // 2, kernel // 2),
        bias=with_bias,
    ).requires_grad_(False)
    for shape in ((2, 8, 5, 12, 11), (1, 8, 1, 7, 8)):
        x = noise(*shape).contiguous(memory_format=order)
        assert distance(layer(x), nn.Conv3d.forward(layer, x)) < SAME


# --- behaviour --------------------------------------------------------------------------------


def test_batch_composition_does_not_matter(network: nn.Module, outputs: dict[str, Tensor]) -> None:
    alone = network(golden_clips(1))
    for name, rows in alone.items():
        assert distance(rows, outputs[name][1:2]) < SAME


def test_bfloat16(network: nn.Module, outputs: dict[str, Tensor]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(golden_clips(0))
    for name, rows in rough.items():
        assert rows.dtype == torch.float32
        # bfloat16 has 8 bits: 4e-3 a number, and errors of many numbers average out.
        assert 1e-4 < distance(rows, outputs[name][:1]) < 2e-2


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 3, 8, 224, 224), "clips of 32 frames: 8"),
        ((1, 3, 36, 224, 224), "clips of 32 frames: 36"),
        ((1, 3, 32, 192, 224), "193 x 193 pixels or more: 192 x 224"),
        ((1, 32, 3, 224, 224), r"\[B, 3, T, H, W\], not \[1, 32, 3, 224, 224\]"),
        ((3, 32, 224, 224), r"not \[3, 32, 224, 224\]"),
    ],
)
def test_other_clips_are_refused(network: nn.Module, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        network(torch.zeros(shape))


def test_card(state: dict[str, Tensor]) -> None:
    card = network_card(SLOWFAST)
    assert card.unit == "clip"
    classes, features = state["blocks.6.proj.weight"].shape
    assert dict(card.outputs) == {"features": features, "logits": classes}
