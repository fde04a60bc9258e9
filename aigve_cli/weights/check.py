"""Is this file the checkpoint that the card describes?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from aigve_cli.weights.cards import UNKNOWN_SHA256, WeightsEntry

MEMO_FILE = "sha256.json"
MEMO_FROM_BYTES = 64 * 2**20
"""Smaller files are hashed in less time than the memo is worth."""


def file_problem(path: Path, entry: WeightsEntry, *, sha256: str | None = None) -> str | None:
    """What is wrong with a file, as a sentence with what was expected and found; None if nothing.

    Args:
        path: The file.
        entry: What it should be.
        sha256: Its hash; without it only the beginning and the size are checked.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        problem = head_problem(file.read(512))
    if problem:
        return problem
    if entry.bytes is not None and size != entry.bytes:
        kind = "cut short" if size < entry.bytes else "another file"
        return f"it has {size:,} bytes, the card says {entry.bytes:,} ({kind})"
    if sha256 is not None and not hash_agrees(entry, sha256):
        return f"its sha256 is {sha256}, the card says {entry.sha256}"
    return None


def head_problem(head: bytes) -> str | None:
    """What the first bytes give away: the usual things that get saved under a checkpoint's name."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page (HTML), not a checkpoint"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file it stands for (`git lfs pull` fetches it)"
    return "it is empty" if not head else None


def hash_agrees(entry: WeightsEntry, sha256: str) -> bool:
    """True if nothing that the card knows of the hash is against it."""
    return entry.sha256 == UNKNOWN_SHA256 or sha256.startswith(entry.sha256)


def file_to_sha256(path: Path, *, memo_dir: Path | None = None) -> str:
    """The sha256 of a file, in hex.

    Args:
        path: The file.
        memo_dir: Folder with the hashes of big files seen before, by path, size and time of
            change: 10 GB are not read again at each start. None always reads the file.
    """
    facts = path.stat()
    if memo_dir is None or facts.st_size < MEMO_FROM_BYTES:
        return _read_sha256(path)
    key, state = str(path.resolve()), [facts.st_size, facts.st_mtime_ns]
    known = _read_memo(memo_dir).get(key)
    if isinstance(known, list) and known[:2] == state:
        return str(known[2])
    digest = _read_sha256(path)
    # Read again: another process may have added a hash meanwhile. One lost to a race is recomputed.
    _write_memo(memo_dir, {**_read_memo(memo_dir), key: [*state, digest]})
    return digest


def _read_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_memo(folder: Path) -> dict[str, Any]:
    try:
        memo = json.loads((folder / MEMO_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return memo if isinstance(memo, dict) else {}


def _write_memo(folder: Path, memo: dict[str, Any]) -> None:
    draft = folder / f"{MEMO_FILE}.{os.getpid()}"
    # A cache that cannot be written costs time, never a run.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(memo, indent=1), encoding="utf-8")
        draft.replace(folder / MEMO_FILE)
