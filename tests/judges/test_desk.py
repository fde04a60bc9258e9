"""The desk: conversations at the same time, answers that are asked again, and its end."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

from aigve_cli.errors import SetupError
from aigve_cli.judges.backend import Call, Clip, NoReplyError, Reply, UnreachableError
from aigve_cli.judges.cache import AnswerCache
from aigve_cli.judges.desk import Counts, Desk, _Places, words_to_probabilities
from aigve_cli.judges.task import Ask, JudgeTask, Talk
from tests.conftest import process_environment
from tests.judges.desk_kit import (
    KEY,
    WAIT,
    Questions,
    flat_picture,
    open_desk,
    quick_endpoint,
)
from tests.judges.scripted_endpoint import (
    Endpoint,
    Request,
    Said,
    Told,
    at_once,
    pictures_of,
    question_of,
    refused,
    scripted_endpoint,
)

pytestmark = pytest.mark.filterwarnings("error")


def record_of(desk: Desk, task: JudgeTask, prompt: str | None = None, *parts: Any) -> Any:
    return desk.start(task, prompt, parts).result(WAIT)


def record_with(answer: Any, folder: Path, task: JudgeTask = Questions(), **facts: Any) -> Any:  # noqa: B008
    """What one conversation finds out, and what it took."""
    with (
        scripted_endpoint(answer) as server,
        open_desk(quick_endpoint(server.url), folder, **facts) as desk,
    ):
        return record_of(desk, task), desk.counts, server


# --- asking and reading -----------------------------------------------------------------------


def test_a_conversation_gives_its_record(tmp_path: Path) -> None:
    pictures = [flat_picture(colour) for colour in ((250, 5, 5), (5, 5, 250))]
    task = Questions(("first?", "second?"), one_by_one=True)

    def answer(request: Request) -> Told:
        return "1" if question_of(request).startswith("first?") else "2"

    with (
        scripted_endpoint(answer) as server,
        open_desk(quick_endpoint(server.url), tmp_path) as desk,
    ):
        record = record_of(desk, task, "a cat", "Frame 1:", pictures[0], "Frame 2:", pictures[1])
        assert desk.counts == Counts(requests=2, images=4, tokens_read=22, tokens_written=6)
    assert record["values"] == [1, 2]
    assert record["problems"] == ["", ""]
    for request, question in zip(server.requests, ("first? a cat", "second? a cat"), strict=True):
        (message,) = request["messages"]
        kinds = [part.get("text", "picture") for part in message["content"]]
        assert kinds == ["Frame 1:", "picture", "Frame 2:", "picture", question]
        red, blue = pictures_of(request)
        assert red.mean((0, 1)).argmax() == 0
        assert blue.mean((0, 1)).argmax() == 2


def test_texts_alone_go_to_the_text_judge_without_the_pictures(tmp_path: Path) -> None:
    with (
        scripted_endpoint("1") as shown,
        scripted_endpoint("2") as text,
        open_desk(quick_endpoint(shown.url), tmp_path, text=quick_endpoint(text.url, None)) as desk,
    ):
        record = record_of(desk, Questions(shown=False), "p", flat_picture((1, 2, 3)))
        assert (record["values"], shown.count, text.count) == ([2], 0, 1)
        assert pictures_of(text.requests[0]) == []
        assert desk.counts.images == 0


@pytest.mark.parametrize("bad", ["well, three", "", "  ", "{", 'a "b"\n| c </p>\x00 {}'])
def test_what_cannot_be_read_is_asked_again_with_what_was_wrong(tmp_path: Path, bad: str) -> None:
    def answer(request: Request) -> Told:
        return bad if len(request["messages"]) < 5 else "3"

    record, counts, server = record_with(answer, tmp_path)
    assert record["values"] == [3]
    assert record["problems"] == [""]
    assert (counts.asked_again, counts.unreadable, server.count) == (2, 0, 3)
    turns = [message["role"] for message in server.requests[-1]["messages"]]
    assert turns == ["user", "assistant", "user", "assistant", "user"]
    told, wrong = server.requests[1]["messages"][1:]
    assert told["content"] == (bad if bad.strip() else "(no answer)")
    reason = "is no whole number" if bad.strip() else "the answer is empty"
    assert reason in wrong["content"]
    assert "\n" not in wrong["content"]


def test_what_can_never_be_read_is_a_missing_value_with_its_text(tmp_path: Path) -> None:
    record, counts, server = record_with("three\nor four", tmp_path)
    assert record["values"] == [None]
    assert record["texts"] == ["three\nor four"]
    problem = "no answer could be read, asked 3 times: 'three or four' is no whole number"
    assert record["problems"] == [problem]
    assert (counts.asked_again, counts.unreadable, server.count) == (2, 1, 3)


def test_a_file_that_is_deleted_is_asked_for_again(tmp_path: Path) -> None:
    said = ["?", "?", "?", "3"]
    with scripted_endpoint(lambda _: said.pop(0)) as server:
        with open_desk(quick_endpoint(server.url), tmp_path) as desk:
            assert record_of(desk, Questions())["values"] == [None]
            # Of all that was said this one file is named, without which the last try is made again.
            (path,) = desk.unread
            path.unlink()
            assert record_of(desk, Questions())["values"] == [3]
        assert server.count == 4


@pytest.mark.parametrize("said", [Said(None), Said(" \n"), Said("", finish="error")])
def test_an_empty_answer_is_not_kept(tmp_path: Path, said: Said) -> None:
    """Even where a reader would take it: another run asks again."""
    silent = True

    def answer(_: Request) -> Told:
        return said if silent else "fine"

    task = Questions(read=str)
    with scripted_endpoint(answer) as server:
        with open_desk(quick_endpoint(server.url), tmp_path) as desk:
            record = record_of(desk, task)
            assert record["problems"] == [
                "no answer could be read, asked 3 times: the answer is empty"
            ]
            assert (record["values"], record["unanswered"]) == ([None], [True])
        assert not list(tmp_path.rglob("*.json"))
        silent = False
        with open_desk(quick_endpoint(server.url), tmp_path) as desk:
            record = record_of(desk, task)
        assert (record["values"], record["unanswered"], server.count) == (["fine"], [False], 4)


def test_an_answer_of_thoughts_alone_is_empty_and_is_not_kept(tmp_path: Path) -> None:
    record, _, _ = record_with(lambda _: Said(None, finish="length", reasoning="hm"), tmp_path)
    (problem,) = record["problems"]
    assert problem.endswith("it was cut off after 128 tokens (the answer is empty)")
    assert not list(tmp_path.rglob("*.json"))


def test_a_cut_off_answer_is_given_more_room(tmp_path: Path) -> None:
    def answer(request: Request) -> Told:
        return Said("thr", finish="length") if request["max_tokens"] < 128 else "3"

    record, counts, server = record_with(answer, tmp_path)
    assert record["values"] == [3]
    assert [request["max_tokens"] for request in server.requests] == [32, 64, 128]
    assert all(len(request["messages"]) == 1 for request in server.requests)
    assert counts.asked_again == 2


def test_an_answer_that_stays_cut_off_says_so(tmp_path: Path) -> None:
    record, _, server = record_with(lambda _: Said("thr", finish="length"), tmp_path)
    assert record["values"] == [None]
    assert "cut off after 128 tokens" in record["problems"][0]
    assert server.count == 3


def test_a_cut_off_answer_that_can_be_read_is_taken(tmp_path: Path) -> None:
    record, _, server = record_with(lambda _: Said("3", finish="length"), tmp_path)
    assert (record["values"], server.count) == ([3], 1)


def test_a_list_that_was_cut_off_is_not_taken_for_whole(tmp_path: Path) -> None:
    """One that can be read to where it ends: what it lacks would never be missed."""

    @dataclass(frozen=True)
    class List(JudgeTask):
        prompt_version: ClassVar[str] = "list-1"

        def talk(self, prompt: str | None) -> Talk:
            (answer,) = yield [Ask("list", "all?", str.split, whole=True, max_tokens=8)]
            return {"found": answer.value}

    def answer(request: Request) -> Told:
        return Said("a b", finish="length") if request["max_tokens"] == 8 else "a b c"

    record, counts, server = record_with(answer, tmp_path, List())
    assert record == {"found": ["a", "b", "c"]}
    assert [request["max_tokens"] for request in server.requests] == [8, 16]
    assert counts.unreadable == 0


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said(None, refusal="I can't help\nwith that."), "I can't help with that"),
        # A refusal is never read, even where it could be.
        (Said(None, refusal="3"), "3"),
        (Said(None, finish="content_filter"), "content_filter"),
        (refused(400, "Not this\npicture.", code="content_filter"), "Not this picture"),
    ],
)
def test_a_refusal_is_not_asked_again(tmp_path: Path, said: Told, words: str) -> None:
    """Nor in another run: it is an answer."""
    (record, again), counts, server = record_with_same_host(lambda _: said, tmp_path, Questions())
    assert record == again
    assert record["values"] == [None]
    assert record["unanswered"] == [False]
    assert record["problems"] == [f"the judge refuses: {words}"]
    assert (counts.asked_again, server.count) == (0, 1)


def test_one_request_without_a_reply_costs_one_answer(tmp_path: Path) -> None:
    def answer(request: Request) -> Told:
        bad = question_of(request) == "bad?"
        return at_once(500, "out of memory") if bad else "3"

    record, counts, server = record_with(answer, tmp_path, Questions(("good?", "bad?", "ok?")))
    assert record["values"] == [3, None, 3]
    assert "answers 500: out of memory" in record["problems"][1]
    assert (counts.requests, server.count) == (3, 5)
    # What failed is asked in the next run, and nothing else.
    record, counts, server = record_with("4", tmp_path, Questions(("good?", "bad?", "ok?")))
    assert server.count == 3, "another host has answers of its own"


def test_a_judge_that_cannot_be_reached_ends_the_conversation(tmp_path: Path) -> None:
    def answer(request: Request) -> Told:
        return refused(401, "who are you?") if question_of(request).startswith("b") else "3"

    with (
        scripted_endpoint(answer) as server,
        open_desk(quick_endpoint(server.url), tmp_path) as desk,
    ):
        with pytest.raises(UnreachableError, match="AIGVE_JUDGE_KEY is refused"):
            record_of(desk, Questions(("a?", "b?")))
        assert record_of(desk, Questions(("a?",)))["values"] == [3]


def test_probabilities_of_words(tmp_path: Path) -> None:
    likely = {"Yes": math.log(0.6), " yes": math.log(0.1), "no": math.log(0.2), "The": -3.0}
    said = Said("Yes.", first=[("Yes", likely)])
    task = Questions(words=("yes", "no"), read=str.lower)
    record, _, _ = record_with(lambda _: said, tmp_path, task)
    assert record["values"] == ["yes."]
    assert record["probabilities"][0] == pytest.approx({"yes": 0.7 / 0.9, "no": 0.2 / 0.9})
    # From the cache as from the judge.
    again, counts, _ = record_with_same_host(lambda _: said, tmp_path, task)
    assert again[0]["probabilities"] == again[1]["probabilities"] == record["probabilities"]
    assert (counts.requests, counts.cached) == (1, 1)


def record_with_same_host(answer: Any, folder: Path, task: JudgeTask) -> Any:
    with (
        scripted_endpoint(answer) as server,
        open_desk(quick_endpoint(server.url), folder) as desk,
    ):
        return [record_of(desk, task), record_of(desk, task)], desk.counts, server


# --- what is not asked ------------------------------------------------------------------------


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    """Nor in another run, nor what could not be read."""

    def answer(request: Request) -> Told:
        return {"good": "3", "cut": Said("t", finish="length"), "no": Said(None, refusal="no")}.get(
            question_of(request), "what?"
        )

    task = Questions(("good", "cut", "no", "bad"))
    steps: list[tuple[int, int]] = []
    with scripted_endpoint(answer) as server:
        records = []
        for _ in range(2):
            with open_desk(quick_endpoint(server.url), tmp_path) as desk:
                desk.on_progress = lambda *step: steps.append(step)
                picture = flat_picture((7, 8, 9))
                records += [record_of(desk, task, None, picture) for _ in range(2)]
        assert server.count == 1 + 3 + 1 + 3
    assert all(record == records[0] for record in records)
    assert (desk.counts.requests, desk.counts.cached, desk.counts.images) == (0, 16, 0)
    assert desk.counts.tokens_read == 0
    assert desk.counts.unreadable == 4
    assert tuple(map(sum, zip(*steps, strict=True))) == (8, 24)


def test_another_picture_version_or_judge_is_another_question(tmp_path: Path) -> None:
    class Newer(Questions):
        prompt_version = "test-2"

    with scripted_endpoint("3") as server:
        with open_desk(quick_endpoint(server.url), tmp_path) as desk:
            record_of(desk, Questions(), None, flat_picture((1, 1, 1)))
            record_of(desk, Questions(), None, flat_picture((1, 1, 2)))
            record_of(desk, Newer(), None, flat_picture((1, 1, 1)))
            assert desk.counts.cached == 0
        other = quick_endpoint(server.url)
        other._model = "other"
        with open_desk(other, tmp_path) as desk:
            record_of(desk, Questions(), None, flat_picture((1, 1, 1)))
        assert server.count == 4


def test_the_same_question_at_the_same_time_is_asked_once(tmp_path: Path) -> None:
    asked, goes_on = threading.Event(), threading.Event()

    def answer(_: Request) -> Told:
        asked.set()
        goes_on.wait(WAIT)
        return "3"

    with (
        scripted_endpoint(answer) as server,
        open_desk(quick_endpoint(server.url), tmp_path, concurrency=8) as desk,
    ):
        futures = [desk.start(Questions(), "p", ()) for _ in range(6)]
        assert asked.wait(WAIT)
        goes_on.set()
        assert [future.result(WAIT)["values"] for future in futures] == [[3]] * 6
        assert server.count == 1
        assert (desk.counts.requests, desk.counts.cached) == (1, 5)


def test_a_failure_at_the_same_time_is_shared(tmp_path: Path) -> None:
    asked, goes_on = threading.Event(), threading.Event()

    def answer(_: Request) -> Told:
        asked.set()
        goes_on.wait(WAIT)
        return 413, {}, "too much"

    with (
        scripted_endpoint(answer) as server,
        open_desk(quick_endpoint(server.url), tmp_path) as desk,
    ):
        futures = [desk.start(Questions(), "p", ()) for _ in range(3)]
        assert asked.wait(WAIT)
        goes_on.set()
        problems = {future.result(WAIT)["problems"][0] for future in futures}
        assert len(problems) == 1
        assert "413: too much" in problems.pop()
        assert server.count == 1


def test_a_limit_of_requests(tmp_path: Path) -> None:
    texts = tuple(f"q{n}?" for n in range(5))
    with scripted_endpoint("3") as server:
        for values in ([3, 3, None, None, None], [3, 3, 3, 3, None], [3] * 5, [3] * 5):
            endpoint = quick_endpoint(server.url)
            with open_desk(endpoint, tmp_path, concurrency=1, max_requests=2) as desk:
                record = record_of(desk, Questions(texts))
            assert record["values"] == values
            assert {*record["problems"]} <= {"", "not asked: --max-requests 2 is reached"}
            assert desk.counts.requests <= 2
        assert server.count == 5


def test_no_more_requests_than_allowed_at_a_time_and_no_less(tmp_path: Path) -> None:
    """All conversations share the places: a barrier passes only if three are asked together."""
    together = threading.Barrier(3)

    def answer(_: Request) -> Told:
        together.wait(WAIT)
        return "3"

    with (
        scripted_endpoint(answer) as server,
        open_desk(quick_endpoint(server.url), tmp_path, concurrency=3) as desk,
    ):
        tasks = [Questions((f"a{n}", f"b{n}", f"c{n}")) for n in range(4)]
        for future in [desk.start(task, None, ()) for task in tasks]:
            assert future.result(WAIT)["values"] == [3, 3, 3]
        assert server.count == 12
        assert server.most_at_once == 3


def test_earlier_conversations_come_first() -> None:
    """Whoever waits longest for the end of a video does not wait behind those who came later."""
    order: list[int] = []

    async def ask(places: _Places, turn: int) -> None:
        async with places.taken(turn):
            order.append(turn)
            await asyncio.sleep(0)

    async def all_at_once() -> None:
        places = _Places(1)
        async with places.taken(9):
            waiting = [asyncio.create_task(ask(places, turn)) for turn in (3, 1, 4, 1, 2)]
            gone = asyncio.create_task(ask(places, 0))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        # All places are free again, the one of who went away too.
        async with asyncio.timeout(WAIT), places.taken(7):
            order.append(7)

    asyncio.run(all_at_once())
    assert order == [1, 1, 2, 3, 4, 7]


def test_a_folder_that_cannot_be_written_asks_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        scripted_endpoint("3") as server,
        open_desk(quick_endpoint(server.url), tmp_path / "file" / "sub") as desk,
    ):
        with pytest.raises(SetupError, match="cannot be kept"):
            record_of(desk, Questions())
        assert server.count == 0


def test_the_key_is_in_no_file(tmp_path: Path) -> None:
    record_with(f"your key is {KEY}", tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert all(KEY not in path.read_text() + path.name for path in files)
    assert any("your key is ***" in path.read_text() for path in files)


# --- what goes wrong --------------------------------------------------------------------------


class Broken(Exception):
    """A programmer's mistake."""


