"""Annotation files in and out: AIGVE JSON as it occurs in the wild, and AIGVE-Bench's CSV."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aigve_cli.contract import Sample
from aigve_cli.dataset.textfiles import (
    cell_to_value,
    read_text,
    text_to_json,
    text_to_rows,
    write_json,
)
from aigve_cli.errors import UsageError

# The first is what files have; the others are what readers in the wild expect.
_LIST_KEYS = ("data_list", "datset_list", "dataset_list")
_PROMPT, _GENERATED, _REFERENCE = "prompt_gt", "video_path_pd", "video_path_gt"
_KIND = "Annotation file"


@dataclass(frozen=True)
class Entry:
    """One video of an annotation file; paths as written, relative to ``video_dir`` or absolute."""

    generated: str
    reference: str | None = None
    prompt: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotations:
    """An annotation file's content.

    Attributes:
        entries: The videos, in the file's order.
        references: Unpaired members of the reference set.
        source: ``metainfo.source``, often the folder that the file was made from.
        problems: Entries that name no video, in words.
    """

    entries: tuple[Entry, ...]
    references: tuple[str, ...] = ()
    source: str | None = None
    problems: tuple[str, ...] = ()


def read_annotations(path: Path) -> Annotations:
    """Read AIGVE JSON or CSV.

    An absent or empty prompt or reference is None; fields that aigve does not know are kept.
    ``metainfo.length`` is not read: it is wrong in published files.

    Raises:
        UsageError: The file is missing, malformed, or has no list of videos.
    """
    text = read_text(path, _KIND)
    if path.suffix.lower() in (".csv", ".tsv"):
        return _rows_to_annotations(text, path)
    document = text_to_json(text, path, _KIND)
    records = document_to_records(document)
    if records is None:
        raise UsageError(
            f"{_KIND} '{path}' has no list 'data_list'.",
            hint=f'Expected {{"data_list": [{{"{_GENERATED}": "a.mp4", "{_PROMPT}": "…"}}]}}.',
        )
    entries, problems = [], []
    for number, record in enumerate(records, start=1):
        entry = _record_to_entry(record) if isinstance(record, dict) else None
        if entry is None:
            problems.append(f"entry {number} has no '{_GENERATED}'")
        else:
            entries.append(entry)
    references = []
    listed = document.get("reference_list")
    for number, reference in enumerate(listed if isinstance(listed, list) else [], start=1):
        if isinstance(reference, str) and reference.strip():
            references.append(reference)
        else:
            problems.append(f"reference_list: entry {number} is not a path")
    metainfo = document.get("metainfo")
    source = metainfo.get("source") if isinstance(metainfo, dict) else None
    return Annotations(
        tuple(entries),
        tuple(references),
        source if isinstance(source, str) else None,
        tuple(problems),
    )


def document_to_records(document: Any) -> list[Any] | None:
    """The list of videos of an AIGVE document, under any of its names; None if there is none."""
    if not isinstance(document, dict):
        return None
    lists = [document[key] for key in _LIST_KEYS if isinstance(document.get(key), list)]
    return lists[0] if lists else None


def annotations_to_document(annotations: Annotations) -> dict[str, Any]:
    """The JSON document of an annotation file.

    ``prompt_gt`` is always there, empty if unknown: other readers fail without the key.
    """
    records = []
    for entry in annotations.entries:
        record = {_PROMPT: entry.prompt or "", _GENERATED: entry.generated}
        if entry.reference is not None:
            record[_REFERENCE] = entry.reference
        records.append({**record, **entry.extra})
    document: dict[str, Any] = {
        "metainfo": {"source": annotations.source or "", "length": len(records)},
        "data_list": records,
    }
    if annotations.references:
        document["reference_list"] = list(annotations.references)
    return document


def write_annotations(path: Path, annotations: Annotations) -> None:
    """Write an annotation file whole or not at all."""
    write_json(path, annotations_to_document(annotations))


def samples_to_annotations(samples: Iterable[Sample], video_dir: Path) -> Annotations:
    """Samples as annotation entries, with posix paths relative to ``video_dir``."""
    entries, references = [], []
    for sample in samples:
        reference = (
            None if sample.reference is None else path_to_relative(sample.reference, video_dir)
        )
        if sample.generated is not None:
            generated = path_to_relative(sample.generated, video_dir)
            entries.append(Entry(generated, reference, sample.prompt, sample.extra))
        elif reference is not None:
            references.append(reference)
    return Annotations(tuple(entries), tuple(references), str(video_dir))


def path_to_relative(path: Path, folder: Path) -> str:
    """A file's posix path relative to a folder, ``../`` where it lies outside."""
    if path.is_relative_to(folder):
        return posixpath.normpath(path.relative_to(folder).as_posix())
    # Real folders: `..` after a linked folder leads to the parent of the link's target.
    real = os.path.join(os.path.realpath(path.parent), path.name)
    return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()


def _rows_to_annotations(text: str, path: Path) -> Annotations:
    entries, problems = [], []
    rows = text_to_rows(text, path, _KIND)
    if rows and not any(_GENERATED in row.cells for row in rows):
        raise UsageError(f"{_KIND} '{path}' has no column '{_GENERATED}'.")
    for row in rows:
        entry = _record_to_entry(
            {
                name: cell if name in (_PROMPT, _GENERATED, _REFERENCE) else cell_to_value(cell)
                for name, cell in row.cells.items()
            }
        )
        if entry is None:
            problems.append(f"line {row.line} has no '{_GENERATED}'")
        else:
            entries.append(entry)
    return Annotations(tuple(entries), problems=tuple(problems))


def _record_to_entry(record: Mapping[str, Any]) -> Entry | None:
    generated, reference = record.get(_GENERATED), record.get(_REFERENCE)
    if not (isinstance(generated, str) and generated.strip()):
        return None
    return Entry(
        generated,
        reference if isinstance(reference, str) and reference.strip() else None,
        value_to_prompt(record.get(_PROMPT)),
        {
            key: value
            for key, value in record.items()
            if key not in (_PROMPT, _GENERATED, _REFERENCE)
        },
    )


def value_to_prompt(value: Any) -> str | None:
    """A prompt without surrounding space; None where there is none."""
    return None if value is None else str(value).strip() or None
