"""Tells those who wait that something has changed, by one look at the database for all of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator

from aigve_cli.server.store import Job, Store

TICK_SECONDS = 0.05
LONGEST_WAIT = 1.0
"""After so long those who wait look whether their callers are still there."""


class Watch:
    """Wakes waiting requests of one server process.

    Args:
        store: With connections of its own for the thread of the event loop.
    """

    def __init__(self, store: Store) -> None:
        self.stopping = asyncio.Event()
        """Set when the server is to end: whoever waits should leave."""
        self._store = store
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Look no more."""
        self.stopping.set()
        if self._task is not None:
            self._task.cancel()

    async def job_states(self, id: str) -> AsyncIterator[Job | None]:
        """A job whenever anything may have happened to it, and every second; None once it is gone.

        The last one is finished, unless the server is to end.
        """
        while True:
            # Taken before the look, so that nothing is missed in between.
            changed = self._changed
            job = self._store.job(id)
            yield job
            if job is None or job.is_finished or self.stopping.is_set():
                return
            await self._until(changed)

    async def _until(self, changed: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (changed, self.stopping)]
        try:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait(waits, timeout=LONGEST_WAIT, return_when=first)
        finally:
            for task in waits:
                task.cancel()

    async def _look(self) -> None:
        seen = self._store.version()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                now = self._store.version()
            except sqlite3.Error:
                continue  # those who wait look by themselves, every second
            if now != seen:
                seen = now
                self._changed.set()
                self._changed = asyncio.Event()
