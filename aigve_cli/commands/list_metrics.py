"""``aigve list-metrics``: what can be computed here."""

from __future__ import annotations

from typing import Annotated

import typer

from aigve_cli.commands.compute import FormatOption
from aigve_cli.output import Column, Output

COLUMNS = (
    Column("name", "METRIC"),
    Column("category", "CATEGORY"),
    Column("needs", "NEEDS"),
    Column("better", "BETTER"),
    Column("per_video", "PER VIDEO"),
    Column("stands_in_for", "FOR"),
    Column("source", "FROM"),
    Column("title", "TITLE", wrap=True),
)


def list_metrics(
    ctx: typer.Context,
    category: Annotated[
        str | None, typer.Option("--category", metavar="C", help="Only this category.")
    ] = None,
    format_: FormatOption = "auto",
) -> None:
    """List the metrics that are installed, plugins included."""
    from aigve_cli.contract import CATEGORIES
    from aigve_cli.errors import unknown_name
    from aigve_cli.registry import registry

    output: Output = ctx.obj
    if category is not None and category not in CATEGORIES:
        raise unknown_name("category", category, CATEGORIES)
    found = registry()
    for warning in found.warnings:
        output.warn(warning)
    rows = []
    for name, metric in found.metrics.items():
        card = metric.card
        if category is None or card.category == category:
            rows.append(
                {
                    "name": name,
                    "category": card.category,
                    "needs": ", ".join(("generated", *card.needs)),
                    "better": ", ".join(sorted({value.better for value in card.values})),
                    "per_video": metric.scores_videos(),
                    "stands_in_for": card.stands_in_for or None,
                    "source": found.sources[name],
                    "title": card.title,
                    "values": [value.name for value in card.values],
                    "aliases": list(card.aliases),
                    "options": {option.name: option.default for option in card.options},
                    "licence": card.licence,
                    "cite": card.cite,
                    "deviations": list(card.deviations),
                }
            )
    output.rows(rows, COLUMNS, format_)
