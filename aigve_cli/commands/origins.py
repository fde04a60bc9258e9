"""Options that exclude each other: the one given nearest to the command wins.

Order: file < ``AIGVE_*`` < flags. The parser keeps it for one option; here it is kept between
options, so that ``--annotations`` on the command line wins over ``input_dir`` of the file. Rivals
of equal origin stay as they are: the command says which wins, or that they contradict each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand

RIVALS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("input_dir", "reference_dir"), ("annotations", "video_dir")),
    (("prompts",), ("prompt",), ("prompt_from_name",)),
    (("max_len",), ("max_seconds",)),
    (("device",), ("use_cpu",)),
)
"""Groups of sides that exclude each other; the options of one side belong together."""

ORIGINS = {
    "DEFAULT_MAP": "the configuration file",
    "ENVIRONMENT": "the environment",
    "COMMANDLINE": "the command line",
}
"""The parser's names of origins, the strongest last."""


class RunCommand(TyperCommand):
    """A command of a run: options that a stronger rival outranks are as if never given."""

    def invoke(self, ctx: Any) -> Any:
        """Drop what is outranked, then run the command."""
        for name, winner in outranked(option_ranks(ctx)).items():
            ctx.obj.detail(
                f"{name} of {origin(ctx, name)} is not used: "
                f"{origin(ctx, winner)} gives {winner}, which excludes it."
            )
            ctx.params[name] = next(p.default for p in self.params if p.name == name)
        return super().invoke(ctx)


def outranked(ranks: Mapping[str, int]) -> dict[str, str]:
    """The options that are out of force, each with the rival that outranks it."""
    losers: dict[str, str] = {}
    for sides in RIVALS:
        strongest = {side: max(side, key=lambda name: ranks.get(name, 0)) for side in sides}
        winner = max(strongest.values(), key=lambda name: ranks.get(name, 0))
        for side, best in strongest.items():
            if ranks.get(best, 0) < ranks.get(winner, 0):
                losers |= {name: winner for name in side if ranks.get(name, 0)}
    return losers


def option_ranks(ctx: typer.Context) -> dict[str, int]:
    """How near to the command each option was given; 0 where it says nothing."""
    order = list(ORIGINS)
    ranks = {}
    for name, value in ctx.params.items():
        source = ctx.get_parameter_source(name)
        # `use_cpu = false` asks for nothing, so it outranks nothing.
        says = source is not None and source.name in ORIGINS and value not in (None, False)
        ranks[name] = order.index(source.name) + 1 if source is not None and says else 0
    return ranks


def origin(ctx: typer.Context, name: str) -> str:
    """Where an option's value comes from, in words; empty for its own default."""
    source = ctx.get_parameter_source(name)
    return ORIGINS.get(source.name, "") if source is not None else ""
