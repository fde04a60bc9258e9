"""The desk: puts the questions of many videos to judges at the same time, and reads the answers.

It works in one thread with an event loop of its own. The thread is a daemon: whoever interrupts a
run never waits for a reply.
"""

from __future__ import annotations

import asyncio
import atexit
import heapq
import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import exp, isfinite
from pathlib import Path
from typing import Any

from aigve_cli.judges.backend import (
    Backend,
    Call,
    Clip,
    Message,
    NoReplyError,
    Part,
    Picture,
    Reply,
)
from aigve_cli.judges.cache import AnswerCache
from aigve_cli.judges.task import Answer, Ask, JudgeTask, Record

TRIES_AGAIN = 2
"""How often a question is put again whose answer cannot be read."""
_REFUSALS = ("refusal", "content_filter")
_CLOSE_SECONDS = 5.0
_ENOUGH = 0.5
"""Of all probability, what the words must have before it is theirs."""
_LONGEST_PROBLEM = 300
_MARGINS = " \t\r\n\"'`“”‘’.,:;!?*_()[]{}<>Ġ▁"
"""Around a word in a token: space, quotes, punctuation, and how tokenizers write a space."""


@dataclass
class Counts:
    """What the judges were asked in this run, and what it took."""

    requests: int = 0
    cached: int = 0
    """Answers that were known: from an earlier run, or asked by another video at the same time."""
    images: int = 0
    """Pictures in all requests; a clip has as many as it has frames."""
    tokens_read: int = 0
    tokens_written: int = 0
    unreadable: int = 0
    """Questions without a value because no answer could be read."""
    asked_again: int = 0
    """Questions put again because an answer could not be read."""


