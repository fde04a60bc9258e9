"""Light-VQA: its numbers are those of the published implementation on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from aigve_models import light_brightness
from aigve_models.lightvqa import (
    KEY_FRAMES,
    MIN_VARYING_FRAMES,
    MOTION,
    SPATIAL,
    TILES,
    LightVQA,
    build,
    checkpoint_to_state,
    images_to_brightness_and_noise,
    tiles_to_consistency,
)
from torch import Tensor

from aigve_cli.errors import WeightsError
from aigve_cli.weights import network_card
from tests.networks.checkpoints import LIGHTVQA, published_state
from tests.networks.light_goldens import (
    IMAGENET,
    distance,
    frame,
    golden,
    load,
    normalised,
    published_shapes,
    resized_by_pil,
    zeros,
)

# float32 rounds at 6e-8; another order of sums in 24 blocks moves the features by about 1e-6.
PARITY = 1e-5
# The head's sums cancel to a hundredth of their parts.
SCORES = 1e-4
Spoil = Callable[[dict[str, Tensor]], None]

KEY = 6
"""The key frame that goes through the whole network; its score is not clamped."""


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return golden("lightvqa_parent_clip_a")


@pytest.fixture(scope="module")
def network() -> LightVQA:
    network = build()
    network.load_state_dict(checkpoint_to_state(published_state(LIGHTVQA)))
    return network.eval().requires_grad_(False)


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- parity with the published implementation -----------------------------------------------------


def test_spatial_features_of_a_key_frame(network: LightVQA, expected: dict[str, Tensor]) -> None:
    picture = resized_by_pil(frame(int(expected["key_idx"][KEY])), 512, 960)
    images = normalised(picture, *IMAGENET)
    assert torch.equal(images[0, :, ::64, ::64], expected["video_sample"][KEY])
    ours = network(images)["spatial"]
    theirs = expected["head_in"][KEY, None, :SPATIAL]
    assert ours.dtype == torch.float32
    # Each part by itself: they differ in size.
    for start, end in ((0, 768), (768, 832), (832, 896), (896, SPATIAL)):
        assert distance(ours[:, start:end], theirs[:, start:end]) < PARITY


def test_scores_of_all_key_frames(network: LightVQA, expected: dict[str, Tensor]) -> None:
    spatial, motion, consistency = expected["head_in"].split([SPATIAL, MOTION, TILES], dim=1)
    scores = network.scores(spatial, motion, consistency)
    assert scores["unclamped"].shape == scores["frame_scores"].shape == (KEY_FRAMES, 1)
    assert distance(scores["unclamped"][:, 0], expected["out_preclamp"]) < SCORES
    assert distance(scores["frame_scores"][:, 0], expected["out"]) < SCORES
    assert float(scores["frame_scores"].mean()) == pytest.approx(float(expected["score"]), rel=1e-4)


# --- brightness, noise and their consistency ------------------------------------------------------


def test_brightness_and_noise_by_their_words() -> None:
    """Loops over the pixels that the reference's reshapes pick, in float64."""
    images = noise(2, 3, 512, 960)
    ours = images_to_brightness_and_noise(images)
    for picture, brightness, variance in zip(images.double().mean(1).numpy(), *ours, strict=True):
        largest = picture.reshape(32, 16, 64, 15).max((1, 3))
        assert distance(brightness, torch.from_numpy(largest.mean(0) / 10)) < PARITY
        flat = picture.ravel()
        runs = [flat[240 * i : 240 * (i + 1)].var(ddof=1) for i in range(32 * 64)]
        means = [np.mean(runs[column::64]) for column in range(64)]
        assert distance(variance, torch.tensor(means)) < PARITY


def test_tiles_are_runs_of_five_rows() -> None:
    rows = torch.arange(720.0)[None, None, :, None].expand(2, 1, 720, 1280)
    tiles = light_brightness.build()(rows)["tiles"]
    assert torch.allclose(tiles, (5 * torch.arange(144.0) + 2).expand(2, -1))


def test_consistency_is_ten_variances_of_each_eighth() -> None:
    tiles = noise(8 * 3 + 5, TILES)
    ours = tiles_to_consistency(tiles)
    theirs = [10 * tiles[3 * i : 3 * i + 3].double().numpy().var(0, ddof=1) for i in range(8)]
    assert distance(ours, torch.tensor(np.stack(theirs))) < PARITY


def test_frames_that_are_left_over_do_not_count() -> None:
    tiles = noise(23, TILES)
    assert torch.equal(tiles_to_consistency(tiles), tiles_to_consistency(tiles[:16]))


