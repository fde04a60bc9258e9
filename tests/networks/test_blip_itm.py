"""BLIP for retrieval from a folder: its two heads' goldens, texts, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from aigve_models import blip_itm
from aigve_models.blip_itm import BlipRetrieval
from torch import Tensor

from aigve_cli.engine.folding import fold_batch_norms
from aigve_cli.engine.networks import _lay_channels_last
from aigve_cli.video.decode import VideoReader
from tests.networks.model_folders import write_blip, write_clip, write_json
from tests.networks.vision_goldens import (
    CLIP_FILE,
    COSINES,
    GOLDENS,
    PICTURES,
    clip_frames,
    cosines,
    goldens,
    seen_by,
)

NAME = "tiny-blip-itm"
FOLDER = GOLDENS / NAME
EXPECTED = goldens()
PROMPTS: tuple[str, ...] = tuple(EXPECTED["prompts"])
EMPTY, LONG = 3, 4
# The goldens cut texts there.
GOLDEN_LIMIT = 35
# Another batch, or another layout in memory: another order of sums.
ROUND_OFF = 2e-6


def network_of(folder: Path) -> BlipRetrieval:
    return blip_itm.load(folder, folder).eval().requires_grad_(False)


def with_limit(folder: Path, limit: int) -> Path:
    """A copy of the tiny model whose tokenizer states another limit."""
    shutil.copytree(FOLDER, folder)
    path = folder / "tokenizer_config.json"
    stated = json.loads(path.read_text(encoding="utf-8")) | {"model_max_length": limit}
    write_json(path, stated)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> BlipRetrieval:
    """The tiny model, its texts cut as those of the goldens."""
    return network_of(with_limit(tmp_path_factory.mktemp("models") / NAME, GOLDEN_LIMIT))


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return seen_by(FOLDER)


@pytest.fixture(scope="module")
def images(network: BlipRetrieval, pictures: Tensor) -> Tensor:
    return network(pictures)["image"]


def near(ours: Tensor, theirs: Any) -> bool:
    wanted = torch.tensor(theirs, dtype=torch.float64)
    assert ours.shape == wanted.shape
    return bool((ours.double() - wanted).abs().max() <= COSINES)


# --- goldens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_a_prompt(network: BlipRetrieval, pictures: Tensor, images: Tensor, index: int) -> None:
    wanted = EXPECTED[NAME]["prompts"][index]
    prompt = PROMPTS[index]
    ids = network._reader.read((prompt,), torch.device("cpu")).ids
    assert ids[0].tolist() == wanted["ids"]

    each = cosines(images, network.text((prompt,))["text"])[:, 0]
    assert near(each, wanted["itc_cos_per_frame"])
    assert near(each.mean(), wanted["itc_cos_mean"])

    match = network.with_text(pictures, (prompt,) * 7)["itm"]
    assert (match.dtype, match.shape) == (torch.float32, (7, 1))
    assert near(match[:, 0], wanted["itm_prob_per_frame"])
    assert near(match.mean(), wanted["itm_prob_mean"])
    # Not LAVIS' convention: it would be told apart.
    assert abs(float(match.mean()) - wanted["itm_prob_mean_with_ENC_token"]) > 10 * COSINES

    # The probability of two classes is the sigmoid of the difference of their logits.
    no, yes = wanted["itm_logits_frame0"]
    assert near(match[0, 0].logit(), yes - no)


def test_pictures(pictures: Tensor) -> None:
    """The image processor squashes: what CLIP's crops is another picture."""
    assert pictures.shape == (7, 3, 32, 32)
    assert EXPECTED[NAME]["pixel_values_absdiff_vs_manual"] <= PICTURES
    assert (pictures - seen_by(GOLDENS / "tiny-clip")).abs().max() > 0.1


def test_frames_of_the_file(network: BlipRetrieval, images: Tensor) -> None:
    with VideoReader(CLIP_FILE) as reader:
        decoded = list(reader)
    assert len(decoded) == len(clip_frames())
    assert torch.equal(network(seen_by(FOLDER, frames=decoded))["image"], images)


def test_as_the_engine_lays_it_out(network: BlipRetrieval, pictures: Tensor) -> None:
    """Channels last, and there are no batch norms to fold."""
    laid = network_of(FOLDER)
    assert fold_batch_norms(laid) == 0
    _lay_channels_last(laid)
    last = pictures.contiguous(memory_format=torch.channels_last)
    assert (laid(last)["image"] - network(pictures)["image"]).abs().max() <= ROUND_OFF
    texts = (PROMPTS[0],) * 7
    difference = laid.with_text(last, texts)["itm"] - network.with_text(pictures, texts)["itm"]
    assert difference.abs().max() <= ROUND_OFF


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stated", "limit"), [(512, 64), (64, 64), (35, 35), (9, 9)])
def test_the_smaller_limit_holds(tmp_path: Path, stated: int, limit: int) -> None:
    """The tokenizer's, or the 64 places of the text encoder."""
    network = network_of(with_limit(tmp_path / NAME, stated))
    tokens = network.text(PROMPTS)["tokens"]
    assert tokens[:, 1].tolist() == [limit] * len(PROMPTS)
    counts = tokens[:, 0].tolist()
    assert counts[EMPTY] == 2
    assert counts[LONG] > 64 > max(counts[:LONG])
    ids = network._reader.read(PROMPTS, torch.device("cpu")).ids
    assert ids.shape == (len(PROMPTS), limit)
    begin, end = ids[EMPTY, :2].tolist()
    assert (ids[LONG, 0], ids[LONG, -1]) == (begin, end)


