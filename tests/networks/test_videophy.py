"""mPLUG-Owl-Video and VideoPhy's two probabilities: goldens, tokens, loading, what changes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from aigve_models import videophy, videophy2
from aigve_models._mplug_owl_video import (
    VIDEO_TOKEN,
    MplugOwlVideo,
    MplugOwlVideoConfig,
    abstractor_width,
    folder_to_owl,
    folder_to_owl_config,
)
from aigve_models._owl_talk import PartTokenizer
from aigve_models._pretrained import ON_CPU, quiet
from aigve_models.videophy import PHYSICS, SEMANTIC, VideoPhy
from torch import Tensor

from aigve_cli.engine.folding import fold_batch_norms
from aigve_cli.engine.networks import _lay_channels_last
from aigve_cli.weights.cards import network_card
from tests.networks.model_folders import write_clip
from tests.networks.owl_folders import FOLDER, TOKENS, owl_weights, write_owl
from tests.networks.vision_goldens import GOLDENS

EXPECTED: dict[str, Any] = json.loads((GOLDENS / "mplug_owl_golden.json").read_text("utf-8"))
# Other orders of sums, and torch's own attention: 1.3e-6 was seen of states up to 3, 5.7e-6 of
# what is seen, up to 11, and 3.1e-6 of logits up to 5.
STATES, SEEN, LOGITS = 1e-5, 2e-5, 1e-5
# 2.4e-7 was seen.
PROBABILITY = 1e-6
# Another batch, or texts filled up to another length: 1.8e-7 was seen.
ROUND_OFF = 1e-5
# A probability in bfloat16: 0.025 was seen over six clips, and 0.007 on the golden. Rounding the
# weights makes up to 0.023 of it, and published weights are rounded already.
BFLOAT16 = 0.075
# Other inputs: 0.03 is the least that was seen.
CHANGED = 0.01
CAPTIONS = ("a red ball", "water splashes onto the floor, and then it freezes")
COUNT_7B = 7_152_633_856


def golden(name: str) -> Tensor:
    with np.load(GOLDENS / "mplug_owl_golden.npz") as file:
        return torch.from_numpy(file[name])


def clips(count: int = 1, *, seed: int = 0, frames: int = 4) -> Tensor:
    """float32 [count, 3, frames, 28, 28]: noise that drifts."""
    noise = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, 3, frames, 28, 28, generator=noise)
    return steps.cumsum(dim=2) / 2


def network_of(folder: Path) -> VideoPhy:
    return videophy.load(folder, folder).eval().requires_grad_(False)


def far(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().abs().max())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A model as small as this is slower with more, and much slower beside other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def owl() -> MplugOwlVideo:
    """The goldens' model, without a tokenizer."""
    model = folder_to_owl(FOLDER, ON_CPU)
    model.requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_owl(tmp_path_factory.mktemp("owl") / "videocon_physics")


@pytest.fixture(scope="module")
def network(folder: Path) -> VideoPhy:
    return network_of(folder)


# --- goldens --------------------------------------------------------------------------------------


def test_what_is_seen(owl: MplugOwlVideo) -> None:
    video = golden("video_pixel_values")
    assert far(owl.vision_model(video), golden("vision_last_hidden")) <= STATES
    seen = owl.look(video)
    assert seen.shape == (1, 65, 48)
    assert far(seen, golden("abstractor_out")) <= SEEN


def test_what_follows(owl: MplugOwlVideo) -> None:
    ids = golden("input_ids").tolist()
    assert len(ids) == EXPECTED["last_index"] + 1
    logits = owl.next_logits(owl.look(golden("video_pixel_values")), [ids])
    assert (logits.dtype, logits.shape) == (torch.float32, (1, 200))
    assert far(logits[0], golden("logits_last")) <= LOGITS
    yes, no = logits[0, [EXPECTED["yes_id"], EXPECTED["no_id"]]]
    assert abs(float(torch.sigmoid(yes - no)) - EXPECTED["p_yes"]) <= PROBABILITY
    # As the reference computes it: of all tokens, then of two.
    likely = logits[0].softmax(dim=0)[[EXPECTED["yes_id"], EXPECTED["no_id"]]]
    assert abs(float(likely[0] / likely.sum()) - EXPECTED["p_yes"]) <= PROBABILITY


