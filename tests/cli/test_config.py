"""`aigve config` and what is read back through --config."""

from __future__ import annotations

import tomllib

import pytest

from aigve_cli.config import read_config
from aigve_cli.errors import UsageError
from aigve_cli.registry import registry


@pytest.mark.parametrize("name", list(registry().metrics))
def test_every_metrics_table_is_read_back(pairs, tmp_path, aigve, name):
    printed = aigve("config", name)
    assert printed.code == 0
    tables = tomllib.loads(printed.stdout)
    options = {option.name: option.default for option in registry().metrics[name].card.options}
    assert tables[name] == options
    changed = {key: value * 2 for key, value in options.items()}
    lines = [f"[{name}]", *(f"{key} = {value}" for key, value in changed.items())]
    (tmp_path / "own.toml").write_text("\n".join(lines) + "\n")
    done = aigve(
        *("--config", tmp_path / "own.toml", "compute", "--dry-run"),
        *("--input-dir", pairs, "--metrics", name),
    )
    assert done.code == 0, done.stderr
    for key, value in changed.items():
        assert f"{key}={value}" in done.stdout


def test_every_line_that_is_a_comment_may_be_set(pairs, tmp_path, aigve):
    printed = aigve("config").stdout
    uncommented = "\n".join(
        line.removeprefix("#") if line.startswith("#") and line[1:2].isalpha() else line
        for line in printed.splitlines()
    )
    content = tomllib.loads(uncommented)
    assert content["max_len"] == 64
    for key in ("annotations", "video_dir", "reference_dir", "prompts", "prompt", "stage_dataset"):
        del content[key]
    content["input_dir"] = str(pairs)
    scalars = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for key, value in content.items()
        if not isinstance(value, dict)
    ]
    (tmp_path / "aigve.toml").write_text("\n".join(scalars) + "\n")
    done = aigve("compute", "--dry-run")
    assert done.code == 0, done.stderr
    # --max-seconds wins over --max-len: 2.5 s at 25 frames a second.
    assert "first 62 frames" in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_len = ", "not valid TOML"),
        ("max_length = 3", "max_length"),
        ("[fid-lite]\nx = 1", "fid-lite"),
        ("[model]\nefficientnet-lite0 = 3", "must be a path"),
    ],
)
def test_files_that_are_refused(tmp_path, text, words):
    path = tmp_path / "aigve.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_config(path, ["max_len"], ["fid-lite0"])
    assert words in caught.value.message


def test_model_paths_are_relative_to_the_file(tmp_path):
    path = tmp_path / "aigve.toml"
    path.write_text('[model]\nefficientnet-lite0 = "own.pth"\n')
    assert read_config(path, [], []).models == {"efficientnet-lite0": tmp_path / "own.pth"}


def test_doctor_names_where_a_setting_comes_from(tmp_path, aigve):
    (tmp_path / "aigve.toml").write_text("max_len = 7\n[is-lite0]\nsplits = 3\n")
    done = aigve("doctor", "--format", "tsv", env={"AIGVE_FPS": "30"})
    assert done.code == 0, done.stderr
    assert "max_len\tok\t7 (aigve.toml)" in done.stdout
    assert "is-lite0.splits\tok\t3 (aigve.toml)" in done.stdout
    assert "AIGVE_FPS\tok\t30 (environment)" in done.stdout
    assert "efficientnet-lite0" in done.stdout