class Desk:
    """Judges, and the conversations with them.

    Args:
        shown: Who is asked about frames.
        text: Who is asked about texts alone.
        cache: Where answers are looked up and kept.
        concurrency: Requests at a time, of all conversations together.
        max_requests: After so many, questions go without an answer; None is no limit.

    Attributes:
        counts: Read them from any thread.
        unread: Files with last answers that could not be read: without them it is asked again.
        heard: How many answers came from which model, and how it was asked, in words.
        on_progress: Called with increments of requests and of cached answers, in another thread.
    """

    def __init__(
        self,
        *,
        shown: Backend,
        text: Backend,
        cache: AnswerCache,
        concurrency: int,
        max_requests: int | None = None,
    ) -> None:
        self.counts = Counts()
        self.unread: list[Path] = []
        self.heard: Counter[tuple[str, str]] = Counter()
        self.on_progress: Callable[[int, int], None] = lambda requests, cached: None
        self._shown = shown
        self._text = text
        self._cache = cache
        self._places = _Places(concurrency)
        self._turns = itertools.count()
        self._max_requests = max_requests
        self._asking: dict[str, asyncio.Task[Reply]] = {}
        self._talking: set[asyncio.Task[None]] = set()
        # Of what follows, both threads have a share.
        self._lock = threading.Lock()
        self._futures: set[Future[Record]] = set()
        self._over: BaseException | None = None
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_DaemonThreads())
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="aigve-desk", daemon=True)
        self._thread.start()
        # Threads are frozen at the interpreter's exit as they are: what is open would complain.
        atexit.register(self.close)

    def start(self, task: JudgeTask, prompt: str | None, parts: tuple[Part, ...]) -> Future[Record]:
        """Begin a conversation about one video, or a part of it.

        Args:
            task: What to ask.
            prompt: The video's prompt, for the task.
            parts: What shows the video; empty where only texts are asked about.

        Returns:
            The task's record. The future ends with an UnreachableError or another SetupError where
            no question can be answered, with what a faulty task raises, and with CancelledError
            once the desk is closed.
        """
        future: Future[Record] = Future()
        with self._lock:
            over = self._closed or self._over is not None
            if not over:
                self._futures.add(future)
        if over:
            _end(future, self._over)
        else:
            # Fails where the loop has ended just now: whoever ended it ends this future.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._begin, future, task, prompt, parts)
        return future

    def close(self) -> None:
        """End everything at once; what has no answer yet ends with CancelledError."""
        with self._lock:
            self._closed = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSE_SECONDS)
        self._end_all()
        atexit.unregister(self.close)

    # --- the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            # Nobody may wait for what will never come, whatever went wrong here.
            self._over = error
        finally:
            self._end_all()
            with suppress(Exception):
                self._loop.run_until_complete(self._clear())
            self._loop.close()

    async def _serve(self) -> None:
        await self._stop.wait()

    async def _clear(self) -> None:
        own = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not own]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CLOSE_SECONDS / 2)
        for backend in {id(backend): backend for backend in (self._shown, self._text)}.values():
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS / 4):
                    await backend.close()
        # Transports close in the next turn of the loop.
        await asyncio.sleep(0)

    def _end_all(self) -> None:
        with self._lock:
            self._closed = True
            futures = list(self._futures)
            self._futures.clear()
        for future in futures:
            _end(future, self._over)

    # --- one conversation -----------------------------------------------------------------------

    def _begin(
        self, future: Future[Record], task: JudgeTask, prompt: str | None, parts: tuple[Part, ...]
    ) -> None:
        talking = self._loop.create_task(self._resolve(future, task, prompt, parts))
        # The loop itself does not keep a task alive.
        self._talking.add(talking)
        talking.add_done_callback(self._talking.discard)

    async def _resolve(
        self, future: Future[Record], task: JudgeTask, prompt: str | None, parts: tuple[Part, ...]
    ) -> None:
        try:
            record = await self._converse(next(self._turns), task, prompt, parts)
        except asyncio.CancelledError:
            if self._take(future):
                _end(future, None)
            raise
        except Exception as error:
            if self._take(future):
                _end(future, error)
        else:
            if self._take(future) and future.set_running_or_notify_cancel():
                future.set_result(record)

    def _take(self, future: Future[Record]) -> bool:
        """Whether the caller is the one that may end it."""
        with self._lock:
            mine = future in self._futures
            self._futures.discard(future)
            return mine

    async def _converse(
        self, turn: int, task: JudgeTask, prompt: str | None, parts: tuple[Part, ...]
    ) -> Record:
        talk = task.talk(prompt)
        answers: list[Answer] | None = None
        while True:
            try:
                asks = next(talk) if answers is None else talk.send(answers)
            except StopIteration as end:
                record: Record = end.value
                return record
            answers = await self._answers(turn, asks, parts, task.prompt_version)

    async def _answers(
        self, turn: int, asks: Sequence[Ask], parts: tuple[Part, ...], prompt_version: str
    ) -> list[Answer]:
        failed: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                answers = [
                    group.create_task(self._answer(turn, ask, parts, prompt_version))
                    for ask in asks
                ]
        except BaseExceptionGroup as errors:
            failed = errors.exceptions[0]
        if failed is not None:
            raise failed
        return [answer.result() for answer in answers]

    async def _answer(
        self, turn: int, ask: Ask, parts: tuple[Part, ...], prompt_version: str
    ) -> Answer:
        backend = self._shown if ask.shown else self._text
        system = (Message("system", (ask.system,)),) if ask.system else ()
        # The question comes last: a server that remembers beginnings then reads the frames once.
        question = Message("user", (*(parts if ask.shown else ()), ask.text))
        messages, max_tokens = (*system, question), ask.max_tokens
        reply, problem = Reply(""), ""
        for tries_left in reversed(range(TRIES_AGAIN + 1)):
            call = Call(messages, ask.schema, bool(ask.words), max_tokens)
            try:
                reply = await self._reply(turn, backend, call, ask.about, prompt_version)
            except NoReplyError as error:
                return Answer(text=reply.text, problem=error.message, unanswered=True)
            self.heard[_manner(reply)] += 1
            if reply.finish in _REFUSALS:
                said = _one_line(reply.text) or reply.finish
                return Answer(text=reply.text, problem=f"the judge refuses: {said}")
            try:
                value = _read(ask, reply)
            except ValueError as error:
                problem = _one_line(str(error))
            else:
                chances = words_to_probabilities(reply.first_token, ask.words)
                return Answer(value, reply.text, probabilities=chances)
            if reply.finish == "length":
                problem = f"it was cut off after {max_tokens} tokens ({problem})"
                max_tokens *= 2
            else:
                messages = (*messages, *_to_correct(reply.text, problem))
            self.counts.asked_again += tries_left > 0
        self.counts.unreadable += 1
        problem = f"no answer could be read, asked {TRIES_AGAIN + 1} times: {problem}"
        kept = _is_kept(reply)
        if kept:
            key = self._cache.key(backend.identity, call, prompt_version)
            self.unread.append(self._cache.path(key))
        return Answer(text=reply.text, problem=problem, unanswered=not kept)

    # --- one request ----------------------------------------------------------------------------

    async def _reply(
        self, turn: int, backend: Backend, call: Call, about: str, prompt_version: str
    ) -> Reply:
        key = self._cache.key(backend.identity, call, prompt_version)
        asking = self._asking.get(key)
        if asking is not None:
            reply = await asyncio.shield(asking)
            self._count_known()
            return reply
        asking = self._loop.create_task(self._cached_or_asked(turn, backend, call, about, key))
        self._asking[key] = asking
        asking.add_done_callback(lambda done: self._asked(key, done))
        # Shielded: others may wait for the same answer when this conversation ends.
        return await asyncio.shield(asking)

    def _asked(self, key: str, done: asyncio.Task[Reply]) -> None:
        del self._asking[key]
        if not done.cancelled():
            done.exception()  # seen, even if nobody waits for it any more

    async def _cached_or_asked(
        self, turn: int, backend: Backend, call: Call, about: str, key: str
    ) -> Reply:
        reply = self._cache.get(key)
        if reply is not None:
            self._count_known()
            return reply
        # Files are locked by no more than have a place: their number is limited.
        async with self._places.taken(turn), self._cache.alone(key):
            reply = self._cache.get(key)
            if reply is not None:
                self._count_known()
                return reply
            most = self._max_requests
            if most is not None and self.counts.requests >= most:
                raise NoReplyError(f"not asked: --max-requests {most} is reached")
            self.counts.requests += 1
            self.counts.images += sum(
                _pictures(part) for message in call.messages for part in message.parts
            )
            self.on_progress(1, 0)
            reply = await backend.reply(call)
            self.counts.tokens_read += reply.tokens_read
            self.counts.tokens_written += reply.tokens_written
            if _is_kept(reply):
                self._cache.put(key, reply, identity=backend.identity, about=about)
            return reply

    def _count_known(self) -> None:
        self.counts.cached += 1
        self.on_progress(0, 1)