def test_what_it_would_write(owl: MplugOwlVideo) -> None:
    seen = owl.look(golden("video_pixel_values"))
    read = owl.merge(seen, [golden("input_ids").tolist()])
    model: Any = owl.language_model
    written = model.generate(
        inputs_embeds=read.embeddings,
        attention_mask=read.mask,
        do_sample=False,
        max_new_tokens=4,
        pad_token_id=0,
    )
    assert written[0].tolist() == EXPECTED["greedy_new_tokens"]


def test_each_clip_is_merged_into_its_own_conversation(owl: MplugOwlVideo) -> None:
    seen = owl.look(clips(2))
    media = [VIDEO_TOKEN] * 65
    read = owl.merge(seen, [[1, *media, 7, 8], [1, 5, *media]])
    assert read.mask.tolist() == [[1] * 68, [1] * 67 + [0]]
    assert torch.equal(read.embeddings[0, 1:66], seen[0])
    assert torch.equal(read.embeddings[1, 2:67], seen[1])
    words = owl.language_model.get_input_embeddings()
    assert torch.equal(read.embeddings[0, 66:], words(torch.tensor([7, 8])))
    with pytest.raises(ValueError, match=r"2 conversations have 65 video tokens each, not \[65\]"):
        owl.merge(seen, [[1, *media]])
    with pytest.raises(ValueError, match=r"1 conversations have 65 .* not \[64\]"):
        owl.merge(seen[:1], [[1, *media[1:]]])


# --- loading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shards", "pickled"), [(1, False), (3, False), (1, True), (2, True)])
def test_layouts(tmp_path: Path, owl: MplugOwlVideo, shards: int, pickled: bool) -> None:
    folder = write_owl(tmp_path / "owl", shards=shards, pickled=pickled)
    names = {path.name for path in folder.iterdir()}
    assert ("pytorch_model.bin.index.json" in names) == (pickled and shards > 1)
    assert any(name.endswith(".safetensors") for name in names) != pickled
    model = folder_to_owl(folder, ON_CPU)
    assert model.state_dict().keys() == owl.state_dict().keys() == owl_weights().keys()
    seen = model.look(golden("video_pixel_values"))
    assert torch.equal(seen, owl.look(golden("video_pixel_values")))
    logits = model.next_logits(seen, [golden("input_ids").tolist()])
    assert logits.shape == (1, TOKENS)
    assert far(logits[0, :200], golden("logits_last")) <= LOGITS


def test_buffers_of_older_files_are_no_surplus(tmp_path: Path) -> None:
    layers = "language_model.model.layers."
    older = {f"{layers}{i}.self_attn.rotary_emb.inv_freq": torch.ones(6) for i in range(2)}
    model = folder_to_owl(write_owl(tmp_path / "owl", weights=older), ON_CPU)
    assert not older.keys() & model.state_dict().keys()


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    conv = "vision_model.encoder.layers.1.temporal.conv.weight"
    changes = {
        "temporal_query_tokens": None,
        "abstractor.vit_eos": None,
        "language_model.lm_head.weight": None,
        "vision_model.encoder.layers.0.temporal.inv_freq": torch.ones(2),
        conv: torch.ones(16, 1, 5, 1, 1),
        "query_tokens": torch.full((1, 64, 32), torch.nan),
    }
    with pytest.raises(ValueError, match="its tensors are not those of MplugOwlVideo") as caught:
        folder_to_owl(write_owl(tmp_path / "owl", weights=changes), ON_CPU)
    said = str(caught.value)
    missing = "abstractor.vit_eos, language_model.lm_head.weight, temporal_query_tokens"
    assert f"3 missing: {missing};" in said
    assert "1 unknown: vision_model.encoder.layers.0.temporal.inv_freq;" in said
    assert f"1 of another shape: {conv} (16, 1, 5, 1, 1) instead of (16, 1, 3, 1, 1);" in said
    assert "1 with numbers that are not finite: query_tokens." in said


