"""Help: everything has some, the pages are as reviewed, and asking for it costs little.

A page that was changed on purpose: ``UPDATE_SNAPSHOTS=1 python -m pytest tests/packaging``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkout import child_environment
from typer.main import get_command
from typer.testing import CliRunner

from aigve_cli.main import app

SNAPSHOTS = Path(__file__).parent / "snapshots"
HEAVY = ("torch", "torchvision", "transformers", "timm", "numpy", "scipy", "PIL", "pydantic")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group by its words, the app itself first."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


COMMANDS = dict(commands(get_command(app)))


def page(path: tuple[str, ...]) -> str:
    return "-".join(("aigve", *path))


@pytest.mark.parametrize("path", COMMANDS, ids=page)
def test_command_and_each_of_its_options_have_help(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    without = [p.name for p in command.params if not getattr(p, "hidden", False) and not p.help]
    assert without == []


@pytest.mark.parametrize("path", COMMANDS, ids=page)
def test_help_page_is_as_reviewed(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # an aigve.toml of the current folder would change the defaults
    result = CliRunner().invoke(
        app,
        [*path, "--help"],
        prog_name="aigve",
        env={"COLUMNS": "80", "NO_COLOR": "1"},
    )
    assert result.exit_code == 0
    reviewed = SNAPSHOTS / f"{page(path)}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        reviewed.write_text(result.stdout, encoding="utf-8")
    assert result.stdout == reviewed.read_text(encoding="utf-8")


def test_no_snapshot_is_left_of_a_command_that_is_gone() -> None:
    assert {file.stem for file in SNAPSHOTS.iterdir()} == {page(path) for path in COMMANDS}


def test_summaries_fit_on_an_80_column_terminal() -> None:
    pages = [(SNAPSHOTS / f"{name}.txt").read_text() for name in ("aigve", "aigve-models")]
    summaries = [page.partition("Commands:\n")[2] for page in pages]
    assert all(summaries)
    assert "..." not in "".join(summaries)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["compute", "--help"], {}),
        (["--version"], {}),
        (["list-metrics"], {}),
        (["list-metrics", "--format", "json"], {}),
        (["models", "list"], {}),
        (["config"], {}),
        ([], {"COMP_WORDS": "aigve comp", "COMP_CWORD": "1", "_AIGVE_COMPLETE": "complete_bash"}),
    ],
)
def test_facts_come_without_heavy_imports(
    arguments: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    code = (
        "import sys; sys.argv = ['aigve', *sys.argv[1:]]\n"
        "from aigve_cli.main import main\n"
        "status = main()\n"
        f"sys.stderr.write('heavy: ' + ' '.join(set({HEAVY!r}) & set(sys.modules)))\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=child_environment(**environment),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "heavy: ")
    assert done.stdout.strip()