def raises(error: BaseException) -> Callable[[str], Any]:
    def read(_: str) -> Any:
        raise error

    return read


@dataclass(frozen=True)
class Faulty(JudgeTask):
    """Raises before, between or after its questions."""

    prompt_version: ClassVar[str] = "1"
    after: int = 0
    error: type[BaseException] = Broken

    def talk(self, prompt: str | None) -> Talk:
        for turn in range(3):
            if turn == self.after:
                raise self.error(f"after {turn}")
            yield [Ask("x", f"{turn}?", str)]
        return {}


@dataclass(frozen=True)
class Silent(JudgeTask):
    """Asks nothing."""

    prompt_version: ClassVar[str] = "1"

    def talk(self, prompt: str | None) -> Talk:
        answers = yield []
        return {"answers": len(answers)}


@pytest.mark.parametrize(
    ("task", "error"),
    [
        (Faulty(0), Broken),
        (Faulty(2), Broken),
        (Questions(read=raises(Broken())), Broken),
        (Questions(("a", "b"), read=raises(KeyError("x"))), KeyError),
        (Questions(read=raises(StopIteration())), RuntimeError),
    ],
)
def test_a_mistake_in_a_task_costs_its_conversation(
    tmp_path: Path, task: JudgeTask, error: type[Exception]
) -> None:
    with (
        scripted_endpoint("3") as server,
        open_desk(quick_endpoint(server.url), tmp_path) as desk,
    ):
        others = [desk.start(Questions((f"q{n}",)), None, ()) for n in range(3)]
        faulty = desk.start(task, None, ())
        with pytest.raises(error):
            faulty.result(WAIT)
        assert [other.result(WAIT)["values"] for other in others] == [[3]] * 3
        assert record_of(desk, Silent()) == {"answers": 0}


