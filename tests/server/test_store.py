"""The queue on disk."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from aigve_cli.errors import SetupError
from aigve_cli.server.store import (
    MOST_DEATHS,
    MOST_NOTES,
    YOUNG_SECONDS,
    QueueFullError,
    Store,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def add(store: Store, *, most: int = 100, **more: int) -> str:
    job = store.add(store.new_id(), "compute", ["--input-dir=/v"], most=most, **more)
    return job.id


def test_first_come_first_served_and_each_once(store: Store) -> None:
    ids = [add(store) for _ in range(3)]
    positions = [store.position(job) for id in ids if (job := store.job(id))]
    assert positions == [0, 1, 2]
    taken = [job.id for slot in range(3) if (job := store.claim(slot))]
    assert taken == ids
    assert store.claim(0) is None
    assert store.counts() == {"queued": 0, "running": 3}


def test_many_at_a_time_take_each_job_once(store: Store) -> None:
    ids = {add(store) for _ in range(40)}
    taken: list[str] = []

    def take() -> None:
        while job := store.claim(0):
            taken.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


def test_the_queue_is_bounded_however_many_come_at_once(store: Store) -> None:
    refused = []

    def come() -> None:
        try:
            add(store, most=8)
        except QueueFullError as error:
            refused.append(error.seconds)

    threads = [threading.Thread(target=come) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts()["queued"] == 8
    assert len(refused) == 12
    assert all(1 <= seconds <= 300 for seconds in refused)
    with pytest.raises(QueueFullError):
        store.refuse_if_full(8)
    store.claim(0)
    store.refuse_if_full(8)


def test_ids_are_long_and_never_the_same(store: Store) -> None:
    ids = {store.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert min(map(len, ids)) >= 24


def test_a_left_job_goes_on_before_those_that_came_later(store: Store) -> None:
    first, second = add(store), add(store)
    assert store.claim(0) is not None
    assert store.requeue(0, died=False) == [first]
    job = store.claim(1)
    assert job is not None
    assert (job.id, job.attempts) == (first, 2)
    for _ in range(MOST_DEATHS):  # an orderly end is not held against it
        store.requeue(1, died=False)
        again = store.claim(1)
        assert again is not None
        assert again.id == first
    later = store.claim(2)
    assert later is not None
    assert later.id == second


def test_a_job_that_its_workers_die_of_is_given_up(store: Store) -> None:
    id = add(store)
    for attempt in range(1, MOST_DEATHS + 1):
        job = store.claim(0)
        assert job is not None
        assert job.attempts == attempt
        store.requeue(0, died=True)
    job = store.job(id)
    assert job is not None
    assert (job.state, job.returncode) == ("failed", 1)
    assert job.reason
    assert store.claim(0) is None


@pytest.mark.parametrize("died", [True, False])
def test_one_that_was_to_be_cancelled_when_its_worker_ended_is_cancelled(
    store: Store, died: bool
) -> None:
    id = add(store)
    store.claim(0)
    store.cancel(id)
    assert store.requeue(0, died=died) == []
    job = store.job(id)
    assert job is not None
    assert job.state == "cancelled"


def test_another_workers_job_is_left_alone(store: Store) -> None:
    add(store)
    store.claim(0)
    assert store.requeue(1, died=True) == []
    assert store.counts()["running"] == 1
    assert store.running_slots() == [0]


def test_cancel_ends_what_waits_and_asks_what_runs(store: Store) -> None:
    running, waiting = add(store), add(store)
    store.claim(0)
    store.cancel(running)
    store.cancel(waiting)
    first, second = store.job(running), store.job(waiting)
    assert first is not None
    assert second is not None
    assert (first.state, first.wanted) == ("running", "cancel")
    assert second.state == "cancelled"
    store.finish(running, "done", returncode=0)
    store.cancel(running)  # too late
    done = store.job(running)
    assert done is not None
    assert done.state == "done"


def test_words_are_numbered_and_bounded(store: Store) -> None:
    id = add(store)
    store.report(id, progress={"videos": 1}, notes=["one", "two"])
    store.report(id, progress=None, notes=["three"])
    assert store.notes(id) == [(1, "one"), (2, "two"), (3, "three")]
    assert store.notes(id, after=2) == [(3, "three")]
    store.report(id, progress=None, notes=["x"] * (MOST_NOTES + 5))
    assert len(store.notes(id)) == MOST_NOTES
    store.remove(id)
    store.report(id, progress={"videos": 2}, notes=["too late"])
    assert store.notes(id) == []


def test_what_a_worker_found_out_holds_until_the_next_has(store: Store) -> None:
    store.set_worker(0)
    assert store.workers()[0][1] == {}
    store.set_worker(0, {"device_count": 2})
    store.set_worker(0)
    assert store.workers()[0][1] == {"device_count": 2}
    store.drop_workers()
    assert store.workers() == {}


def test_what_is_old_goes_with_its_files(store: Store) -> None:
    old, running = add(store), add(store)
    store.claim(0)
    store.finish(old, "done", returncode=0, size=5)
    store.claim(0)
    store.job_folder(old).mkdir()
    (store.job_folder(old) / "stdout.txt").write_text("x")
    assert store.bytes() == 5
    assert store.expire(3600) == []
    assert store.expire(-1) == [old]
    assert store.job(old) is None
    assert not store.job_folder(old).exists()
    assert store.job(running) is not None


def test_folders_that_no_job_has_are_swept(store: Store) -> None:
    id = add(store)
    long_ago = time.time() - 2 * YOUNG_SECONDS
    for name in (id, "left-over", "just-coming"):
        (store.folder / "jobs" / name).mkdir()
        if name != "just-coming":
            os.utime(store.folder / "jobs" / name, (long_ago, long_ago))
    store.sweep()
    assert {path.name for path in (store.folder / "jobs").iterdir()} == {id, "just-coming"}


def test_what_all_jobs_take_together_is_bounded(store: Store) -> None:
    first = add(store, size=60, most_bytes=100)
    with pytest.raises(QueueFullError):
        add(store, size=60, most_bytes=100)
    store.job_folder(first).mkdir()
    store.cancel(first)
    assert not store.job_folder(first).exists()
    assert store.bytes() == 0
    add(store, size=60, most_bytes=100)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError):
        Store(tmp_path / "file")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "jobs.sqlite").write_bytes(b"no database, by far" * 100)
    with pytest.raises(SetupError):
        Store(tmp_path / "damaged")


def test_another_process_sees_that_something_was_written(store: Store) -> None:
    other = Store(store.folder)
    before = other.version()
    add(store)
    assert other.version() != before


def test_nobody_else_may_read_ids_and_prompts(tmp_path: Path) -> None:
    (tmp_path / "state" / "jobs").mkdir(parents=True, mode=0o755)
    store = Store(tmp_path / "state")
    add(store)
    for path in store.folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
