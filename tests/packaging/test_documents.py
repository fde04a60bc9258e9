"""README and completions: made from the code, fresh, and true."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT, child_environment
from typer.main import get_command

from aigve_cli import docs
from aigve_cli.contract import Extent, Sample, SampleFeatures
from aigve_cli.engine.plan import plan_metric
from aigve_cli.judges.task import Answer
from aigve_cli.main import app
from aigve_cli.registry import registry

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", docs.documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_file_is_fresh(path: Path) -> None:
    text = docs.documents()[path]
    assert path.read_text(encoding="utf-8") == text, "run: python -m aigve_cli.docs"


def test_a_block_is_replaced_and_the_rest_kept() -> None:
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    assert docs.with_blocks(text, {"x": "| \\1 |\n"}) == (
        "a\n<!-- x -->\n| \\1 |\n<!-- /x -->\nb\n"
    )
    with pytest.raises(ValueError, match="<!-- y -->"):
        docs.with_blocks(text, {"y": ""})


def test_readme_names_every_command() -> None:
    root: Any = get_command(app)
    nested = [f"models {name}" for name in root.commands["models"].commands]
    missing = [n for n in [*root.commands, *nested] if f"aigve {n}" not in README]
    assert missing == []


SHOWN = re.findall(r"^\$ (aigve .*?[^\\])$", README, re.MULTILINE | re.DOTALL)


def test_readme_shows_commands() -> None:
    assert len(SHOWN) >= 5


@pytest.mark.parametrize("line", SHOWN)
def test_command_in_the_readme_exists_with_its_options(line: str) -> None:
    words = shlex.split(line.replace("\\\n", " "), comments=True)[1:]
    words = words[: words.index("|")] if "|" in words else words
    command: Any = get_command(app)
    global_flags = {name for p in command.params for name in p.opts}
    while words[0] in global_flags:
        words.pop(0)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    unknown = [w for w in words if w.startswith("-") and w.partition("=")[0] not in known]
    assert unknown == []
    assert words == [] or not getattr(command, "commands", {}) or words[0].startswith("-")


@pytest.fixture
def aigve_on_path(tmp_path: Path) -> dict[str, str]:
    """An environment in which `aigve` is this checkout."""
    script = tmp_path / "bin" / "aigve"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'aigve'\n"
        "from aigve_cli.main import run\nrun()\n"
    )
    script.chmod(0o755)
    environment = child_environment()
    environment["PATH"] = f"{script.parent}:{environment['PATH']}"
    return environment


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["comp"], ["compute"]),
        (["models", "f"], ["fetch"]),
        (["models", "fetch", "efficientnet-l"], ["efficientnet-lite0"]),
        (["compute", "--weights", "e"], ["embedded"]),
        (["compute", "--input-"], ["--input-dir"]),
    ],
)
def test_bash_completes(
    typed: list[str], completed: list[str], aigve_on_path: dict[str, str]
) -> None:
    words = shlex.join(["aigve", *typed])
    script = (
        f"source {shlex.quote(str(ROOT / 'completions' / 'aigve.bash'))}\n"
        f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}\n"
        "_aigve_completion aigve\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        env=aigve_on_path,
        check=True,
    )
    assert done.stdout.split() == completed


def test_zsh_finds_its_file_by_the_first_line() -> None:
    text = (ROOT / "completions" / "_aigve").read_text(encoding="utf-8")
    assert text.startswith("#compdef aigve\n")


PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_readme_shows_an_evaluation_that_runs(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "aigve-demo").mkdir()
    (tmp_path / "aigve-demo" / "videos").symlink_to(pairs)
    monkeypatch.chdir(tmp_path)
    [code] = [block for block in PYTHON_BLOCKS if "evaluate(" in block]
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["fid-lite0", "is-lite0"]
    assert printed.err == ""


def test_readme_shows_a_metric_that_works() -> None:
    [code] = [block for block in PYTHON_BLOCKS if "class Flicker(Metric)" in block]
    names: dict[str, Any] = {"__name__": "flicker"}
    exec(compile(code, "README.md", "exec"), names)
    flicker = names["Flicker"]()
    assert list(flicker.requests({}, Extent())) == ["frames"]
    rows = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]], np.float32)
    sample = Sample("a.mp4", Path("a.mp4"))
    assert flicker.score(SampleFeatures({"frames": rows}), sample, {}).values == {"flicker": 3.0}
    assert flicker.score(SampleFeatures({"frames": rows[:1]}), sample, {}).reason


def test_readme_shows_a_metric_that_asks_a_judge() -> None:
    [code] = [block for block in PYTHON_BLOCKS if "class People(Metric)" in block]
    names: dict[str, Any] = {"__name__": "people"}
    exec(compile(code, "README.md", "exec", dont_inherit=True), names)
    found = registry()
    found = replace(found, metrics={**found.metrics, "people": names["People"]})
    planned = plan_metric(found, "people", "people", settings={}, extent=Extent())
    (request,) = planned.requests.values()
    talk = request.sources[-1].talk(None)
    (ask,) = next(talk)
    with pytest.raises(StopIteration) as told:
        talk.send([Answer(value=ask.read(" 3 "), text=" 3 ")])
    features = SampleFeatures({}, records={"seen": (told.value.value,)})
    sample = Sample("a.mp4", Path("a.mp4"))
    assert planned.metric.score(features, sample, {}).values == {"people": 3.0}
    nobody = SampleFeatures({}, records={"seen": ({"people": None, "problem": "silence"},)})
    assert planned.metric.score(nobody, sample, {}).reason == "silence"
