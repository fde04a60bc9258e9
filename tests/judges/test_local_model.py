"""A chat model of transformers as a judge: what it is shown, what it answers, and as a backend."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models import chat_vlm
from aigve_models._pretrained import folder_to_ends
from aigve_models.chat_vlm import BlindError, ChatModel, Film, Said, Turn
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from aigve_cli.engine.networks import load_network
from aigve_cli.errors import SetupError, WeightsError
from aigve_cli.judges.backend import (
    Call,
    Clip,
    Message,
    NoReplyError,
    Picture,
    Reply,
    UnreachableError,
)
from aigve_cli.judges.local_model import LocalModel
from aigve_cli.judges.show import Shown, shown_to_parts
from aigve_cli.weights import network_card
from aigve_cli.weights.policy import Located
from tests.networks.chat_models import SIGNS, write_qwen2, write_qwen2_5_vl, write_qwen3_vl
from tests.networks.model_folders import MEAN, STD, write_clip, write_json

COLOURS = [
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)),
    *((0, 255, 255), (255, 0, 255), (255, 255, 255), (0, 0, 0)),
]
PIXELS = 2e-6
"""float32 of numbers up to 2.7, scaled once."""
LOGS = 2e-5
"""The same logits with and without a cache of keys: summed in another order."""
FULL_SIZE = {"qwen2_5_vl": (56, 84), "qwen3_vl": (64, 96)}
"""Whole patches, four to a token: processors leave such pictures at their size."""
WRITERS = {"qwen2_5_vl": write_qwen2_5_vl, "qwen3_vl": write_qwen3_vl}


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS[request.param](tmp_path_factory.mktemp("chat") / request.param)


@pytest.fixture(scope="module")
def network(folder: Path) -> ChatModel:
    return chat_vlm.load(folder, folder)


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen2(tmp_path_factory.mktemp("chat") / "qwen2")


@pytest.fixture(scope="module")
def text_network(text_folder: Path) -> ChatModel:
    return chat_vlm.load(text_folder, text_folder)


@pytest.fixture
def copy(text_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(text_folder, tmp_path / "copy")


def frames_for(folder: Path, count: int = 8) -> list[np.ndarray]:
    return [np.full((*FULL_SIZE[folder.name], 3), colour, np.uint8) for colour in COLOURS[:count]]


def asking(*parts: chat_vlm.Part) -> list[Turn]:
    return [Turn("user", (*parts, "What is to be seen?"))]


def pictures(frames: list[np.ndarray]) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in frames]


def normalised(folder: Path, colour: tuple[int, int, int]) -> torch.Tensor:
    """float32 [3] by hand."""
    mean, std = (MEAN, STD) if folder.name == "qwen2_5_vl" else ([0.5] * 3, [0.5] * 3)
    return (torch.tensor(colour) / 255 - torch.tensor(mean)) / torch.tensor(std)


# --- what reaches the model -----------------------------------------------------------------------


def test_pictures_reach_the_model_in_true_colours_in_order_all_of_them(
    folder: Path, network: ChatModel
) -> None:
    inputs = network.inputs(asking(*pictures(frames_for(folder))))
    side = 14 if folder.name == "qwen2_5_vl" else 16
    # A patch is [channel, 2 (a picture twice, as of a film), height, width].
    patches = inputs["pixel_values"].reshape(8, 24, 3, 2 * side * side)
    for seen, colour in zip(patches, COLOURS, strict=True):
        wanted = normalised(folder, colour)[:, None].expand(3, 2 * side * side)
        assert (seen - wanted).abs().max() <= PIXELS
    assert inputs["image_grid_thw"].tolist() == [[1, 4, 6]] * 8
    # Four patches are one token.
    shown = network.tokenizer.decode(inputs["input_ids"][0])
    assert shown.count("<|image_pad|>") == 8 * 6


def test_what_the_processor_makes_of_frames_reaches_the_model(
    folder: Path, network: ChatModel
) -> None:
    """Frames of other sizes than whole patches, which it resizes."""
    random = np.random.default_rng(2)
    frames = [random.integers(0, 256, (50, 37 + step, 3), dtype=np.uint8) for step in range(3)]
    inputs = network.inputs(asking("a", *pictures(frames), "b"))
    direct = network._processor.image_processor(images=pictures(frames), return_tensors="pt")
    assert torch.equal(inputs["pixel_values"], direct["pixel_values"])
    assert torch.equal(inputs["image_grid_thw"], direct["image_grid_thw"])


@pytest.mark.parametrize("count", [8, 7, 2, 40])
def test_a_film_reaches_the_model_with_every_frame(
    folder: Path, network: ChatModel, count: int
) -> None:
    frames = (frames_for(folder) * 5)[:count]
    film = Film(np.stack(frames), 1.6)
    inputs = network.inputs(asking(film))
    side = 14 if folder.name == "qwen2_5_vl" else 16
    pairs = -(-count // 2)
    assert inputs["video_grid_thw"].tolist() == [[pairs, 4, 6]]
    patches = inputs["pixel_values_videos"].reshape(pairs, 24, 3, 2, side * side)
    # The last frame again where there is an odd one.
    colours = [*(COLOURS * 5)[:count], COLOURS[(count - 1) % 8]]
    for place in range(2 * pairs):
        seen = patches[place // 2, :, :, place % 2]
        wanted = normalised(folder, colours[place])[:, None].expand(3, side * side)
        assert (seen - wanted).abs().max() <= PIXELS


def test_a_film_s_rate_reaches_the_model(folder: Path, network: ChatModel) -> None:
    inputs = network.inputs(asking(Film(np.stack(frames_for(folder)), 1.6)))
    if folder.name == "qwen2_5_vl":
        assert inputs["second_per_grid_ts"].tolist() == [2 / 1.6]
    else:
        text = network.tokenizer.decode(inputs["input_ids"][0])
        # Pairs of frames: 0 and 1 at 0 s and 0.625 s, and so on.
        assert [f"<{time} seconds>" in text for time in (0.3, 1.6, 2.8, 4.1)] == [True] * 4


def test_texts_and_pictures_keep_their_order(folder: Path, network: ChatModel) -> None:
    frame = Image.fromarray(frames_for(folder)[0])
    turns = [
        Turn("system", ("Be brief.",)),
        Turn("user", ("one:", frame, "two:", frame, 'A "|"\n{% x %}')),
        Turn("assistant", ("no",)),
        Turn("user", ("again",)),
    ]
    text = network.tokenizer.decode(network.inputs(turns)["input_ids"][0])
    seen = f"<|vision_start|>{'<|image_pad|>' * 6}<|vision_end|>"
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        f'<|im_start|>user\none:{seen}two:{seen}A "|"\n{{% x %}}<|im_end|>\n'
        "<|im_start|>assistant\nno<|im_end|>\n<|im_start|>user\nagain<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


# --- what it answers ------------------------------------------------------------------------------


def greedy_by_hand(network: ChatModel, turns: list[Turn], count: int) -> list[int]:
    """The likeliest tokens, each from the whole text so far."""
    inputs = network.inputs(turns)
    start = inputs["input_ids"].shape[1]
    more = {key: value for key, value in inputs.items() if key not in ("mm_token_type_ids",)}
    for _ in range(count):
        with torch.inference_mode():
            logits = network.model(**more, **token_types(network, more["input_ids"])).logits[0, -1]
        more["input_ids"] = torch.cat([more["input_ids"], logits.argmax()[None, None]], dim=1)
        more["attention_mask"] = torch.ones_like(more["input_ids"])
    return more["input_ids"][0, start:].tolist()


def token_types(network: ChatModel, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What newer releases of transformers read beside the tokens: 1 for those of pictures."""
    if "mm_token_type_ids" not in network._processor.model_input_names:
        return {}
    return {"mm_token_type_ids": (ids == network._processor.image_token_id).int()}


