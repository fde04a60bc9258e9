"""VideoScore2 from a folder: what it is shown and told, what it writes, and how sure it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from aigve_models import videoscore2
from aigve_models._answers import Record
from aigve_models._pretrained import Placement
from aigve_models.chat_vlm import Film, Turn
from aigve_models.videoscore2 import FPS, QUERY, VideoScore2, ids_to_places, prompt_to_text
from torch import Tensor

from aigve_cli.weights.cards import network_card
from tests.networks.chat_models import SIGNS, write_qwen3_vl
from tests.networks.model_folders import write_json
from tests.networks.score_folders import write_videoscore2

MOST = 20
"""Tokens of an answer here: what a tiny model writes has no end."""
PROMPTS = ("a red ball", "a {braced} $t2v_prompt for 5 $", "ein Bär, 一只熊")
DRAWN = "temperature=1,seed=0"
# The same numbers with and without a cache of keys: summed in another order.
ROUND_OFF = 2e-6
LOGITS = 2e-5


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videoscore2, "MAX_TOKENS", MOST)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videoscore2(tmp_path_factory.mktemp("models") / "videoscore2")


@pytest.fixture(scope="module")
def network(folder: Path) -> VideoScore2:
    return videoscore2.load(folder, folder)


@pytest.fixture(scope="module")
def clips() -> Tensor:
    """float32 [3, 3, 4, 56, 84]: whole patches, which the processor leaves at their size."""
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 4, 56, 84), generator=random).float()


def answers_of(network: VideoScore2, clips: Tensor, *prompts: str) -> list[Record]:
    return network.with_text(clips, prompts)["answers"]


def inputs_of(network: VideoScore2, clip: Tensor, prompt: str) -> dict[str, Tensor]:
    frames = clip.permute(1, 2, 3, 0).numpy().astype(np.uint8)
    return network.chat.inputs([Turn("user", (Film(frames, 2.0), prompt_to_text(prompt)))])


def with_token(inputs: dict[str, Tensor], token: Tensor | int) -> dict[str, Tensor]:
    """Inputs, and one more token of text behind them."""
    more = {"input_ids": int(token), "attention_mask": 1, "mm_token_type_ids": 0}
    return {
        name: torch.cat([value, value.new_full((1, 1), more[name])], dim=1)
        if name in more
        else value
        for name, value in inputs.items()
    }


class Conversation(NamedTuple):
    """What the model was given, and the tokens that it wrote."""

    inputs: dict[str, Any]
    written: list[int]


@pytest.fixture
def noted(network: VideoScore2, monkeypatch: pytest.MonkeyPatch) -> list[Conversation]:
    """Filled as conversations of ``network`` go on."""
    return note(network, monkeypatch)


def note(network: VideoScore2, monkeypatch: pytest.MonkeyPatch) -> list[Conversation]:
    conversations: list[Conversation] = []
    model: Any = network.chat.model
    generate = model.generate

    def noting(**inputs: Any) -> Tensor:
        written: Tensor = generate(**inputs)
        read = inputs["input_ids"].shape[1]
        conversations.append(Conversation(inputs, written[0, read:].tolist()))
        return written

    monkeypatch.setattr(model, "generate", noting)
    return conversations


def logits_by_hand(
    network: VideoScore2, clip: Tensor, prompt: str, written: Sequence[int]
) -> Tensor:
    """float32 [tokens, vocabulary]: what each was chosen from, of one forward without a cache."""
    inputs = inputs_of(network, clip, prompt)
    read = inputs["input_ids"].shape[1]
    for token in written[:-1]:
        inputs = with_token(inputs, token)
    model: Any = network.chat.model
    places, _ = ids_to_places(
        inputs["input_ids"], config=model.config, video_grid_thw=inputs["video_grid_thw"]
    )
    with torch.inference_mode():
        logits: Tensor = model(**inputs, position_ids=places, use_cache=False).logits[0, read - 1 :]
    return logits.float()


# --- what it is told ------------------------------------------------------------------------------


def test_the_text_is_the_trained_one() -> None:
    """To the letter: that of the model card has this sum."""
    digest = "372bdeafd688b442490c77549b8d848ff5223f85092d56ebf4609c781be13725"
    assert hashlib.sha256(QUERY.encode()).hexdigest() == digest
    lines = prompt_to_text("a $t2v_prompt, {x} $5").split("\n")
    assert lines[0] == lines[-1] == ""
    assert lines[2] == "(1) visual quality \N{EN DASH} clarity, smoothness, artifacts;"
    assert lines[6] == "Video prompt: a $t2v_prompt, {x} $5"


def test_a_video_stands_in_front_of_the_text(network: VideoScore2, clips: Tensor) -> None:
    inputs = inputs_of(network, clips[0], "a red ball")
    text = network.chat.tokenizer.decode(inputs["input_ids"][0])
    video = "<|vision_start|>" + "<|video_pad|>" * 12 + "<|vision_end|>"
    assert text == (
        f"<|im_start|>user\n{video}{prompt_to_text('a red ball')}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    # Four frames in two pairs, a second from one pair to the next.
    assert inputs["video_grid_thw"].tolist() == [[2, 4, 6]]
    assert inputs["second_per_grid_ts"].tolist() == [2 / FPS] == [1.0]


def test_what_the_model_is_given(
    network: VideoScore2, clips: Tensor, noted: list[Conversation]
) -> None:
    """Every conversation as above: each clip with its own prompt."""
    answers_of(network, clips, *PROMPTS)
    for (given, _), clip, prompt in zip(noted, clips, PROMPTS, strict=True):
        for name, wanted in inputs_of(network, clip, prompt).items():
            assert torch.equal(given[name], wanted), name
        assert given["max_new_tokens"] == MOST
        assert given["do_sample"] is False


def test_places_of_tokens(network: VideoScore2) -> None:
    """By hand: 2 tokens, a video of 3 x 1 x 2 at 4 places from pair to pair, 2 tokens."""
    config = network.chat.model.config
    assert config.vision_config.tokens_per_second == 4
    video = config.video_token_id
    ids = torch.tensor([[7, 8, *[video] * 6, 9, 10]])
    grid = torch.tensor([[3, 2, 4]])
    places, further = ids_to_places(ids, config=config, video_grid_thw=grid)
    assert places[:, 0].tolist() == [
        [0, 1, 2, 2, 6, 6, 10, 10, 11, 12],
        [0, 1, 2, 2, 2, 2, 2, 2, 11, 12],
        [0, 1, 2, 3, 2, 3, 2, 3, 11, 12],
    ]
    assert further.tolist() == [[3]]


def test_the_model_reads_tokens_at_these_places(network: VideoScore2, clips: Tensor) -> None:
    """Those of the conversation, and those that it writes itself."""
    inputs = inputs_of(network, clips[0], "a red ball")
    model: Any = network.chat.model
    written = model.generate(
        **inputs, max_new_tokens=4, output_logits=True, return_dict_in_generate=True
    )
    tokens = written.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    wanted = logits_by_hand(network, clips[0], "a red ball", tokens)
    assert (torch.cat(written.logits) - wanted).abs().max() <= LOGITS
    # Two nearer, right behind the video's height and width, is where transformers has the text.
    ids, grid = inputs["input_ids"], inputs["video_grid_thw"]
    places, further = ids_to_places(ids, config=model.config, video_grid_thw=grid)
    assert int(places.max()) + 1 == ids.shape[1] + int(further)
    of_video = (ids[0] == model.config.video_token_id).nonzero()
    behind = torch.arange(ids.shape[1]) > of_video.max()
    with torch.inference_mode():
        nearer = model(**inputs, position_ids=places - 2 * behind, use_cache=False).logits[0, -1]
    assert (nearer - wanted[0]).abs().max() > 100 * LOGITS


# --- what it writes -------------------------------------------------------------------------------


def test_the_likeliest_answer(
    network: VideoScore2, clips: Tensor, noted: list[Conversation]
) -> None:
    """Token by token, whatever generation_config.json says: here, that nothing is said twice."""
    (answer,) = answers_of(network, clips[:1], "a red ball")
    written = noted[0].written
    logits = logits_by_hand(network, clips[0], "a red ball", written)
    assert logits.argmax(dim=1).tolist() == written
    assert len(set(written)) < len(written) == MOST
    assert answer["text"] == network._decode(written)
    assert answer["finish"] == "length"
    assert answers_of(network, clips[:1], "a red ball") == [answer]


def test_an_answer_that_ends(
    network: VideoScore2, clips: Tensor, noted: list[Conversation], monkeypatch: pytest.MonkeyPatch
) -> None:
    (answer,) = answers_of(network, clips[:1], "a red ball")
    written = noted[0].written
    ends = written[7]
    monkeypatch.setattr(network.chat.model.generation_config, "eos_token_id", [ends])
    (ended,) = answers_of(network, clips[:1], "a red ball")
    assert noted[1].written == written[: written.index(ends) + 1]
    assert (answer["finish"], ended["finish"]) == ("length", "stop")
    assert ended["text"] == network._decode(written[: written.index(ends)])
    assert ended["digits"] == answer["digits"][: len(ended["digits"])]


def test_a_seed_repeats_and_another_differs(folder: Path, clips: Tensor) -> None:
    drawn = answers_of(videoscore2.load(folder, folder, DRAWN), clips, *PROMPTS)
    again = answers_of(videoscore2.load(folder, folder, "temperature=1.0,seed=0"), clips, *PROMPTS)
    assert again == drawn
    for variant in ("temperature=1,seed=1", "temperature=0.5,seed=0", ""):
        others = answers_of(videoscore2.load(folder, folder, variant), clips, *PROMPTS)
        texts = [answer["text"] for answer in others]
        assert all(a != b["text"] for a, b in zip(texts, drawn, strict=True))


@pytest.mark.parametrize("variant", ["", DRAWN])
def test_answers_do_not_depend_on_other_videos(folder: Path, clips: Tensor, variant: str) -> None:
    network = videoscore2.load(folder, folder, variant)
    together = answers_of(network, clips, *PROMPTS)
    assert together[0]["text"] != together[1]["text"]
    assert answers_of(network, clips.flip(0), *PROMPTS[::-1]) == together[::-1]
    alone = [answers_of(network, clips[i : i + 1], PROMPTS[i])[0] for i in (2, 0, 1)]
    assert [alone[1], alone[2], alone[0]] == together


def test_all_tokens_can_be_drawn(
    folder: Path, clips: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the 50 likeliest alone, which is what transformers does if nothing is said."""
    network = videoscore2.load(folder, folder, "temperature=100,seed=0")
    noted = note(network, monkeypatch)
    answers_of(network, clips[:1], "a red ball")
    written = torch.tensor(noted[0].written)
    logits = logits_by_hand(network, clips[0], "a red ball", written.tolist())
    likelier = (logits > logits.gather(1, written[:, None])).sum(dim=1)
    assert likelier.max() >= 50


