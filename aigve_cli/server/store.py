"""Jobs in SQLite: the queue, what became of each, and what it said on the way.

Every process of a server opens the same file. A job's id is its secret: there is no way to list
those of others.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from aigve_cli.errors import SetupError
from aigve_cli.server.commandline import Command

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINISHED: tuple[State, ...] = ("done", "failed", "cancelled")
MOST_DEATHS = 3
"""After so many workers have died of a job, it is given up."""
MOST_NOTES = 2_000
"""Lines of one job that are kept for those who follow it; all of them are in its results."""
YOUNG_SECONDS = 3600.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    command TEXT NOT NULL,
    arguments TEXT NOT NULL,
    cwd TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    slot INTEGER,
    returncode INTEGER,
    reason TEXT,
    progress TEXT,
    wanted TEXT NOT NULL DEFAULT '',
    bytes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created);
CREATE TABLE IF NOT EXISTS notes (
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS workers (
    slot INTEGER PRIMARY KEY,
    seen REAL NOT NULL,
    facts TEXT NOT NULL
);
"""


class QueueFullError(Exception):
    """As many jobs wait as may, or their files take as much as they may.

    Attributes:
        seconds: When it is worth trying again.
        words: What is full.
    """

    def __init__(self, seconds: int, words: str = "As many jobs wait as may.") -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.words = f"{words} Try again later."


class DiskFullError(QueueFullError):
    """Uploads and results of all jobs take as much as they may."""

    def __init__(self) -> None:
        # Old results go from time to time.
        super().__init__(300, "Uploads and results of all jobs take as much disk as they may.")