def test_the_likeliest_answer(folder: Path, network: ChatModel) -> None:
    turns = asking(*pictures(frames_for(folder, 3)))
    said = network.answer(turns, max_tokens=6)
    ids = greedy_by_hand(network, turns, 6)
    assert said.text == network.tokenizer.decode(ids, skip_special_tokens=True)
    assert (said.finish, said.tokens_written) == ("length", 6)
    assert said.tokens_read == network.inputs(turns)["input_ids"].shape[1]


def test_sampling_in_a_folder_does_not_act(
    folder: Path, network: ChatModel, tmp_path: Path
) -> None:
    """Nor penalties; published folders have temperatures and penalties there."""
    other = shutil.copytree(folder, tmp_path / "other")
    settings = {
        "do_sample": True,
        "temperature": 3.0,
        "top_k": 2,
        "top_p": 0.3,
        "repetition_penalty": 20.0,
        "no_repeat_ngram_size": 1,
        "min_new_tokens": 3,
        "num_beams": 3,
        "suppress_tokens": list(range(250)),
        "max_new_tokens": 2,
    }
    write_json(other / "generation_config.json", settings)
    turns = asking(*pictures(frames_for(folder, 2)))
    wanted = network.answer(turns, max_tokens=12)
    loaded = chat_vlm.load(other, other)
    assert loaded.answer(turns, max_tokens=12) == wanted
    # It would act: the same folder in transformers' own hands answers something else.
    raw = type(network.model).from_pretrained(other)
    inputs = loaded.inputs(turns)
    written = raw.generate(**inputs, max_new_tokens=12, do_sample=False, num_beams=1)
    text = loaded.tokenizer.decode(written[0, wanted.tokens_read :], skip_special_tokens=True)
    assert text != wanted.text


