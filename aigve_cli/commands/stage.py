"""``aigve stage``: a data set gathered in one folder, with its annotations."""

from __future__ import annotations

from pathlib import Path

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
from aigve_cli.output import Output


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
    from aigve_cli.dataset import staging
    from aigve_cli.dataset.samples import load_dataset
    from aigve_cli.errors import UsageError

    if stage_dataset is None:
        raise UsageError("--stage-dataset is missing.")
    output: Output = ctx.obj
    dataset = load_dataset(
        input_dir=input_dir,
        reference_dir=reference_dir,
        suffixes=generated_suffixes,
        recursive=recursive,
        prompts=prompts,
        prompt=prompt,
        prompt_from_name=prompt_from_name,
    )
    note_unused_out_json(output, out_json, stage_dataset)
    staged = staging.stage_dataset(
        dataset, stage_dataset, link=link, dry_run=dry_run, suffixes=generated_suffixes
    )
    for line in [*staged.dataset.describe(), *staged.describe()]:
        output.note(line)
    if dry_run:
        for action in staged.actions:
            output.text(f"{action.kind}\t{action.source}\t{action.target}")
    else:
        output.text(str(staged.annotations))


def note_unused_out_json(output: Output, out_json: Path | None, folder: Path) -> None:
    """Say that ``--out-json`` does nothing where annotations are staged."""
    if out_json is not None:
        output.note(f"--out-json is not used: the annotations are staged in '{folder}'.")