class Scripted:
    """A judge in this process."""

    identity: ClassVar[dict[str, str]] = {"backend": "scripted"}

    def __init__(self, reply: Callable[[Call], Any]) -> None:
        self._reply = reply
        self.closed = 0

    async def reply(self, call: Call) -> Reply:
        said = self._reply(call)
        return said if isinstance(said, Reply) else await said

    async def close(self) -> None:
        self.closed += 1


def test_a_loop_that_dies_ends_what_waits(tmp_path: Path) -> None:
    """SystemExit goes through every layer of asyncio."""
    asked, goes_on = threading.Event(), threading.Event()

    def answer(_: Request) -> Told:
        asked.set()
        goes_on.wait(WAIT)
        return "3"

    with (
        scripted_endpoint(answer) as server,
        open_desk(quick_endpoint(server.url), tmp_path) as desk,
    ):
        waits = desk.start(Questions(), None, ())
        assert asked.wait(WAIT)
        for future in (desk.start(Faulty(error=SystemExit), None, ()), waits):
            assert isinstance(future.exception(WAIT), SystemExit)
        assert isinstance(desk.start(Questions(), None, ()).exception(WAIT), SystemExit)
        desk._thread.join(WAIT)
        assert not desk._thread.is_alive()
        goes_on.set()