class _Places:
    """So many requests at a time, those of earlier conversations first.

    Videos then end one after another instead of all at the end: their scores are kept sooner, and
    what is left can be told.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    @asynccontextmanager
    async def taken(self, turn: int) -> AsyncIterator[None]:
        """A place, as soon as nobody of an earlier turn waits for it."""
        if self._free:
            self._free -= 1
        else:
            given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (turn, next(self._arrivals), given))
            try:
                await given
            except asyncio.CancelledError:
                if given.done() and not given.cancelled():
                    self._give_back()  # it came in the same moment
                raise
        try:
            yield
        finally:
            self._give_back()

    def _give_back(self) -> None:
        while self._waiting:
            *_, given = heapq.heappop(self._waiting)
            if not given.done():
                given.set_result(None)
                return
        self._free += 1


def words_to_probabilities(
    first_token: Mapping[str, float] | None, words: Sequence[str]
) -> Mapping[str, float] | None:
    """Probabilities of words by the likeliest first tokens of an answer, adding up to 1.

    Case, space, quotes and punctuation around a word do not matter. A token that only one of the
    words begins with counts for it: tokens may be pieces of words.

    Args:
        first_token: Natural log-probabilities by token; None where they are not known.
        words: Words of which the answer's first one should be.

    Returns:
        By word; None where the answer is more likely to begin with none of them.
    """
    if not first_token or not words:
        return None
    highest = max(first_token.values())
    if not isfinite(highest):
        return None
    plain = {word: word.strip(_MARGINS).casefold() for word in words}
    masses = dict.fromkeys(words, 0.0)
    for token, log_probability in first_token.items():
        piece = token.strip(_MARGINS).casefold()
        meant = [word for word in words if plain[word] == piece]
        meant = meant or [word for word in words if piece and plain[word].startswith(piece)]
        if len(meant) == 1:
            # Relative to the likeliest: very small ones do not all become 0.
            masses[meant[0]] += exp(log_probability - highest)
    total = sum(masses.values())
    # The rest is other words: what is left of a sentence's first one says nothing of its end.
    if total * exp(highest) < _ENOUGH:
        return None
    return {word: mass / total for word, mass in masses.items()}


def _read(ask: Ask, reply: Reply) -> Any:
    if not reply.text.strip():
        raise ValueError("the answer is empty")
    value = ask.read(reply.text)
    if ask.whole and reply.finish == "length":
        raise ValueError("its end is missing")
    return value


def _manner(reply: Reply) -> tuple[str, str]:
    """The model that says it has answered, and how it was asked: ``schema without seed``."""
    without = reply.asked.get("without") or []
    form = str(reply.asked.get("format", "text"))
    how = f"{form} without {', '.join(map(str, without))}" if without else form
    return reply.model, how


def _is_kept(reply: Reply) -> bool:
    # A server that has lost its way says nothing, and may do better another time.
    return bool(reply.text.strip()) or reply.finish in _REFUSALS


def _to_correct(text: str, problem: str) -> tuple[Message, Message]:
    # No empty turn: some servers refuse one, and some a second turn of the same side.
    said = Message("assistant", (text if text.strip() else "(no answer)",))
    wrong = f"That answer cannot be read: {problem}. Answer again in the form that was asked for."
    return said, Message("user", (wrong,))


def _pictures(part: Part) -> int:
    return len(part.frames) if isinstance(part, Clip) else isinstance(part, Picture)


def _one_line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _LONGEST_PROBLEM else f"{line[: _LONGEST_PROBLEM - 1]}…"


def _end(future: Future[Record], error: BaseException | None) -> None:
    """End a future with an error, or cancel it."""
    if error is None:
        future.cancel()
    # Also tells those who wait for several futures that this one was cancelled.
    if future.set_running_or_notify_cancel() and error is not None:
        future.set_exception(error)


class _DaemonThreads(ThreadPoolExecutor):
    """Blocking calls in threads that the interpreter does not wait for.

    A name server that does not answer would hold up the exit.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=work, name="aigve-desk-call", daemon=True).start()
        return future