def test_random_numbers_of_others_go_on(folder: Path, clips: Tensor) -> None:
    network = videoscore2.load(folder, folder, DRAWN)
    torch.manual_seed(5)
    wanted = torch.rand(4)
    torch.manual_seed(5)
    answers_of(network, clips[:1], "a")
    assert torch.equal(torch.rand(4), wanted)


# --- how sure it was ------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["", DRAWN, "temperature=0.25,seed=3"])
def test_digits_and_their_probabilities(
    folder: Path, clips: Tensor, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model itself gives there, before the temperature."""
    network = videoscore2.load(folder, folder, variant)
    noted = note(network, monkeypatch)
    (answer,) = answers_of(network, clips[:1], "a red ball")
    written = noted[0].written
    logits = logits_by_hand(network, clips[0], "a red ball", written)
    of_digits = {network.chat.tokenizer.encode(digit)[0]: digit for digit in "12345"}
    places = [index for index, token in enumerate(written) if token in of_digits]
    assert len(places) == len(answer["digits"]) > 0
    for place, digit in zip(places, answer["digits"], strict=True):
        assert answer["text"][digit["at"]] == of_digits[written[place]]
        likely = logits[place].softmax(dim=0)[list(of_digits)].tolist()
        assert digit["probabilities"] == pytest.approx(likely, abs=ROUND_OFF)
    assert json.loads(json.dumps(answer)) == answer


def test_digits_with_a_space_in_front(network: VideoScore2) -> None:
    """Where a tokenizer has them as one; Qwen's has not."""

    class Spaced:
        def encode(self, text: str, **given: Any) -> list[int]:
            assert given == {"add_special_tokens": False}
            return [ord(text[-1]) + 100 * (len(text) - 1)]

    tokenizer, network.chat.tokenizer = network.chat.tokenizer, Spaced()
    try:
        assert network._digit_to_tokens("3") == [51, 151]
    finally:
        network.chat.tokenizer = tokenizer
    assert network._digits["3"] == tokenizer.encode("3")
    assert [len(ids) for ids in network._digits.values()] == [1] * 5


# --- where weights go -----------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [torch.float32, torch.bfloat16, "auto"])
def test_types_of_numbers(folder: Path, clips: Tensor, numbers: Any) -> None:
    network = videoscore2.load(folder, folder, placement=Placement(dtype=numbers))
    wanted = torch.bfloat16 if numbers == torch.bfloat16 else torch.float32
    assert {value.dtype for value in network.parameters()} == {wanted}
    (answer,) = answers_of(network, clips[:1], "a")
    assert answer["text"]


def test_other_types_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"numbers are float32 or bfloat16, not torch\.float16"):
        videoscore2.load(folder, folder, placement=Placement(dtype=torch.float16))