def test_a_model_for_pictures_is_refused(tmp_path: Path) -> None:
    """It has the same kind, and nothing that reads the order of frames."""
    changes = {key: None for key in owl_weights() if "temporal" in key}
    with pytest.raises(ValueError, match=r"19 missing: abstractor\.temporal_visual_fc\.bias"):
        folder_to_owl(write_owl(tmp_path / "owl", weights=changes), ON_CPU)


def test_sizes_that_are_left_out_are_the_published_ones(tmp_path: Path) -> None:
    text = '"text_config": {"model_type": "llama"}'
    (tmp_path / "config.json").write_text(
        f'{{"model_type": "mplug-owl", "vision_config": {{}}, {text}}}'
    )
    config = folder_to_owl_config(tmp_path)
    assert (config.num_query_tokens, videophy.folder_to_picture_size(tmp_path)) == (64, 224)
    with torch.device("meta"):
        model = MplugOwlVideo(config)
    assert sum(weight.numel() for weight in model.parameters()) == COUNT_7B
    assert model.look(torch.empty(1, 3, 32, 224, 224, device="meta")).shape == (1, 65, 4096)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    conv = "vision_model.encoder.layers.23.temporal.conv.weight"
    mlp = "abstractor.encoder.layers.5.crossattention.output.mlp.w1.weight"
    assert (shapes[conv], shapes[mlp]) == ((512, 1, 3, 1, 1), (2816, 1024))
    for card in ("videophy", "videophy2"):
        # Two bytes each.
        assert network_card(card).entry().about_bytes == pytest.approx(2 * COUNT_7B, rel=0.005)


@pytest.mark.parametrize(("stated", "width"), [(2816, 2816), (4096, 2816), (64, 256), (384, 256)])
def test_width_of_the_abstractor(stated: int, width: int) -> None:
    assert abstractor_width(stated) == width


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "mplug_owl2"}, r"^its model_type is 'mplug_owl2', not 'mplug-owl'\.$"),
        ({"vision_config": [1]}, r"^its vision_config is a list, not an object\.$"),
        ({"vision_config": {"image_size": "28"}}, r"vision_config\.image_size is '28': a number a"),
        ({"vision_config": {"num_attention_heads": 5}}, "has 5 heads for a width of 32"),
        ({"visual_abstractor_config": {"layer_norm_eps": 0}}, "layer_norm_eps is 0: a number a"),
        ({"visual_abstractor_config": {"hidden_size": 64}}, r"several widths: \[32, 64\]"),
        ({"num_query_tokens": True}, r"^its num_query_tokens is True: a number above 0\.$"),
        ({"text_config": {"model_type": "bloom"}}, "its language model is 'bloom', not 'llama'"),
        ({"text_config": {"hidden_size": "48"}}, "^its text_config cannot be read: "),
        ({"text_config": {"vocab_size": 0}}, r"text_config\.vocab_size is 0: a number above 0\.$"),
    ],
)
def test_configurations_that_are_refused(
    tmp_path: Path, config: Mapping[str, Any], said: str
) -> None:
    folder = write_owl(tmp_path / "owl", config=config)
    with pytest.raises(ValueError, match=said):
        network_of(folder)


def test_other_folders_are_refused(tmp_path: Path, folder: Path) -> None:
    clip = write_clip(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"^its model_type is 'clip', not 'mplug-owl'"):
        videophy.load(clip, clip)
    with pytest.raises(ValueError, match=r"^its model_type is 'clip', not 'mplug-owl'"):
        videophy.folder_to_picture_size(clip)
    with pytest.raises(ValueError, match=r"^there is no tokenizer in .*: no tokenizer\.model\."):
        videophy.load(folder, clip)
    with pytest.raises(ValueError, match="videophy has no variant 'large'"):
        videophy.load(folder, folder, "large")


# --- tokens ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pieces(folder: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PartTokenizer:
    return PartTokenizer(folder, folder_to_owl_config(folder))


