"""GSTVQA: the numbers of the original network, step by step and from the frames on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models import vgg16
from aigve_models.gstvqa import GSTVQA, build
from torch import Tensor, nn

from aigve_cli.contract import Normalise
from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.video.views import frames_to_view
from aigve_cli.weights import Located, network_card
from tests.networks.checkpoints import published_state
from tests.networks.det_weights import fill

GOLDENS = Path(__file__).parents[1] / "goldens" / "vqa"
CLIPS = ("clip_a", "cogvideox_0_crop")
IMAGENET = Normalise((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# Of a value, and of the spread of its array: orders of float32 sums.
STEP = 1e-5
# Of a score: float32 alone moves the original by 2e-6 to 1.4e-5.
SCORE = 1e-4

Load = Callable[[dict[str, Tensor]], nn.Module]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    def load(checkpoint: dict[str, Tensor]) -> nn.Module:
        path = tmp_path_factory.mktemp("gstvqa") / network_card("gstvqa").entry().file
        torch.save(checkpoint, path)
        located = Located(path, "0" * 64, "standard", False, "konvid", "none stated")
        return load_network(network_card("gstvqa"), located, device="cpu")

    return load


@pytest.fixture(scope="module")
def network(load: Load) -> nn.Module:
    return load(published_state("gstvqa"))


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, Any]]:
    return {clip: dict(np.load(GOLDENS / f"gstvqa_{clip}.npz")) for clip in CLIPS}


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    frames: np.ndarray = np.load(GOLDENS / "clip_a.npy")
    return frames


@pytest.fixture(scope="module")
def taps(frames: np.ndarray, expected: dict[str, Any]) -> dict[str, Tensor]:
    """[T, 2944] of both clips: of one from its frames, of the other from the original features."""
    extractor = vgg16.build().eval().requires_grad_(False)
    fill("vgg16", extractor)
    view = frames_to_view(torch.from_numpy(frames), (IMAGENET,))
    return {
        "clip_a": extractor(view)["taps"],
        "cogvideox_0_crop": torch.from_numpy(expected["cogvideox_0_crop"]["taps"]),
    }


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(9))


def assert_close(ours: Tensor, theirs: np.ndarray) -> None:
    """Within ``STEP`` of the values and of their spread."""
    assert tuple(ours.shape) == theirs.shape
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=STEP, atol=STEP * theirs.std())


# --- the original network ---------------------------------------------------------------------


def test_the_frames_are_those_of_the_goldens(frames: np.ndarray, expected: dict[str, Any]) -> None:
    assert hashlib.sha256(frames.tobytes()).hexdigest() == expected["clip_a"]["frames_sha256"]


@pytest.mark.parametrize("clip", CLIPS)
def test_every_step_is_the_original_s(
    network: GSTVQA, expected: dict[str, Any], taps: dict[str, Tensor], clip: str
) -> None:
    theirs = expected[clip]
    movements: list[Tensor] = []
    hook = network.CA.register_forward_pre_hook(lambda _, given: movements.extend(given))
    features = network.taps_to_features(taps[clip])
    hook.remove()
    assert_close(movements[0], theirs["mean_var"])
    assert_close(features[:1], theirs["CA"])
    assert_close(network.ann(features), theirs["ann"])
    states = network.features_to_states(features)
    assert_close(states, theirs["rnn"])
    assert_close(network.q_att(states.T[None]), theirs["qatt_pre_tanh"])
    assert_close(network.states_to_levels(states), theirs["q_levels"])


@pytest.mark.parametrize("clip", CLIPS)
def test_the_score_is_the_original_s(
    network: GSTVQA, expected: dict[str, Any], taps: dict[str, Tensor], clip: str
) -> None:
    outputs = network.head(taps[clip])
    assert outputs["score"].shape == (1, network_card("gstvqa").head["score"])
    assert outputs["score"].item() == pytest.approx(float(expected[clip]["score"]), rel=SCORE)
    exact = build().double().eval().requires_grad_(False)
    exact.load_state_dict(published_state("gstvqa"))
    score = exact.head(taps[clip].double())["score"].item()
    # The taps are float32 as the original's were.
    assert score == pytest.approx(float(expected[clip]["score_float64"]), rel=SCORE)


def test_the_curve_is_q_of_every_state(
    network: GSTVQA, expected: dict[str, Any], taps: dict[str, Tensor]
) -> None:
    curve = network.head(taps["clip_a"])["frame_quality"]
    assert curve.shape == (40, network_card("gstvqa").head["frame_quality"])
    state = published_state("gstvqa")
    theirs = expected["clip_a"]["rnn"] @ state["q.weight"].numpy().T + state["q.bias"].numpy()
    assert_close(curve, theirs)


def test_the_order_of_frames_matters_as_in_the_original(
    network: GSTVQA, taps: dict[str, Tensor]
) -> None:
    """Upstream AIGVE's wrapper gives the same bits for both; the original moves to 0.0962."""
    rows = taps["clip_a"]
    reversed_rows = torch.cat([rows[:1], rows[1:].flip(0)])
    assert network.head(reversed_rows)["score"].item() == pytest.approx(0.0962, abs=5e-5)


