"""``aigve vbench``: VBench's table of results that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aigve_cli.commands.compute import FormatOption
from aigve_cli.output import Column, Output

COLUMNS = (
    Column("name", "DIMENSION"),
    Column("value", "VALUE"),
    Column("normalised", "NORMALISED"),
    Column("weight", "WEIGHT"),
    Column("part", "PART"),
)


def vbench(
    ctx: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="VBench's own results, or results.json of aigve; dimensions of several files are "
            "put together.",
        ),
    ],
    out_json: Annotated[
        Path | None,
        typer.Option(
            "--out-json",
            metavar="FILE",
            help="Write the dimensions of one results.json of aigve as VBench writes its own.",
        ),
    ] = None,
    format_: FormatOption = "auto",
) -> None:
    """Show VBench's table: dimensions, Quality, Semantic and Total.

    A score that needs a dimension that is missing is left out, and the dimension named; VBench
    counts it as 0. Exit code 3 if there is no total.
    """
    from aigve_cli.errors import EXIT_PARTIAL
    from aigve_cli.results import vbench as table

    output: Output = ctx.obj
    totals = table.values_to_totals(
        table.merge_values([(path, table.read_values(path)) for path in files])
    )
    if out_json is not None:
        table.write_vbench(files, out_json)
        output.note(f"VBench's results: {out_json}")
    output.rows(rows(totals), COLUMNS, format_)
    for line in table.totals_to_lines(totals):
        output.note(line)
    if totals.total is None:
        raise typer.Exit(EXIT_PARTIAL)


def rows(totals: Any) -> list[dict[str, Any]]:
    """The lines of the table: dimensions, and then the scores that there are."""
    from aigve_cli.results.vbench import DIMENSIONS, QUALITY

    found: list[dict[str, Any]] = [
        {
            "name": name,
            "value": value,
            "normalised": totals.normalised[name],
            "weight": DIMENSIONS[name].weight,
            "part": "quality" if name in QUALITY else "semantic",
        }
        for name, value in totals.values.items()
    ]
    scores = (("quality", totals.quality), ("semantic", totals.semantic), ("total", totals.total))
    found += [
        {"name": f"{name} score", "value": score, "normalised": None, "weight": None, "part": ""}
        for name, score in scores
        if score is not None
    ]
    return found
