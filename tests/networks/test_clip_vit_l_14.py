"""CLIP ViT-L/14's layout, and LAION's rating of what it sees, as VBench has it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from aigve_models import clip_vit_l_14, laion_aesthetic
from torch import Tensor, nn
from transformers import CLIPModel

from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.weights import Located, network_card
from tests.networks.vbench_checkpoints import openai_shapes, vbench_checkpoint
from tests.networks.vbench_weights import golden

CLIP, HEAD = "clip-vit-l-14", "laion-aesthetic"
# Other orders of sums.
PARITY = 1e-6


def load(name: str, checkpoint: dict[str, Tensor], folder: Path) -> nn.Module:
    card = network_card(name)
    path = folder / card.entry().file
    torch.save(checkpoint, path)
    try:
        located = Located(path, "0" * 64, "standard", False, card.default_weights, "MIT")
        return load_network(card, located, device="cpu")
    finally:
        path.unlink()


def empty() -> dict[str, Tensor]:
    """OpenAI's names and shapes, with zeros that take no room."""
    shapes = openai_shapes(clip_vit_l_14)
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}


def own_shapes() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        state = clip_vit_l_14.build().state_dict()
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def test_ratings_are_the_golden_ones(tmp_path: Path) -> None:
    """What CLIP sees of the frames is compared in tests/cli/test_vbench.py: it takes its time."""
    arrays = golden("aesthetic_quality_vitl14")
    rows = torch.from_numpy(arrays["feat_wide"])
    head = load(HEAD, vbench_checkpoint(HEAD), tmp_path)
    ratings = head.head(rows)["rating"]
    assert ratings.shape == (3, 1)
    expected = torch.from_numpy(arrays["frame_scores_wide"])
    torch.testing.assert_close(ratings[:, 0], expected, rtol=PARITY, atol=0)
    torch.testing.assert_close(head.head(7 * rows)["rating"], ratings, rtol=PARITY, atol=0)


def test_the_published_text_tower_is_left_out_and_every_other_tensor_has_a_place() -> None:
    published = empty()
    assert len(published) == 446
    published |= {key: torch.tensor(1) for key in ("input_resolution", "context_length")}
    state = clip_vit_l_14.checkpoint_to_state(published)
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == own_shapes()


def test_layout_of_transformers_is_taken_too() -> None:
    with torch.device("meta"):
        theirs = CLIPModel(clip_vit_l_14.SIZES.config()).state_dict()
    theirs["vision_model.embeddings.position_ids"] = torch.arange(257)[None]
    state = clip_vit_l_14.checkpoint_to_state(theirs)
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == own_shapes()


def test_tensors_that_do_not_fit_are_named_as_published(tmp_path: Path) -> None:
    checkpoint = empty()
    checkpoint["visual.transformer.resblocks.24.ln_1.bias"] = torch.zeros(1024)
    del checkpoint["visual.transformer.resblocks.23.attn.in_proj_bias"]
    checkpoint["visual.proj"] = torch.zeros(()).expand(1024, 512)
    with pytest.raises(WeightsError) as caught:
        load(CLIP, checkpoint, tmp_path)
    assert "1 missing: visual.transformer.resblocks.23.attn.in_proj_bias" in caught.value.message
    assert "1 unknown: visual.transformer.resblocks.24.ln_1.bias" in caught.value.message
    assert "visual.proj" in caught.value.message


def test_a_head_of_another_model_is_refused(tmp_path: Path) -> None:
    checkpoint = {"weight": torch.zeros(1, 512), "bias": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"weight \(1, 512\) instead of \(1, 768\)"):
        load(HEAD, checkpoint, tmp_path)


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 3, 336, 336)])
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = clip_vit_l_14.build()
        images = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"images are \[B, 3, 224, 224\]"):
        network(images)


@pytest.mark.parametrize("module", [clip_vit_l_14, laion_aesthetic])
def test_there_is_one_variant(module) -> None:
    with pytest.raises(ValueError, match="no variant 'large'"):
        module.build("large")


def test_rows_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images are \[T, 768\]"):
        laion_aesthetic.build().head(torch.zeros(4, 512))