# --- behaviour --------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [slice(1472), slice(1472, None)], ids=["mean", "deviation"])
def test_a_late_frame_moves_the_score(network: GSTVQA, half: slice) -> None:
    rows = noise(60, 2944)
    changed = rows.clone()
    changed[50, half] += 3
    ours, other = network.head(rows), network.head(changed)
    assert abs(ours["score"] - other["score"]) > 1e-4
    moved = (ours["frame_quality"] - other["frame_quality"]).abs()[:, 0]
    # The recurrence looks back only; the gate, of the means, is one for all frames.
    assert (moved[:50].max() > 1e-6) == (half.start is None)
    assert moved[50] > 1e-4


def test_frames_after_the_500th_only_move_the_gate(network: GSTVQA) -> None:
    rows = noise(520, 2944)
    outputs = network.head(rows)
    assert outputs["frame_quality"].shape == (500, 1)
    deviations, means = rows.clone(), rows.clone()
    deviations[500:, 1472:] += 3
    means[500:, :1472] += 3
    assert torch.equal(network.head(deviations)["score"], outputs["score"])
    assert abs(network.head(means)["score"] - outputs["score"]) > 1e-5
    last = rows.clone()
    last[499, 1472:] += 3
    assert network.head(last)["frame_quality"][-1] != outputs["frame_quality"][-1]


def test_29_frames_are_the_fewest(network: GSTVQA) -> None:
    outputs = network.head(noise(29, 2944))
    assert torch.isfinite(outputs["score"]).all()
    assert len(outputs["frame_quality"]) == 29
    for count in (0, 1, 28):
        with pytest.raises(ValueError, match=f"29 frames or more: {count}"):
            network.head(noise(count, 2944))


@pytest.mark.parametrize("shape", [(40, 1472), (1, 40, 2944), (2944,)])
def test_other_rows_are_refused(network: GSTVQA, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"taps are \[T, 2944\]"):
        network.head(torch.zeros(shape))


def test_an_attention_of_0_is_no_number_as_in_the_original(load: Load) -> None:
    state = published_state("gstvqa")
    zeros = {key: torch.zeros_like(state[key]) for key in ("q_att.2.weight", "q_att.2.bias")}
    outputs = load(state | zeros).head(noise(40, 2944))  # type: ignore[operator]
    assert torch.isnan(outputs["score"]).all()
    assert torch.isfinite(outputs["frame_quality"]).all()


def test_there_is_no_variant() -> None:
    with pytest.raises(ValueError, match="variant 'cvd14'"):
        build("cvd14")


# --- weights ----------------------------------------------------------------------------------

SHAPES: dict[str, list[int]] = json.loads(
    (GOLDENS / "keys_gstvqa.json").read_text(encoding="utf-8")
)


def test_keys_and_shapes_are_the_published_ones() -> None:
    ours = {key: list(tensor.shape) for key, tensor in build().state_dict().items()}
    assert len(ours) == 22
    assert ours == SHAPES


@pytest.mark.parametrize("key", SHAPES)
def test_a_missing_key_is_named(load: Load, key: str) -> None:
    state = build().state_dict()
    del state[key]
    with pytest.raises(WeightsError, match=f"1 missing: {key}$"):
        load(state)


def test_a_renamed_key_is_named_twice(load: Load) -> None:
    state = build().state_dict()
    state["q_reg3.bias"] = state.pop("q_reg2.bias")
    with pytest.raises(WeightsError, match=r"1 missing: q_reg2\.bias\n *1 unknown: q_reg3\.bias"):
        load(state)


def test_a_key_of_another_shape_is_named(load: Load) -> None:
    state = build().state_dict()
    state["q_att.0.weight"] = torch.zeros(1, 32, 13)
    with pytest.raises(WeightsError, match=r"q_att\.0\.weight \(1, 32, 13\) instead of"):
        load(state)


def test_what_only_training_reads_moves_nothing(network: GSTVQA, load: Load) -> None:
    state = published_state("gstvqa")
    unread = ("ann.fc.weight", "ann.fc.bias", "q_reg", "q_mean")
    other = load(state | {key: state[key] + 1 for key in unread})
    rows = noise(40, 2944)
    assert torch.equal(other.head(rows)["score"], network.head(rows)["score"])  # type: ignore[operator]


def test_one_checkpoint_for_each_training_set() -> None:
    card = network_card("gstvqa")
    assert card.entry().tag == "konvid"
    assert set(card.weights) == {"konvid", "cvd14", "liveq", "livev"}
    for tag, entry in card.weights.items():
        assert entry.file == f"training-all-data-GSTVQA-{tag}-EXP0-best"
        assert entry.urls[0].endswith(f"/models/{entry.file}")
