"""SimpleVQA: its numbers are those of the published code on the same weights.

Batch norms in train mode, as the published demo runs its motion network by omission, and frames
that OpenCV has resized, as the pipeline behind the paper's tables reads them, give other scores:
the goldens hold these so that a test can tell them apart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models.simplevqa import MOTION, SPATIAL, SimpleVQA, build, maps_to_moments
from torch import Tensor, nn

from aigve_cli.contract import CentreCrop, Normalise, ResizeShorter
from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.video.views import frame_to_host_view, frames_to_view, split_view
from aigve_cli.weights import Located, network_card
from tests.networks.checkpoints import SIMPLEVQA, published_checkpoint, published_state

GOLDENS = Path(__file__).parents[1] / "goldens" / "vqa"
FPS = 5
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIEW = (
    ResizeShorter(520, "pil-bilinear"),
    CentreCrop(448, 448),
    Normalise(tuple(255 * x for x in MEAN), tuple(255 * x for x in DEVIATION)),
)
# Another order of float32 sums moves the features by 2e-7 and the scores, which are small
# differences of large numbers, by 3e-6; the biased standard deviation moves the features by 2e-4,
# OpenCV's resizing the scores by 4e-4.
FEATURES, SCORES = 2e-6, 2e-5
# One picture in other company, on one machine.
SAME = 1e-6
A = "layer4.2.conv3.weight"

Load = Callable[..., Any]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return published_state(SIMPLEVQA)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    def load(checkpoint: Any) -> nn.Module:
        path = tmp_path_factory.mktemp("simplevqa") / "UGC_BVQA_model.pth"
        torch.save(checkpoint, path)
        located = Located(path, "0" * 64, "standard", False, "lsvq", "Apache-2.0")
        try:
            return load_network(network_card(SIMPLEVQA), located, device="cpu")
        finally:
            path.unlink()

    return load


@pytest.fixture(scope="module")
def network(load: Load) -> SimpleVQA:
    loaded: SimpleVQA = load(published_checkpoint(SIMPLEVQA))
    return loaded


@pytest.fixture(scope="module")
def plain(state: dict[str, Tensor]) -> nn.Module:
    """Neither folded nor in another memory order."""
    network = build().eval().requires_grad_(False)
    network.load_state_dict(state)
    return network


def golden(name: str) -> dict[str, Any]:
    with np.load(GOLDENS / f"simplevqa_{name}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def key_frames() -> Tensor:
    """float32 [8, 3, 448, 448]: the first frame of each second of clip_a."""
    frames = np.load(GOLDENS / "clip_a.npy")[::FPS]
    on_host, on_device = split_view(VIEW)
    large = np.stack([frame_to_host_view(frame, on_host) for frame in frames])
    return frames_to_view(torch.from_numpy(large), on_device)


@pytest.fixture(scope="module")
def spatial(network: SimpleVQA, key_frames: Tensor) -> Tensor:
    """float32 [8, 7168]"""
    rows: Tensor = network(key_frames)["spatial"]
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
    published = json.loads((GOLDENS / "keys_simplevqa.json").read_text(encoding="utf-8"))
    own = build().state_dict()
    assert list(own) == list(published)
    for key, tensor in own.items():
        if not key.endswith("num_batches_tracked"):
            assert list(tensor.shape) == published[key]


def test_the_prefix_makes_no_difference(
    network: SimpleVQA, load: Load, state: dict[str, Tensor]
) -> None:
    assert all(key.startswith("module.") for key in published_checkpoint(SIMPLEVQA))
    pictures, motion = noise(2, 3, 64, 64), noise(2, MOTION)
    bare = load(state)
    rows = bare(pictures)["spatial"]
    assert torch.equal(rows, network(pictures)["spatial"])
    scores = bare.head(rows, motion)["frame_scores"]
    assert torch.equal(scores, network.head(rows, motion)["frame_scores"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: without(state, A), [f"1 missing: {A}"]),
        (
            lambda state: without(state, A) | {"fc.weight": state[A]},
            [f"1 missing: {A}", "1 unknown: fc.weight"],
        ),
        (
            lambda state: state | {"quality.0.weight": state["quality.0.weight"][:, :SPATIAL]},
            ["quality.0.weight (128, 7168) instead of (128, 9472)"],
        ),
    ],
    ids=["missing", "renamed", "shape"],
)
def test_other_weights_are_refused_with_names(
    load: Load, state: dict[str, Tensor], change: Callable[..., Any], says: list[str]
) -> None:
    with pytest.raises(WeightsError) as caught:
        load({f"module.{key}": tensor for key, tensor in change(state).items()})
    assert all(words in caught.value.message for words in says)


def without(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {other: state[other] for other in state if other != key}


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="variant 'r101'"):
        build("r101")


# --- parity with the published code -------------------------------------------------------------


def test_the_pictures_are_those_of_the_goldens(key_frames: Tensor) -> None:
    sample = golden("clip_a")["spatial_sample"]
    assert distance(key_frames[..., ::32, ::32], sample) < SAME


def test_spatial(spatial: Tensor) -> None:
    assert distance(spatial, golden("clip_a")["spatial_feat"]) < FEATURES


def test_scores_of_frames(network: SimpleVQA, spatial: Tensor) -> None:
    expected = golden("clip_a")
    scores = network.head(spatial, torch.from_numpy(expected["motion_eval"]))["frame_scores"]
    assert distance(scores[:, 0], expected["frame_scores_eval"]) < SCORES
    assert float(scores.mean()) == pytest.approx(float(expected["score_eval"]), rel=SCORES)


@pytest.mark.parametrize("name", ["clip_a", "cogvideox_0"])
def test_head(network: SimpleVQA, name: str) -> None:
    expected = golden(name)
    rows = [torch.from_numpy(expected[key]) for key in ("spatial_feat", "motion_eval")]
    scores = network.head(*rows)["frame_scores"]
    assert scores.shape == (8, 1)
    assert distance(scores[:, 0], expected["frame_scores_eval"]) < SCORES
    score = float(scores.mean())
    assert score == pytest.approx(float(expected["score_eval"]), rel=SCORES)
    assert abs(score - float(expected["score_bn_train"])) > 1
    assert score != pytest.approx(float(expected["dataset_pipeline_score"]), rel=10 * SCORES)


# --- mathematics ------------------------------------------------------------------------------


def test_moments_in_closed_form() -> None:
    maps = torch.tensor([[[[0.0, 2.0]], [[5.0, 5.0]]]])
    # Of two numbers the unbiased deviation is their difference over the root of 2.
    assert torch.allclose(maps_to_moments(maps), torch.tensor([[1.0, 5.0, math.sqrt(2), 0.0]]))


def test_moments_are_those_of_the_stages(plain: nn.Module) -> None:
    pictures = noise(2, 3, 64, 96)
    maps: dict[str, Tensor] = {}
    hooks = [
        getattr(plain, name).register_forward_hook(
            lambda _layer, _inputs, output, name=name: maps.update({name: output})
        )
        for name in ("layer2", "layer3", "layer4")
    ]
    rows = plain(pictures)["spatial"]
    for hook in hooks:
        hook.remove()
    parts = [
        moment
        for name in ("layer2", "layer3", "layer4")
        for moment in (maps[name].mean((2, 3)), maps[name].flatten(2).std(2))
    ]
    assert [part.shape[1] for part in parts] == [512, 512, 1024, 1024, 2048, 2048]
    assert distance(rows, torch.cat(parts, dim=1)) < SAME


def test_the_score_is_linear_in_the_rows(network: SimpleVQA) -> None:
    """There is no activation between the two layers."""

    def score(spatial: Tensor, motion: Tensor) -> Tensor:
        return network.head(spatial, motion)["frame_scores"]

    one, other = (noise(2, 4, size) for size in (SPATIAL, MOTION))
    middle = score(one.mean(0), other.mean(0))
    ends = (score(one[0], other[0]) + score(one[1], other[1])) / 2
    assert torch.allclose(middle, ends, rtol=0, atol=1e-4 * float(ends.std()))


# --- behaviour --------------------------------------------------------------------------------


def test_all_batch_norms_are_folded(network: nn.Module, plain: nn.Module) -> None:
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules()) == 53
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def test_folding_moves_nothing(network: nn.Module, plain: nn.Module) -> None:
    pictures = noise(2, 3, 97, 130)
    assert distance(network(pictures)["spatial"], plain(pictures)["spatial"]) < FEATURES


def test_batch_size_does_not_matter(
    network: nn.Module, key_frames: Tensor, spatial: Tensor
) -> None:
    alone = torch.cat([network(picture[None])["spatial"] for picture in key_frames[:2]])
    assert distance(spatial[:2], alone) < SAME


def test_a_row_of_the_head_reads_its_own_rows_only(network: SimpleVQA) -> None:
    spatial, motion = noise(4, SPATIAL), noise(4, MOTION)
    order = [2, 0, 3]
    # Sums of 9472 numbers in another order.
    scores = network.head(spatial, motion)["frame_scores"]
    some = network.head(spatial[order], motion[order])["frame_scores"]
    assert torch.allclose(some, scores[order], rtol=0, atol=1e-5 * float(scores.norm()))


def test_bfloat16(network: SimpleVQA, key_frames: Tensor, spatial: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(key_frames[:2])["spatial"]
    assert rough.dtype == torch.float32
    # bfloat16 has 8 bits: 4e-3 a number, and errors of many numbers average out.
    assert 1e-4 < distance(rough, spatial[:2]) < 2e-2


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 3, 32, 32), "more than 32 pixels: 32 x 32"),
        ((1, 1, 448, 448), r"\[B, 3, H, W\], not \[1, 1, 448, 448\]"),
        ((3, 448, 448), r"not \[3, 448, 448\]"),
    ],
)
def test_other_pictures_are_refused(network: nn.Module, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        network(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(33, 8), (8, 33)])
def test_the_smallest_pictures(network: nn.Module, shape: tuple[int, int]) -> None:
    assert torch.isfinite(network(noise(1, 3, *shape))["spatial"]).all()


@pytest.mark.parametrize(
    ("spatial", "motion", "says"),
    [
        ((5, SPATIAL), (8, MOTION), "as many rows of frames as of clips: 5 and 8"),
        ((8, MOTION), (8, SPATIAL), r"7168 and of 2304 numbers: \[8, 2304\] and \[8, 7168\]"),
        ((8, SPATIAL), (8, 2048), r"\[8, 2048\]"),
    ],
)
def test_other_rows_are_refused(
    network: SimpleVQA, spatial: tuple[int, ...], motion: tuple[int, ...], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        network.head(torch.zeros(spatial), torch.zeros(motion))


def test_card() -> None:
    card = network_card(SIMPLEVQA)
    assert card.unit == "frame"
    assert dict(card.outputs) == {"spatial": SPATIAL}
    assert dict(card.head) == {"frame_scores": 1}
    assert not card.entry().urls