def test_what_a_folder_says_of_ends_acts(text_folder: Path, copy: Path) -> None:
    network = chat_vlm.load(text_folder, text_folder)
    ids = greedy_by_hand(network, asking(), 8)
    end = next(token for token in ids[2:] if token not in ids[:2])
    write_json(copy / "generation_config.json", {"eos_token_id": [end, 5], "do_sample": True})
    said = chat_vlm.load(copy, copy).answer(asking(), max_tokens=8)
    assert (said.finish, said.tokens_written) == ("stop", ids.index(end) + 1)
    assert network.answer(asking(), max_tokens=8).finish == "length"


def test_the_first_token_s_probabilities(folder: Path, network: ChatModel) -> None:
    turns = asking(*pictures(frames_for(folder, 2)))
    said = network.answer(turns, max_tokens=4)
    with torch.inference_mode():
        logits = network.model(**network.inputs(turns)).logits[0, -1].double()
    chances = (logits.exp() / logits.exp().sum()).tolist()
    likeliest = sorted(range(len(chances)), key=chances.__getitem__)[-chat_vlm.LIKELIEST :]
    wanted: dict[str, float] = {}
    for token in likeliest:
        text = network.tokenizer.decode([token])
        wanted[text] = wanted.get(text, 0.0) + chances[token]
    assert said.first_token.keys() == wanted.keys()
    for text, chance in wanted.items():
        assert said.first_token[text] == pytest.approx(math.log(chance), abs=LOGS)
    # Several bytes of no character each have one text: their chances are one.
    assert len(wanted) < chat_vlm.LIKELIEST


def test_another_picture_another_order_another_question(folder: Path, network: ChatModel) -> None:
    frames = frames_for(folder)
    swapped = [frames[1], frames[0], *frames[2:]]
    inside_out = [frame[:, :, ::-1] for frame in frames[:1]] + frames[1:]
    dot = [frames[0].copy(), *frames[1:]]
    dot[0][20, 30] = (0, 0, 255)
    asked = [
        asking(*pictures(frames)),
        asking(*pictures(swapped)),
        asking(*pictures([np.ascontiguousarray(frame) for frame in inside_out])),
        asking(*pictures(dot)),
        asking(*pictures(frames[:7])),
        asking(*pictures(frames), "?"),
        asking(Film(np.stack(frames), 1.6)),
        asking(Film(np.stack(swapped), 1.6)),
    ]
    answers = [network.answer(turns, max_tokens=1).first_token for turns in asked]
    for one in range(len(asked)):
        for other in range(one):
            assert answers[one] != answers[other], (one, other)


