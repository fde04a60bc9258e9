"""``aigve demo``: a first run that needs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aigve_cli.commands.inputs import Quiet, Verbose
from aigve_cli.output import Output


def demo(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="FOLDER", help="Where the videos and results go.")
    ] = Path("aigve-demo"),
    use_cpu: Annotated[bool, typer.Option("--use-cpu", help="Do not use a GPU.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make sample videos and degraded copies, and score them.

    Needs no network: metrics run on weights that install with the package. The videos stay in the
    folder to try other commands on.
    """
    output: Output = ctx.obj
    videos, results_dir = folder / "videos", folder / "results"
    output.note(f"Drawing 8 clips and a degraded copy of each in {videos} …")

    from aigve_cli import api
    from aigve_cli.dataset.demo import make_samples
    from aigve_cli.errors import SetupError
    from aigve_cli.results.tables import RESULT_COLUMNS, records_to_rows

    try:
        make_samples(videos)
    except OSError as error:
        raise SetupError(
            f"Cannot write {videos}: {error.strerror}.", hint="Choose another --dir."
        ) from error
    results = api.evaluate(
        input_dir=videos,
        prompts=videos / "prompts.json",
        metrics=["fid", "fvd", "is", "kid"],
        weights="embedded",
        device="cpu" if use_cpu else "auto",
        offline=True,
        output_dir=results_dir,
        fresh=True,
        output=output,
    )
    output.rows(
        records_to_rows(results.records),
        RESULT_COLUMNS,
        "table",
    )
    output.note(f"All facts behind these numbers: {results_dir / 'results.json'}")
    output.note(
        f"Next: aigve compute --input-dir {videos} --metrics fid-lite0,fvd-lite0 "
        f"--output-dir {folder / 'scores'}"
    )
    raise typer.Exit(results.exit_code)
