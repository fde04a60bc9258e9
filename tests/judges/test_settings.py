"""Which judges a run has: from words to models that answer, and which key goes where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aigve_cli.errors import UsageError
from aigve_cli.judges.backend import UnreachableError
from aigve_cli.judges.settings import (
    Judges,
    JudgeSettings,
    JudgeSpec,
    judge_settings,
    open_judges,
)
from tests.judges.desk_kit import WAIT, Questions
from tests.judges.scripted_endpoint import scripted_endpoint

HERE, THERE = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"


def specs(**given: Any) -> tuple[JudgeSpec | None, JudgeSpec]:
    found = judge_settings(**given)
    assert found is not None
    return found.shown, found.text


def test_without_a_judge_there_are_no_settings() -> None:
    """An address may stand in a file, or in the environment, for other runs."""
    assert judge_settings(judge=None) is None
    assert judge_settings(judge=None, url=HERE, text_url=THERE) is None


def test_one_judge_is_asked_everything() -> None:
    assert specs(judge="openai:m") == (JudgeSpec("openai", "m"),) * 2
    assert specs(judge="openai:m", url=f"{HERE}/") == (JudgeSpec("openai", "m", HERE),) * 2
    assert specs(judge="openai:org/m:7b") == (JudgeSpec("openai", "org/m:7b"),) * 2


def test_texts_may_have_another_judge() -> None:
    same_server = specs(judge="openai:m", url=HERE, text="openai:t")
    assert same_server == (JudgeSpec("openai", "m", HERE), JudgeSpec("openai", "t", HERE))
    local = specs(judge="local:folder", url=HERE, text="openai:t")
    assert local == (JudgeSpec("local", "folder"), JudgeSpec("openai", "t", HERE))
    alone = specs(judge=None, text="local:folder", url=HERE)
    assert alone == (None, JudgeSpec("local", "folder"))
    shown, text = specs(judge="openai:m", url=HERE, text="openai:t", text_url=THERE)
    assert shown == JudgeSpec("openai", "m", HERE, "AIGVE_JUDGE_KEY")
    assert text == JudgeSpec("openai", "t", THERE, "AIGVE_JUDGE_TEXT_KEY")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"judge": "gpt-4o"}, "expected openai:MODEL or local:ID_OR_FOLDER"),
        ({"judge": "anthropic:m"}, "expected openai:MODEL"),
        ({"judge": "openai:"}, "expected openai:MODEL"),
        ({"judge": "openai:m", "url": "127.0.0.1:8000"}, "must be like http://127.0.0.1:8000/v1"),
        ({"judge": "openai:m", "url": "http://me:secret@h/v1"}, "without a password"),
        ({"judge": "openai:m", "concurrency": 0}, "--judge-concurrency 0: must be at least 1"),
        ({"judge": "openai:m", "max_requests": -1}, "--max-requests -1: must be at least 0"),
    ],
)
def test_what_cannot_be_read_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        judge_settings(**given)
    said = f"{caught.value.message} {caught.value.hint}"
    assert words in said.replace(", without a ", " without a ")
    assert "secret" not in said


def settings(tmp_path: Path, **given: Any) -> JudgeSettings:
    found = judge_settings(cache=tmp_path / "answers", **given)
    assert found is not None
    return found


def judges_of(tmp_path: Path, **given: Any) -> Judges:
    with open_judges(settings(tmp_path, **given), local={}, device="cpu") as judges:
        return judges


def test_each_server_gets_the_key_that_is_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "AIGVE_JUDGE_KEY", "AIGVE_JUDGE_TEXT_KEY"):
        monkeypatch.setenv(name, f"the-{name.lower().replace('_', '-')}")
    with scripted_endpoint("1") as shown, scripted_endpoint("2") as text:
        named = {"judge": "openai:m", "url": shown.url, "text": "openai:t", "text_url": text.url}
        with open_judges(settings(tmp_path, **named), local={}, device="cpu") as judges:
            for seen in (True, False):
                judges.desk.start(Questions(shown=seen), None, ()).result(WAIT)
    assert [head["authorization"] for head in shown.headers] == ["Bearer the-aigve-judge-key"]
    assert [head["authorization"] for head in text.headers] == ["Bearer the-aigve-judge-text-key"]
    assert "key" not in json.dumps([judges.shown, judges.text])


def test_scores_are_those_of_both_judges(tmp_path: Path) -> None:
    one = judges_of(tmp_path, judge="openai:m", url=HERE)
    again = judges_of(tmp_path, judge="openai:m", url=HERE)
    other_text = judges_of(tmp_path, judge="openai:m", url=HERE, text="openai:t")
    other_model = judges_of(tmp_path, judge="openai:n", url=HERE)
    elsewhere = judges_of(tmp_path, judge="openai:m", url=THERE)
    digests = [judges.digest for judges in (one, other_text, other_model, elsewhere)]
    assert again.digest == one.digest
    assert len(set(digests)) == 4


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_only_this_machine_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("AIGVE_OFFLINE", "1" if how == "environment" else "")
    given = {"judge": "openai:m", "offline": how == "option"}
    with (
        scripted_endpoint("1") as here,
        open_judges(settings(tmp_path, url=here.url, **given), local={}, device="cpu") as judges,
    ):
        assert judges.desk.start(Questions(), None, ()).result(WAIT)["values"] == [1]
    there = settings(tmp_path, url="http://192.0.2.1/v1", **given)
    with (
        open_judges(there, local={}, device="cpu") as judges,
        pytest.raises(UnreachableError, match="--offline never uses the network"),
    ):
        judges.desk.start(Questions(), None, ()).result(WAIT)
