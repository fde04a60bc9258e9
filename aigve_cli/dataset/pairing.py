"""File names to roles: which video is generated, and which reference belongs to it. No I/O."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

EXTENSIONS = ("mp4", "mov", "mkv", "avi", "webm", "m4v", "gif")
"""What counts as a video, in the order in which a reference is preferred."""
DEFAULT_SUFFIXES = ("synthetic", "generated")

# A closed list of words: with any word, `crowd_generated_scene12` would lose its role as reference.
_INDEX = r"(?:[_-](?:(?:seed|sample|run|take|v)[_-]?)?[0-9]+)?"


class Pair(NamedTuple):
    """A generated video and its reference, as relative paths."""

    generated: str
    reference: str | None


@dataclass(frozen=True)
class Pairing:
    """The role of every file.

    Attributes:
        pairs: Every generated file, sorted, with its reference if it has one.
        references: Unpaired members of the reference set, sorted.
        left_out: Files without a role, and why.
        notes: Choices among several candidates.
    """

    pairs: tuple[Pair, ...]
    references: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Suffixes:
    """The tokens that mark a generated file: ``x`` stands for ``_x`` and ``-x``, in any case.

    A token that starts with ``_`` or ``-`` is taken as it is. There is no bare token: else
    ``photosynthetic`` would be a generated ``photo``.
    """

    def __init__(self, tokens: str | Iterable[str] = DEFAULT_SUFFIXES) -> None:
        if isinstance(tokens, str):
            tokens = tokens.split(",")
        self.tokens = tuple(token for token in map(str.strip, tokens) if token.strip("_-"))
        marks = [
            re.escape(token) if token[0] in "_-" else "[_-]" + re.escape(token)
            for token in self.tokens
        ]
        # No token: a pattern that never matches.
        self._pattern = re.compile(
            f"(?:{'|'.join(marks)}){_INDEX}\\Z" if marks else "(?!)", re.IGNORECASE
        )

    def base(self, stem: str) -> str | None:
        """``stem`` without its suffixes and their indices; None if it has none.

        All are taken off, so that ``a_synthetic_generated`` belongs to ``a`` and never to the
        generated ``a_synthetic``.
        """
        base = stem
        while found := self._pattern.search(base):
            base = base[: found.start()]
        return None if base == stem else base


def is_video(name: str) -> bool:
    """True for a name with one of the listed extensions."""
    return _extension(PurePosixPath(name)) in EXTENSIONS


def without_extension(path: str) -> str:
    """A path without a listed video extension; other dots (``v1.5 sunset``) stay."""
    return path.rpartition(".")[0] if is_video(path) else path


def path_to_base(path: str, suffixes: Suffixes) -> str | None:
    """A path without extension and suffixes, folder kept; None if its stem has no suffix."""
    folder, slash, name = path.rpartition("/")
    base = suffixes.base(without_extension(name))
    return None if base is None else folder + slash + base


def fold(text: str) -> str:
    """A form that is equal for names that differ in case or in Unicode composition."""
    return unicodedata.normalize("NFC", text).casefold()


def files_to_pairs(files: Iterable[str], suffixes: Suffixes) -> Pairing:
    """Roles in a mixed folder.

    A file whose stem ends in a suffix is generated; its reference is the file of the same base in
    the same subfolder. Without any suffix, every file is generated.

    Args:
        files: Relative paths of videos, in any order.
        suffixes: What marks a generated file.
    """
    bases: dict[str, str] = {}
    plain: list[str] = []
    for file in sorted(set(files)):
        base = path_to_base(file, suffixes)
        if base is None:
            plain.append(file)
        else:
            bases[file] = base
    if not bases:
        return Pairing(tuple(Pair(file, None) for file in plain))

    candidates = defaultdict(list)
    for file in plain:
        candidates[_same_folder_key(without_extension(file))].append(file)
    pairs = tuple(
        Pair(file, _preferred(candidates.get(_same_folder_key(base), ()), file, base))
        for file, base in bases.items()
    )
    chosen = {pair.reference: pair.generated for pair in reversed(pairs)}
    left_out = {}
    for file in plain:
        if file in chosen:
            continue
        rivals = candidates[_same_folder_key(without_extension(file))]
        rival = next((other for other in rivals if other in chosen), None)
        left_out[file] = (
            f"'{rival}' is taken as the reference of '{chosen[rival]}'"
            if rival
            else "a reference to which no generated video belongs"
        )
    return Pairing(pairs, left_out=left_out)


def folders_to_pairs(
    generated: Iterable[str], references: Iterable[str], suffixes: Suffixes
) -> Pairing:
    """Roles with a folder of references: equal stems pair, subfolders included.

    Args:
        generated: Relative paths of the generated videos, in any order.
        references: Relative paths in the folder of references, in any order.
        suffixes: Only to point out files that would pair in a mixed folder.
    """
    candidates = defaultdict(list)
    for file in sorted(set(references)):
        candidates[fold(without_extension(file))].append(file)
    pairs = tuple(
        Pair(file, _preferred(candidates.get(fold(stem), ()), file, stem))
        for file in sorted(set(generated))
        for stem in [without_extension(file)]
    )
    paired = {pair.reference for pair in pairs}
    unpaired = sorted(file for files in candidates.values() for file in files if file not in paired)
    notes = []
    rivals = [files for files in candidates.values() if len(files) > 1 and paired & set(files)]
    if rivals:
        first = next(file for file in rivals[0] if file in paired)
        notes.append(
            f"{len(rivals)} stems have several references, such as {_listed(rivals[0])}: "
            f"one is paired ('{first}'), all are in the reference set."
        )
    almost = [
        pair.generated
        for pair in pairs
        if pair.reference is None
        and (base := path_to_base(pair.generated, suffixes)) is not None
        and fold(base) in candidates
    ]
    if almost:
        notes.append(
            f"{len(almost)} videos, such as '{almost[0]}', differ from a reference only by a "
            "suffix: with a folder of references only equal stems pair."
        )
    return Pairing(pairs, tuple(unpaired), notes=tuple(notes))


def _same_folder_key(stem: str) -> str:
    folder, _, name = stem.rpartition("/")
    return f"{folder}/{fold(name)}"


def _preferred(candidates: Sequence[str], generated: str, stem: str) -> str | None:
    """The reference: exact case first, then the same extension, then the listed order."""

    def rank(file: str) -> tuple[bool, bool, int, bool, str]:
        extension = _extension(PurePosixPath(file))
        return (
            without_extension(file) != stem,
            extension != _extension(PurePosixPath(generated)),
            EXTENSIONS.index(extension),
            file != generated,
            file,
        )

    return min(candidates, key=rank, default=None)


def _extension(path: PurePosixPath) -> str:
    return path.suffix[1:].lower()


def _listed(files: Sequence[str]) -> str:
    return ", ".join(f"'{file}'" for file in files)
