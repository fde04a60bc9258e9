"""``aigve models``: which networks there are, and whether their weights are here and right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aigve_cli.output import Column, Format, Output

if TYPE_CHECKING:
    from aigve_cli.weights import Located, NetworkCard, WeightsPolicy

models = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Networks and their weights: list, fetch, verify.",
)

_COLUMNS = (
    Column("name", "NAME"),
    Column("kind", "KIND"),
    Column("weights", "WEIGHTS"),
    Column("status", "STATUS"),
    Column("bytes", "BYTES", right=True),
    Column("licence", "LICENCE"),
    Column("verified", "VERIFIED"),
)
Status = Literal["embedded", "here", "missing", "bad"]


def _complete_networks(incomplete: str) -> list[str]:
    from aigve_cli.weights import network_cards

    cards = network_cards()
    return [name for name in cards if cards[name].weights and name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=_complete_networks,
        help="A network, as `models list` names it.",
    ),
]
Tag = Annotated[
    str | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="Which of its checkpoints, if not the default one. Of a network whose weights are a "
        "folder, also OWNER/NAME[@REVISION] on the Hugging Face Hub.",
    ),
]
WeightsDir = Annotated[
    Path | None,
    typer.Option(
        "--weights-dir",
        metavar="FOLDER",
        envvar="AIGVE_WEIGHTS_DIR",
        help="Folder with checkpoint files, or folders of models, under their published names.",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", envvar="AIGVE_OFFLINE", help="Never use the network.")
]
FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        envvar="AIGVE_FORMAT",
        help="Results on stdout; auto is a table on a terminal and tsv in a pipe.",
    ),
]


@models.command("list")
def list_models(
    ctx: typer.Context, weights_dir: WeightsDir = None, format: FormatOption = "auto"
) -> None:
    """List networks, and whether their weights are here. Never uses the network."""
    from aigve_cli.weights import network_cards

    out: Output = ctx.obj
    policy = _policy(out, weights_dir)
    rows = [row for card in network_cards().values() for row in _rows(card, policy, rehash=False)]
    for row in rows:
        if row["problem"]:
            out.warn(row["problem"])
    out.rows([_without_problem(row) for row in rows], _COLUMNS, format)


@models.command()
def fetch(
    ctx: typer.Context,
    name: Name,
    tag: Tag = None,
    weights_dir: WeightsDir = None,
    offline: Offline = False,
) -> None:
    """Fetch and check a network's weights, and print where they are."""
    from aigve_cli.weights import locate_weights, network_card

    out: Output = ctx.obj
    located = locate_weights(network_card(name), _policy(out, weights_dir, offline), tag=tag)
    _describe(out, located)
    out.text(str(located.path))


@models.command()
def path(ctx: typer.Context, name: Name, tag: Tag = None, weights_dir: WeightsDir = None) -> None:
    """Print where a network's weights are; exit 4 if they are not here."""
    from aigve_cli.weights import locate_weights, network_card

    out: Output = ctx.obj
    located = locate_weights(network_card(name), _policy(out, weights_dir, offline=True), tag=tag)
    _describe(out, located)
    out.text(str(located.path))


@models.command()
def verify(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            autocompletion=_complete_networks,
            help="A network; without it, all.",
        ),
    ] = None,
    weights_dir: WeightsDir = None,
    format: FormatOption = "auto",
) -> None:
    """Compare the weights that are here with their cards.

    Reads every byte. Exits with 4 if a file is wrong.
    """
    from aigve_cli.errors import WeightsError
    from aigve_cli.weights import network_card, network_cards

    out: Output = ctx.obj
    policy = _policy(out, weights_dir)
    cards = [network_card(name)] if name else list(network_cards().values())
    if name:
        cards[0].entry()
    rows = [row for card in cards for row in _rows(card, policy, rehash=True) if row["weights"]]
    out.rows(
        [_without_problem(row) for row in rows], (*_COLUMNS, Column("sha256", "SHA256")), format
    )
    problems = [row["problem"] for row in rows if row["problem"]]
    if name and all(row["status"] == "missing" for row in rows):
        problems.append(f"No weights of {name} are here.")
    if problems:
        raise WeightsError(
            "\n".join(problems), hint="Replace the file or move it away; `aigve models fetch NAME`."
        )


def _policy(out: Output, weights_dir: Path | None, offline: bool = False) -> WeightsPolicy:
    from aigve_cli.weights import weights_policy

    return weights_policy(weights_dir=weights_dir, offline=offline, announce=out.note)


def _describe(out: Output, located: Located) -> None:
    out.detail(f"{located.origin}, licence {located.licence}, sha256 {located.sha256}")
    if located.processor is not None:
        out.detail(f"tokenizer and image processor: {located.processor}")
    if not located.verified:
        name = located.published or located.path.name
        out.note(f"{name} is not verified: its card knows no hash.")


def _rows(card: NetworkCard, policy: WeightsPolicy, *, rehash: bool) -> list[dict[str, Any]]:
    """A row for each checkpoint of a network, or one for a function, which has none."""
    from aigve_cli.errors import WeightsError
    from aigve_cli.weights import find_weights, located_bytes

    facts = {"name": card.name, "kind": card.kind}
    nothing = {"weights": None, "status": None, "bytes": None, "verified": None, "sha256": None}
    if not card.weights:
        return [{**facts, **nothing, "licence": card.licence, "problem": None}]
    rows = []
    for entry in card.weights.values():
        located, problem = None, None
        try:
            located = find_weights(card, policy, tag=entry.tag, rehash=rehash)
        except WeightsError as error:
            problem = error.message
        status: Status = "missing"
        if problem:
            status = "bad"
        elif located:
            status = "embedded" if located.origin == "embedded" else "here"
        rows.append(
            {
                **facts,
                "weights": entry.tag,
                "status": status,
                "bytes": located_bytes(located) if located else entry.bytes,
                "licence": entry.licence,
                "verified": located.verified if located else None,
                "sha256": located.sha256 if located else None,
                "problem": problem,
            }
        )
    return rows


def _without_problem(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "problem"}
