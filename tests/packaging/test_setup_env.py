"""What setup_env.sh refuses, without installing anything. `.ci/run` proves that it installs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT

SCRIPT = ROOT / "setup_env.sh"


def setup_env(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, **environment},
        check=False,
    )


def test_may_be_run() -> None:
    assert os.access(SCRIPT, os.X_OK)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_help_names_every_option() -> None:
    done = setup_env("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("--env-name", "--with-nlp", "--dev", "--demo", "--test", "--cpu", "--help"):
        assert f"  {option} " in done.stdout


def test_unknown_option_is_a_usage_error() -> None:
    done = setup_env("--tset")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown option: --tset" in done.stderr
    assert "Usage: bash setup_env.sh" in done.stderr


def test_cpu_is_refused_with_the_reason() -> None:
    done = setup_env("--cpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert "also runs on the CPU" in done.stderr
    assert "--use-cpu" in done.stderr


@pytest.mark.parametrize("arguments", [["--env-name"], ["--env-name", ""], ["--env-name", "-x"]])
def test_environment_needs_a_name(arguments: list[str]) -> None:
    done = setup_env(*arguments)
    assert done.returncode == 2
    assert "--env-name" in done.stderr


def test_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "notes.txt"
    kept.write_text("mine")
    for name in (tmp_path, kept):
        done = setup_env("--env-name", name)
        assert done.returncode == 2
        assert "is not a virtual environment" in done.stderr
    assert [*tmp_path.iterdir()] == [kept]
    assert kept.read_text() == "mine"


def test_environment_whose_python_is_gone_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /nowhere\n")
    done = setup_env("--env-name", tmp_path)
    assert done.returncode == 4
    assert "does not run" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["pyvenv.cfg"]


def test_python_that_does_not_run_is_named(tmp_path: Path) -> None:
    done = setup_env("--env-name", tmp_path / "env", PYTHON="/nowhere/python3")
    assert done.returncode == 4
    assert "PYTHON=/nowhere/python3" in done.stderr
    assert not (tmp_path / "env").exists()


def test_no_python_at_all_has_a_hint(tmp_path: Path) -> None:
    for tool in ("bash", "dirname", "ls"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    done = setup_env("--env-name", tmp_path / "env", PATH=str(tmp_path), PYTHON="")
    assert done.returncode == 4
    assert "no Python 3.11 or newer" in done.stderr
    assert "PYTHON=" in done.stderr