@pytest.mark.parametrize("frames", [1, 7, 8, 15])
def test_short_videos_do_not_vary(frames: int) -> None:
    assert frames < MIN_VARYING_FRAMES
    assert torch.equal(tiles_to_consistency(noise(frames, TILES)), torch.zeros(8, TILES))
    assert (tiles_to_consistency(noise(MIN_VARYING_FRAMES, TILES)) > 0).all()


def test_head_makes_the_consistency_of_tiles(network: LightVQA) -> None:
    rows = noise(KEY_FRAMES, SPATIAL), noise(KEY_FRAMES, MOTION)
    tiles = noise(20, TILES)
    assert torch.equal(
        network.head(*rows, tiles)["unclamped"],
        network.scores(*rows, tiles_to_consistency(tiles))["unclamped"],
    )


def test_scores_stay_within_0_and_100(network: LightVQA) -> None:
    rows = 1e6 * noise(KEY_FRAMES, SPATIAL), noise(KEY_FRAMES, MOTION), noise(16, TILES)
    scores = network.head(*rows)
    assert scores["unclamped"].min() < 0 < 100 < scores["unclamped"].max()
    assert scores["frame_scores"].unique().tolist() == [0, 100]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 960, 512), (1, 1, 512, 960), (3, 512, 960)])
def test_other_pictures_are_refused(network: LightVQA, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images are \[B, 3, 512, 960\], not \["):
        network(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 3, 720, 1280), (1, 1, 1280, 720)])
def test_other_grey_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images are \[B, 1, 720, 1280\], not \["):
        light_brightness.build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((7, SPATIAL), (8, MOTION), (16, TILES)), r"spatial is \[8, 1664\], not \[7, 1664\]"),
        (((8, SPATIAL), (9, MOTION), (16, TILES)), r"motion is \[8, 2304\], not \[9, 2304\]"),
        (((8, SPATIAL), (8, MOTION), (16, 145)), r"tiles is \[T, 144\], not \[16, 145\]"),
        (((8, SPATIAL), (8, MOTION), (0, TILES)), r"tiles is \[T, 144\], not \[0, 144\]"),
    ],
)
def test_other_rows_are_refused(
    network: LightVQA, shapes: tuple[tuple[int, int], ...], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        network.head(*(torch.zeros(shape) for shape in shapes))


# --- weights --------------------------------------------------------------------------------------


def test_keys_and_shapes_are_the_published_ones(network: LightVQA) -> None:
    own = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
    assert own == checkpoint_to_state(published_shapes(LIGHTVQA))
    assert len(own) == 357


def test_unknown_keys_stay() -> None:
    names = ["head3.weight", "heads.bias", "layers.4.norm.bias"]
    assert list(checkpoint_to_state(dict.fromkeys(names))) == names


def missing(state: dict[str, Tensor]) -> None:
    del state["head.bias"]


def renamed(state: dict[str, Tensor]) -> None:
    state["layers.2.blocks.17.mlp.fc3.bias"] = state.pop("layers.2.blocks.17.mlp.fc2.bias")


def reshaped(state: dict[str, Tensor]) -> None:
    state["head.weight"] = torch.zeros(1024, 4440)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (missing, ["1 missing: head.bias"]),
        (
            renamed,
            [
                "1 missing: layers.2.blocks.17.mlp.fc2.bias",
                "1 unknown: layers.2.blocks.17.mlp.fc3.bias",
            ],
        ),
        (reshaped, ["1 of another shape: head.weight (1024, 4440) instead of (1024, 4112)"]),
    ],
)
def test_another_checkpoint_is_refused(tmp_path: Path, spoil: Spoil, says: list[str]) -> None:
    state = zeros(published_shapes(LIGHTVQA))
    spoil(state)
    with pytest.raises(WeightsError) as caught:
        load(state, LIGHTVQA, tmp_path)
    for part in says:
        assert part in caught.value.message


@pytest.mark.parametrize("make", [build, light_brightness.build])
def test_there_is_one_variant(make: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="no variant 'tiny'"):
        make("tiny")


def test_cards(network: LightVQA) -> None:
    card = network_card(LIGHTVQA)
    assert dict(card.outputs) == {"spatial": SPATIAL}
    assert list(card.head) == list(network.scores(*map(noise, [8] * 3, [SPATIAL, MOTION, TILES])))
    assert dict(network_card("light-brightness").outputs) == {"tiles": TILES}