def test_texts_do_not_see_each_other(network: BlipRetrieval, pictures: Tensor) -> None:
    """Without its mask a short text beside a long one would be another text."""
    alone = torch.cat([network.text((prompt,))["text"] for prompt in PROMPTS])
    assert (network.text(PROMPTS)["text"] - alone).abs().max() <= ROUND_OFF
    read = network._reader.read(PROMPTS, torch.device("cpu"))
    unmasked = network.model.text_encoder(input_ids=read.ids).last_hidden_state[:, 0]
    assert (network.model.text_proj(unmasked) - alone).abs().max() > 10 * COSINES

    seven = (*PROMPTS, PROMPTS[0])
    each = [network.with_text(pictures[i : i + 1], seven[i : i + 1])["itm"] for i in range(7)]
    assert (network.with_text(pictures, seven)["itm"] - torch.cat(each)).abs().max() <= ROUND_OFF


def test_each_picture_has_its_own_text(network: BlipRetrieval, pictures: Tensor) -> None:
    two = pictures[[0, 0, 3, 3]]
    rows = network.with_text(two, (PROMPTS[0], PROMPTS[2], PROMPTS[0], PROMPTS[2]))["itm"][:, 0]
    wanted = [
        EXPECTED[NAME]["prompts"][prompt]["itm_prob_per_frame"][frame]
        for frame in (0, 3)
        for prompt in (0, 2)
    ]
    assert near(rows, wanted)


def test_as_transformers_computes_it(network: BlipRetrieval, pictures: Tensor) -> None:
    read = network._reader.read((PROMPTS[0],) * 7, torch.device("cpu"))
    inputs = {"input_ids": read.ids, "attention_mask": read.mask, "pixel_values": pictures}
    theirs = network.model(**inputs).itm_score.softmax(1)[:, 1:]
    assert (network.with_text(pictures, (PROMPTS[0],) * 7)["itm"] - theirs).abs().max() <= ROUND_OFF
    theirs = network.model(**inputs, use_itm_head=False).itm_score
    ours = cosines(network(pictures)["image"], network.text((PROMPTS[0],) * 7)["text"])
    assert (ours - theirs).abs().max() <= ROUND_OFF


# --- what is refused ------------------------------------------------------------------------------


def test_another_number_of_texts_is_refused(network: BlipRetrieval, pictures: Tensor) -> None:
    with pytest.raises(ValueError, match="7 pictures need as many texts, not 1"):
        network.with_text(pictures, (PROMPTS[0],))


@pytest.mark.parametrize("shape", [(1, 3, 384, 384), (1, 1, 32, 32), (3, 32, 32)])
def test_other_pictures_are_refused(network: BlipRetrieval, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images are \[B, 3, 32, 32\], not \["):
        network(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"images are \[B, 3, 32, 32\], not \["):
        network.with_text(torch.zeros(shape), ("a",) * shape[0])


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"^its model_type is 'clip', not 'blip'"):
        blip_itm.load(folder, folder)


@pytest.mark.parametrize(("variant", "limit"), [("", 64), ("tokens=35", 35), ("tokens=400", 64)])
def test_a_variant_reads_fewer_tokens(variant: str, limit: int) -> None:
    network = blip_itm.load(FOLDER, FOLDER, variant).eval()
    assert network.text(PROMPTS)["tokens"][:, 1].tolist() == [limit] * len(PROMPTS)


def test_other_variants_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no variant 'large': it is empty, or tokens=N"):
        blip_itm.load(FOLDER, FOLDER, "large")


def test_a_captioning_model_is_refused(tmp_path: Path) -> None:
    """Of the same kind, without the heads."""
    folder = write_blip(tmp_path / "blip", older=True)
    path = folder / "pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    renamed = {key.replace("text_encoder.", "text_decoder.bert."): state[key] for key in state}
    torch.save({key: renamed[key] for key in renamed if not key.startswith("itm_head")}, path)
    with pytest.raises(ValueError, match="its tensors are not those of BlipForImageText") as caught:
        network_of(folder)
    assert "missing: itm_head.bias, itm_head.weight, text_encoder." in str(caught.value)
    assert "unknown: text_decoder.bert.embeddings.LayerNorm.bias, " in str(caught.value)


# --- layouts --------------------------------------------------------------------------------------


def test_the_older_layout_is_the_same_to_the_bit(tmp_path: Path) -> None:
    newer = network_of(write_blip(tmp_path / "new"))
    older = network_of(write_blip(tmp_path / "old", older=True))
    assert not (tmp_path / "old" / "model.safetensors").exists()
    pictures = seen_by(tmp_path / "new")
    assert torch.equal(seen_by(tmp_path / "old"), pictures)
    assert torch.equal(newer(pictures)["image"], older(pictures)["image"])
    ours, theirs = newer.text(PROMPTS), older.text(PROMPTS)
    assert all(torch.equal(ours[key], theirs[key]) for key in ("text", "tokens"))
    seven = (*PROMPTS, PROMPTS[0])
    ours, theirs = newer.with_text(pictures, seven), older.with_text(pictures, seven)
    assert torch.equal(ours["itm"], theirs["itm"])


def test_real_size(tmp_path: Path) -> None:
    folder = write_blip(tmp_path / "blip", real_size=True)
    network = network_of(folder)
    assert network.size == 384
    with torch.inference_mode():
        pictures = seen_by(folder, frames=clip_frames()[:1])
        assert network(pictures)["image"].shape == (1, 256)
        assert 0 < float(network.with_text(pictures, ("a red ball",))["itm"]) < 1
    read = network.text(("a red ball",))
    assert read["text"].shape == (1, 256)
    assert read["tokens"].tolist() == [[5, 512]]
    shutil.rmtree(folder)  # 900 MB
