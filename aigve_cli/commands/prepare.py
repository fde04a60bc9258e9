"""``aigve prepare``: a folder of videos to an annotation file."""

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
    from aigve_cli.dataset.listing import Opens
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
    run_prepare(ctx.params, ctx.obj)


def run_prepare(
    options: Mapping[str, Any],
    output: Output,
    *,
    opens: Opens | None = None,
) -> None:
    """Find pairs and prompts, and write or print them.

    Args:
        options: Of the command, as the parser gives them.
        output: Where the path or the JSON, and words go.
        opens: Refuses videos that may not be read.

    Raises:
        AigveError: Input or the place of the file are not as needed.
    """
    from aigve_cli.dataset.annotations import annotations_to_document, samples_to_annotations

    dataset = options_to_dataset(options, opens)
    for line in dataset.describe():
        output.note(line)
    if options["dry_run"]:
        annotations = samples_to_annotations(dataset.samples, dataset.video_dir)
        output.document(annotations_to_document(annotations))
        return
    path = Path(options["out_json"] or dataset.video_dir / "annotations.json")
    save_annotations(dataset, path)
    output.text(str(path))


def options_to_dataset(options: Mapping[str, Any], opens: Opens | None = None) -> Dataset:
    """The videos that the input options name, of whichever command: others have fewer of them."""
    from aigve_cli.dataset.samples import load_dataset

    paths = ("input_dir", "reference_dir", "annotations", "video_dir", "prompts", "vbench_info")
    named = {name: options.get(name) for name in paths}
    return load_dataset(
        **{name: None if value is None else Path(value) for name, value in named.items()},
        suffixes=options["generated_suffixes"],
        recursive=options["recursive"],
        prompt=options["prompt"],
        prompt_from_name=options["prompt_from_name"],
        opens=opens,
    )


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
