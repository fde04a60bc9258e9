"""What a run has done so far, on disk, line by line: a killed run goes on where it stopped.

``journal.jsonl`` holds a header, a line for every video that was looked at, and a line for every
sample that was scored. Rows that set metrics need are appended to ``features/<key>.f32`` and synced
before the line that names them. A torn last line, and rows that no line names, are cut.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import VideoFacts
from aigve_cli.errors import SetupError, UsageError
from aigve_cli.lazy import np

if TYPE_CHECKING:
    from aigve_cli.contract import Floats, Indices

JOURNAL = "journal.jsonl"
FEATURES = "features"
SCHEMA = 1
Packed = Mapping[str, Any]


@dataclass(frozen=True)
class StoredRows:
    """Where the rows of one video lie in a feature file, and which units they belong to."""

    offset: int
    """Bytes before the first row."""
    shape: tuple[int, ...]
    """Rows first."""
    packed: Packed
    """The units, see :func:`_pack_units`: a few bytes for regular ones."""

    @property
    def units(self) -> list[tuple[int, ...]]:
        """The frames of each row's unit."""
        return _unpack_units(self.packed)

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return 4 * int(np.prod(self.shape))


@dataclass(frozen=True)
class VideoRecord:
    """What is known of one video's content."""

    content: str
    status: str = "ok"
    """``ok``, ``unreadable``, ``no_video``, ``partial`` or ``missing``."""
    reason: str | None = None
    facts: VideoFacts | None = None
    whole: bool = False
    """Whether the facts count every frame, or only those that were asked for."""
    codec: str = ""
    padded: int = 0
    """Black frames that were counted behind the end."""
    features: Mapping[str, StoredRows] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleRecord:
    """The scores of one sample, by metric; each with the key of all it depends on."""

    sample: str
    scores: Mapping[str, Mapping[str, Any]]


