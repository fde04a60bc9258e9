"""Questions about prompts, written by a judge before any video is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aigve_cli.dataset.annotations import read_annotations
from aigve_cli.dataset.prompts import NamedPrompt, read_prompts
from aigve_cli.engine.judging import open_run_judges
from aigve_cli.engine.plan import Settings, read_options
from aigve_cli.engine.produce import resolve_device
from aigve_cli.engine.setup import local_judges
from aigve_cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, UsageError
from aigve_cli.judges.questions import (
    Questions,
    questions_task,
    read_questions,
    write_questions,
)
from aigve_cli.judges.settings import Judges, JudgeSettings
from aigve_cli.judges.task import JudgeTask, Record
from aigve_cli.output import Output, Progress
from aigve_cli.registry import registry
from aigve_cli.weights import locate_weights, network_card, weights_policy


@dataclass
class QuestionSets:
    """What a judge has written."""

    sets: list[Record] = field(default_factory=list)
    """In the order of the prompts."""
    problems: dict[str, str] = field(default_factory=dict)
    """By prompt, why there are no questions about it."""


def read_prompt_texts(
    *, annotations: Path | None, prompts: Path | None, prompt: str | None
) -> list[str]:
    """The distinct prompts of a file, in its order; the videos need not be here.

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
        read = read_prompts(prompts)
        texts = [line.prompt if isinstance(line, NamedPrompt) else line for line in read]
    else:
        texts = [prompt]
    found = list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))
    if not found:
        raise UsageError(f"'{given[0]}' has no prompt.")
    return found


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
        if problem := record.get("problem"):
            found.problems[prompt] = str(problem)
        else:
            found.sets.append(record)
        progress.advance(videos=1)
    return found


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
        UsageError: The file is another one, or another judge wrote what it has.
        SetupError: The judge cannot be reached, or the file cannot be written.
    """
    kept = _read_kept(path, metric)
    prompts = [prompt for prompt in prompts if kept is None or kept.of(prompt) is None]
    if kept is not None:
        output.note(f"{len(kept.sets)} prompts are in {path} already, and kept as they are.")
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
        f"{len(prompts)} prompt{'s' * (len(prompts) > 1)}, at most {requests:,} requests to "
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
        open_run_judges(judges, located, device, "fp32") as opened,
        output.progress("questions", total=len(prompts)) as progress,
    ):
        if kept is not None and (kept.judge, kept.prompt_version) != (
            opened.text,
            task.prompt_version,
        ):
            raise UsageError(
                f"{path} has questions of another judge, or in other words: "
                f"{kept.judge.get('model')}, {kept.prompt_version}.",
                hint="Give another name with --output.",
            )
        found = _write_sets(task, prompts, opened, progress)
        counts = opened.desk.counts
    for prompt, problem in found.problems.items():
        output.warn(f"No questions about '{_cut(prompt)}': {problem}")
    if found.sets:
        sets = [*(each.to_json() for each in kept.sets), *found.sets] if kept else found.sets
        write_questions(path, metric, sets, judge=opened.text, prompt_version=task.prompt_version)
        output.note(f"{counts.requests} requests, {counts.cached} answers known.")
    if not found.sets:
        return EXIT_FAILED
    return EXIT_PARTIAL if found.problems else EXIT_DONE


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
            hint="Give another name with --output.",
        )
    return found


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
