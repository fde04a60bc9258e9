"""Questions about prompts, written by a judge before any video is looked at."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from aigve_cli.dataset.annotations import read_annotations
from aigve_cli.dataset.prompts import (
    broken_prompts_note,
    is_text,
    read_prompt_texts as read_file_prompts,
)
from aigve_cli.engine.judging import open_run_judges
from aigve_cli.engine.plan import read_options
from aigve_cli.engine.producers import resolve_device
from aigve_cli.engine.setup import local_judges
from aigve_cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, SetupError, UsageError
from aigve_cli.judges.questions import (
    Questions,
    questions_task,
    read_questions,
    write_questions,
)
from aigve_cli.judges.reading import without_surrogates
from aigve_cli.judges.settings import Judges, JudgeSettings
from aigve_cli.judges.task import JudgeTask, Record
from aigve_cli.output import Output, Progress
from aigve_cli.registry import Settings, registry
from aigve_cli.weights import locate_weights, network_card, weights_policy

_MOST_WARNINGS = 10
_NAME_ANOTHER = "Give another name with --output."


class Prompts(NamedTuple):
    """What there are to be questions about."""

    texts: list[str]
    """Distinct, in the order of their source."""
    notes: tuple[str, ...]
    """Sentences on those that are left out."""


@dataclass
class QuestionSets:
    """What a judge has written."""

    sets: list[Record] = field(default_factory=list)
    """In the order of the prompts."""
    problems: dict[str, str] = field(default_factory=dict)
    """By prompt, why there are no questions about it."""


def read_prompt_texts(
    *, annotations: Path | None, prompts: Path | None, prompt: str | None
) -> Prompts:
    """The distinct prompts of a file, in its order; the videos need not be here, nor be named.

    Raises:
        UsageError: Not exactly one source, a file that cannot be read, or one without prompts.
    """
    given = [source for source in (annotations, prompts, prompt) if source is not None]
    if len(given) != 1:
        raise UsageError("Give one of --annotations, --prompts and --prompt.")
    texts: Iterable[str | None]
    if annotations is not None:
        texts = [entry.prompt for entry in read_annotations(annotations).entries]
    elif prompts is not None:
        texts = read_file_prompts(prompts)
    else:
        texts = [prompt]
    found = list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))
    broken = [text for text in found if not is_text(text)]
    notes: tuple[str, ...] = ()
    if broken:
        notes = (broken_prompts_note(len(broken), f"'{_cut(without_surrogates(broken[0]))}'"),)
    whole = [text for text in found if is_text(text)]
    if not whole:
        source = without_surrogates(str(given[0]))
        raise UsageError(" ".join((f"'{source}' has no prompt.", *notes)))
    return Prompts(whole, notes)


def _write_sets(
    task: JudgeTask, prompts: Sequence[str], judges: Judges, progress: Progress
) -> QuestionSets:
    """Ask the text judge for the questions about each prompt, several at the same time.

    Raises:
        SetupError: The judge cannot be reached, or answers cannot be kept.
    """
    judges.desk.on_progress = lambda requests, cached: progress.advance(
        requests=requests, cached=cached
    )
    talks = [(prompt, judges.desk.start(task, prompt, ())) for prompt in prompts]
    found = QuestionSets()
    for prompt, talk in talks:
        record = talk.result()
        if problem := _problem_of(record):
            found.problems[prompt] = problem
        else:
            found.sets.append(record)
        progress.advance(videos=1)
    return found


def _problem_of(record: Record) -> str:
    """Why a record is not for a file; empty where it is."""
    if problem := record.get("problem"):
        return str(problem)
    # What a file has is not asked for again: these questions would be gone for good.
    lost = [entry for entry in record.get("dropped", ()) if "unanswered" in entry]
    were = "was" if len(lost) == 1 else "were"
    if lost:
        return f"{len(lost)} of its questions {were} {lost[0]['why']}"
    dropped = record.get("dropped", ())
    if not record["questions"] and dropped:
        return f"none of {_count(len(dropped), 'question')} is left, the first: {dropped[0]['why']}"
    return ""


def write_questions_file(
    path: Path,
    metric: str,
    prompts: Sequence[str],
    *,
    judges: JudgeSettings,
    options: Settings,
    device: str = "auto",
    weights_dir: Path | None = None,
    offline: bool = False,
    models: Mapping[str, Path] | None = None,
    dry_run: bool = False,
    output: Output,
) -> int:
    """Let a judge write the questions of ``tifa`` or ``dsg`` about prompts, into a file.

    What the file has already is kept, since people mend questions by hand.

    Args:
        path: The file; replaced whole, or left as it is.
        metric: ``tifa`` or ``dsg``.
        prompts: Distinct prompts.
        judges: Of these the one for texts is asked.
        options: Values by metric and option.
        device: Where a local judge runs.
        weights_dir: Folder of published checkpoints.
        offline: Never use the network.
        models: Checkpoint files or folders by network.
        dry_run: Only say what would be asked.
        output: Where words for people go.

    Returns:
        The exit code: 0, 3 if some prompts have no questions, 1 if none has.

    Raises:
        UsageError: The file is another one or none, or another judge wrote what it has.
        SetupError: The judge cannot be reached, or the file cannot be written.
    """
    # First of all: a judge that has answered wants its money.
    _check_target(path)
    kept = _read_kept(path, metric)
    asked_for = len(prompts)
    prompts = [prompt for prompt in prompts if kept is None or kept.of(prompt) is None]
    if kept is not None:
        output.note(_kept_note(path, asked_for - len(prompts), asked_for))
        if not prompts:
            return EXIT_DONE
    card = registry().metrics[metric].card
    given = {name: values for name, values in options.items() if name == metric}
    task = questions_task(metric, read_options(metric, card.options, given.get(metric, {})))
    judges = replace(judges, shown=None)
    expected = [task.expected(prompt) for prompt in prompts]
    requests = sum(each.text_requests for each in expected)
    tokens = sum(each.text_tokens for each in expected)
    output.note(
        f"{_count(len(prompts), 'prompt')}, about {_count(requests, 'request')} to "
        f"{judges.text}, about {tokens:,} tokens; what was answered before is in {judges.cache} "
        "and not asked again."
    )
    if dry_run:
        return EXIT_DONE
    policy = weights_policy(
        weights_dir=weights_dir, offline=offline, custom=models, announce=output.note
    )
    located = {
        producer.checkpoint: locate_weights(
            network_card(producer.name), policy, tag=producer.weights or None
        )
        for producer in local_judges(judges).values()
    }
    device = resolve_device(device) if located else "cpu"
    with (
        open_run_judges(judges, located, device, {}) as opened,
        output.progress("questions", total=len(prompts), of="prompts") as progress,
    ):
        if kept is not None and (kept.judge, kept.prompt_version) != (
            opened.text,
            task.prompt_version,
        ):
            raise UsageError(
                f"{path} has questions of another judge, or in other words: "
                f"{kept.judge.get('model')}, {kept.prompt_version}.",
                hint=_NAME_ANOTHER,
            )
        found = _write_sets(task, prompts, opened, progress)
        counts = opened.desk.counts
    for line in _problem_lines(found.problems):
        output.warn(line)
    if found.sets:
        sets = [*(each.to_json() for each in kept.sets), *found.sets] if kept else found.sets
        write_questions(path, metric, sets, judge=opened.text, prompt_version=task.prompt_version)
        known = _count(counts.cached, "answer")
        output.note(f"{_count(counts.requests, 'request')}, {known} known.")
    if not found.sets and kept is None:
        return EXIT_FAILED
    return EXIT_PARTIAL if found.problems else EXIT_DONE


def _problem_lines(problems: Mapping[str, str]) -> list[str]:
    """One line a reason, with the first prompt that has it; so many lines at most."""
    alike: dict[str, list[str]] = {}
    for prompt, problem in problems.items():
        alike.setdefault(problem, []).append(prompt)
    lines = []
    for prompts in alike.values():
        many = "" if len(prompts) == 1 else f"{len(prompts)} prompts, first: "
        lines.append(f"No questions about {many}'{_cut(prompts[0])}': {problems[prompts[0]]}")
    if len(lines) > _MOST_WARNINGS:
        left = sum(map(len, list(alike.values())[_MOST_WARNINGS - 1 :]))
        lines[_MOST_WARNINGS - 1 :] = [f"No questions about {left} more prompts, for other reasons"]
    return lines


def _kept_note(path: Path, there: int, asked_for: int) -> str:
    if there == 0:
        return f"What {path} has about other prompts is kept as it is."
    are, they_are = ("is", "it is") if there == 1 else ("are", "they are")
    return f"{there} of {_count(asked_for, 'prompt')} {are} in {path} already, kept as {they_are}."


def _check_target(path: Path) -> None:
    """Refuse a place where no question file can be written.

    Raises:
        UsageError: It is standard output, a folder, or no file.
        SetupError: There is no folder for it, none can be made, or it cannot be written to.
    """
    if str(path) == "-":
        raise UsageError(
            "--output - is no file: questions are read, mended and asked from one.",
            hint="Give a name such as --output questions.json.",
        )
    try:
        try:
            kind = stat.S_IFMT(path.stat().st_mode)
        except FileNotFoundError:
            kind = stat.S_IFREG
        if kind != stat.S_IFREG:
            what = "is a folder" if kind == stat.S_IFDIR else "is no file"
            raise UsageError(f"--output {path} {what}.", hint=_NAME_ANOTHER)
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"'{folder}' is no folder")
        for name in path.absolute().relative_to(folder).parts:
            with suppress(FileNotFoundError):
                (folder / name).lstat()  # says which names are too long here
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"'{folder}' cannot be written to")
    except OSError as error:
        raise SetupError(
            f"Cannot write '{path}': {error.strerror or error}.", hint=_NAME_ANOTHER
        ) from error


def _read_kept(path: Path, metric: str) -> Questions | None:
    """What the file has, None where there is none.

    Raises:
        UsageError: It is no file that ``aigve questions`` wrote for this metric.
    """
    if not path.exists():
        return None
    found = read_questions(path, metric)
    if not found.prompt_version:
        raise UsageError(
            f"{path} is there already, and `aigve questions` did not write it.",
            hint=_NAME_ANOTHER,
        )
    return found


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
