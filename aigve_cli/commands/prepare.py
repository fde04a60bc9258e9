"""``aigve prepare``: a folder of videos to an annotation file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aigve_cli.commands.inputs import (
    DEFAULT_SUFFIXES,
    DryRun,
    GeneratedSuffixes,
    InputDir,
    OutJson,
    PromptFile,
    PromptFromName,
    PromptText,
    Quiet,
    Recursive,
    ReferenceDir,
    Verbose,
)
from aigve_cli.errors import SetupError, UsageError
from aigve_cli.output import Output

if TYPE_CHECKING:
    from aigve_cli.dataset.annotations import Annotations
    from aigve_cli.dataset.samples import Dataset


def prepare(
    ctx: typer.Context,
    input_dir: InputDir,
    reference_dir: ReferenceDir = None,
    generated_suffixes: GeneratedSuffixes = DEFAULT_SUFFIXES,
    recursive: Recursive = False,
    prompts: PromptFile = None,
    prompt: PromptText = None,
    prompt_from_name: PromptFromName = False,
    out_json: OutJson = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find pairs and prompts; write them as annotations.

    Generated videos, their references and their prompts, as compute would see them.

    Prints the path of the written JSON; with --dry-run the JSON itself.
    """
    from aigve_cli.dataset.annotations import annotations_to_document, samples_to_annotations
    from aigve_cli.dataset.samples import load_dataset

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
    for line in dataset.describe():
        output.note(line)
    if dry_run:
        annotations = samples_to_annotations(dataset.samples, dataset.video_dir)
        output.document(annotations_to_document(annotations))
        return
    path = out_json or dataset.video_dir / "annotations.json"
    save_annotations(dataset, path)
    output.text(str(path))


def save_annotations(dataset: Dataset, path: Path) -> None:
    """Write a data set's annotations, with the folders that they need.

    Raises:
        UsageError: The file has prompts or scores that would be lost.
        SetupError: It cannot be written.
    """
    from aigve_cli.dataset.annotations import samples_to_annotations, write_annotations

    annotations = samples_to_annotations(dataset.samples, dataset.video_dir)
    _refuse_to_lose(path, annotations)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_annotations(path, annotations)
    except OSError as error:
        raise SetupError(
            f"Cannot write '{path}': {error.strerror or error}.",
            hint="Give another place with --out-json.",
        ) from error


def _refuse_to_lose(path: Path, annotations: Annotations) -> None:
    """Keep a file whose prompts or scores, often typed by hand, are not in the new one."""
    from aigve_cli.dataset.annotations import read_annotations

    if not path.is_file() or path.stat().st_size == 0:
        return
    new = {entry.generated: entry.prompt for entry in annotations.entries}
    old = read_annotations(path).entries
    # Videos that were deleted may go; a file without a common video is another data set's.
    common = [entry for entry in old if entry.generated in new] or old
    lost = [
        entry.generated
        for entry in common
        if entry.extra or (entry.prompt is not None and new.get(entry.generated) is None)
    ]
    if lost:
        raise UsageError(
            f"'{path}' has prompts or other fields of {len(lost)} videos (such as '{lost[0]}') "
            "that would be lost.",
            hint=f"Keep its prompts with --prompts '{path}', write elsewhere with --out-json, "
            "or delete it.",
        )
