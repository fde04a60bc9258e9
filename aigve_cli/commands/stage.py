"""``aigve stage``: a data set gathered in one folder, with its annotations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aigve_cli.commands.inputs import (
    DEFAULT_SUFFIXES,
    DryRun,
    GeneratedSuffixes,
    InputDir,
    Link,
    OutJson,
    PromptFile,
    PromptFromName,
    PromptText,
    Quiet,
    Recursive,
    ReferenceDir,
    StageDataset,
    Verbose,
)
from aigve_cli.commands.prepare import options_to_dataset
from aigve_cli.output import Output

if TYPE_CHECKING:
    from aigve_cli.dataset.listing import Opens


def stage(
    ctx: typer.Context,
    input_dir: InputDir,
    stage_dataset: StageDataset,
    reference_dir: ReferenceDir = None,
    generated_suffixes: GeneratedSuffixes = DEFAULT_SUFFIXES,
    recursive: Recursive = False,
    prompts: PromptFile = None,
    prompt: PromptText = None,
    prompt_from_name: PromptFromName = False,
    link: Link = False,
    out_json: OutJson = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Gather videos and annotations in one folder for compute.

    Prints the path of the annotations; with --dry-run what would happen to each file. Running it
    again brings the folder up to date.
    """
    run_stage(ctx.params, ctx.obj)


def run_stage(
    options: Mapping[str, Any],
    output: Output,
    *,
    opens: Opens | None = None,
) -> None:
    """Gather a data set in a folder, or say what would happen.

    Args:
        options: Of the command, as the parser gives them.
        output: Where the path of the annotations, and words go.
        opens: Refuses videos that may not be read.

    Raises:
        AigveError: Input or the folder are not as needed.
    """
    from aigve_cli.dataset import staging
    from aigve_cli.errors import UsageError

    folder, out_json = options["stage_dataset"], options["out_json"]
    if folder is None:
        raise UsageError("--stage-dataset is missing.")
    dataset = options_to_dataset(options, opens)
    note_unused_out_json(output, out_json, folder)
    staged = staging.stage_dataset(
        dataset,
        Path(folder),
        link=options["link"],
        dry_run=options["dry_run"],
        suffixes=options["generated_suffixes"],
    )
    for line in [*staged.dataset.describe(), *staged.describe()]:
        output.note(line)
    if options["dry_run"]:
        for action in staged.actions:
            output.text(f"{action.kind}\t{action.source}\t{action.target}")
    else:
        output.text(str(staged.annotations))


def note_unused_out_json(output: Output, out_json: str | None, folder: str) -> None:
    """Say that ``--out-json`` does nothing where annotations are staged."""
    if out_json is not None:
        output.note(f"--out-json is not used: the annotations are staged in '{folder}'.")