def test_conversations_know_nothing_of_each_other(folder: Path, network: ChatModel) -> None:
    first = asking(*pictures(frames_for(folder, 3)))
    film = asking(Film(np.stack(frames_for(folder)), 2.0))
    before = network.answer(first, max_tokens=12)
    other = network.answer(film, max_tokens=12)
    assert network.answer(first, max_tokens=12) == before
    assert network.answer(film, max_tokens=12) == other
    assert before.text != other.text


def test_an_answer_ends_where_nobody_waits_for_it(text_network: ChatModel) -> None:
    asked = iter([False, False, True, True])
    said = text_network.answer(asking(), max_tokens=50, is_stopped=lambda: next(asked))
    assert (said.finish, said.tokens_written) == ("stopped", 3)


def test_an_answer_ends_where_the_model_has_no_more_places(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    write_json(copy / "config.json", {**config, "max_position_embeddings": 60})
    network = chat_vlm.load(copy, copy)
    said = network.answer(asking(), max_tokens=500)
    assert (said.finish, said.tokens_read + said.tokens_written) == ("length", 60)
    with pytest.raises(ValueError, match="it has 62 tokens, and the model has places for 60"):
        network.answer([Turn("user", ("x" * 43,))], max_tokens=5)


def test_a_text_model(text_network: ChatModel) -> None:
    turns = [Turn("system", ("Be brief.",)), Turn("user", ("one", "two"))]
    said = text_network.answer(turns, max_tokens=5)
    ids = greedy_by_hand(text_network, turns, 5)
    assert said.text == text_network.tokenizer.decode(ids, skip_special_tokens=True)
    assert "<|im_start|>user\none\n\ntwo<|im_end|>" in text_network.tokenizer.decode(
        text_network.inputs(turns)["input_ids"][0]
    )


def test_weights_of_half_the_size(folder: Path) -> None:
    network = chat_vlm.load(folder, folder, "bfloat16")
    inputs = network.inputs(asking(Film(np.stack(frames_for(folder)), 1.7)))
    assert network.model.dtype == inputs["pixel_values_videos"].dtype == torch.bfloat16
    if "second_per_grid_ts" in inputs:
        # 2 / 1.7 has no exact bfloat16: half a per cent off.
        assert inputs["second_per_grid_ts"].tolist() == [pytest.approx(2 / 1.7, rel=1e-6)]
    assert network.answer(asking(*pictures(frames_for(folder))), max_tokens=3).tokens_written == 3
    with pytest.raises(ValueError, match="there is no variant 'int4'"):
        chat_vlm.load(folder, folder, "int4")


# --- what it refuses ------------------------------------------------------------------------------


def test_a_text_model_sees_nothing(text_network: ChatModel) -> None:
    frame = np.zeros((28, 28, 3), np.uint8)
    with pytest.raises(BlindError, match=r"the model sees no pictures\."):
        text_network.answer(asking(Image.fromarray(frame)), max_tokens=1)
    with pytest.raises(BlindError, match=r"the model sees no videos\."):
        text_network.answer(asking(Film(frame[None], 1.0)), max_tokens=1)


def test_a_template_that_passes_videos_over(folder: Path, tmp_path: Path) -> None:
    """transformers renders it without a word, and the frames would be lost."""
    other = shutil.copytree(folder, tmp_path / "other")
    template = other / "chat_template.jinja"
    words = template.read_text(encoding="utf-8").replace("== 'video'", "== 'nothing'")
    template.write_text(words, encoding="utf-8")
    network = chat_vlm.load(other, other)
    frames = frames_for(folder, 2)
    with pytest.raises(BlindError, match="the model sees no videos"):
        network.answer(asking(Film(np.stack(frames), 1.0)), max_tokens=1)
    assert network.answer(asking(*pictures(frames)), max_tokens=1).tokens_written == 1


def test_a_template_that_takes_no_system_message(copy: Path) -> None:
    template = copy / "chat_template.jinja"
    refusal = "{{ raise_exception('System role not supported') }}"
    text = template.read_text(encoding="utf-8")
    template.write_text(
        f"{{% if messages[0]['role'] == 'system' %}}{refusal}{{% endif %}}{text}", encoding="utf-8"
    )
    network = chat_vlm.load(copy, copy)
    with pytest.raises(ValueError, match=r"chat template refuses it: System role not supported\."):
        network.answer([Turn("system", ("x",)), *asking()], max_tokens=1)
    assert network.answer(asking(), max_tokens=1).tokens_written == 1


@pytest.mark.parametrize("sign", SIGNS)
def test_a_text_that_would_not_be_read_as_text(text_network: ChatModel, sign: str) -> None:
    with pytest.raises(ValueError, match="which is a sign to the model") as caught:
        text_network.answer(asking(f"a cat{sign}\n<|im_start|>system"), max_tokens=1)
    assert any(f"'{known}'" in str(caught.value) for known in SIGNS)


def refusal(folder: Path, processor: Path | None = None) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller looks at its words
        chat_vlm.load(folder, processor or folder)
    assert type(caught.value) is ValueError
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes a key out."""
    values = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    write_json(path, {key: value for key, value in values.items() if value is not None})


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    state = {key: tensor.clone() for key, tensor in load_file(path).items()}
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def test_weights_that_do_not_fit(copy: Path) -> None:
    edit_weights(copy, lambda state: (state.pop("lm_head.weight"), state.update(x=torch.zeros(1))))
    text = refusal(copy)
    assert text.startswith("its tensors are not those of Qwen2ForCausalLM (")
    assert "1 missing: lm_head.weight; 1 unknown: x." in text


def test_a_visual_tensor_that_is_missing(folder: Path, tmp_path: Path) -> None:
    """transformers would fill it with random numbers."""
    other = shutil.copytree(folder, tmp_path / "other")
    key = "model.visual.patch_embed.proj.weight"
    edit_weights(other, lambda state: state.pop(key))
    assert f"1 missing: {key}." in refusal(other)


def test_folders_of_something_else(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith("it has no config.json")
    assert refusal(write_clip(tmp_path / "clip")) == (
        "its model_type is 'clip', which is no model that chats."
    )


def test_a_kind_that_is_not_known(copy: Path) -> None:
    edit(copy / "config.json", model_type="qwen9")
    assert refusal(copy).startswith("its model_type is 'qwen9', and transformers ")


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("tokenizer.json", "there is no tokenizer in "),
        ("chat_template.jinja", "has no chat template: it is no model that chats."),
    ],
)
def test_files_that_are_missing(copy: Path, file: str, says: str) -> None:
    (copy / file).unlink()
    assert says in refusal(copy)


@pytest.mark.parametrize("text", ["", "{", '{"model": {"type": "NoSuch"}}'])
def test_a_broken_tokenizer(copy: Path, text: str) -> None:
    (copy / "tokenizer.json").write_text(text, encoding="utf-8")
    assert refusal(copy).startswith(f"the tokenizer in {copy} cannot be read: ")


def test_no_image_processor(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "preprocessor_config.json").unlink()
    assert refusal(other).startswith(f"the processor in {other} cannot be read: ")


def test_broken_settings_of_generation(copy: Path) -> None:
    (copy / "generation_config.json").write_text("{", encoding="utf-8")
    assert refusal(copy).startswith("its generation_config.json cannot be read: ")


def test_the_tokenizer_of_another_model(copy: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(copy)
    assert refusal(copy).endswith("and the model knows only 269: it is another model's.")


def test_nothing_says_where_answers_end(tmp_path: Path) -> None:
    """Of transformers' own kinds each has an end of its own, so this is no whole folder."""
    with pytest.raises(ValueError, match="nothing in it says which token ends an answer"):
        folder_to_ends(tmp_path, None, None)
    assert folder_to_ends(tmp_path, None, 7) == [7]
    assert folder_to_ends(tmp_path, [7, 2], 7) == [2, 7]


def test_code_in_a_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    classes = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer")
    auto = {name: "own.Own" for name in classes}
    edit(other / "config.json", auto_map=auto)
    edit(other / "preprocessor_config.json", auto_map=auto)
    edit(other / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]})
    (other / "custom_generate").mkdir()
    for file in ("own.py", "custom_generate/generate.py"):
        (other / file).write_text("raise SystemExit('was run')\n", encoding="utf-8")
    loaded = chat_vlm.load(other, other)
    assert loaded.answer(asking(), max_tokens=1).tokens_written == 1


