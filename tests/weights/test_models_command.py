"""``aigve models``: every command in its formats, its streams and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result
from weights_kit import PAYLOAD, Server, card

from aigve_cli.commands.models import models
from aigve_cli.errors import AigveError
from aigve_cli.output import Output
from aigve_cli.weights import network_cards

LITE0 = "efficientnet-lite0"


def run(*arguments: object, verbose: bool = False) -> Result:
    return CliRunner().invoke(models, [str(a) for a in arguments], obj=Output(verbose=verbose))


def error_of(result: Result) -> AigveError:
    assert isinstance(result.exception, AigveError)
    return result.exception


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch, server: Server) -> Server:
    """The real zoo and, beside it, a network that the test's server publishes."""
    cards = {**network_cards(), "net": card(server.serve("/net.pth"))}
    monkeypatch.setattr("aigve_cli.weights.network_cards", lambda: cards)
    monkeypatch.setattr("aigve_cli.weights.cards.network_cards", lambda: cards)
    return server


def rows(result: Result) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(result.stdout)}


def test_list(zoo: Server) -> None:
    listed = rows(run("list", "--format", "json"))
    assert listed[LITE0] == {
        "name": LITE0,
        "kind": "network",
        "weights": "imagenet",
        "status": "embedded",
        "bytes": 18_826_032,
        "licence": "Apache-2.0",
        "verified": True,
        "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    }
    assert listed["net"]["status"] == "missing"
    assert listed["net"]["verified"] is None
    assert zoo.asked == []
    plain = run("list")
    assert plain.stdout.splitlines()[0] == "name\tkind\tweights\tstatus\tbytes\tlicence\tverified"
    table = run("list", "--format", "table")
    assert "VERIFIED" in table.stdout


def test_fetch_then_path_then_verify(zoo: Server) -> None:
    missing = error_of(run("path", "net"))
    assert missing.exit_code == 4
    assert zoo.asked == [], "path never fetches"
    offline = run("fetch", "net", "--offline")
    assert error_of(offline).exit_code == 4

    fetched = run("fetch", "net", verbose=True)
    assert fetched.exit_code == 0
    path = Path(fetched.stdout.strip())
    assert path.read_bytes() == PAYLOAD
    assert "licence MIT" in fetched.stderr
    assert run("path", "net").stdout == f"{path}\n"
    assert rows(run("list", "--format", "json"))["net"]["status"] == "here"
    verified = run("verify", "net", "--format", "json")
    assert verified.exit_code == 0
    assert rows(verified)["net"]["verified"] is True


def test_wrong_file_is_bad_everywhere(zoo: Server, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(PAYLOAD[:-1])
    listed = run("list", "--weights-dir", tmp_path, "--format", "json")
    assert rows(listed)["net"]["status"] == "bad"
    assert "cut short" in listed.stderr
    verified = run("verify", "--weights-dir", tmp_path, "--format", "json")
    assert rows(verified)["net"]["status"] == "bad"
    assert "cut short" in error_of(verified).message
    assert error_of(verified).exit_code == 4


def test_verify_one_that_is_missing_fails_and_all_does_not(zoo: Server) -> None:
    assert error_of(run("verify", "net")).exit_code == 4
    assert run("verify").exit_code == 0


@pytest.mark.parametrize("command", ["fetch", "path", "verify"])
def test_unknown_name(command: str) -> None:
    error = error_of(run(command, "eficientnet-lite0"))
    assert error.exit_code == 2
    assert LITE0 in str(error.hint)


def test_help_has_every_command() -> None:
    text = run("--help").stdout
    assert all(name in text for name in ("list", "fetch", "path", "verify"))


def test_environment_names_the_folder(
    zoo: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.pth").write_bytes(PAYLOAD)
    monkeypatch.setenv("AIGVE_WEIGHTS_DIR", str(tmp_path))
    assert run("path", "net").stdout.strip() == str(tmp_path / "net.pth")
