"""VideoPhy-2's answers: greedy to the token that ends them, one by one, with their digits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from aigve_models import videophy2
from aigve_models._answers import DIGITS
from aigve_models._mplug_owl_video import folder_to_owl_config
from aigve_models._owl_talk import PartTokenizer
from aigve_models._pretrained import ON_CPU
from aigve_models.videophy2 import PHYSICS, SEMANTIC, VideoPhy2

from tests.networks.model_folders import write_clip
from tests.networks.owl_folders import FOLDER, TOKENS, owl_weights, write_owl
from tests.networks.test_videophy import CAPTIONS, ROUND_OFF, clips, spread

HEAD = "language_model.lm_head.weight"
# Answers that end after some tokens, but not as late as a model with random weights would.
QUICK = [2, *range(40, TOKENS, 4)]


def network_of(folder: Path) -> VideoPhy2:
    return videophy2.load(folder, folder).eval().requires_grad_(False)


def without_digits(answer: dict[str, Any]) -> tuple[str, str, list[int]]:
    return answer["text"], answer["finish"], [digit["at"] for digit in answer["digits"]]


def by_steps(
    network: VideoPhy2, seen: torch.Tensor, ids: Sequence[int], *, ends: Sequence[int], most: int
) -> list[int]:
    """The likeliest tokens, each from the whole of what stands before it, without the last end."""
    read = network.model.merge(seen, [ids])
    embeddings = read.embeddings
    written: list[int] = []
    words = network.model.language_model.get_input_embeddings()
    while len(written) < most:
        logits = network.model.language_model(inputs_embeds=embeddings).logits[0, -1]
        token = int(logits.argmax())
        if token in ends:
            break
        written.append(token)
        embeddings = torch.cat([embeddings, words(torch.tensor([[token]]))], dim=1)
    return written


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A model as small as this is slower with more, and much slower beside other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_owl(tmp_path_factory.mktemp("owl") / "videophy_2_auto", ends=QUICK)


@pytest.fixture(scope="module")
def network(folder: Path) -> VideoPhy2:
    return network_of(folder)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PartTokenizer:
    return PartTokenizer(folder, folder_to_owl_config(folder))


# --- answers --------------------------------------------------------------------------------------


def test_greedy_to_the_end(network: VideoPhy2, tokenizer: PartTokenizer) -> None:
    """Sampling, which the folder asks for, is not heeded; the tokens that end an answer are."""
    given = clips(2)
    answers = network.with_text(given, CAPTIONS)["answers"]
    assert [sorted(record) for record in answers] == [["physics", "semantic"]] * 2
    assert json.loads(json.dumps(answers)) == answers
    seen = network.model.look(given)
    lengths = set()
    for index, caption in enumerate(CAPTIONS):
        for name, prompt in (("semantic", SEMANTIC), ("physics", PHYSICS)):
            ids = videophy2.text_to_ids(tokenizer, prompt, caption)
            steps = by_steps(network, seen[index : index + 1], ids, ends=QUICK, most=255)
            assert answers[index][name]["text"] == tokenizer.decode(steps)
            assert answers[index][name]["finish"] == "stop"
            lengths.add(len(steps))
    assert len(lengths) > 1


def test_a_batch_is_its_clips_one_by_one(network: VideoPhy2) -> None:
    given = clips(3)
    texts = (*CAPTIONS, "")
    together = network.with_text(given, texts)["answers"]
    for index, text in enumerate(texts):
        alone = network.with_text(given[index : index + 1], (text,))["answers"][0]
        assert {name: without_digits(alone[name]) for name in alone} == {
            name: without_digits(together[index][name]) for name in alone
        }


def test_a_caption_changes_one_answer(network: VideoPhy2) -> None:
    given = clips()
    first, other = (network.with_text(given, (text,))["answers"][0] for text in CAPTIONS)
    assert first["physics"] == other["physics"]
    assert first["semantic"] != other["semantic"]
    assert network.with_text(given.flip(2), CAPTIONS[:1])["answers"][0] != first


def test_an_answer_that_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: PartTokenizer
) -> None:
    network = network_of(write_owl(tmp_path / "owl"))
    given = clips()
    monkeypatch.setattr(videophy2, "MAX_WRITTEN", 12)
    answer = network.with_text(given, CAPTIONS[:1])["answers"][0]["semantic"]
    ids = videophy2.text_to_ids(tokenizer, SEMANTIC, CAPTIONS[0])
    steps = by_steps(network, network.model.look(given), ids, ends=[2], most=12)
    assert (answer["finish"], answer["text"]) == ("length", tokenizer.decode(steps))

    # There are fewer places than the answer may have tokens.
    monkeypatch.setattr(videophy2, "MAX_WRITTEN", 255)
    monkeypatch.setattr(network.model.config.text_config, "max_position_embeddings", len(ids) + 4)
    answer = network.with_text(given, CAPTIONS[:1])["answers"][0]["semantic"]
    assert (answer["finish"], answer["text"]) == ("length", tokenizer.decode(steps[:5]))


def test_digits_and_how_likely_they_were(
    tmp_path: Path, network: VideoPhy2, tokenizer: PartTokenizer
) -> None:
    """A model that says 4, since its last layer has the state before the answer in that row."""
    given = clips()
    seen = network.model.look(given)
    ids = videophy2.text_to_ids(tokenizer, SEMANTIC, CAPTIONS[0])
    read = network.model.merge(seen, [ids])
    states = network.model.language_model.model(inputs_embeds=read.embeddings).last_hidden_state
    head = owl_weights()[HEAD]
    (four,), (two,) = tokenizer.of_sign("4"), tokenizer.of_sign("2")
    head[four] = states[0, -1] * head.norm(dim=1).max() / states[0, -1].norm()
    head[two] = 0.8 * head[four]
    saying = network_of(write_owl(tmp_path / "owl", weights={HEAD: head}, ends=QUICK))
    answer = saying.with_text(given, CAPTIONS[:1])["answers"][0]["semantic"]
    assert answer["text"][0] == "4"
    first = answer["digits"][0]
    assert first["at"] == 0
    likely = saying.model.next_logits(seen, [ids])[0].softmax(dim=0)
    wanted = [float(likely[tokenizer.of_sign(digit)].sum()) for digit in DIGITS]
    assert first["probabilities"] == pytest.approx(wanted, abs=ROUND_OFF)
    assert wanted.index(max(wanted)) == 3
    assert all(answer["text"][digit["at"]] in DIGITS for digit in answer["digits"])


def test_tokens_without_a_text(tokenizer: PartTokenizer) -> None:
    """Those of begin, end and unknown, and those that only the model knows."""
    ids = tokenizer.encode("Yes, 4")
    assert tokenizer.decode([1, *ids[:2], 0, TOKENS - 1, *ids[2:], 2]) == "Yes, 4"


def test_layers_that_are_kept_elsewhere(tmp_path: Path, folder: Path, network: VideoPhy2) -> None:
    tokenizer = PartTokenizer(folder, folder_to_owl_config(folder))
    parted = VideoPhy2(spread(folder, tmp_path), tokenizer, ends=QUICK)
    with torch.inference_mode():
        ours, whole = (one.with_text(clips(), CAPTIONS[:1]) for one in (parted, network))
    assert ours == whole


def test_bfloat16(folder: Path) -> None:
    half = videophy2.load(folder, folder, placement=ON_CPU._replace(dtype=torch.bfloat16))
    answer = half.with_text(clips(), CAPTIONS[:1])["answers"][0]["semantic"]
    assert answer["finish"] == "stop"


# --- loading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "stated", "wanted"),
    [(2, 2, [2]), (2, None, [2]), ([2, 41], 40, [2, 40, 41]), (7, [2, 9], [2, 7, 9])],
)
def test_tokens_that_end_an_answer(
    tmp_path: Path, ends: int | list[int], stated: Any, wanted: list[int]
) -> None:
    config = {"text_config": {"eos_token_id": stated}}
    folder = write_owl(tmp_path / "owl", ends=ends, config=config)
    settings = network_of(folder).model.language_model.generation_config
    assert settings.eos_token_id == wanted
    assert not settings.do_sample
    assert settings.top_k is None or settings.top_k == 50


def test_folders_without_settings_of_generation(tmp_path: Path) -> None:
    folder = write_owl(tmp_path / "owl")
    (folder / "generation_config.json").unlink()
    assert network_of(folder)._ends == (2,)
    (folder / "generation_config.json").write_text("[", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^its generation_config\.json cannot be read: "):
        network_of(folder)


def test_a_tokenizer_without_digits_is_refused(network: VideoPhy2) -> None:
    class Wordless(PartTokenizer):
        def __init__(self) -> None:
            self._pieces = network._tokenizer._pieces

        def of_sign(self, sign: str) -> list[int]:
            return super().of_sign("\u2603" if sign == "3" else sign)

    with pytest.raises(ValueError, match=r"^its tokenizer\.model has no token that writes \u2603"):
        VideoPhy2(network.model, Wordless(), ends=[2])


def test_other_inputs_are_refused(tmp_path: Path, folder: Path, network: VideoPhy2) -> None:
    clip = write_clip(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"^its model_type is 'clip', not 'mplug-owl'"):
        videophy2.load(clip, clip)
    with pytest.raises(ValueError, match="videophy2 has no variant 'large'"):
        videophy2.load(folder, folder, "large")
    assert videophy2.folder_to_picture_size(folder) == 28
    with pytest.raises(ValueError, match="it is another model's"):
        videophy2.load(FOLDER, folder)
    with pytest.raises(ValueError, match=r"clips are \[B, 3, T, 28, 28\] with 2 frames or more"):
        network.with_text(torch.zeros(1, 3, 4, 32, 32), ("a",))
    with pytest.raises(ValueError, match="1 clips need as many texts, not 2"):
        network.with_text(clips(), CAPTIONS)
    with pytest.raises(ValueError, match=r"its text holds '<\|video\|>'"):
        network.with_text(clips(), ("<|video|>",))
