"""Answers on disk: what makes two of them one, and what becomes of damage."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from aigve_cli.errors import SetupError
from aigve_cli.judges import cache as cache_module
from aigve_cli.judges.backend import Call, Clip, Message, Part, Picture, Reply
from aigve_cli.judges.cache import AnswerCache
from tests.judges.desk_kit import SCHEMA, flat_picture, text_call

IDENTITY = {"backend": "openai", "model": "m", "host": "127.0.0.1:1"}
REPLY = Reply(
    'a "b"\n| \ud83d é',
    "length",
    {"yes": -0.25, "no": -1.5},
    11,
    3,
    {"format": "schema", "without": ["seed"]},
)
ABOUT = "perceptual quality"


def key_of(call: Call, identity: Any = IDENTITY, version: str = "1") -> str:
    return AnswerCache(Path("nowhere")).key(identity, call, version)


def with_parts(*parts: Part) -> Call:
    return Call((Message("user", parts),))


def test_a_reply_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "new" / "folder")
    key = key_of(text_call())
    assert cache.get(key) is None
    cache.put(key, REPLY, identity=IDENTITY, about=ABOUT)
    assert cache.get(key) == REPLY
    assert AnswerCache(cache.folder).get(key) == REPLY
    (file,) = (path for path in cache.folder.rglob("*") if path.is_file())
    assert file == cache.folder / key[:2] / f"{key}.json"
    document = json.loads(file.read_text())
    assert document["judge"] == IDENTITY
    assert document["about"] == ABOUT


EXPECTED_KEY = "4f5e1b44d684fbd922fea23e5fb71a8be2b0a9c7285b27c2f024d4d9f6b9fc16"


def test_a_key_does_not_depend_on_the_run() -> None:
    """Worked out once: where it changes, no answer of anybody is found any more."""
    call = Call(
        (Message("system", ("be brief",)), Message("user", (flat_picture((1, 2, 3)), "good?"))),
        schema={"b": 1, "a": 2},
        max_tokens=8,
    )
    same = replace(call, schema={"a": 2, "b": 1})
    assert key_of(call) == key_of(same) == EXPECTED_KEY
    assert key_of(call, dict(reversed(IDENTITY.items()))) == EXPECTED_KEY


BASE = Call(
    (Message("system", ("s",)), Message("user", (flat_picture((1, 2, 3)), "t"))), schema=SCHEMA
)
FRAMES = (np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8))


def test_whatever_decides_an_answer_changes_its_key() -> None:
    system, user = BASE.messages
    calls = [
        BASE,
        replace(BASE, schema=None),
        replace(BASE, schema={**SCHEMA, "title": "x"}),
        replace(BASE, first_token=True),
        replace(BASE, max_tokens=2048),
        replace(BASE, messages=(user,)),
        replace(BASE, messages=(user, system)),
        replace(BASE, messages=(Message("user", ("s",)), user)),
        replace(BASE, messages=(system, Message("user", (flat_picture((1, 2, 4)), "t")))),
        replace(BASE, messages=(system, Message("user", ("t", flat_picture((1, 2, 3)))))),
        replace(BASE, messages=(system, Message("user", (flat_picture((1, 2, 3)), "t", "")))),
        with_parts("a", "b"),
        with_parts("a\nb"),
        with_parts("\ud83d"),
        with_parts("\ufffd"),
        with_parts(flat_picture((0, 0, 0), 4, 6)),
        with_parts(flat_picture((0, 0, 0), 6, 4)),
        with_parts(Clip(FRAMES, 4.0)),
        with_parts(Clip(FRAMES, 8.0)),
        with_parts(Clip(FRAMES[::-1], 4.0)),
        with_parts(*map(Picture, FRAMES)),
    ]
    keys = [key_of(call) for call in calls]
    keys += [key_of(BASE, {**IDENTITY, name: "other"}) for name in IDENTITY]
    keys += [key_of(BASE, version="2")]
    assert len(set(keys)) == len(keys)


def test_equal_pictures_are_one_and_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    real = cache_module.part_digest

    def counted(part: Any) -> str:
        hashed.append(part)
        return real(part)

    monkeypatch.setattr(cache_module, "part_digest", counted)
    cache = AnswerCache(Path("nowhere"))
    first, second = flat_picture((1, 2, 3)), flat_picture((1, 2, 3))
    keys = {cache.key(IDENTITY, with_parts(part, "t"), "1") for part in (first, second, first)}
    assert len(keys) == 1
    assert len(hashed) == 2
    del first, second, hashed[:]
    assert not cache._digests


def change(**facts: Any) -> Callable[[dict[str, Any]], str]:
    return lambda document: json.dumps({**document, **facts})


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: "",
        lambda document: json.dumps(document)[:-5],
        lambda document: "[" * 100_000,
        lambda document: "[]",
        lambda document: "null",
        lambda document: "\ufffd\x00",
        lambda document: json.dumps({k: v for k, v in document.items() if k != "finish"}),
        change(format=0),
        change(text=None),
        change(text=["a"]),
        change(finish=3),
        change(tokens_read="many"),
        change(first_token=[1]),
        change(first_token={"yes": None}),
        change(first_token={"yes": float("nan")}),
        change(asked=None),
    ],
)
def test_damage_is_as_no_answer(tmp_path: Path, damage: Any) -> None:
    cache = AnswerCache(tmp_path)
    key = key_of(text_call())
    cache.put(key, REPLY, identity=IDENTITY, about=ABOUT)
    document = json.loads(cache.path(key).read_text())
    cache.path(key).write_text(damage(document))
    assert cache.get(key) is None
    cache.put(key, REPLY, identity=IDENTITY, about=ABOUT)
    assert cache.get(key) == REPLY


def test_a_folder_in_an_answers_place_is_as_no_answer(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    cache.path(key_of(text_call())).mkdir(parents=True)
    assert cache.get(key_of(text_call())) is None


def hold(cache: AnswerCache, key: str) -> None:
    async def take() -> None:
        async with cache.alone(key):
            pass

    asyncio.run(take())


@pytest.mark.parametrize("shape", ["a file", "inside a file"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, shape: str) -> None:
    folder = tmp_path / "answers"
    folder.write_text("")
    folder = folder if shape == "a file" else folder / "sub"
    cache = AnswerCache(folder)
    key = key_of(text_call())
    for attempt in (
        lambda: hold(cache, key),
        lambda: cache.put(key, REPLY, identity=IDENTITY, about=ABOUT),
    ):
        with pytest.raises(SetupError) as caught:
            attempt()
        assert str(folder) in caught.value.message
        # The nearest way out first.
        hint = str(caught.value.hint)
        assert 0 <= hint.find("--judge-cache") < hint.find("AIGVE_CACHE_DIR")
    assert cache.get(key) is None


def test_a_full_disk_is_said_and_leaves_no_half_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = AnswerCache(tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SetupError, match="No space left on device"):
        cache.put(key_of(text_call()), REPLY, identity=IDENTITY, about=ABOUT)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_one_at_a_time_has_a_key_and_nothing_of_it_stays(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    key, other = key_of(text_call()), key_of(text_call("other"))
    path = cache.path(key).with_suffix(".lock")
    path.parent.mkdir(parents=True)
    order: list[str] = []

    async def take() -> None:
        async with cache.alone(key):
            order.append("taken")

    async def scene() -> None:
        stranger = FileLock(path)
        stranger.acquire()
        waiting = asyncio.create_task(take())
        # The loop goes on meanwhile, for instance with other questions.
        async with cache.alone(other):
            order.append("other")
        order.append("given back")
        stranger.release()
        await waiting

    asyncio.run(scene())
    assert order == ["other", "given back", "taken"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_lock_of_a_process_that_died_holds_up_nobody(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    key = key_of(text_call())
    path = cache.path(key).with_suffix(".lock")
    path.parent.mkdir(parents=True)
    path.write_text("")
    hold(cache, key)
    assert not path.exists()
