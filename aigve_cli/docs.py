"""Files of the repository that are made from the code: tables, completions.

``python -m aigve_cli.docs`` writes them; with ``--check`` it changes nothing and exits with 1 where
one is stale. Only for a checkout: an installed package has no README.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aigve_cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from aigve_cli.output import Output

if TYPE_CHECKING:
    from aigve_cli.weights import WeightsEntry

ROOT = Path(__file__).parents[1]
ZSH_LAST_LINE = "compdef _aigve_completion aigve\n"
ZSH_LAST_LINES = """\
# From a folder of fpath, zsh runs this file as the function itself, at the first TAB.
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _aigve_completion "$@"
else
  compdef _aigve_completion aigve
fi
"""


def documents(root: Path = ROOT) -> dict[Path, str]:
    """The text that each generated file should have, by path."""
    from aigve_cli.weights import cards_to_markdown

    readme = (root / "README.md").read_text(encoding="utf-8")
    tables = {"metrics": metrics_to_markdown(), "networks": networks_to_markdown()}
    scripts = completion_scripts()
    return {
        root / "README.md": with_blocks(readme, tables),
        root / "models" / "README.md": cards_to_markdown(),
        root / "completions" / "aigve.bash": scripts["bash"],
        root / "completions" / "_aigve": scripts["zsh"],
        root / "completions" / "aigve.fish": scripts["fish"],
    }


def with_blocks(text: str, blocks: Mapping[str, str]) -> str:
    """Put each block between its two markers ``<!-- NAME -->`` and ``<!-- /NAME -->``.

    Raises:
        ValueError: The text has no such markers, or more than one pair.
    """
    for name, block in blocks.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"expected one pair of markers {start.strip()} … {end}")
        new = f"{start}{block}{end}"
        text = pattern.sub(lambda _, new=new: new, text)  # type: ignore[misc]
    return text


def metrics_to_markdown() -> str:
    """A table of aigve's own metrics; those of plugins are not the README's."""
    from aigve_cli.registry import registry

    found = registry()
    rows = [("metric", "what", "better", "needs", "category", "instead of")]
    for name, metric in found.metrics.items():
        if found.sources[name] == "aigve":
            card = metric.card
            rows.append(
                (
                    f"`{name}`",
                    card.title,
                    ", ".join(dict.fromkeys(value.better for value in card.values)),
                    ", ".join(("generated", *card.needs)),
                    f"`{card.category}`",
                    f"`{card.stands_in_for}`" if card.stands_in_for else "",
                )
            )
    return rows_to_markdown(rows)


def networks_to_markdown() -> str:
    """A table of the zoo; ``models/README.md`` has the rest."""
    from aigve_cli.weights import network_cards

    rows = [("network", "what", "weights", "licence")]
    for card in network_cards().values():
        where = [f"{tag}: {_origin(entry)}" for tag, entry in card.weights.items()]
        licences = dict.fromkeys(entry.licence for entry in card.weights.values())
        rows.append(
            (
                f"`{card.name}`",
                card.title,
                ", ".join(where) or "none: arithmetic",
                ", ".join(licences) or card.licence,
            )
        )
    return rows_to_markdown(rows)


def _origin(entry: WeightsEntry) -> str:
    if entry.embedded:
        return "installs with the package"
    return "fetched" if entry.fetchable else "yours, by `--model`"


def rows_to_markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def completion_scripts() -> dict[str, str]:
    """The completion script of each shell, by the shell's name."""
    from typer.testing import CliRunner

    from aigve_cli.main import app

    scripts = {}
    for shell in ("bash", "zsh", "fish"):
        environment = {"_AIGVE_COMPLETE": f"source_{shell}"}
        result = CliRunner().invoke(app, [], prog_name="aigve", env=environment)
        # zsh finds `#compdef` only in the very first line.
        scripts[shell] = result.stdout.strip("\n") + "\n"
    if not scripts["zsh"].endswith(ZSH_LAST_LINE):
        raise ValueError("Typer's script for zsh has changed: look at ZSH_LAST_LINES again")
    scripts["zsh"] = scripts["zsh"].removesuffix(ZSH_LAST_LINE) + ZSH_LAST_LINES
    return scripts


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with ``--check`` name those that are stale."""
    output = Output()
    if list(arguments) not in ([], ["--check"]):
        output.error("usage: python -m aigve_cli.docs [--check]")
        return EXIT_USAGE
    stale = {
        path: text
        for path, text in documents().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if arguments:
            output.error(f"{path.relative_to(ROOT)} is stale.", "python -m aigve_cli.docs")
        else:
            path.write_text(text, encoding="utf-8")
            output.note(f"wrote {path.relative_to(ROOT)}")
    return EXIT_FAILED if arguments and stale else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
