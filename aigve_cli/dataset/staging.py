"""A data set to a folder of its own: ``evaluate/`` with its videos, and annotations beside it.

A file in a subfolder is staged under a flat name, its folders joined by ``__``:
``city/a.mp4`` becomes ``city__a.mp4``.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from aigve_cli.contract import Sample
from aigve_cli.dataset.annotations import (
    path_to_relative,
    samples_to_annotations,
    write_annotations,
)
from aigve_cli.dataset.pairing import DEFAULT_SUFFIXES, Suffixes, fold
from aigve_cli.dataset.samples import Dataset
from aigve_cli.dataset.textfiles import replacing
from aigve_cli.errors import SetupError, UsageError

Kind = Literal["copied", "updated", "linked", "unchanged"]
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Action:
    """What happens, or would happen, to one file of ``evaluate/``."""

    kind: Kind
    source: Path
    target: Path


@dataclass(frozen=True)
class StagedDataset:
    """A staged data set.

    Attributes:
        dataset: The data set over the staged files.
        annotations: The path of ``evaluate.json``.
        actions: One a file, sorted by target.
        others: Names in ``evaluate/`` that are not part of the data set; they are left alone.
    """

    dataset: Dataset
    annotations: Path
    actions: tuple[Action, ...]
    others: tuple[str, ...]

    def describe(self) -> list[str]:
        """The lines about staging that a command shows to people."""
        counts = Counter(action.kind for action in self.actions)
        line = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
        lines = [f"Staged in {self.dataset.video_dir}: {line or 'nothing'}"]
        if self.others:
            lines.append(
                f"{len(self.others)} other files there are left alone, such as '{self.others[0]}'."
            )
        return lines


def stage_dataset(
    dataset: Dataset,
    destination: Path,
    *,
    link: bool = False,
    dry_run: bool = False,
    suffixes: str | Sequence[str] = DEFAULT_SUFFIXES,
) -> StagedDataset:
    """Bring ``destination/evaluate/`` and ``destination/annotations/evaluate.json`` up to date.

    Unchanged files (same size and modification time) are skipped, changed ones replaced. Each
    file is complete or absent, and links at its place are replaced, never written through. A
    source that is missing or unreadable keeps its own path, so that it fails later by itself.

    Args:
        dataset: What to stage.
        destination: The folder to stage into; created if needed.
        link: Make absolute symbolic links instead of copies.
        dry_run: Only say what would happen.
        suffixes: What marks generated files; the first is appended to a generated file that has
            the name of a reference.

    Raises:
        UsageError: Two sources would get one name, or sources lie in ``destination/evaluate``.
        SetupError: The disk is full or the destination cannot be written.
    """
    evaluate = destination.resolve() / "evaluate"
    annotations = destination.resolve() / "annotations" / "evaluate.json"
    _refuse_own_sources(dataset, evaluate)
    names = _sources_to_names(dataset, suffixes)
    actions, problems = _plan(names, evaluate, link=link)
    if not dry_run:
        _check_space(actions, evaluate)
        try:
            evaluate.mkdir(parents=True, exist_ok=True)
            annotations.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise _cannot_write(error, evaluate) from error
        for action in actions:
            problem = _perform(action, link=link)
            if problem:
                problems[action.source] = problem
    actions = [action for action in actions if action.source not in problems]
    targets = {action.source: action.target for action in actions}
    notes = [
        *dataset.notes,
        *(f"Not staged: '{source}' ({why})." for source, why in sorted(problems.items())),
    ]
    if evaluate.is_relative_to(dataset.video_dir):
        notes.append(
            f"'{evaluate}' lies in '{dataset.video_dir}': a search of that folder with "
            "--recursive would find the staged files too."
        )
    staged = replace(
        dataset,
        samples=_staged_samples(dataset.samples, targets, evaluate),
        video_dir=evaluate,
        prompt_dir=str(annotations),
        notes=tuple(notes),
        reference_dir=None,
    )
    if not dry_run:
        try:
            write_annotations(annotations, samples_to_annotations(staged.samples, evaluate))
        except OSError as error:
            raise _cannot_write(error, annotations) from error
    return StagedDataset(staged, annotations, tuple(actions), _others(evaluate, targets.values()))


def _refuse_own_sources(dataset: Dataset, evaluate: Path) -> None:
    real = evaluate.resolve()
    for source in _sources(dataset):
        # Both the file and what it links to: a link into `evaluate/` would end up in a loop.
        if source.resolve().is_relative_to(real) or _place(source).is_relative_to(real):
            raise UsageError(
                f"'{source}' lies in '{evaluate}': the data set would be staged onto itself.",
                hint="Give another folder with --stage-dataset, or compute on this one directly.",
            )


def _sources(dataset: Dataset) -> list[Path]:
    """Distinct source files: references first, so that they keep their names."""
    generated = (sample.generated for sample in dataset.generated)
    return list(dict.fromkeys([*dataset.references, *(path for path in generated if path)]))


def _place(path: Path) -> Path:
    """A path with its folders resolved, but not the file itself if it is a link."""
    return Path(os.path.realpath(path.parent)) / path.name


def _sources_to_names(dataset: Dataset, suffixes: str | Sequence[str]) -> dict[Path, str]:
    token = (Suffixes(suffixes).tokens or DEFAULT_SUFFIXES)[0]
    mark = token if token[0] in "_-" else f"_{token}"
    references = set(dataset.references)
    names: dict[Path, str] = {}
    owners: dict[str, Path] = {}
    reference_names: set[str] = set()
    for source in _sources(dataset):
        if source in references:
            name = _flat_name(source, dataset.reference_dir or dataset.video_dir)
            reference_names.add(fold(name))
        else:
            name = _flat_name(source, dataset.video_dir)
            # Case apart: on some disks `A.mp4` and `a.mp4` are one file.
            if fold(name) in reference_names:
                path = PurePosixPath(name)
                name = f"{path.stem}{mark}{path.suffix}"
        if name in owners:
            raise UsageError(
                f"'{owners[name]}' and '{source}' would both be staged as '{name}'.",
                hint="Rename one of them.",
            )
        owners[name] = source
        names[source] = name
    return names


def _flat_name(source: Path, folder: Path) -> str:
    parts = PurePosixPath(path_to_relative(source, folder)).parts
    return "__".join(part for part in parts if part != "..")


def _plan(
    names: Mapping[Path, str], evaluate: Path, *, link: bool
) -> tuple[list[Action], dict[Path, str]]:
    """What is to be done, sorted by target, and the sources that cannot be staged."""
    actions, problems = [], {}
    for source, name in sorted(names.items(), key=lambda item: item[1]):
        place, target = _place(source), evaluate / name
        if not source.is_file():
            problems[source] = "not a file" if os.path.lexists(source) else "does not exist"
            continue
        if target.is_dir() and not target.is_symlink():
            raise UsageError(f"'{target}' is a folder: a video is to be staged there.")
        if link:
            same = target.is_symlink() and os.readlink(target) == str(place)
        else:
            same = _same_copy(place, target)
        exists = os.path.lexists(target)
        kind: Kind
        if same:
            kind = "unchanged"
        elif link:
            kind = "linked"
        else:
            kind = "updated" if exists else "copied"
        actions.append(Action(kind, source, target))
    return actions, problems


def _same_copy(source: Path, target: Path) -> bool:
    try:
        there = target.lstat()
    except OSError:
        return False
    here = source.stat()
    return stat.S_ISREG(there.st_mode) and (there.st_size, there.st_mtime_ns) == (
        here.st_size,
        here.st_mtime_ns,
    )


def _check_space(actions: Iterable[Action], evaluate: Path) -> None:
    """Refuse a copy that cannot fit before it fills the disk."""
    needed = 0
    for action in actions:
        if action.kind in ("copied", "updated"):
            needed += action.source.stat().st_size
            if action.kind == "updated" and not action.target.is_symlink():
                needed -= action.target.lstat().st_size
    free = _free_bytes(evaluate)
    if free is not None and needed > free:
        raise _disk_full(evaluate, f"{needed} bytes are needed", free)


def _perform(action: Action, *, link: bool) -> str | None:
    """Do it; a reason if the source cannot be read."""
    if action.kind == "unchanged":
        return None
    try:
        with action.source.open("rb"):
            pass
    except OSError as error:
        return error.strerror or str(error)
    try:
        with replacing(action.target) as temporary:
            if link:
                temporary.symlink_to(_place(action.source))
            else:
                shutil.copyfile(action.source, temporary)
                # Some network disks refuse modes; the file is then copied anew next time.
                with suppress(PermissionError):
                    shutil.copystat(action.source, temporary)
    except OSError as error:
        if error.errno == errno.EIO:
            return error.strerror
        raise _cannot_write(error, action.target, action.source) from error
    return None


def _cannot_write(error: OSError, target: Path, source: Path | None = None) -> SetupError:
    if error.errno in _DISK_FULL:
        size = f"{source.stat().st_size} bytes for " if source else ""
        return _disk_full(
            target.parent, f"{size}'{target.name}' did not fit", _free_bytes(target.parent)
        )
    return SetupError(
        f"Cannot write '{target}': {error.strerror or error}.",
        hint="Give another folder with --stage-dataset.",
    )


def _disk_full(folder: Path, need: str, free: int | None) -> SetupError:
    have = "" if free is None else f", {free} bytes are free"
    return SetupError(
        f"No room in '{folder}': {need}{have}.",
        hint="Free some space, give another --stage-dataset, or use --link instead of copies.",
    )


def _free_bytes(folder: Path) -> int | None:
    existing = next((place for place in (folder, *folder.parents) if place.exists()), None)
    try:
        return None if existing is None else shutil.disk_usage(existing).free
    except OSError:
        return None


def _staged_samples(
    samples: Sequence[Sample], targets: Mapping[Path, Path], evaluate: Path
) -> tuple[Sample, ...]:
    staged: list[Sample] = []
    uses: Counter[str] = Counter()
    for sample in samples:
        generated = sample.generated and targets.get(sample.generated, sample.generated)
        reference = sample.reference and targets.get(sample.reference, sample.reference)
        named = generated or reference
        name = path_to_relative(named, evaluate) if named else sample.name
        uses[name] += 1
        if uses[name] > 1:
            name = f"{name}#{uses[name]}"
        staged.append(replace(sample, name=name, generated=generated, reference=reference))
    return tuple(sorted(staged, key=lambda sample: sample.name))


def _others(evaluate: Path, targets: Iterable[Path]) -> tuple[str, ...]:
    if not evaluate.is_dir():
        return ()
    ours = {target.name for target in targets}
    return tuple(sorted(name for name in os.listdir(evaluate) if name not in ours))