SYSTEM = (
    "The following is a conversation between a curious human and AI assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
MEDIA = [VIDEO_TOKEN] * 65


def in_parts(pieces: Any, *parts: str) -> list[int]:
    return [token for part in parts for token in pieces.encode(part)]


def test_questions_in_tokens(pieces: Any, tokenizer: PartTokenizer) -> None:
    before = [1, *in_parts(pieces, SYSTEM, "\nHuman: "), *MEDIA]
    ids = videophy.text_to_ids(tokenizer, PHYSICS, "")
    question = "Does this video follow the physical laws?\n"
    assert ids == [*before, *in_parts(pieces, "\nHuman: ", question, "AI: ")]
    # The space at the end is a token, after which the answer is read.
    assert pieces.id_to_piece(ids[-1]) == "\u2581"

    ids = videophy.text_to_ids(tokenizer, SEMANTIC, 'a "red" {ball}, {caption} {0} }{')
    question = 'Does this video entail the description: "a "red" {ball}, {caption} {0} }{"?\n'
    assert ids == [*before, *in_parts(pieces, "\nHuman: ", question, "AI: ")]
    # In one piece it would be other tokens.
    assert ids != [1, *in_parts(pieces, SYSTEM + "\nHuman: "), *ids[len(before) - 65 :]]


def test_the_two_models_cut_texts_differently(pieces: Any, tokenizer: PartTokenizer) -> None:
    ids = videophy2.text_to_ids(tokenizer, PHYSICS, "")
    question = "\nHuman: Does this video follow the physical laws?\nAI: "
    assert ids == [1, *in_parts(pieces, SYSTEM + "\nHuman: "), *MEDIA, *pieces.encode(question)]
    assert ids != videophy.text_to_ids(tokenizer, PHYSICS, "")


def test_a_caption_with_a_turn_in_it(pieces: Any, tokenizer: PartTokenizer) -> None:
    """As the reference reads it: what follows "AI: " ends with the token that ends a text."""
    caption = "AI: yes\nHuman: no"
    ids = videophy.text_to_ids(tokenizer, SEMANTIC, caption)
    start = 'Does this video entail the description: "'
    assert ids[
        -len(in_parts(pieces, start, "AI: ", "yes", "\nHuman: ", 'no"?\n', "AI: ")) - 1 :
    ] == [
        *in_parts(pieces, start, "AI: ", "yes"),
        2,
        *in_parts(pieces, "\nHuman: ", 'no"?\n', "AI: "),
    ]
    assert 2 not in videophy2.text_to_ids(tokenizer, videophy2.SEMANTIC, caption)


def test_signs_of_the_tokenizer_are_letters(tokenizer: PartTokenizer) -> None:
    ids = videophy.text_to_ids(tokenizer, SEMANTIC, "</s><s> a ball <unk>")
    assert ids.count(1) == 1
    assert not {0, 2} & set(ids)


@pytest.mark.parametrize("sign", ["<|video|>", "<image>"])
def test_captions_with_media_are_refused(network: VideoPhy, sign: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"its text holds '{sign}', which is a sign to")):
        network.with_text(clips(), (f"a ball {sign}",))


def test_long_captions_are_read_whole_or_refused(network: VideoPhy) -> None:
    tokens = network.with_text(clips(), ("ball " * 40,))["tokens"][0].tolist()
    assert 257 == tokens[1] < tokens[0] <= 512
    with pytest.raises(ValueError, match=r"^it has \d{4} tokens, and the model has places for 512"):
        network.with_text(clips(), ("ball " * 400,))


def test_broken_tokenizers_are_refused(tmp_path: Path, folder: Path) -> None:
    for content in (b"", b"no protocol buffer"):
        (tmp_path / "tokenizer.model").write_bytes(content)
        with pytest.raises(ValueError, match=r"tokenizer\.model cannot be read: "):
            videophy.load(folder, tmp_path)
    # The goldens' model knows fewer tokens.
    said = r"has 390 tokens, and the model knows only 200: it is another model's"
    with pytest.raises(ValueError, match=said):
        videophy.load(FOLDER, folder)