class Journal:
    """The journal and the feature files of one output folder, locked for one run.

    Args:
        folder: The output folder; made if it is not there.
        settings: What must be the same for a run to go on: device, precision, weights, extent.
        fresh: Set aside what an earlier run left.

    Raises:
        UsageError: Another run holds the folder, or an unfinished run had other settings.
        SetupError: The folder cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, fresh: bool) -> None:
        self.folder = folder
        self.videos: dict[str, VideoRecord] = {}
        self.samples: dict[str, SampleRecord] = {}
        self.resumed = False
        self._ends: dict[str, int] = {}
        with _disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder)
            try:
                if not fresh:
                    self._read(settings)
                if not self.resumed:
                    self._start(settings)
            except BaseException:
                self._lock.release()
                raise

    def close(self) -> None:
        """Close the file and let other runs in."""
        self._file.close()
        self._lock.release()

    def has_rows(self, record: VideoRecord, wanted: Mapping[str, Indices]) -> bool:
        """Whether all wanted units, by feature key, are stored for a video."""
        return all(
            key in record.features
            and set(map(tuple, units.tolist())) <= set(record.features[key].units)
            for key, units in wanted.items()
        )

    def add_video(
        self, record: VideoRecord, rows: Mapping[str, tuple[Indices, Floats]]
    ) -> VideoRecord:
        """Store a video's rows, then the line that names them.

        Args:
            record: The video, without features.
            rows: By feature key: units int64 [U, L] and rows float32 [U, ...].
        """
        earlier = self.videos.get(record.content)
        features = dict(earlier.features) if earlier else {}
        with _disk(self.folder):
            for key, (units, values) in rows.items():
                features[key] = self._append(key, units, values)
            record = VideoRecord(**{**record.__dict__, "features": features})
            self._write(_video_to_line(record))
        self.videos[record.content] = record
        return record

    def add_sample(self, record: SampleRecord) -> None:
        """Store a sample's scores."""
        with _disk(self.folder):
            self._write({"kind": "sample", "sample": record.sample, "scores": dict(record.scores)})
        self.samples[record.sample] = record

    def rows(self, content: str, key: str, units: Indices) -> Floats:
        """The stored rows of a video for units int64 [U, L], float32.

        [U, ...] where units were kept; [U, L, D] where single frames were kept and L > 1.
        """
        stored = self.videos[content].features[key]
        with (self.folder / FEATURES / f"{key}.f32").open("rb") as file:
            file.seek(stored.offset)
            values = np.frombuffer(file.read(stored.size), dtype="<f4").reshape(stored.shape)
        kept = stored.units
        position = {unit: index for index, unit in enumerate(kept)}
        if len(kept) and len(kept[0]) == 1 and units.shape[1] > 1:
            return values[[[position[frame,] for frame in unit] for unit in units.tolist()]]
        return values[[position[tuple(unit)] for unit in units.tolist()]]

    def feature_bytes(self) -> int:
        """Size of the feature files."""
        return sum(self._ends.values())

    def finish(self, *, keep_features: bool) -> None:
        """Mark the run as finished; remove the feature files unless they are to be kept."""
        with _disk(self.folder):
            self._write({"kind": "finished", "features": keep_features})
            os.fsync(self._file.fileno())
        if not keep_features:
            shutil.rmtree(self.folder / FEATURES, ignore_errors=True)

    # --- reading ------------------------------------------------------------------------------

    def _read(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / JOURNAL
        if not path.exists():
            return
        lines, good = _read_lines(path)
        if not lines or lines[0].get("kind") != "header":
            if path.stat().st_size:
                raise UsageError(
                    f"{path} is not a journal of aigve.",
                    hint="Choose another --output-dir, or --fresh to replace the file.",
                )
            return
        finished = lines[-1].get("kind") == "finished"
        differing = _differences(lines[0], settings)
        if differing or (finished and not lines[-1].get("features")):
            if finished or len(lines) == 1:
                return
            raise UsageError(
                f"{path} belongs to an unfinished run with other settings: {'; '.join(differing)}.",
                hint="Use the same settings to go on, --fresh to discard it, "
                "or another --output-dir.",
            )
        for line in lines[1:]:
            self._take(line, retry_failed=finished)
        self._cut_features()
        os.truncate(path, good)
        self._file = path.open("ab")
        self.resumed = True

    def _take(self, line: Mapping[str, Any], *, retry_failed: bool) -> None:
        if line["kind"] == "video":
            record = _line_to_video(line)
            if record.status == "ok" or not retry_failed:
                self.videos[record.content] = record
        elif line["kind"] == "sample":
            self.samples[line["sample"]] = SampleRecord(line["sample"], line["scores"])

    def _cut_features(self) -> None:
        sizes: dict[str, int] = {}
        for content, record in list(self.videos.items()):
            for key, stored in record.features.items():
                if key not in sizes:
                    path = self.folder / FEATURES / f"{key}.f32"
                    sizes[key] = path.stat().st_size if path.exists() else 0
                if stored.offset + stored.size > sizes[key]:
                    self.videos.pop(content, None)
        for record in self.videos.values():
            for key, stored in record.features.items():
                self._ends[key] = max(self._ends.get(key, 0), stored.offset + stored.size)
        for path in (self.folder / FEATURES).glob("*.f32"):
            os.truncate(path, self._ends.get(path.stem, 0))

    # --- writing ------------------------------------------------------------------------------

    def _start(self, settings: Mapping[str, Any]) -> None:
        shutil.rmtree(self.folder / FEATURES, ignore_errors=True)
        self._file = (self.folder / JOURNAL).open("wb")
        self._write({"kind": "header", "schema": SCHEMA, "settings": dict(settings)})

    def _append(self, key: str, units: Indices, values: Floats) -> StoredRows:
        folder = self.folder / FEATURES
        folder.mkdir(exist_ok=True)
        offset = self._ends.get(key, 0)
        path = folder / f"{key}.f32"
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(offset)
            file.seek(offset)
            file.write(np.ascontiguousarray(values, dtype="<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())
            self._ends[key] = file.tell()
        return StoredRows(offset, values.shape, _pack_units(units))

    def _write(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, allow_nan=False, separators=(",", ":"))
        self._file.write(text.encode("ascii") + b"\n")
        self._file.flush()


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a journal, and how many bytes they take."""
    lines: list[dict[str, Any]] = []
    good = 0
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw) if raw.endswith(b"\n") else None
            except ValueError:
                line = None
            if not isinstance(line, dict) or "kind" not in line:
                break
            lines.append(line)
            good += len(raw)
    return lines, good


def _differences(header: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    before = header.get("settings", {})
    names = sorted({*before, *settings})
    plain = json.loads(json.dumps(dict(settings)))
    if header.get("schema") != SCHEMA:
        return [f"journal schema {header.get('schema')}, now {SCHEMA}"]
    return [
        f"{name} was {before.get(name)}, is {plain.get(name)}"
        for name in names
        if before.get(name) != plain.get(name)
    ]


def _video_to_line(record: VideoRecord) -> dict[str, Any]:
    return {
        "kind": "video",
        "content": record.content,
        "status": record.status,
        "reason": record.reason,
        "facts": record.facts.__dict__ if record.facts else None,
        "whole": record.whole,
        "codec": record.codec,
        "padded": record.padded,
        "features": {
            key: {
                "offset": rows.offset,
                "shape": list(rows.shape),
                "units": rows.packed,
            }
            for key, rows in record.features.items()
        },
    }


def _line_to_video(line: Mapping[str, Any]) -> VideoRecord:
    return VideoRecord(
        content=line["content"],
        status=line["status"],
        reason=line["reason"],
        facts=VideoFacts(**line["facts"]) if line["facts"] else None,
        whole=line["whole"],
        codec=line["codec"],
        padded=line["padded"],
        features={
            key: StoredRows(rows["offset"], tuple(rows["shape"]), rows["units"])
            for key, rows in line["features"].items()
        },
    )


def _pack_units(units: Indices) -> Packed:
    """Regular units of consecutive frames as (first, units, frames a unit, step); others whole."""
    if len(units):
        first, length = int(units[0, 0]), units.shape[1]
        step = int(units[1, 0] - units[0, 0]) if len(units) > 1 else length
        if np.array_equal(units, _grid(first, len(units), length, step)):
            return {"grid": [first, len(units), length, step]}
    return {"units": units.tolist()}


def _unpack_units(packed: Packed) -> list[tuple[int, ...]]:
    units = _grid(*packed["grid"]).tolist() if "grid" in packed else packed["units"]
    return [tuple(unit) for unit in units]


def _grid(first: int, count: int, length: int, step: int) -> Indices:
    starts = first + step * np.arange(count, dtype=np.int64)
    return starts[:, None] + np.arange(length, dtype=np.int64)


def _lock(folder: Path) -> Any:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / f"{JOURNAL}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"Another run is writing to {folder}.",
            hint="Wait for it, or choose another --output-dir.",
        ) from None
    return lock


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise SetupError(
            f"{'The disk is full' if full else 'Cannot write'}: {error.filename or folder}"
            f" ({error.strerror}).",
            hint="What is done is kept: free some space and run the same command again."
            if full
            else "Choose an --output-dir that you may write to.",
        ) from error
