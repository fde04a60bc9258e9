"""``aigve list-metrics``: what can be computed here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aigve_cli.commands.compute import FormatOption
from aigve_cli.config import CONFIG, Config, environment_models
from aigve_cli.output import Column, Output

if TYPE_CHECKING:
    from aigve_cli.contract import Metric
    from aigve_cli.weights import WeightsPolicy

COLUMNS = (
    Column("name", "METRIC"),
    Column("category", "CATEGORY"),
    Column("needs", "NEEDS"),
    Column("better", "BETTER"),
    Column("per_video", "PER VIDEO"),
    Column("stands_in_for", "FOR"),
    Column("weights", "WEIGHTS", wrap=True),
    Column("weights_licence", "LICENCE", wrap=True),
    Column("source", "FROM"),
    Column("title", "TITLE", wrap=True),
)
ABSENT = ("missing", "to fetch")


def list_metrics(
    ctx: typer.Context,
    category: Annotated[
        str | None, typer.Option("--category", metavar="C", help="Only this category.")
    ] = None,
    format_: FormatOption = "auto",
) -> None:
    """List the metrics that are installed, plugins included.

    Says whether their weights are here; never uses the network, and reads no weights.
    """
    from aigve_cli.registry import registry

    output: Output = ctx.obj
    for warning in registry().warnings:
        output.warn(warning)
    output.rows(metric_rows(category, ctx.meta.get(CONFIG, Config())), COLUMNS, format_)


def metric_rows(category: str | None = None, config: Config | None = None) -> list[dict[str, Any]]:
    """A row of facts for each metric.

    Args:
        category: Only those of this one.
        config: What ``aigve.toml`` says of where weights are.

    Raises:
        UsageError: There is no such category.
    """
    from aigve_cli.contract import CATEGORIES
    from aigve_cli.errors import unknown_name
    from aigve_cli.registry import registry
    from aigve_cli.weights import weights_policy

    if category is not None and category not in CATEGORIES:
        raise unknown_name("category", category, CATEGORIES)
    found, config = registry(), config or Config()
    folder = os.environ.get("AIGVE_WEIGHTS_DIR") or config.options.get("weights_dir")
    policy = weights_policy(
        weights_dir=Path(folder) if folder else None,
        custom={**config.models, **environment_models()},
    )
    return [
        {
            "name": name,
            "category": metric.card.category,
            "needs": ", ".join(("generated", *metric.card.needs)),
            "better": ", ".join(sorted({value.better for value in metric.card.values})),
            "per_video": metric.scores_videos(),
            "stands_in_for": metric.card.stands_in_for or None,
            **_weights(metric(), policy),
            "source": found.sources[name],
            "title": metric.card.title,
            "values": [value.name for value in metric.card.values],
            "aliases": list(metric.card.aliases),
            "options": {option.name: option.default for option in metric.card.options},
            "licence": metric.card.licence,
            "cite": metric.card.cite,
            "deviations": list(metric.card.deviations),
        }
        for name, metric in found.metrics.items()
        if category is None or metric.card.category == category
    ]


def _weights(metric: Metric, policy: WeightsPolicy) -> dict[str, str]:
    """Whether a metric's weights are here, and their licences. By default options.

    ``here``, or what is not: ``missing: lightvqa; to fetch: vgg16``. Of a metric that asks a judge
    ``judge``: whose weights these are is said by ``compute``.
    """
    from aigve_cli.contract import Extent
    from aigve_cli.engine.plan import read_options, request_producers
    from aigve_cli.weights import network_card, weights_status

    try:
        requests = metric.requests(read_options("", metric.card.options, {}), Extent()).values()
        producers = set().union(*map(request_producers, requests))
    except Exception as error:  # a plugin's may fail in any way; it must not hide the others
        return {"weights": f"unknown: {type(error).__name__}: {error}", "weights_licence": ""}
    found: dict[str, list[str]] = {}
    licences = set()
    for producer in sorted(producers):
        if (card := network_card(producer.name)).weights:
            tag = producer.weights or None
            found.setdefault(weights_status(card, policy, tag=tag), []).append(producer.checkpoint)
            licences.add(card.entry(tag).licence)
    absent = [f"{status}: {', '.join(found[status])}" for status in ABSENT if status in found]
    here = " and ".join(sorted(found))
    asked = "judge" if "judge" in metric.card.needs else "none needed"
    return {
        "weights": "; ".join(absent) or here or asked,
        "weights_licence": ", ".join(sorted(licences)),
    }