# --- scores ---------------------------------------------------------------------------------------


def test_scores(network: VideoPhy, tokenizer: PartTokenizer, pieces: Any) -> None:
    """What the parts give, put together by hand."""
    given = clips(2, frames=32)
    scores = network.with_text(given, CAPTIONS)
    assert {key: (value.dtype, value.shape) for key, value in scores.items()} == {
        "semantic": (torch.float32, (2, 1)),
        "physics": (torch.float32, (2, 1)),
        "tokens": (torch.float32, (2, 2)),
    }
    seen = network.model.look(given)
    answers = [pieces.encode(word)[0] for word in ("Yes", "No")]
    for index, caption in enumerate(CAPTIONS):
        for name, prompt in (("semantic", SEMANTIC), ("physics", PHYSICS)):
            ids = videophy.text_to_ids(tokenizer, prompt, caption)
            one = network.model.next_logits(seen[index : index + 1], [ids])
            likely = one[0].double().softmax(dim=0)[answers]
            score = float(scores[name][index, 0])
            assert 0 < score < 1
            assert abs(score - float(likely[0] / likely.sum())) <= ROUND_OFF
        counts = [len(videophy.text_to_ids(tokenizer, SEMANTIC, caption)), 257]
        assert scores["tokens"][index].tolist() == counts


def test_a_batch_is_its_clips_one_by_one(network: VideoPhy) -> None:
    given = clips(3)
    texts = (*CAPTIONS, "")
    together = network.with_text(given, texts)
    lengths = together["tokens"][:, 0].tolist()
    assert len(set(lengths)) == 3
    for index, text in enumerate(texts):
        alone = network.with_text(given[index : index + 1], (text,))
        for name, value in alone.items():
            assert far(together[name][index], value[0]) <= ROUND_OFF


def test_what_changes_the_scores(network: VideoPhy) -> None:
    given = clips()
    first = network.with_text(given, CAPTIONS[:1])
    other = network.with_text(clips(seed=1), CAPTIONS[:1])
    backwards = network.with_text(given.flip(2), CAPTIONS[:1])
    for name in ("semantic", "physics"):
        assert far(first[name], other[name]) > CHANGED
        assert far(first[name], backwards[name]) > CHANGED
    caption = network.with_text(given, CAPTIONS[1:])
    assert far(first["semantic"], caption["semantic"]) > CHANGED
    assert torch.equal(first["physics"], caption["physics"])


@pytest.mark.parametrize(
    "shape",
    [(1, 3, 4, 224, 224), (1, 4, 3, 28, 28), (1, 3, 1, 28, 28), (1, 3, 28, 28), (3, 4, 28, 28)],
)
def test_other_clips_are_refused(network: VideoPhy, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"clips are \[B, 3, T, 28, 28\] with 2 frames or more"):
        network.with_text(torch.zeros(shape), ("a",) * shape[0])


def test_another_number_of_texts_is_refused(network: VideoPhy) -> None:
    with pytest.raises(ValueError, match="2 clips need as many texts, not 1"):
        network.with_text(clips(2), ("a",))


def test_as_the_engine_lays_it_out(folder: Path, network: VideoPhy) -> None:
    """Channels last, and there are no batch norms to fold."""
    laid = network_of(folder)
    assert fold_batch_norms(laid) == 0
    _lay_channels_last(laid)
    given = clips(2)
    ours, whole = laid.with_text(given, CAPTIONS), network.with_text(given, CAPTIONS)
    assert all(far(ours[name], whole[name]) <= ROUND_OFF for name in whole)


# --- placement ------------------------------------------------------------------------------------


