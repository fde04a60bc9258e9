"""Uploaded files to a folder that the command line can read."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import UploadFile

from aigve_cli.dataset.pairing import EXTENSIONS, is_video
from aigve_cli.errors import UsageError

LONGEST_NAME = 200
"""Bytes of a file's name: most disks take 255, and files beside it are called like it."""
PROMPT_EXTENSIONS = (".csv", ".json", ".jsonl", ".txt")
_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f]")


def uploads_to_fields(
    folder: Path,
    *,
    videos: Sequence[UploadFile],
    generated: Sequence[UploadFile],
    references: Sequence[UploadFile],
    prompts: UploadFile | None,
) -> dict[str, Any]:
    """Write the files below a folder, and give the fields that name them.

    Files keep their callers' names, since pairs, prompts and results go by them; the folder is new
    and its own, and a name that could lead out of it is refused.

    Raises:
        UsageError: A name that is refused, two files of one name, or no video.
    """
    if videos and (generated or references):
        raise UsageError(
            "videos and generated or references exclude each other.",
            hint="Roles are told by names, or by fields.",
            option="videos",
        )
    if not (videos or generated):
        raise UsageError("There is no video.", option="videos" if not references else "generated")
    fields: dict[str, Any] = {"input_dir": str(folder / "videos")}
    _save(videos or generated, folder / "videos", "videos" if videos else "generated")
    if references:
        _save(references, folder / "references", "references")
        fields["reference_dir"] = str(folder / "references")
    elif generated:
        # All of them are, whatever their names end in.
        fields["annotations"] = str(_annotations(generated, folder))
        fields["video_dir"] = fields.pop("input_dir")
    if prompts is not None:
        name = _checked_name(prompts, "prompts")
        if not name.lower().endswith(PROMPT_EXTENSIONS):
            endings = ", ".join(PROMPT_EXTENSIONS)
            raise UsageError(f"prompts: '{name}' is none of {endings}.", option="prompts")
        path = folder / f"prompts{Path(name).suffix.lower()}"
        _write(prompts, path)
        fields["prompts"] = str(path)
    return fields


def _save(files: Sequence[UploadFile], folder: Path, field: str) -> None:
    folder.mkdir(parents=True, mode=0o700)
    seen: dict[str, str] = {}
    for file in files:
        name = _checked_name(file, field)
        if not is_video(name):
            endings = " ".join(EXTENSIONS)
            raise UsageError(f"{field}: '{name}' is no video: expected {endings}.", option=field)
        # On some disks A.mp4 and a.mp4 are one file.
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            raise UsageError(f"{field}: '{name}' is there twice.", option=field)
        seen[key] = name
        _write(file, folder / name)


def _checked_name(file: UploadFile, field: str) -> str:
    name = file.filename or ""
    if (
        not name
        or name.startswith(".")
        or _NOT_IN_NAMES.search(name)
        or len(name.encode("utf-8", "replace")) > LONGEST_NAME
        or not name.isprintable()
    ):
        raise UsageError(
            f"{field}: {name[:LONGEST_NAME]!r} is no name for a file here.",
            hint=f"Plain names without folders, of {LONGEST_NAME} bytes at most.",
            option=field,
        )
    return name


def _write(file: UploadFile, path: Path) -> None:
    # What it was received in is given back at once: its job may take hours.
    with path.open("xb") as target, file.file as source:
        shutil.copyfileobj(source, target, 1 << 20)


def _annotations(files: Sequence[UploadFile], folder: Path) -> Path:
    path = folder / "annotations.json"
    entries = [{"video_path_pd": file.filename} for file in files]
    path.write_text(json.dumps({"data_list": entries}), encoding="utf-8")
    return path