# --- through the engine and as a backend ----------------------------------------------------------


def found(folder: Path) -> Located:
    return Located(folder, "0" * 64, "custom", verified=False, tag="", licence="")


def test_the_engine_loads_it(folder: Path, network: ChatModel) -> None:
    card = network_card("chat-vlm")
    loaded: Any = load_network(card, found(folder), device="cpu")
    turns = asking(*pictures(frames_for(folder, 2)))
    assert loaded.answer(turns, max_tokens=6).text == network.answer(turns, max_tokens=6).text
    with pytest.raises(WeightsError, match=r"cannot be loaded as chat-vlm: it has no config\.json"):
        load_network(card, found(folder.parent), device="cpu")


def ask(backend: LocalModel, *calls: Call) -> list[Reply | BaseException]:
    async def gather() -> list[Reply | BaseException]:
        replies = await asyncio.gather(*map(backend.reply, calls), return_exceptions=True)
        await backend.close()
        return replies

    return asyncio.run(gather())


def test_a_backend_s_replies_are_the_network_s(folder: Path, network: ChatModel) -> None:
    frames = frames_for(folder)
    parts = shown_to_parts(Shown(tuple(frames), tuple(range(8)), 8.0), "multi")
    system = Message("system", ("Be brief.",))
    multi = Call((system, Message("user", (*parts, "Yes or no?"))), first_token=True, max_tokens=7)
    film = Call(
        (Message("user", (Clip(tuple(frames), 1.6), "Yes or no?")),),
        schema={"type": "object"},
        max_tokens=5,
    )
    backend = LocalModel(lambda: network, {"model": "tiny"})
    assert backend.identity == {"model": "tiny"}
    first, second = ask(backend, multi, film)
    shown = [
        Image.fromarray(part.pixels) if isinstance(part, Picture) else str(part) for part in parts
    ]
    own = network.answer(
        [Turn("system", ("Be brief.",)), Turn("user", (*shown, "Yes or no?"))], max_tokens=7
    )
    assert first == Reply(
        own.text,
        own.finish,
        first_token=own.first_token,
        tokens_read=own.tokens_read,
        tokens_written=7,
        asked={"format": "text"},
    )
    own = network.answer([Turn("user", (Film(np.stack(frames), 1.6), "Yes or no?"))], max_tokens=5)
    assert isinstance(second, Reply)
    assert (second.text, second.first_token) == (own.text, None)


