"""A judge on this machine: a chat model of transformers, one answer at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from aigve_cli.errors import AigveError
from aigve_cli.judges.backend import (
    LOCAL_THREAD,
    Call,
    Clip,
    NoReplyError,
    Part,
    Reply,
    UnreachableError,
)
from aigve_cli.lazy import np

_LAST_WORD = 10.0
"""Seconds."""
_CLOSED = "The local judge was closed."
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says on graphics cards and on processors."""


class LocalModel:
    """A judge whose model is loaded when it is asked for the first time.

    Generations run in a daemon thread of their own: an interrupt waits for none of them.
    """

    def __init__(
        self, load: Callable[[], Any], identity: Mapping[str, Any], device: str = "cpu"
    ) -> None:
        """Say how the model is loaded, without loading it.

        Args:
            load: Gives a ``ChatModel`` of the module ``chat_vlm``, on ``device``.
            identity: Which model it is, for results and for the key of a cached answer.
            device: A torch device, such as ``cpu`` or ``cuda:0``.
        """
        self._load = load
        self._identity = identity
        self._device = device
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which model it is."""
        return self._identity

    async def reply(self, call: Call) -> Reply:
        """The model's likeliest answer. A schema is not enforced: the question asks for it too.

        Raises:
            UnreachableError: The model cannot be loaded, does not fit into memory, or does not see
                what it is shown.
            NoReplyError: It cannot take this conversation.
        """
        if self._closed.is_set():
            raise NoReplyError(_CLOSED)
        job = _Job(call)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=LOCAL_THREAD, daemon=True)
            self._thread.start()
        self._jobs.put(job)
        try:
            return await job.reply
        finally:
            # Of no use to anybody once it is not waited for: the thread goes on to the next.
            job.is_over.set()

    async def close(self) -> None:
        """End the answer that is being written, and give back the model's memory."""
        self._closed.set()
        self._jobs.put(None)
        if self._thread is not None and self._device.startswith("cuda"):
            # What is loaded next needs the memory: a GPU's word is soon over.
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self._thread.join, _LAST_WORD)

    def _work(self) -> None:
        network: Any = None
        unusable: UnreachableError | None = None
        while (job := self._jobs.get()) is not None:
            if self._closed.is_set() or job.is_over.is_set():
                job.fail(NoReplyError(_CLOSED))
                continue
            try:
                if unusable is not None:
                    raise unusable
                network = network or self._loaded()
                job.finish(self._answer(network, job))
            except Exception as error:
                # What is not loaded now would not be the next time either.
                if network is None and isinstance(error, UnreachableError):
                    unusable = error
                job.fail(error)
        if network is not None and self._device.startswith("cuda"):
            import gc

            import torch

            del network
            # A model in parts holds itself in circles.
            gc.collect()
            torch.cuda.empty_cache()

    def _loaded(self) -> Any:
        try:
            return self._load()
        except AigveError as error:
            raise UnreachableError(error.message, hint=error.hint) from error
        except Exception as error:
            raise self._memory_error(error) or UnreachableError(
                f"The local judge cannot be loaded: {_first_line(error)}."
            ) from error

    def _answer(self, network: Any, job: _Job) -> Reply:
        from aigve_models.chat_vlm import BlindError, Turn

        call = job.call
        turns = [Turn(turn.role, tuple(map(_to_part, turn.parts))) for turn in call.messages]
        try:
            said = network.answer(
                turns,
                max_tokens=call.max_tokens,
                is_stopped=lambda: job.is_over.is_set() or self._closed.is_set(),
            )
        except BlindError as error:
            raise UnreachableError(
                f"The local judge cannot be shown frames: {error}",
                hint="Name a model that sees them, or show them in another way.",
            ) from error
        except ValueError as error:
            raise NoReplyError(f"The local judge cannot be asked this: {error}") from error
        except Exception as error:
            raise self._memory_error(error) or NoReplyError(
                f"The local judge failed: {_first_line(error)}."
            ) from error
        return Reply(
            text=said.text,
            finish=said.finish,
            first_token=said.first_token if call.first_token else None,
            tokens_read=said.tokens_read,
            tokens_written=said.tokens_written,
            asked={"format": "text"},
        )

    def _memory_error(self, error: Exception) -> UnreachableError | None:
        """What to say where memory was not enough; None of other errors."""
        words = str(error).lower()
        if not isinstance(error, MemoryError) and not any(sign in words for sign in _NO_MEMORY):
            return None
        less = "Take a smaller model, or show it fewer or smaller frames"
        return UnreachableError(
            f"The local judge needs more memory than {self._device} has.",
            hint=f"{less}." if self._device == "cpu" else f"{less}, or add --use-cpu.",
        )


class _Job:
    """A call, and who waits for its reply."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.is_over = threading.Event()
        self._loop = asyncio.get_running_loop()
        self.reply: asyncio.Future[Reply] = self._loop.create_future()

    def finish(self, reply: Reply) -> None:
        self._tell(lambda: self.reply.set_result(reply))

    def fail(self, error: Exception) -> None:
        self._tell(lambda: self.reply.set_exception(error))

    def _tell(self, what: Callable[[], None]) -> None:
        # Nobody is left to be told once the loop is closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: None if self.reply.done() else what())


def _to_part(part: Part) -> Any:
    if isinstance(part, str):
        return part
    if isinstance(part, Clip):
        from aigve_models.chat_vlm import Film

        return Film(np.stack(part.frames), part.fps)
    from PIL import Image

    return Image.fromarray(part.pixels)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(" .:")
