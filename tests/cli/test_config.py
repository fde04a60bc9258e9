"""`aigve config` and what is read back through --config."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from aigve_cli.config import environment_models, environment_settings, merge_settings, read_config
from aigve_cli.errors import UsageError
from aigve_cli.main import app, let_waiting_threads_sleep, main
from aigve_cli.registry import registry
from aigve_cli.weights import network_cards
from tests.networks.checkpoints import write_checkpoint
from tests.networks.vbench_checkpoints import write_vbench_checkpoint


def uncommented(text: str) -> str:
    """A file of `aigve config` in which every value is set."""
    return "\n".join(
        line.removeprefix("#") if line.startswith("#") and line[1:2].isalpha() else line
        for line in text.splitlines()
    )


def another(default):
    """Another value of the same kind."""
    if isinstance(default, bool):
        return not default
    return f"{default}-other" if isinstance(default, str) else default * 2


def write_questions_file(path, metric):
    question = {"question": "is there a ball?", "choices": ["yes", "no"], "answer": "yes"}
    sets = [{"caption": "a red ball", "questions": [{"id": 1, "parents": [], **question}]}]
    head = {"aigve": "questions", "schema": 1, "metric": metric}
    path.write_text(json.dumps({**head, "sets": sets}))
    return path


@pytest.mark.parametrize("name", list(registry().metrics))
def test_every_metrics_table_is_read_back(pairs, tmp_path, aigve, name):
    printed = aigve("config", name)
    assert printed.code == 0
    assert tomllib.loads(printed.stdout) == {name: {}, "model": {}}
    tables = tomllib.loads(uncommented(printed.stdout))
    options = {option.name: option.default for option in registry().metrics[name].card.options}
    assert tables[name] == options
    changed = {
        option.name: option.choices[-1] if option.choices else another(option.default)
        for option in registry().metrics[name].card.options
        if option.name != "protocol"  # decides what other options say
    }
    if "questions" in changed:
        changed["questions"] = str(write_questions_file(tmp_path / "questions.json", name))
    if name == "vbench-dynamic-degree":
        changed["weights"] = options["weights"]  # of the other file no address is known
    if "detections" in changed:
        (tmp_path / "found.json").write_text('{"videos": {}}')
        changed["detections"] = str(tmp_path / "found.json")
    lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in changed.items())]
    (tmp_path / "own.toml").write_text("\n".join(lines) + "\n")
    # What no address is known of cannot be fetched later either.
    card = network_cards().get(name)
    by_hand = card is not None and not card.entry().fetchable
    models = [f"--model={name}={write_checkpoint(tmp_path, name)}"] if by_hand else []
    if name == "vbench-motion-smoothness":
        models = [f"--model=amt-s={write_vbench_checkpoint(tmp_path, 'amt-s')}"]
    done = aigve(
        *("--config", tmp_path / "own.toml", "compute", "--dry-run"),
        *("--input-dir", pairs, "--metrics", name, "--prompt", "a red ball", *models),
        *("--judge", "openai:a-model"),
        env={"AIGVE_OFFLINE": ""},  # a dry run fetches nothing
    )
    assert done.code == 0, done.stderr
    for key, value in changed.items():
        assert f"{key}={value}" in done.stdout


def test_every_line_that_is_a_comment_may_be_set(pairs, tmp_path, aigve):
    printed = aigve("config").stdout
    assert all(table == {} for table in tomllib.loads(printed).values())
    content = tomllib.loads(uncommented(printed))
    assert content["max_len"] == 64
    for key in ("annotations", "video_dir", "reference_dir", "prompts", "prompt", "stage_dataset"):
        del content[key]
    for key in ("reference_stats", "save_stats", "weights_dir", "vbench_info"):
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


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """What `compute` gets from a file, the environment and flags, without running it."""
    for name in [name for name in os.environ if name.startswith("AIGVE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def options(*flags: str, file: str = "", env: dict[str, str] | None = None) -> dict[str, Any]:
        (tmp_path / "aigve.toml").write_text(file)
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        command: Any = get_command(app)
        given: dict[str, Any] = {}
        command.commands["compute"].callback = lambda **values: given.update(values)
        command.main(["compute", *flags], standalone_mode=False)
        return given

    return options


@pytest.mark.parametrize(
    ("file", "env", "flags", "expected"),
    [
        ("max_seconds = 2", {}, "--max-len 5", {"max_len": 5, "max_seconds": None}),
        ("max_seconds = 2", {"AIGVE_MAX_LEN": "5"}, "", {"max_len": 5, "max_seconds": None}),
        ("", {"AIGVE_MAX_SECONDS": "2"}, "--max-len 5", {"max_len": 5, "max_seconds": None}),
        ("max_seconds = 2\nmax_len = 5", {}, "", {"max_len": 5, "max_seconds": 2.0}),
        ("max_len = 5", {}, "--max-seconds 2", {"max_seconds": 2.0}),
        ("use_cpu = true", {}, "--device cuda", {"use_cpu": False, "device": "cuda"}),
        ("", {"AIGVE_USE_CPU": "1"}, "--device cuda", {"use_cpu": False, "device": "cuda"}),
        ("", {"AIGVE_DEVICE": "cuda"}, "--use-cpu", {"use_cpu": True, "device": "auto"}),
        ("use_cpu = false\n", {"AIGVE_DEVICE": "cuda"}, "", {"device": "cuda"}),
        ('device = "cuda"', {"AIGVE_USE_CPU": "0"}, "", {"use_cpu": False, "device": "cuda"}),
        (
            'input_dir = "a"\nreference_dir = "b"',
            {},
            "--annotations c.json",
            {"input_dir": None, "reference_dir": None, "annotations": "c.json"},
        ),
        (
            'annotations = "a.json"\nvideo_dir = "b"',
            {},
            "--input-dir c",
            {"annotations": None, "video_dir": None, "input_dir": "c"},
        ),
        (
            'input_dir = "a"\nreference_dir = "b"',
            {},
            "--input-dir c",
            {"input_dir": "c", "reference_dir": "b"},
        ),
        (
            'prompts = "p.csv"\nprompt_from_name = true',
            {},
            "--prompt x",
            {"prompts": None, "prompt": "x", "prompt_from_name": False},
        ),
        (
            'prompt = "x"',
            {"AIGVE_PROMPTS": "p.csv"},
            "--prompt-from-name",
            {"prompts": None, "prompt": None, "prompt_from_name": True},
        ),
    ],
)
def test_the_order_holds_between_options_too(seen, file, env, flags, expected):
    given = seen(*flags.split(), file=file, env=env)
    assert {name: given[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("file", "flags", "words"),
    [
        ("", "--use-cpu --device cuda", "contradict"),
        ('use_cpu = true\ndevice = "cuda"', "", "contradict"),
        ("", "--input-dir a --annotations b.json", "exclude each other"),
    ],
)
def test_rivals_of_equal_origin_contradict_each_other(tmp_path, aigve, file, flags, words):
    (tmp_path / "aigve.toml").write_text(file)
    done = aigve("compute", "--dry-run", *flags.split())
    assert (done.code, words in done.stderr) == (2, True), done.stderr


def test_values_of_any_type_are_read_as_flags_are(seen):
    given = seen(file='weights_dir = 3\nresume = false\nstrict = true\nfps = 12\nformat = "csv"')
    expected = {
        "weights_dir": "3",
        "resume": False,
        "strict": True,
        "fps": "12",
        "format_": "csv",
    }
    assert {name: given[name] for name in expected} == expected


def test_what_is_outranked_is_said_when_verbose(pairs, tmp_path, aigve):
    (tmp_path / "aigve.toml").write_text("max_seconds = 2\n")
    done = aigve(
        *("compute", "--input-dir", pairs, "--metrics", "is", "--max-len", "5"),
        *("--dry-run", "-v"),
    )
    assert done.code == 0, done.stderr
    assert "first 5 frames" in done.stdout
    assert "max_seconds of the configuration file is not used" in done.stderr


def test_quiet_after_the_command(pairs, aigve):
    done = aigve("compute", "--input-dir", pairs, "--metrics", "kid-lite0", "--dry-run", "-q")
    assert (done.code, done.stderr) == (0, "")


def test_variables_of_several_values_keep_spaces(monkeypatch):
    monkeypatch.setenv("AIGVE_MODEL", os.pathsep.join(("a=my files/x.pth", "b=y.pth", "")))
    assert environment_models() == {"a": Path("my files/x.pth"), "b": Path("y.pth")}
    monkeypatch.setenv("AIGVE_SET", "is.splits=3; kid.name=a b\nkid.subset=4\n")
    assert environment_settings() == {"is": {"splits": "3"}, "kid": {"name": "a b", "subset": "4"}}
    monkeypatch.setenv("AIGVE_SET", "is.splits")
    with pytest.raises(UsageError, match=r"AIGVE_SET is\.splits: expected"):
        environment_settings()


def test_settings_are_merged_by_key_whatever_the_metric_is_called():
    file = {"is-lite0": {"splits": 3, "other": 1}, "is": {"splits": 4}}
    assert merge_settings(file) == file
    merged = merge_settings(file, {"IS": {"splits": "5"}})
    assert merged == {"is-lite0": {"other": 1}, "is": {"splits": "5"}}
    merged = merge_settings(file, {"IS": {"splits": "5"}}, {"is-lite0": {"splits": "6"}})
    assert merged == {"is-lite0": {"splits": "6", "other": 1}, "is": {"splits": "5"}}


def test_settings_of_file_environment_and_flags(pairs, tmp_path, aigve):
    (tmp_path / "aigve.toml").write_text("[is-lite0]\nsplits = 3\n")
    command = ("compute", "--input-dir", pairs, "--metrics", "is", "--dry-run")
    assert "splits=4" in aigve(*command, env={"AIGVE_SET": "is.splits=4"}).stdout
    flag = aigve(*command, "--set", "is-lite0.splits=5", env={"AIGVE_SET": "is.splits=4"})
    assert "splits=5" in flag.stdout


def stop(*_: object, **__: object) -> None:
    raise typer.Exit


def test_compute_writes_annotations_where_it_is_told_to(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aigve_cli.api.run_plan", stop)
    plain = ["compute", "--input-dir", str(pairs)]
    assert main(plain) == 0
    assert list(tmp_path.iterdir()) == []

    command = [*plain, "--out-json", "own/a.json"]
    assert main([*command, "--dry-run"]) == 0
    assert "would be written to 'own/a.json'" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()

    assert main([*command, "--stage-dataset", "staged"]) == 0
    words = "--out-json is not used: the annotations are staged in 'staged'"
    assert words in capsys.readouterr().err
    assert not (tmp_path / "own").exists()

    assert main(command) == 0
    capsys.readouterr()
    assert main(["prepare", "--input-dir", str(pairs), "--dry-run"]) == 0
    prepared = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "own/a.json").read_text()) == prepared
    assert not list(pairs.glob("*.json"))


def test_doctor_names_where_a_setting_comes_from(tmp_path, aigve):
    (tmp_path / "aigve.toml").write_text(
        'max_len = 7\nmax_seconds = 2\nweights_dir = "w"\npad = true\n'
        "[is-lite0]\nsplits = 3\n[kid-lite0]\nsubsets = 9\n"
        '[model]\nefficientnet-lite0 = "x.pth"\n'
    )
    environment = {
        "AIGVE_FPS": "30",
        "AIGVE_MAX_LEN": "8",
        "AIGVE_SET": "is.splits=4",
        "AIGVE_MODEL": "efficientnet-lite0=y z.pth",
    }
    done = aigve("doctor", "--format", "tsv", env=environment)
    assert done.code == 0, done.stderr
    for line in (
        "  fps\tok\t30 (AIGVE_FPS)",
        "  max_len\tok\t8 (AIGVE_MAX_LEN)",
        "  max_seconds\tnote\t2.0 (aigve.toml), not used: max_len wins",
        "  pad\tok\ttrue (aigve.toml)",
        "  weights_dir\tok\tw (aigve.toml)",
        "  is.splits\tok\t4 (AIGVE_SET)",
        "  kid-lite0.subsets\tok\t9 (aigve.toml)",
        "  model efficientnet-lite0\tok\ty z.pth (AIGVE_MODEL)",
    ):
        assert line in done.stdout.splitlines(), done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_length = 3", "max_len"),
        ("max_len = 'many'", "--max-len"),
        ("max_len = 7.5", "--max-len"),
        ("offline = 3", "--offline"),
    ],
)
def test_doctor_shows_a_file_that_is_broken(tmp_path, monkeypatch, capsys, text, words):
    (tmp_path / "aigve.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIGVE_OFFLINE")  # it would win over the file
    assert main(["doctor", "--format", "tsv"]) == 4
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if "\tbroken\t" in line]
    assert words in line


def test_only_a_run_needs_the_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "aigve.toml").write_text("max_len = \n")
    monkeypatch.chdir(tmp_path)
    assert main(["list-metrics"]) == 0
    assert main(["config"]) == 0
    printed = capsys.readouterr()
    assert "aigve.toml is not valid TOML" in printed.err
    assert "#max_len = 64" in printed.out
    for command in ("compute", "prepare", "stage", "demo"):
        assert main([command]) == 2
        assert "aigve.toml is not valid TOML" in capsys.readouterr().err


def test_weights_of_the_file_reach_models(tmp_path, monkeypatch, capsys):
    (tmp_path / "aigve.toml").write_text('weights_dir = "own"\noffline = true\n')
    monkeypatch.chdir(tmp_path)
    policies: list[Any] = []

    def note_policy(_: object, weights_dir: Path | None, offline: bool = False) -> None:
        policies.append((weights_dir, offline))
        raise typer.Exit

    monkeypatch.setattr("aigve_cli.commands.models._policy", note_policy)
    assert main(["models", "list"]) == 0
    assert main(["models", "fetch", "efficientnet-lite0"]) == 0
    assert policies == [(Path("own"), False), (Path("own"), True)]


def test_waiting_threads_sleep_unless_told_otherwise(monkeypatch):
    environment = {"OMP_WAIT_POLICY": "active"}
    monkeypatch.setattr(os, "environ", environment)
    let_waiting_threads_sleep()
    assert "GOMP_SPINCOUNT" not in environment
    environment.clear()
    let_waiting_threads_sleep()
    assert environment == {"GOMP_SPINCOUNT": "1000"}
    environment["GOMP_SPINCOUNT"] = "5"
    let_waiting_threads_sleep()
    assert environment == {"GOMP_SPINCOUNT": "5"}


def test_doctor_says_that_there_is_a_key_and_not_which(aigve):
    key = "sk-nobody-may-see-this"
    for format_ in ("table", "json"):
        done = aigve(
            "doctor",
            "--format",
            format_,
            env={"AIGVE_JUDGE_KEY": key, "AIGVE_JUDGE_TEXT_KEY": key, "OPENAI_API_KEY": key},
        )
        assert key not in done.stdout + done.stderr
        assert "AIGVE_JUDGE_KEY" in done.stdout
