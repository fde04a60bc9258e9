#!/usr/bin/env python3
"""The flat command of before: one line of flags, handed to the subcommand of aigve that does it.

``aigve prepare``, ``stage``, ``compute`` and ``list-metrics`` do the work and own the exit code;
here is only which of them a line of flags means. Runs where aigve-cli is installed, or from a
checkout whose dependencies are.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

COMMANDS = ("prepare", "stage", "compute", "list-metrics")
OURS = ("--compute", "--list-metrics")
"""Flags that no subcommand has: they choose one."""
NOTHING = ("", "none")
"""What ``--metrics`` was told where nothing was to be computed."""

HELP_TEXT = """\
Usage: prepare_annotations.py --input-dir FOLDER [OPTIONS]
       prepare_annotations.py --list-metrics

Pair generated videos with their references, write annotations, and score.

Each line of flags is one subcommand of aigve, which does it and gives the exit code:

  --list-metrics               aigve list-metrics
  --compute                    aigve compute, which stages first with --stage-dataset
  --stage-dataset, no compute  aigve stage
  neither                      aigve prepare

Input, for all of them:
  --input-dir FOLDER           Folder of videos, generated ones and references. Required.
  --generated-suffixes X,Y     Name endings of generated videos [synthetic,generated].
  --out-json FILE              The annotations. prepare: [FOLDER/annotations.json]; compute writes
                               them only where this is given; not used with --stage-dataset.
  --stage-dataset FOLDER       Gather videos in FOLDER/evaluate, annotations in
                               FOLDER/annotations/evaluate.json.
  --link                       Stage links instead of copies.

Scores, for compute; without --compute they are named on stderr and left out:
  --metrics M,...              Metrics or categories; all is fid, is and fvd; none computes nothing.
                               Default: all, or only --categories where they are given.
  --categories C,...           Every metric of these. With --metrics all, fid, is and fvd too.
  --max-len FRAMES             Frames of each video.
  --max-seconds S, --fps FPS   Seconds of each video, at so many frames a second [25].
  --pad                        Count black frames behind the end of short videos.
  --use-cpu                    Compute without a GPU.
  --fvd-model FILE             Checkpoints. A file that is not there is an error, exit code 4.
  --gstvqa-model FILE
  --simplevqa-model FILE
  --lightvqa-plus-model FILE
  --lightvqa-plus-swin FILE    Not used: the checkpoint before has these weights too.

Result files go to the current folder. Every other flag of `aigve compute` may be given too
(--weights, --prompts, --output-dir, --dry-run, ...): `aigve compute --help` lists them.
"""


class Given(NamedTuple):
    """A flag as it was given: its words, and its value (None where it has none)."""

    flag: str
    words: tuple[str, ...]
    value: str | None = None


class Call(NamedTuple):
    """What a line of flags means.

    Attributes:
        arguments: Everything behind ``aigve``.
        notes: What a user of the flat command should know.
    """

    arguments: list[str]
    notes: list[str]


def flat_to_call(words: Sequence[str], variables: Collection[str] = ()) -> Call:
    """The call of aigve that a line of flags means.

    Args:
        words: The line, without the program's name.
        variables: Names of the variables that are set: they stand for flags.

    Raises:
        UsageError: No input is given where one is needed.
    """
    general, commands = _known_flags()
    known = {flag: valued for flags in commands.values() for flag, valued in flags.items()}
    given = list(_split(words, {**known, **general}))
    flags = {item.flag for item in given}
    notes: list[str] = []
    if "--list-metrics" in flags or "--version" in flags:
        command = "list-metrics"
    else:
        _need_input(flags, variables)
        given, chosen = _choose_metrics(given)
        if "--compute" in flags and chosen:
            command = "compute"
            if chosen == ["--categories"]:
                notes.append("Only --categories: add --metrics all for fid, is and fvd as well.")
        elif "--stage-dataset" in flags or "AIGVE_STAGE_DATASET" in variables:
            command = "stage"
        else:
            command = "prepare"
        if not chosen:
            notes.append("--metrics none: nothing is computed.")
    ours = commands[command]
    before = [item for item in given if item.flag in general]
    rest = [item for item in given if item.flag not in (*general, *OURS)]
    # What no subcommand knows goes on too: aigve says so, and what was perhaps meant.
    behind = [item for item in rest if item.flag in ours or item.flag not in known]
    foreign = [item for item in rest if item not in behind]
    if foreign:
        names = ", ".join(dict.fromkeys(item.flag for item in foreign))
        notes.append(f"aigve {command} does not use {names}.")
    return Call([*_words(before), command, *_words(behind)], notes)


def _known_flags() -> tuple[dict[str, bool], dict[str, dict[str, bool]]]:
    """Whether a value follows: of the flags before a subcommand, and of each subcommand's."""
    from typer.main import get_command

    from aigve_cli.main import app

    program: Any = get_command(app)
    return _flags(program), {name: _flags(program.commands[name]) for name in COMMANDS}


