"""What judges have said, kept on disk by what they were asked, so that nothing is asked twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from aigve_cli.dataset.textfiles import write_json
from aigve_cli.errors import SetupError
from aigve_cli.judges.backend import Call, Clip, Part, Picture, Reply
from aigve_cli.judges.show import part_digest

FORMAT = 1
"""Raised when a key or a file means something else, or when a decoding parameter changes."""
_WAIT_SECONDS = 0.05
"""Between two looks at a key that another process is asking."""


class AnswerCache:
    """Replies under ``folder/ab/ab….json``, safe for several processes.

    No key of an account comes near it: an identity has none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # A picture is hashed once for all questions about it, and forgotten with it.
        self._digests: WeakKeyDictionary[Picture | Clip, str] = WeakKeyDictionary()

    def key(self, identity: Mapping[str, Any], call: Call, prompt_version: str) -> str:
        """sha256, in hex, of everything that decides a reply."""
        facts = {
            "format": FORMAT,
            "judge": dict(identity),
            "messages": [
                [message.role, [self._part_facts(part) for part in message.parts]]
                for message in call.messages
            ],
            "schema": call.schema,
            "first_token": call.first_token,
            "max_tokens": call.max_tokens,
            "prompt_version": prompt_version,
        }
        # Escaped: a prompt with half a surrogate pair has no other bytes.
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    def path(self, key: str) -> Path:
        """Where the reply to a key is, or would be."""
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> Reply | None:
        """The reply that is kept; None where there is none that can be read whole."""
        try:
            document = json.loads(self.path(key).read_bytes())
            return _document_to_reply(document)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # Damaged is as none: it is asked again and written anew.
            return None

    def put(self, key: str, reply: Reply, *, identity: Mapping[str, Any], about: str) -> None:
        """Keep a reply, whole or not at all.

        Raises:
            SetupError: It cannot be written.
        """
        document = {
            "format": FORMAT,
            "text": reply.text,
            "finish": reply.finish,
            "first_token": None if reply.first_token is None else dict(reply.first_token),
            "tokens_read": reply.tokens_read,
            "tokens_written": reply.tokens_written,
            "asked": dict(reply.asked),
            "model": reply.model,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "judge": dict(identity),
            "about": about,
        }
        with self._writable():
            self.path(key).parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path(key), document)

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Wait until no other process asks this; then look again whether there is a reply.

        Raises:
            SetupError: The folder cannot be written to. That is found out here, before a question
                is paid for whose answer could not be kept.
        """
        from filelock import FileLock, Timeout

        # A process that is killed leaves this behind, empty. Whoever asks the same again removes
        # it; nobody else could tell by its age whether it is held.
        path = self.path(key).with_suffix(".lock")
        with self._writable():
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        while True:
            try:
                with self._writable():
                    lock.acquire(timeout=0)
                break
            except Timeout:
                # Not in a blocking call: the other conversations share this thread.
                await asyncio.sleep(_WAIT_SECONDS)
        try:
            yield
        finally:
            # Who opens it between these two lines locks a file that is gone, beside one who makes
            # a new one. Both look for the reply first, and find it.
            with suppress(OSError):
                path.unlink()
            lock.release()

    def _part_facts(self, part: Part) -> str | dict[str, str]:
        if isinstance(part, str):
            return part
        if part not in self._digests:
            self._digests[part] = part_digest(part)
        return {type(part).__name__.lower(): self._digests[part]}

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            # Another process holds the lock: an OSError by its class, and no fault of the folder.
            raise
        except (OSError, NotImplementedError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise SetupError(
                f"Answers of the judge cannot be kept in {self.folder}: {words}.",
                hint="--judge-cache names another folder for them, AIGVE_CACHE_DIR one for the "
                "whole cache. What was answered before is kept.",
            ) from error


def _document_to_reply(document: Any) -> Reply:
    if document["format"] != FORMAT:
        raise ValueError("another format")
    texts = document["text"], document["finish"]
    numbers = document["tokens_read"], document["tokens_written"]
    likely = document["first_token"]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("no text")
    if not all(type(number) is int for number in numbers):
        raise TypeError("no numbers of tokens")
    if likely is not None:
        likely = {str(token): float(value) for token, value in likely.items()}
        if not all(map(math.isfinite, likely.values())):
            raise ValueError("no log-probabilities")
    return Reply(*texts, likely, *numbers, dict(document["asked"]), str(document["model"]))
