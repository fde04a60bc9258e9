"""CLIP ViT-B/32: its numbers are those of OpenAI's implementation on the same weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from aigve_models._clip_tokens import texts_to_tokens
from aigve_models.clip_vit_b_32 import CLIP as Network, build, checkpoint_to_state
from aigve_models.light_words import features_to_words
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPModel

from aigve_cli.errors import WeightsError
from aigve_cli.weights import network_card
from tests.networks.checkpoints import CLIP, published_state
from tests.networks.light_goldens import (
    distance,
    frame,
    golden,
    load,
    normalised,
    published_shapes,
    resized_by_pil,
    zeros,
)
from tests.networks.vbench_weights import golden as vbench_golden

# Another order of sums in 12 blocks: 1e-7 to 6e-7 were seen.
PARITY = 1e-5
# Softmax of cosines times 100: an error of 1e-7 in a cosine is 1e-5 in a probability.
PROBABILITIES = 1e-4
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
BRIGHTNESS = (
    "an underexposed photo",
    "a slightly underexposed photo",
    "a well-exposed photo",
    "a slightly overexposed photo",
    "an overexposed photo",
)
NOISE = tuple(
    f"a photo with {how} noise" for how in ("no", "little", "considerable", "serious", "extreme")
)


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return golden("lightvqa_plus_clip_a")


@pytest.fixture(scope="module")
def network() -> Network:
    network = build()
    network.load_state_dict(checkpoint_to_state(published_state(CLIP)))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def texts(network: Network) -> dict[str, Tensor]:
    return {"B": network.text(BRIGHTNESS)["text"], "N": network.text(NOISE)["text"]}


def patches(picture: NDArray[np.uint8]) -> Tensor:
    """uint8 [672, 1120, 3] to float32 [15, 3, 224, 224], down the columns."""
    whole = normalised(picture, MEAN, STD)[0]
    tiles = whole.unfold(1, 224, 224).unfold(2, 224, 224)  # [3, 3, 5, 224, 224]
    return tiles.permute(2, 1, 0, 3, 4).flatten(0, 1)


# --- parity with the published implementation -----------------------------------------------------


def test_tokens(expected: dict[str, Tensor]) -> None:
    assert torch.equal(texts_to_tokens(BRIGHTNESS)[0], expected["tokens_B"].long())
    assert torch.equal(texts_to_tokens(NOISE)[0], expected["tokens_N"].long())


@pytest.mark.parametrize("which", ["a", "b"])
def test_tokens_of_any_text(which: str) -> None:
    arrays = vbench_golden("appearance_style_tiny")
    text = str(arrays[f"text_{which}"])
    tokens, (length,) = texts_to_tokens((text,))
    assert tokens.tolist() == arrays[f"token_ids_{which}"].tolist()
    assert tokens[0, length - 1] == tokens.max()
    assert not tokens[0, length:].any()


def test_a_long_text_is_cut_and_ends() -> None:
    tokens, lengths = texts_to_tokens((" ".join(["noise"] * 90), "", "Ünder\n EXPOSED &amp; photo"))
    assert lengths[:2] == [92, 2]
    assert tokens[0].tolist() == [49406, *[9307] * 75, 49407]
    assert tokens[1].tolist() == [49406, 49407, *[0] * 75]
    assert torch.equal(tokens[2], texts_to_tokens(("ünder exposed & photo",))[0][0])


@pytest.mark.parametrize("kind", ["B", "N"])
def test_texts(texts: dict[str, Tensor], expected: dict[str, Tensor], kind: str) -> None:
    assert distance(texts[kind], expected[f"text_feat_{kind}"]) < PARITY


def test_patches_of_a_key_frame(
    network: Network, texts: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    rows = network(patches(resized_by_pil(frame(0), 672, 1120)))["image"]
    assert rows.dtype == torch.float32
    assert distance(rows, expected["local_image_feat_first15_singlenorm"]) < PARITY
    for kind in "BN":
        words = features_to_words(rows.reshape(1, -1), texts[kind])
        assert distance(words, expected[f"local_probs_{kind}_singlenorm"][:1]) < PROBABILITIES


def test_patches_of_a_frame_as_opencv_resizes_it(
    network: Network, texts: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    """The last column of patches of the last frame."""
    picture = cv2.resize(frame(16), (1120, 672), interpolation=cv2.INTER_LINEAR)
    rows = network(patches(picture)[12:])["image"]
    rows = rows.repeat(5, 1).reshape(1, -1)
    for kind in "BN":
        words = features_to_words(rows, texts[kind]).reshape(15, 5)[:3]
        assert distance(words, expected[f"global_probs_{kind}"][16, 12:]) < PROBABILITIES


# --- behaviour ------------------------------------------------------------------------------------


def test_pictures_do_not_see_each_other(network: Network) -> None:
    images = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(5))
    assert distance(network(images[1:2])["image"], network(images)["image"][1:2]) < PARITY


def test_texts_do_not_see_each_other(network: Network, texts: dict[str, Tensor]) -> None:
    turned = network.text((NOISE[2], BRIGHTNESS[1]))["text"]
    assert distance(turned, torch.stack([texts["N"][2], texts["B"][1]])) < PARITY


def test_texts_have_their_numbers_of_tokens(network: Network) -> None:
    assert network.text((NOISE[0], "a cat"))["tokens"].tolist() == [[7, 77], [4, 77]]


@pytest.mark.parametrize("shape", [(1, 3, 672, 1120), (1, 1, 224, 224), (3, 224, 224)])
def test_other_pictures_are_refused(network: Network, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images are \[B, 3, 224, 224\], not \["):
        network(torch.zeros(shape))


# --- weights --------------------------------------------------------------------------------------


def own_shapes() -> dict[str, list[int]]:
    with torch.device("meta"):
        return {key: list(tensor.shape) for key, tensor in build().state_dict().items()}


def openai_checkpoint() -> dict[str, Tensor]:
    return zeros(published_shapes("clip_vit_b32"))


def test_every_published_tensor_has_a_place() -> None:
    assert len(openai_checkpoint()) == 302
    sizes = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    state = checkpoint_to_state(openai_checkpoint() | sizes)
    assert {key: list(tensor.shape) for key, tensor in state.items()} == own_shapes()


def test_layout_of_transformers_is_taken_too() -> None:
    with torch.device("meta"):
        theirs = CLIPModel(build().clip.config).state_dict()
    for tower, length in (("text_model", 77), ("vision_model", 50)):
        theirs[f"{tower}.embeddings.position_ids"] = torch.arange(length)[None]
    state = checkpoint_to_state(theirs)
    assert {key: list(tensor.shape) for key, tensor in state.items()} == own_shapes()


@pytest.mark.parametrize(
    "key",
    [
        "logit_scale",
        "visual.proj",
        "transformer.resblocks.11.mlp.c_fc.bias",
        "visual.transformer.resblocks.0.attn.in_proj_weight",
    ],
)
def test_a_missing_tensor_is_named(key: str, tmp_path: Path) -> None:
    checkpoint = openai_checkpoint()
    checkpoint["renamed"] = checkpoint.pop(key)
    with pytest.raises(WeightsError) as caught:
        load(checkpoint, CLIP, tmp_path)
    assert f"1 missing: {key}\n" in caught.value.message
    assert "1 unknown: renamed" in caught.value.message


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoint = openai_checkpoint()
    checkpoint["visual.transformer.resblocks.12.ln_1.bias"] = torch.zeros(768)
    checkpoint["visual.conv1.weight"] = torch.zeros(1).expand(768, 3, 16, 16)
    with pytest.raises(WeightsError) as caught:
        load(checkpoint, CLIP, tmp_path)
    assert "1 unknown: visual.transformer.resblocks.12.ln_1.bias" in caught.value.message
    assert "visual.conv1.weight (768, 3, 16, 16) instead of (768, 3, 32, 32)" in (
        caught.value.message
    )


def test_there_is_one_variant() -> None:
    with pytest.raises(ValueError, match="no variant 'l-14'"):
        build("l-14")


def test_card() -> None:
    card = network_card(CLIP)
    assert (dict(card.outputs), dict(card.text)) == ({"image": 512}, {"text": 512, "tokens": 2})
    assert card.entry().sha256 in card.entry().urls[0]
