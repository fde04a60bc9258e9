"""``aigve config``: a complete configuration file, commented."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aigve_cli.config import CONFIG_PROBLEM
from aigve_cli.output import Output

NOT_IN_A_FILE = {"help", "model", "set_", "dry_run", "quiet", "verbose"}
EXAMPLES: dict[str | None, object] = {
    "metrics": ["all"],
    "categories": ["distribution_based"],
    "max_len": 64,
    "max_seconds": 2.5,
    "prompt": "a red car on a bridge",
    "judge": "openai:MODEL",
    "judge_url": "http://127.0.0.1:8000/v1",
    "judge_text": "openai:MODEL",
    "judge_text_url": "http://127.0.0.1:8000/v1",
    "judge_concurrency": 8,
    "max_requests": 1000,
    "path": "folder/or/file",
}
"""By option, else by type, for options that are not set by default."""


def config(
    ctx: typer.Context,
    metrics: Annotated[
        list[str] | None,
        typer.Argument(metavar="[METRIC]...", help="Only these metrics' tables; default: all."),
    ] = None,
) -> None:
    """Print a complete aigve.toml.

    Every option, commented out, with its default and its meaning.
    """
    from aigve_cli.config import config_text
    from aigve_cli.registry import registry
    from aigve_cli.weights import network_cards

    output: Output = ctx.obj
    problem = ctx.meta.get(CONFIG_PROBLEM)
    if problem is not None:
        output.warn(problem.message)
    found = registry()
    wanted = [member for name in metrics or [] for member in found.members(name)]
    names = list(dict.fromkeys(wanted)) or list(found.metrics)
    output.text(
        config_text(
            run_options(ctx),
            [
                (name, [(o.name, o.default, o.help) for o in found.metrics[name].card.options])
                for name in names
            ],
            [name for name, card in network_cards().items() if card.weights],
        )
    )


def run_options(ctx: typer.Context) -> list[tuple[str, object, str]]:
    """Name, default (or an example where there is none) and help of each option of ``compute``."""
    options: list[tuple[str, object, str]] = []
    for parameter in run_parameters(ctx):
        default, text = parameter.default, parameter.help or ""
        if default in (None, ""):
            example = EXAMPLES.get(parameter.name) or EXAMPLES[parameter.type.name]
            default, text = example, f"{text} Not set; for example:"
        options.append((parameter.name.rstrip("_"), default, text))
    return options


def run_parameters(ctx: typer.Context) -> list[Any]:
    """The parser's parameters of ``compute`` that a file may set."""
    compute = ctx.find_root().command.commands["compute"]  # type: ignore[attr-defined]
    return [
        parameter
        for parameter in compute.params
        if parameter.name not in NOT_IN_A_FILE and not getattr(parameter, "hidden", False)
    ]
