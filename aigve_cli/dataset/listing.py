"""A folder to the videos in it, and what was left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aigve_cli.dataset.pairing import EXTENSIONS, is_video
from aigve_cli.errors import UsageError

# Videos to a person, but outside the list: said, so that nobody wonders where they went.
_OTHER_VIDEOS = (".3gp", ".flv", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".wmv", ".y4m", ".yuv")


@dataclass(frozen=True)
class LeftOut:
    """A file that takes no part, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Listing:
    """Sorted relative paths (posix) of a folder's videos, and what was left out."""

    videos: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


Opens = Callable[[Path], None]
"""Refuses a path that may not be looked at, by an error."""


def list_videos(
    folder: Path,
    *,
    recursive: bool,
    option: str,
    excluding: Path | None = None,
    opens: Opens | None = None,
) -> Listing:
    """The videos of a folder.

    A file that cannot be read stays: it fails later as that video's own reason.

    Args:
        folder: Where to look.
        recursive: Look in subfolders too; linked ones are visited once.
        option: The option that named the folder, for messages.
        excluding: A subfolder that is skipped: the other role's.
        opens: Refuses folders and links before they are followed.

    Raises:
        UsageError: The folder is missing, is no folder, or holds no video.
    """
    if not folder.is_dir():
        state = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UsageError(
            f"The folder '{folder}' {state}.", hint=f"Check the path given with {option}."
        )
    resolved = folder.resolve()
    videos: list[str] = []
    left_out: list[LeftOut] = []
    for name, problem in _walk(folder, recursive=recursive, excluding=excluding, opens=opens):
        if problem is None:
            videos.append(name)
        else:
            left_out.append(LeftOut(resolved / name, problem))
    if not videos:
        deeper = not recursive and any(
            problem is None
            for _, problem in _walk(folder, recursive=True, excluding=excluding, opens=opens)
        )
        raise _no_videos(folder, left_out, deeper=deeper, option=option)
    return Listing(tuple(sorted(videos)), tuple(sorted(left_out, key=lambda item: item.path)))


def _no_videos(folder: Path, left_out: list[LeftOut], *, deeper: bool, option: str) -> UsageError:
    message = f"No videos in '{folder}': looked for {' '.join(EXTENSIONS)}."
    if left_out:
        first = left_out[0]
        message += f" Left out: {len(left_out)}, such as '{first.path.name}' ({first.reason})."
    hint = "Its subfolders hold videos: add --recursive." if deeper else f"Check {option}."
    return UsageError(message, hint=hint)


def _walk(
    folder: Path, *, recursive: bool, excluding: Path | None, opens: Opens | None
) -> Iterator[tuple[str, str | None]]:
    """Each video's relative path with None, or with the reason why it is left out."""
    visited = {} if excluding is None else {os.path.realpath(excluding): ""}
    visited[os.path.realpath(folder)] = "."
    pending = [""]
    while pending:
        parent = pending.pop()
        try:
            entries = sorted(os.scandir(folder / parent), key=lambda entry: entry.name)
        except OSError as error:
            yield parent or ".", f"a folder that cannot be read ({error.strerror})"
            continue
        subfolders = []
        for entry in entries:
            name = f"{parent}/{entry.name}" if parent else entry.name
            if opens is not None and _is_followed(entry, recursive):
                opens(Path(entry.path))
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if not (is_folder and recursive):
                if is_video(entry.name) or entry.name.lower().endswith(_OTHER_VIDEOS):
                    yield name, _problem(entry)
            elif not entry.name.startswith("."):
                real = os.path.realpath(entry.path)
                if real not in visited:
                    visited[real] = name
                    subfolders.append(name)
                elif visited[real]:
                    yield name, f"the same folder as '{visited[real]}'"
        pending.extend(reversed(subfolders))


def _is_followed(entry: os.DirEntry[str], recursive: bool) -> bool:
    """Whether more of it than its name would be looked at."""
    if entry.is_dir(follow_symlinks=False):
        return recursive and not entry.name.startswith(".")
    return entry.is_symlink() and (recursive or is_video(entry.name))


def _problem(entry: os.DirEntry[str]) -> str | None:
    if entry.name.startswith("._"):
        return "macOS metadata (AppleDouble), not a video"
    if entry.name.startswith("."):
        return "hidden"
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    try:
        if entry.is_dir():
            return "a folder, not a file"
        if not entry.is_file():
            # Opening a pipe would wait for ever.
            return "a broken link" if entry.is_symlink() else "not a regular file"
    except OSError as error:
        return f"a broken link ({error.strerror})"
    if not is_video(entry.name):
        return f"its extension is not one of {' '.join(EXTENSIONS)}"
    return None