def test_the_card() -> None:
    card = network_card("videoscore2")
    assert card.records == ("answers",)
    assert card.entry().hub_id == "TIGER-Lab/VideoScore2"


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", SIGNS)
def test_prompts_with_signs_are_refused(network: VideoScore2, clips: Tensor, sign: str) -> None:
    with pytest.raises(ValueError, match=r"its text holds '<.*>', which is a sign to the model"):
        answers_of(network, clips[:1], f"a {sign} b")


@pytest.mark.parametrize(
    "shape", [(1, 3, 3, 56, 84), (1, 3, 0, 56, 84), (1, 1, 2, 56, 84), (3, 2, 56, 84)]
)
def test_other_clips_are_refused(network: VideoScore2, shape: tuple[int, ...]) -> None:
    """An odd number of frames: the processor would show the last one twice."""
    with pytest.raises(ValueError, match=r"clips are \[B, 3, T, H, W\] with an even T, not \["):
        answers_of(network, torch.zeros(shape), *("a",) * shape[0])


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0, float("nan")])
def test_other_numbers_are_refused(network: VideoScore2, clips: Tensor, value: float) -> None:
    changed = clips[:1].clone()
    changed[0, 1, 2, 3, 4] = value
    with pytest.raises(ValueError, match="frames are whole numbers from 0 to 255"):
        answers_of(network, changed, "a")