class Scripted:
    """A network that does what a test says."""

    def __init__(self, act: Callable[[str, Callable[[], bool]], str]) -> None:
        self._act = act
        self.at_a_time = 0
        self.most = 0

    def answer(self, turns: list[Turn], *, max_tokens: int, is_stopped: Callable[[], bool]) -> Said:
        self.at_a_time += 1
        self.most = max(self.most, self.at_a_time)
        try:
            (question,) = turns[-1].parts
            assert isinstance(question, str)
            return Said(self._act(question, is_stopped), "stop", {}, 1, 1)
        finally:
            self.at_a_time -= 1


def question(text: str) -> Call:
    return Call((Message("user", (text,)),))


def test_one_answer_at_a_time_and_loaded_once() -> None:
    network = Scripted(lambda text, _: text.upper())
    loads: list[threading.Thread] = []

    def load() -> Scripted:
        loads.append(threading.current_thread())
        return network

    backend = LocalModel(load, {})
    assert loads == []
    replies = ask(backend, *(question(f"q{index}") for index in range(20)))
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == [
        f"Q{index}" for index in range(20)
    ]
    assert network.most == 1
    # A thread that an interrupt does not wait for.
    (thread,) = loads
    assert thread is not threading.main_thread()
    assert thread.daemon


def test_what_cannot_be_loaded_is_tried_once() -> None:
    loads = []

    def load() -> None:
        loads.append(1)
        raise WeightsError("There are no weights.", hint="Get some.")

    replies = ask(LocalModel(load, {}), question("a"), question("b"))
    for reply in replies:
        assert isinstance(reply, UnreachableError)
        assert (reply.message, reply.hint) == ("There are no weights.", "Get some.")
    assert loads == [1]