def test_a_judge_that_cancels_itself_does_not_hang(tmp_path: Path) -> None:
    from asyncio import CancelledError as Cancelled

    def reply(_: Call) -> Reply:
        raise Cancelled

    with open_desk(Scripted(reply), tmp_path) as desk, pytest.raises(CancelledError):
        record_of(desk, Questions())


def test_frames_of_a_clip_count_as_pictures(tmp_path: Path) -> None:
    clip = Clip(tuple(np.zeros((8, 8, 3), np.uint8) for _ in range(5)), 1.0)
    with open_desk(Scripted(lambda _: Reply("3")), tmp_path) as desk:
        assert record_of(desk, Questions(), None, clip)["values"] == [3]
        assert desk.counts.images == 5


# --- the end ----------------------------------------------------------------------------------


def test_close_ends_everything_at_once(tmp_path: Path) -> None:
    asked, goes_on = threading.Semaphore(0), threading.Event()

    def answer(_: Request) -> Told:
        asked.release()
        goes_on.wait(WAIT)
        return "3"

    with scripted_endpoint(answer) as server, ExitStack() as stack:
        desk = stack.enter_context(open_desk(quick_endpoint(server.url), tmp_path, concurrency=2))
        futures = [desk.start(Questions((f"q{n}",)), None, ()) for n in range(5)]
        for _ in range(2):
            assert asked.acquire(timeout=WAIT)
        # Also for those who wait for several.
        waiting: list[Any] = []
        waiter = threading.Thread(
            target=lambda: waiting.append(wait(futures, WAIT, FIRST_COMPLETED))
        )
        waiter.start()
        desk.close()
        assert not desk._thread.is_alive()
        for future in futures:
            with pytest.raises(CancelledError):
                future.result(0)
        waiter.join(WAIT)
        assert waiting[0].done
        desk.close()
        late: Future[Any] = desk.start(Questions(), None, ())
        assert late.cancelled()
        goes_on.set()
    assert server.count == 2
    # Nothing was answered, nothing is locked any more.
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_judges_are_closed_once(tmp_path: Path) -> None:
    judge = Scripted(lambda _: Reply("3"))
    with open_desk(judge, tmp_path) as desk:
        record_of(desk, Questions())
    assert judge.closed == 1