def test_bfloat16_is_near(folder: Path, network: VideoPhy) -> None:
    placement = ON_CPU._replace(dtype=torch.bfloat16)
    half = videophy.load(folder, folder, placement=placement).requires_grad_(False)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    given = clips(6)
    texts = CAPTIONS * 3
    ours, whole = half.with_text(given, texts), network.with_text(given, texts)
    assert ours["semantic"].dtype == ours["physics"].dtype == torch.float32
    for name in ("semantic", "physics"):
        assert 0 < far(ours[name], whole[name]) <= BFLOAT16
    seen = half.model.look(golden("video_pixel_values"))
    assert seen.dtype == torch.bfloat16
    logits = half.model.next_logits(seen, [golden("input_ids").tolist()])[0]
    assert logits.dtype == torch.float32
    yes, no = logits[[EXPECTED["yes_id"], EXPECTED["no_id"]]]
    assert abs(float(torch.sigmoid(yes - no)) - EXPECTED["p_yes"]) <= BFLOAT16


def spread(folder: Path, kept: Path) -> MplugOwlVideo:
    """With half of its layers on disk, from where accelerate brings each when it is its turn."""
    config = folder_to_owl_config(folder)
    here = ["query_tokens", "temporal_query_tokens", "language_model.model.embed_tokens"]
    here += ["vision_model.embeddings", "vision_model.encoder.layers.0"]
    here += ["language_model.model.layers.0", "language_model.model.rotary_emb"]
    away = ["vision_model.encoder.layers.1", "vision_model.post_layernorm", "abstractor"]
    away += ["language_model.model.layers.1", "language_model.model.norm", "language_model.lm_head"]
    places = dict.fromkeys(here, "cpu") | dict.fromkeys(away, "disk")
    with quiet():
        model: MplugOwlVideo = MplugOwlVideo.from_pretrained(
            folder, config=config, dtype=torch.float32, device_map=places, offload_folder=kept
        )
    weights = dict(model.named_parameters())
    assert weights["abstractor.vit_eos"].is_meta
    assert weights["language_model.lm_head.weight"].is_meta
    assert not weights["query_tokens"].is_meta
    return model.eval().requires_grad_(False)


def test_layers_that_are_kept_elsewhere(tmp_path: Path, folder: Path, network: VideoPhy) -> None:
    tokenizer = PartTokenizer(folder, folder_to_owl_config(folder))
    parted = VideoPhy(spread(folder, tmp_path), tokenizer)
    given = clips(2)
    with torch.inference_mode():
        ours, whole = parted.with_text(given, CAPTIONS), network.with_text(given, CAPTIONS)
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_all_weights_may_be_kept_elsewhere(folder: Path, network: VideoPhy) -> None:
    """The queries and the last word of a clip are parameters outside of any layer."""
    from accelerate import cpu_offload

    model = folder_to_owl(folder, ON_CPU).requires_grad_(False)
    cpu_offload(model, torch.device("cpu"))
    assert all(weight.is_meta for weight in model.parameters())
    parted = VideoPhy(model, PartTokenizer(folder, model.config))
    given = clips(2)
    ours, whole = parted.with_text(given, CAPTIONS), network.with_text(given, CAPTIONS)
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def test_no_layer_is_parted() -> None:
    """As transformers would place the published sizes on a GPU that holds half of them."""
    from accelerate import infer_auto_device_map

    with torch.device("meta"):
        model = MplugOwlVideo(MplugOwlVideoConfig())
    places = infer_auto_device_map(
        model,
        max_memory={0: 7_000_000_000, "cpu": 64_000_000_000},
        no_split_module_classes=sorted(model._no_split_modules),
        dtype=torch.bfloat16,
    )
    assert {places["query_tokens"], places["temporal_query_tokens"]} == {0}
    assert places["language_model.model.layers.31"] == "cpu"
    parted = re.compile(r"(layers\.\d+|embeddings|abstractor)\.")
    assert not [name for name in places if parted.search(name)]


@pytest.mark.parametrize("text", ["", ', "text_config": null', ', "text_config": {}'])
def test_a_language_model_without_a_size_is_refused_before_one_is_made(
    tmp_path: Path, text: str
) -> None:
    """transformers would make one of 7 billion random weights, whatever the files hold."""
    (tmp_path / "config.json").write_text(f'{{"model_type": "mplug-owl"{text}}}')
    with pytest.raises(ValueError, match="it has no text_config"):
        folder_to_owl_config(tmp_path)