def test_another_number_of_texts_is_refused(network: VideoScore2, clips: Tensor) -> None:
    with pytest.raises(ValueError, match="3 videos need as many texts, not 1"):
        answers_of(network, clips, "a")


def test_what_is_too_long_is_refused_or_cut(network: VideoScore2, clips: Tensor) -> None:
    places = network.chat.model.config.get_text_config().max_position_embeddings
    read = inputs_of(network, clips[0], "")["input_ids"].shape[1]
    with pytest.raises(ValueError, match=f"it has {places} tokens, and the model has places for"):
        answers_of(network, clips[:1], "a" * (places - read))
    (answer,) = answers_of(network, clips[:1], "a" * (places - read - 3))
    assert answer["finish"] == "length"
    assert len(answer["text"]) <= 3


@pytest.mark.parametrize(
    "variant",
    [
        *("bfloat16", "temperature=0,seed=1", "temperature=0.0,seed=1", "temperature=1", "seed=1"),
        *("temperature=-1,seed=1", "temperature=1,seed=-1", "temperature=1,seed=1 "),
    ],
)
def test_other_variants_are_refused(folder: Path, variant: str) -> None:
    with pytest.raises(ValueError, match=f"there is no variant '{variant}': it is empty, or"):
        videoscore2.load(folder, folder, variant)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    folder = write_qwen3_vl(tmp_path / "qwen3")
    for read in (lambda f: videoscore2.load(f, f), videoscore2.folder_to_picture_size):
        with pytest.raises(ValueError, match="its model_type is 'qwen3_vl', not 'qwen2_5_vl'"):
            read(folder)


def test_pictures_of_any_size_are_taken(folder: Path) -> None:
    assert videoscore2.folder_to_picture_size(folder) is None


def test_a_processor_without_videos_is_refused(folder: Path, tmp_path: Path) -> None:
    blind = tmp_path / "blind"
    blind.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (blind / name).write_bytes((folder / name).read_bytes())
    write_json(blind / "config.json", {"model_type": "qwen2"})
    with pytest.raises(ValueError, match=r"in .*blind (has no part for videos|cannot be read)"):
        videoscore2.load(folder, blind)