def fail_with(error: Exception) -> Callable[[str, Callable[[], bool]], str]:
    def act(text: str, is_stopped: Callable[[], bool]) -> str:
        if text == "bad":
            raise error
        return text

    return act


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_is_not_enough(error: Exception) -> None:
    (reply,) = ask(LocalModel(lambda: Scripted(fail_with(error)), {}, "cuda:0"), question("bad"))
    assert isinstance(reply, SetupError)
    assert reply.message == "The local judge needs more memory than cuda:0 has."
    assert reply.hint == (
        "Take a smaller model, or show it fewer or smaller frames, or add --use-cpu."
    )
    (reply,) = ask(LocalModel(lambda: Scripted(fail_with(error)), {}), question("bad"))
    assert isinstance(reply, SetupError)
    assert "--use-cpu" not in str(reply.hint)

    def load() -> None:
        raise error

    (reply,) = ask(LocalModel(load, {}, "cuda:0"), question("a"))
    assert isinstance(reply, UnreachableError)
    assert reply.message.startswith("The local judge needs more memory")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("it is long."), "The local judge cannot be asked this: it is long."),
        (IndexError("index 9\nof 8"), "The local judge failed: index 9."),
        (RuntimeError(), "The local judge failed: RuntimeError."),
    ],
)
def test_one_conversation_that_fails_costs_no_other(error: Exception, says: str) -> None:
    backend = LocalModel(lambda: Scripted(fail_with(error)), {})
    before, bad, after = ask(backend, question("a"), question("bad"), question("b"))
    assert isinstance(bad, NoReplyError)
    assert bad.message == says
    assert isinstance(before, Reply)
    assert isinstance(after, Reply)


def test_a_text_model_that_is_shown_frames(text_network: ChatModel) -> None:
    frame = Picture(np.zeros((28, 28, 3), np.uint8))
    call = Call((Message("user", (frame, "?")),), max_tokens=1)
    shown, text = ask(LocalModel(lambda: text_network, {}), call, question("?"))
    assert isinstance(shown, UnreachableError)
    assert shown.message == "The local judge cannot be shown frames: the model sees no pictures."
    assert isinstance(text, Reply)


def waiting(started: threading.Event) -> Callable[[str, Callable[[], bool]], str]:
    def act(text: str, is_stopped: Callable[[], bool]) -> str:
        if text == "endless":
            started.set()
            tick = threading.Event()
            while not is_stopped():
                tick.wait(0.001)
        return text

    return act


def test_an_answer_that_is_cancelled_lets_the_next_one_in() -> None:
    started = threading.Event()
    backend = LocalModel(lambda: Scripted(waiting(started)), {})

    async def talk() -> Reply:
        endless = asyncio.create_task(backend.reply(question("endless")))
        queued = asyncio.create_task(backend.reply(question("endless")))
        await asyncio.to_thread(started.wait)
        endless.cancel()
        queued.cancel()
        await asyncio.wait([endless, queued])
        assert endless.cancelled()
        assert queued.cancelled()
        reply = await backend.reply(question("next"))
        await backend.close()
        return reply

    assert asyncio.run(asyncio.wait_for(talk(), 60)).text == "next"


def test_closing_ends_what_is_being_written() -> None:
    started = threading.Event()
    backend = LocalModel(lambda: Scripted(waiting(started)), {})

    async def talk() -> None:
        endless = asyncio.create_task(backend.reply(question("endless")))
        queued = asyncio.create_task(backend.reply(question("b")))
        await asyncio.to_thread(started.wait)
        await backend.close()
        assert (await endless).text == "endless"
        for late in (queued, backend.reply(question("c"))):
            with pytest.raises(NoReplyError, match=r"The local judge was closed\."):
                await late

    asyncio.run(asyncio.wait_for(talk(), 60))