PROGRAM = """
import asyncio, sys, threading
from pathlib import Path
from aigve_cli.judges.cache import AnswerCache
from aigve_cli.judges.desk import Desk
from aigve_cli.judges.openai_endpoint import OpenAIEndpoint
from tests.judges.desk_kit import Questions

url, folder, count, how = sys.argv[1:]
class Stuck:
    identity = {"backend": "stuck"}

    async def reply(self, call):
        blocked.set()
        await asyncio.to_thread(threading.Event().wait)

    async def close(self):
        pass

blocked = threading.Event()
endpoint = Stuck() if how == "stuck" else OpenAIEndpoint("m", url, None)
desk = Desk(shown=endpoint, text=endpoint, cache=AnswerCache(Path(folder)), concurrency=2)
futures = [desk.start(Questions((f"q{n}",)), None, ()) for n in range(int(count))]
if how == "stuck":
    blocked.wait()
if how in ("leave", "stuck"):
    sys.exit(0)
if how == "close":
    print("started", flush=True)
    sys.stdin.readline()
    desk.close()
    desk.close()
    sys.exit(0)
print("started", flush=True)
print([future.result()["values"][0] for future in futures], desk.counts.requests)
"""


def program(server: Endpoint, folder: Path, count: int, how: str) -> subprocess.Popen[str]:
    """A process with a desk; everything that Python can complain of is an output."""
    complaints = ["-W", "always::ResourceWarning", "-W", "always::RuntimeWarning"]
    arguments = [server.url, str(folder), str(count), how]
    return subprocess.Popen(
        [sys.executable, *complaints, "-c", PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=process_environment({"NO_PROXY": "127.0.0.1"}),
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Its outputs; one that does not end is killed, and the test has failed."""
    try:
        return process.communicate("\n", timeout=WAIT)
    finally:
        process.kill()


@pytest.mark.parametrize("how", ["leave", "close", "wait", "stuck"])
def test_a_process_ends_in_silence_whatever_is_open(tmp_path: Path, how: str) -> None:
    """At its end, at ``close``, at Ctrl-C while it waits, and in a call that blocks for ever."""
    asked, goes_on = threading.Semaphore(0), threading.Event()

    def answer(_: Request) -> Told:
        asked.release()
        goes_on.wait(WAIT)
        return "3"

    with scripted_endpoint(answer) as server:
        process = program(server, tmp_path, 4, how)
        assert process.stdout is not None
        if how in ("close", "wait"):
            assert process.stdout.readline() == "started\n"
            for _ in range(2):
                assert asked.acquire(timeout=WAIT)
        if how == "wait":
            process.send_signal(signal.SIGINT)
        _, errors = ended(process)
        goes_on.set()
    if how == "wait":
        assert process.returncode == -signal.SIGINT
        assert errors.strip().splitlines()[-1] == "KeyboardInterrupt"
        assert errors.count("Traceback") == 1
        lines = [line for line in errors.splitlines() if "asyncio" in line or "Warning" in line]
        assert not lines
    else:
        assert (process.returncode, errors) == (0, "")
    # What was open is given back.
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_two_processes_ask_nothing_twice(tmp_path: Path) -> None:
    """The second comes while the first still waits for the answer that both want."""
    first_asks, second_asks = threading.Event(), threading.Event()

    def answer(request: Request) -> Told:
        if question_of(request) == "q0":
            first_asks.set()
            second_asks.wait(WAIT)
        else:
            # Started after q0, at which the second has tried by now.
            second_asks.set()
        return "3"

    with scripted_endpoint(answer) as server:
        first = program(server, tmp_path, 1, "wait")
        assert first_asks.wait(WAIT)
        second = program(server, tmp_path, 2, "wait")
        said = [ended(process) for process in (first, second)]
        assert server.count == 2
    assert said == [("started\n[3] 1\n", ""), ("started\n[3, 3] 1\n", "")]
    assert not list(tmp_path.rglob("*.lock"))


def test_what_was_answered_before_a_kill_is_not_asked_again(tmp_path: Path) -> None:
    kill_at, goes_on = threading.Event(), threading.Event()

    def answer(request: Request) -> Told:
        if question_of(request) == "q4" and not goes_on.is_set():
            kill_at.set()
            goes_on.wait(WAIT)
        return "3"

    with scripted_endpoint(answer) as server:
        process = program(server, tmp_path, 8, "wait")
        assert kill_at.wait(WAIT)
        process.kill()
        ended(process)
        kept = len(list(tmp_path.rglob("*.json")))
        assert kept >= 3
        before = server.count
        goes_on.set()
        out, errors = ended(program(server, tmp_path, 8, "wait"))
        assert errors == ""
        assert out.splitlines()[1] == f"[3, 3, 3, 3, 3, 3, 3, 3] {8 - kept}"
        assert server.count - before == 8 - kept
    asked = [json.dumps(request["messages"]) for request in server.requests]
    # Those that had no answer at the kill, at most two at a time, are asked once more.
    assert len(asked) - len(set(asked)) <= 2
    assert not list(tmp_path.rglob("*.lock"))


# --- words and their probabilities ------------------------------------------------------------

YES_NO = ("yes", "no")
STRANGERS = ("?", "maybe", "not")


@pytest.mark.parametrize(
    ("tokens", "words", "expected"),
    [
        ({"yes": 0.6, "no": 0.2}, YES_NO, {"yes": 0.75, "no": 0.25}),
        ({"Yes": 0.3, " YES": 0.1, '"yes': 0.1, "no.": 0.5}, YES_NO, {"yes": 0.5, "no": 0.5}),
        ({"Ġyes": 0.25, "▁No": 0.75}, YES_NO, {"yes": 0.25, "no": 0.75}),
        ({"y": 0.5, "n": 0.5, "ye": 0.5, "yesterday": 9.0}, YES_NO, {"yes": 2 / 3, "no": 1 / 3}),
        ({"yes": 0.9}, YES_NO, {"yes": 1.0, "no": 0.0}),
        ({"(B": 0.5, "b)": 0.3, "A.": 0.2}, ("A", "B"), {"A": 0.2, "B": 0.8}),
        # Both words begin so: it says nothing.
        ({"re": 0.2, "red": 0.6, "ree": 0.2}, ("red", "reed"), {"red": 0.75, "reed": 0.25}),
        # The whole of one word, and the beginning of another.
        ({"no": 0.5, "not": 0.5}, ("no", "not sure"), {"no": 0.5, "not sure": 0.5}),
        ({"dark": 1.0}, ("dark red", "blue"), {"dark red": 1.0, "blue": 0.0}),
    ],
)
def test_words_and_their_probabilities(
    tokens: dict[str, float], words: tuple[str, ...], expected: dict[str, float]
) -> None:
    logs = {token: math.log(chance) for token, chance in tokens.items()}
    assert words_to_probabilities(logs, words) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (None, YES_NO),
        ({}, YES_NO),
        ({"yes": -0.1}, ()),
        ({"maybe": -0.1, "The": -2.0, " ": -0.1, "": -0.1}, YES_NO),
        ({"yes": -math.inf}, YES_NO),
        ({"yes": -1000.0, "no": -1000.0 + math.log(3)}, YES_NO),
        # A sentence begins: what little is left for the words says nothing of its end.
        ({"The": -0.01, "no": -8.0, "yes": -9.0}, YES_NO),
    ],
)
def test_nothing_about_the_words_is_no_probability(tokens: Any, words: Any) -> None:
    assert words_to_probabilities(tokens, words) is None


@given(
    st.dictionaries(
        st.sampled_from(["yes", "Yes", " no", "NO", "n", "?", "maybe", "y", "Ġno", "not"]),
        st.floats(-6, 0),
        min_size=1,
    )
)
def test_probabilities_add_up(tokens: dict[str, float]) -> None:
    found = words_to_probabilities(tokens, YES_NO)
    assert found is None or sum(found.values()) == pytest.approx(1)
    words = sum(math.exp(log) for token, log in tokens.items() if token not in STRANGERS)
    assume(abs(words - 0.5) > 1e-9)
    assert (found is None) == (words < 0.5)


def test_no_reply_is_no_error_of_the_desk(tmp_path: Path) -> None:
    def reply(_: Call) -> Reply:
        raise NoReplyError("the model's memory is full", hint="unused")

    with open_desk(Scripted(reply), tmp_path) as desk:
        record = record_of(desk, Questions(("a", "b")))
    assert record["problems"] == ["the model's memory is full"] * 2
    assert not list(AnswerCache(tmp_path).folder.rglob("*.json"))