def _flags(command: Any) -> dict[str, bool]:
    return {
        flag: not parameter.is_flag
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }


def _split(words: Sequence[str], valued: Mapping[str, bool]) -> Iterator[Given]:
    """Flags with their values, ``--flag=value`` as well as ``--flag value``."""
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if equals and flag in valued:
            yield Given(flag, (word,), value)
        elif valued.get(word) and (following := next(rest, None)) is not None:
            yield Given(word, (word, following), following)
        else:
            yield Given(word, (word,))


def _words(given: Sequence[Given]) -> list[str]:
    return [word for item in given for word in item.words]


def _need_input(flags: Collection[str], variables: Collection[str]) -> None:
    from aigve_cli.errors import UsageError

    annotations = "--annotations" in flags or "AIGVE_ANNOTATIONS" in variables
    folder = "--input-dir" in flags or "AIGVE_INPUT_DIR" in variables
    if not folder and not ("--compute" in flags and annotations):
        raise UsageError(
            "--input-dir is missing.",
            hint="Name the folder of videos; only --list-metrics needs none. "
            "--help explains every flag.",
        )


def _choose_metrics(given: Sequence[Given]) -> tuple[list[Given], list[str]]:
    """``--metrics`` and ``--categories`` as aigve has them, and which of the two say something.

    Metrics might be categories, and ``none``. Where neither flag was given, the default says
    something: ``--metrics``.
    """
    from aigve_cli.contract import CATEGORIES

    said = {item.flag: item.value for item in given if item.value is not None}
    metrics, categories = said.get("--metrics"), said.get("--categories")
    rest = [
        item
        for item in given
        if item.flag not in ("--metrics", "--categories") or item.value is None
    ]
    names = [] if (metrics or "").strip().lower() in NOTHING else _names(metrics or "")
    chosen = {
        "--metrics": [name for name in names if name not in CATEGORIES],
        "--categories": [*_names(categories or ""), *(n for n in names if n in CATEGORIES)],
    }
    told = [flag for flag, found in chosen.items() if found]
    rest += [Given(flag, (flag, ",".join(chosen[flag]))) for flag in told]
    return rest, told or ([] if metrics is not None else ["--metrics"])


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def main() -> None:
    """Run the subcommand that the command line means."""
    words = sys.argv[1:]
    if "-h" in words or "--help" in words:
        sys.stdout.write(HELP_TEXT)
        return
    if importlib.util.find_spec("aigve_cli") is None:
        checkout = Path(__file__).resolve().parents[1]
        sys.path += [str(checkout), str(checkout / "models")]
    try:
        from aigve_cli.errors import AigveError
        from aigve_cli.main import run
        from aigve_cli.output import Output
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"Error: aigve is not installed in {sys.executable}: {error}.\n"
            "Hint: `bash setup_env.sh` installs it in .venv; then use .venv/bin/python.\n"
        )
        sys.exit(4)
    try:
        call = flat_to_call(words, {name for name, value in os.environ.items() if value})
    except AigveError as error:
        Output().error(error.message, error.hint)
        sys.exit(error.exit_code)
    output = Output(quiet="-q" in words or "--quiet" in words)
    for note in call.notes:
        output.note(note)
    # Its own name in messages: those are of the subcommand.
    sys.argv = ["aigve", *call.arguments]
    run()


if __name__ == "__main__":
    main()
