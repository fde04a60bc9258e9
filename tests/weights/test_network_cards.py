"""Cards of the zoo: all of them parse, broken ones name their file, the README is theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aigve_cli.errors import SetupError, UsageError
from aigve_cli.weights import cards_to_markdown, network_card, network_cards
from aigve_cli.weights.cards import toml_to_card

MODELS = Path(__file__).parents[2] / "models"

NETWORK = """
name = "a-net"
title = "A network"
kind = "network"
default_weights = "t"
[outputs]
features = 4
[weights.t]
file = "a.pth"
licence = "MIT"
sha256 = "unknown"
"""


def test_every_card_has_its_module_and_the_other_way_round() -> None:
    cards = network_cards()
    assert list(cards) == sorted(cards)
    modules = {path.stem for path in (MODELS / "aigve_models").glob("[!_]*.py")}
    assert modules == {name.replace("-", "_") for name in cards}


def test_lite0_card() -> None:
    card = network_card("efficientnet-lite0")
    assert card.kind == "network"
    assert dict(card.outputs) == {"features": 1280, "logits": 1000}
    assert card.module == "aigve_models.efficientnet_lite0"
    assert card.entry().embedded


def test_function_card() -> None:
    text = 'name = "f"\ntitle = "F"\nkind = "function"\n[outputs]\ndescriptor = 0\n'
    card = toml_to_card(text, "f.toml")
    assert (card.kind, dict(card.outputs), dict(card.weights)) == (
        "function",
        {"descriptor": 0},
        {},
    )


def test_unknown_network_has_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        network_card("eficientnet-lite0")
    assert "efficientnet-lite0" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "a-net"', 'name = "b-net"', "not the file's"),
        ('name = "a-net"', "", "name is missing"),
        ('kind = "network"', 'kind = "thing"', "'network' or 'function'"),
        ('kind = "network"', 'kind = "function"', "a function has none"),
        ('default_weights = "t"', 'default_weights = "u"', "one of: t"),
        ('title = "A network"', "title = 3", "title is 3"),
        ('title = "A network"', 'titel = "A"', "unknown key 'titel'"),
        ("features = 4", "features = -1", "[outputs]"),
        ("features = 4", "", "[outputs]"),
        ('"unknown"', '"ABCDEF01"', "hex digits"),
        ('"unknown"', '"abc"', "hex digits"),
        ('file = "a.pth"', 'file = "../a.pth"', "plain file name"),
        ('licence = "MIT"', "", "licence is missing"),
        ('licence = "MIT"', 'licence = "MIT"\nbytes = 0', "bytes is 0"),
        ('licence = "MIT"', 'licence = "MIT"\nurls = ["ftp://x/y"]', "http(s)"),
        ('licence = "MIT"', 'licence = "MIT"\npackage = "p"', "go together"),
        ("[outputs]", "[outputs", "broken"),
    ],
)
def test_broken_card_names_its_file_and_fault(old: str, new: str, says: str) -> None:
    toml_to_card(NETWORK, "a_net.toml")
    with pytest.raises(SetupError) as caught:
        toml_to_card(NETWORK.replace(old, new, 1), "a_net.toml")
    assert "a_net.toml" in caught.value.message
    assert says in caught.value.message


def test_models_readme_is_fresh() -> None:
    assert (MODELS / "README.md").read_text(encoding="utf-8") == cards_to_markdown()


def test_cards_import_nothing_heavy() -> None:
    code = (
        "import sys; from aigve_cli.weights import network_cards; network_cards();"
        "heavy = {'torch', 'timm', 'numpy', 'requests', 'filelock'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    root = MODELS.parent
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=root,
        env={"PYTHONPATH": f"{root}:{MODELS}", "PATH": ""},
    )
