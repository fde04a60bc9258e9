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
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
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
Packed = tuple[Any, ...]
_OURS = re.compile(r".+-[0-9a-f]{16}\.f32")


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
    features: Mapping[str, StoredRows] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    """By feature key, why a network could not take this video."""


@dataclass(frozen=True)
class SampleRecord:
    """The scores of one sample, by metric; each with the key of all it depends on."""

    sample: str
    scores: Mapping[str, Mapping[str, Any]]


class Journal:
    """The journal and the feature files of one output folder, locked for one run.

    Args:
        folder: The output folder; made if it is not there.
        settings: What must be the same for a run to go on: device, precision, versions.
        fresh: Replace what an earlier run left.

    Raises:
        UsageError: Another run holds the folder, or an unfinished run had other settings.
        SetupError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        fresh: bool,
    ) -> None:
        self.folder = folder
        self.videos: dict[str, VideoRecord] = {}
        self.resumed = False
        self.replaced = ""
        """Why features of an earlier run were not used, in words."""
        self.choices: dict[str, str] = {}
        """The metric that the run which goes on computes for each requested name."""
        self._settings = settings
        self._samples: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._files = contextlib.ExitStack()
        with _disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(folder)
            try:
                if not fresh:
                    self._read(settings)
            except BaseException:
                self._lock.release()
                raise

    def begin(self, about: Mapping[str, Any]) -> None:
        """Start to write: until here, nothing that an earlier run left is touched.

        Args:
            about: What the header says beside the settings: ``metrics``, the metric that is
                computed for each requested name, and facts for people.
        """
        path = self.folder / JOURNAL
        with _disk(self.folder):
            if not self.resumed:
                self._remove_features()
            self._file = self._files.enter_context(path.open("ab" if self.resumed else "wb"))
            kind = {"kind": "resumed"} if self.resumed else {"kind": "header", "schema": SCHEMA}
            self._write({**kind, "settings": dict(self._settings), "about": dict(about)})
            self._reader = self._files.enter_context(path.open("rb"))

    def close(self) -> None:
        """Close the files and let other runs in."""
        self._files.close()
        self._lock.release()

    def has_rows(self, record: VideoRecord, wanted: Mapping[str, Indices]) -> bool:
        """Whether all wanted units, by feature key, are stored for a video, or cannot be had."""
        return all(
            key in record.refused
            or (
                key in record.features
                and set(map(tuple, units.tolist())) <= set(record.features[key].units)
            )
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
            refused = {**(earlier.refused if earlier else {}), **record.refused}
            record = replace(record, features=features, refused=refused)
            self._write(_video_to_line(record))
        self.videos[record.content] = record
        return record

    def sample(self, name: str) -> SampleRecord | None:
        """A sample's latest scores, read from the journal: only their place is kept in memory."""
        if name not in self._samples:
            return None
        self._reader.seek(self._samples[name])
        line = json.loads(self._reader.readline())
        return SampleRecord(line["sample"], line["scores"])

    def add_sample(self, record: SampleRecord) -> None:
        """Store a sample's scores."""
        with _disk(self.folder):
            self._samples[record.sample] = self._file.tell()
            self._write({"kind": "sample", "sample": record.sample, "scores": dict(record.scores)})

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
            self._remove_features()

    # --- reading ------------------------------------------------------------------------------

    def _read(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / JOURNAL
        if not path.exists():
            return
        header: Mapping[str, Any] | None = None
        last: Mapping[str, Any] = {}
        good = 0
        for offset, end, line in _whole_lines(path):
            header = header or line
            last, good = line, end
            self._take(line, offset)
        if header is None or header["kind"] != "header":
            if path.stat().st_size:
                raise UsageError(
                    f"{path} is not a journal of aigve.",
                    hint="Choose another --output-dir, or --fresh to replace the file.",
                )
            return
        finished = last["kind"] == "finished"
        if last is header:
            self.choices.clear()  # nothing was done by them yet
        differing = _differences(header, settings)
        if differing and not finished and last is not header:
            raise UsageError(
                f"{path} belongs to an unfinished run with other settings: {'; '.join(differing)}.",
                hint="Use the same settings to go on, --fresh to discard it, "
                "or another --output-dir.",
            )
        if differing or (finished and not last["features"]):
            self.replaced = "; ".join(differing) if finished and last["features"] else ""
            self.videos.clear()
            self._samples.clear()
            self.choices.clear()
            return
        self._cut_features()
        os.truncate(path, good)
        self.resumed = True

    def _take(self, line: Mapping[str, Any], offset: int) -> None:
        if line["kind"] == "video":
            record = _line_to_video(line)
            self.videos[record.content] = record
        elif line["kind"] == "sample":
            self._samples[line["sample"]] = offset
        elif line["kind"] in ("header", "resumed"):
            self.choices |= line.get("about", {}).get("metrics", {})
        elif line["kind"] == "finished":
            # A run that has ended decides nothing for the next.
            self.choices.clear()
            # What failed in it is tried again.
            self.videos = {c: video for c, video in self.videos.items() if video.status == "ok"}

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
        for path in self._feature_files():
            os.truncate(path, self._ends.get(path.stem, 0))

    def _feature_files(self) -> list[Path]:
        """Our own files; a folder called ``features`` may hold the user's."""
        found = (self.folder / FEATURES).glob("*.f32")
        return [path for path in found if _OURS.fullmatch(path.name)]

    def _remove_features(self) -> None:
        for path in self._feature_files():
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (self.folder / FEATURES).rmdir()  # unless something else is in it

    # --- writing ------------------------------------------------------------------------------

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


def _whole_lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """First byte, end and content of each line, up to one that was not written to its end."""
    start = 0
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw) if raw.endswith(b"\n") else None
            except ValueError:
                line = None
            if not isinstance(line, dict) or "kind" not in line:
                return
            yield start, start + len(raw), line
            start += len(raw)


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
        "facts": asdict(record.facts) if record.facts else None,
        "whole": record.whole,
        "codec": record.codec,
        "refused": dict(record.refused),
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
        refused=line.get("refused", {}),
        features={
            sys.intern(key): StoredRows(
                rows["offset"], tuple(rows["shape"]), _freeze(rows["units"])
            )
            for key, rows in line["features"].items()
        },
    )


def _pack_units(units: Indices) -> Packed:
    """Regular units as ("grid", first, units, frames a unit, step, stride); others whole."""
    if len(units):
        first, length = int(units[0, 0]), units.shape[1]
        stride = int(units[0, 1] - first) if length > 1 else 1
        step = int(units[1, 0] - first) if len(units) > 1 else length
        if np.array_equal(units, _grid(first, len(units), length, step, stride)):
            return ("grid", first, len(units), length, step, stride)
    return ("units", *map(tuple, units.tolist()))


def _unpack_units(packed: Packed) -> list[tuple[int, ...]]:
    kind, *values = packed
    units = _grid(*values).tolist() if kind == "grid" else values
    return [tuple(unit) for unit in units]


def _grid(first: int, count: int, length: int, step: int, stride: int) -> Indices:
    starts = first + step * np.arange(count, dtype=np.int64)
    return starts[:, None] + stride * np.arange(length, dtype=np.int64)


def _freeze(packed: list[Any]) -> Packed:
    return tuple(tuple(value) if isinstance(value, list) else value for value in packed)


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