@dataclass(frozen=True)
class Job:
    """One job, as it is now. Times are seconds since 1970."""

    id: str
    state: State
    command: Command
    arguments: tuple[str, ...]
    cwd: str
    """The folder that its relative paths are relative to: of the server that has taken it."""
    created: float
    started: float | None
    finished: float | None
    attempts: int
    returncode: int | None
    reason: str | None
    progress: Mapping[str, Any] | None
    wanted: Literal["", "cancel"]
    """What its worker is asked to do with it."""
    bytes: int
    """Of its folder."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINISHED


_COLUMNS = ", ".join(field.name for field in fields(Job))


class Store:
    """The jobs of a server. Safe to use from any thread and any process.

    Args:
        folder: Of the server's state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "jobs.sqlite"
        self._own = threading.local()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder / "jobs").mkdir(exist_ok=True, mode=0o700)
            # Nobody else on this machine reads ids or prompts, whoever made the folder.
            (folder / "jobs").chmod(0o700)
            self._path.touch(mode=0o600)
            self._path.chmod(0o600)
            with self._writing() as database:
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
        except (OSError, sqlite3.Error) as error:
            what = getattr(error, "strerror", None) or str(error)
            raise SetupError(
                f"The server's state cannot be kept in '{folder}': {what}.",
                hint=f"Another folder: --state-dir. If it is damaged, move {self._path.name} away.",
            ) from error

    # --- callers ------------------------------------------------------------------------------

    def new_id(self) -> str:
        """An id that nobody guesses."""
        return secrets.token_urlsafe(18)

    def job_folder(self, id: str) -> Path:
        """Where a job's files are."""
        return self.folder / "jobs" / id

    def add(
        self,
        id: str,
        command: Command,
        arguments: Sequence[str],
        *,
        most: int,
        size: int = 0,
        most_bytes: int | None = None,
    ) -> Job:
        """Queue a job whose files have ``size`` bytes.

        Raises:
            QueueFullError: ``most`` jobs wait already, or all together would take more than
                ``most_bytes``.
        """
        with self._writing() as database:
            self._refuse_if_full(database, most)
            if most_bytes is not None and self.bytes() + size > most_bytes:
                raise DiskFullError
            database.execute(
                "INSERT INTO jobs (id, state, command, arguments, cwd, created, bytes)"
                " VALUES (?, 'queued', ?, ?, ?, ?, ?)",
                (id, command, json.dumps(list(arguments)), os.getcwd(), time.time(), size),
            )
        job = self.job(id)
        assert job is not None
        return job

    def refuse_if_full(self, most: int) -> None:
        """Say so before a caller sends gigabytes.

        Raises:
            QueueFullError: ``most`` jobs wait already.
        """
        self._refuse_if_full(self._connection(), most)

    def job(self, id: str) -> Job | None:
        """A job by its id."""
        row = self._connection().execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (id,))
        found = row.fetchone()
        return _row_to_job(found) if found else None

    def position(self, job: Job) -> int | None:
        """How many jobs are taken before this one; None if it does not wait."""
        if job.state != "queued":
            return None
        query = "SELECT count(*) FROM jobs WHERE state = 'queued' AND (created, id) < (?, ?)"
        return int(self._connection().execute(query, (job.created, job.id)).fetchone()[0])

    def notes(self, id: str, after: int = 0) -> list[tuple[int, str]]:
        """Lines that a job has said, by number, behind one of them."""
        query = "SELECT number, text FROM notes WHERE job = ? AND number > ? ORDER BY number"
        return list(self._connection().execute(query, (id, after)))

    def cancel(self, id: str) -> None:
        """Ask for an end: at once of a job that waits, soon of one that runs."""
        with self._writing() as database:
            done = database.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ?, reason = 'cancelled', bytes = 0"
                " WHERE id = ? AND state = 'queued'",
                (time.time(), id),
            )
            database.execute(
                "UPDATE jobs SET wanted = 'cancel' WHERE id = ? AND state = 'running'", (id,)
            )
        if done.rowcount:
            shutil.rmtree(self.job_folder(id), ignore_errors=True)

    def remove(self, id: str) -> None:
        """Forget a finished job, with its files."""
        shutil.rmtree(self.job_folder(id), ignore_errors=True)
        with self._writing() as database:
            database.execute("DELETE FROM notes WHERE job = ?", (id,))
            database.execute("DELETE FROM jobs WHERE id = ?", (id,))

    def counts(self) -> dict[str, int]:
        """How many jobs wait and run."""
        query = (
            "SELECT state, count(*) FROM jobs WHERE state IN ('queued', 'running') GROUP BY state"
        )
        found = dict(self._connection().execute(query).fetchall())
        return {"queued": found.get("queued", 0), "running": found.get("running", 0)}

    def bytes(self) -> int:
        """Of all jobs' folders, as far as they are known."""
        query = "SELECT coalesce(sum(bytes), 0) FROM jobs"
        return int(self._connection().execute(query).fetchone()[0])

    # --- workers ------------------------------------------------------------------------------

    def claim(self, slot: int) -> Job | None:
        """The job whose turn it is, now running; None if none waits."""
        connection = self._connection()
        if not connection.execute("SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1").fetchone():
            return None
        with self._writing() as database:
            found = database.execute(
                "SELECT id FROM jobs WHERE state = 'queued' ORDER BY created, id LIMIT 1"
            ).fetchone()
            if found is None:
                return None
            database.execute(
                "UPDATE jobs SET state = 'running', slot = ?, started = ?, finished = NULL,"
                " attempts = attempts + 1, wanted = '', progress = NULL WHERE id = ?",
                (slot, time.time(), found[0]),
            )
        return self.job(found[0])

    def report(
        self,
        id: str,
        *,
        progress: Mapping[str, Any] | None,
        notes: Sequence[str] = (),
        size: int | None = None,
    ) -> None:
        """What a running job has done and said since the last time."""
        with self._writing() as database:
            if progress is not None:
                text = json.dumps(dict(progress))
                database.execute("UPDATE jobs SET progress = ? WHERE id = ?", (text, id))
            if size is not None:
                database.execute("UPDATE jobs SET bytes = ? WHERE id = ?", (size, id))
            if not database.execute("SELECT 1 FROM jobs WHERE id = ?", (id,)).fetchone():
                return  # deleted meanwhile
            last = database.execute(
                "SELECT coalesce(max(number), 0) FROM notes WHERE job = ?", (id,)
            ).fetchone()[0]
            room = max(0, MOST_NOTES - last)
            database.executemany(
                "INSERT INTO notes (job, number, text) VALUES (?, ?, ?)",
                [(id, number, text) for number, text in enumerate(notes[:room], last + 1)],
            )

    def finish(
        self,
        id: str,
        state: State,
        *,
        returncode: int | None,
        reason: str | None = None,
        size: int = 0,
    ) -> None:
        """What became of a running job."""
        with self._writing() as database:
            database.execute(
                "UPDATE jobs SET state = ?, returncode = ?, reason = ?, finished = ?, slot = NULL,"
                " bytes = ? WHERE id = ? AND state = 'running'",
                (state, returncode, reason, time.time(), size, id),
            )

    def requeue(self, slot: int, *, died: bool) -> list[str]:
        """The job that a worker has left goes on with the next one, in its old place.

        Args:
            slot: Of the worker, which is no more.
            died: Whether that may be the job's doing: then not for ever.

        Returns:
            The ids of jobs that go on.
        """
        running = "state = 'running' AND slot = ?"
        ended = f"finished = ?, slot = NULL, bytes = 0 WHERE {running}"
        given_up: list[tuple[str]] = []
        with self._writing() as database:
            now = time.time()
            query = f"UPDATE jobs SET state = 'cancelled', reason = 'cancelled', {ended}"
            query += " AND wanted = 'cancel' RETURNING id"
            given_up += database.execute(query, (now, slot)).fetchall()
            if died:
                query = f"UPDATE jobs SET deaths = deaths + 1 WHERE {running}"
                database.execute(query, (slot,))
                reason = f"its worker died {MOST_DEATHS} times"
                query = f"UPDATE jobs SET state = 'failed', returncode = 1, reason = ?, {ended}"
                query += f" AND deaths >= {MOST_DEATHS} RETURNING id"
                given_up += database.execute(query, (reason, now, slot)).fetchall()
            query = f"UPDATE jobs SET state = 'queued', slot = NULL WHERE {running} RETURNING id"
            found = database.execute(query, (slot,)).fetchall()
        for (id,) in given_up:
            shutil.rmtree(self.job_folder(id), ignore_errors=True)
        return [id for (id,) in found]

    def running_slots(self) -> list[int]:
        """The workers that jobs are said to run in."""
        query = "SELECT DISTINCT slot FROM jobs WHERE state = 'running' ORDER BY slot"
        return [slot for (slot,) in self._connection().execute(query)]

    def set_worker(self, slot: int, facts: Mapping[str, Any] | None = None) -> None:
        """A worker is there, and what it has found out about its machine.

        Until it has, what the one before it found out holds.
        """
        with self._writing() as database:
            database.execute(
                "INSERT INTO workers (slot, seen, facts) VALUES (?, ?, '{}')"
                " ON CONFLICT (slot) DO UPDATE SET seen = excluded.seen",
                (slot, time.time()),
            )
            if facts is not None:
                values = (json.dumps(dict(facts)), slot)
                database.execute("UPDATE workers SET facts = ? WHERE slot = ?", values)

    def drop_workers(self) -> None:
        """Forget the workers of an earlier server."""
        with self._writing() as database:
            database.execute("DELETE FROM workers")

    def workers(self) -> dict[int, tuple[float, dict[str, Any]]]:
        """When each worker was last seen, and its facts."""
        query = "SELECT slot, seen, facts FROM workers ORDER BY slot"
        rows = self._connection().execute(query)
        return {slot: (seen, json.loads(facts)) for slot, seen, facts in rows}

    # --- housekeeping -------------------------------------------------------------------------

    def expire(self, seconds: float) -> list[str]:
        """Remove jobs that were finished so long ago; their ids."""
        query = "SELECT id FROM jobs WHERE finished IS NOT NULL AND finished < ?"
        found = self._connection().execute(query, (time.time() - seconds,)).fetchall()
        for (id,) in found:
            self.remove(id)
        return [id for (id,) in found]

    def sweep(self) -> None:
        """Delete folders that no job has: of uploads that were broken off by a kill."""
        # First what is there, then what is known; and one that is just being filled is neither.
        folders = list((self.folder / "jobs").iterdir())
        known = {id for (id,) in self._connection().execute("SELECT id FROM jobs")}
        for folder in folders:
            if folder.name in known:
                continue
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > YOUNG_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def version(self) -> int:
        """Changes when another connection has written anything."""
        return int(self._connection().execute("PRAGMA data_version").fetchone()[0])

    # --- steps --------------------------------------------------------------------------------

    def _refuse_if_full(self, database: sqlite3.Connection, most: int) -> None:
        waiting = "SELECT count(*) FROM jobs WHERE state = 'queued'"
        if database.execute(waiting).fetchone()[0] >= most:
            recent = database.execute(
                "SELECT avg(finished - started) FROM (SELECT finished, started FROM jobs"
                " WHERE state = 'done' ORDER BY finished DESC LIMIT 10)"
            ).fetchone()[0]
            # When about one of those that wait will have been taken.
            raise QueueFullError(min(300, max(1, round(recent or 5))))

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._own.connection = connection
        return connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            # On a full disk it is rolled back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def folder_bytes(folder: Path) -> int:
    """Of all files below a folder; what goes meanwhile does not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:
            continue
    return total


def _row_to_job(row: Sequence[Any]) -> Job:
    values = dict(zip((field.name for field in fields(Job)), row, strict=True))
    values["arguments"] = tuple(json.loads(values["arguments"]))
    values["progress"] = json.loads(values["progress"]) if values["progress"] else None
    return Job(**values)
