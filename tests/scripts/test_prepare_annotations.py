"""`scripts/prepare_annotations.py`: every line that its README had, and what each becomes."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aigve_cli.errors import UsageError
from tests.conftest import ROOT, Done, process_environment, read_results, values_of

SCRIPT = ROOT / "scripts" / "prepare_annotations.py"
flat_to_call: Callable[..., Any] = runpy.run_path(str(SCRIPT))["flat_to_call"]


@pytest.fixture
def flat(tmp_path: Path) -> Callable[..., Done]:
    """Run the script as a process, by its path, in a folder of its own."""

    def run(*arguments: object, weights: str = "embedded") -> Done:
        done = subprocess.run(
            [sys.executable, SCRIPT, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=process_environment({"AIGVE_WEIGHTS": weights}),
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


def planned(done: Done) -> list[str]:
    """The metrics that a dry run would compute."""
    return [line.split("\t")[0] for line in done.stdout.splitlines()[1:]]


def pairs_of(annotations: Path) -> list[tuple[str, str]]:
    entries = json.loads(annotations.read_text())["data_list"]
    return [(entry["video_path_pd"], entry["video_path_gt"]) for entry in entries]


EXPECTED_PAIRS = [(f"clip{i}_synthetic.mkv", f"clip{i}.mkv") for i in range(4)]


def test_annotations_to_a_file(pairs, tmp_path, flat):
    folder = shutil.copytree(pairs, tmp_path / "in put, really")
    done = flat("--input-dir", folder, "--out-json", folder / "annotations.json")
    assert done.code == 0, done.stderr
    assert pairs_of(folder / "annotations.json") == EXPECTED_PAIRS
    assert done.stdout.strip() == str(folder / "annotations.json")


@pytest.mark.parametrize("link", [[], ["--link"]], ids=["copies", "links"])
def test_staging_alone(pairs, tmp_path, flat, link):
    done = flat("--input-dir", pairs, "--stage-dataset", "./my_dataset", *link)
    assert done.code == 0, done.stderr
    evaluate = tmp_path / "my_dataset" / "evaluate"
    assert len(list(evaluate.iterdir())) == 8
    assert all(path.is_symlink() == bool(link) for path in evaluate.iterdir())
    assert pairs_of(tmp_path / "my_dataset" / "annotations" / "evaluate.json") == EXPECTED_PAIRS


def test_container_form_counts_seconds_and_gives_the_exit_code(pairs, tmp_path, flat):
    done = flat(
        *("--input-dir", pairs, "--stage-dataset", tmp_path / "out" / "staged"),
        *("--compute", "--categories", "distribution_based"),
        *("--max-seconds", "8", "--fps", "25", "--use-cpu"),
    )
    # kvd has no embedded network: a reason, and exit code 3.
    assert done.code == 3, done.stderr
    document = read_results(tmp_path)
    assert [name for name, value in values_of(document).items() if value is None] == ["kvd"]
    extents = [record["extent"] for record in document["results"]]
    assert {(extent["max_seconds"], extent["fps"]) for extent in extents} == {(8.0, 25.0)}
    assert len(list((tmp_path / "out" / "staged" / "evaluate").iterdir())) == 8
    # Results are in the current folder, as they were.
    assert json.loads((tmp_path / "fid-lite0_results.json").read_text())["video_results"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            "--stage-dataset ./my_dataset --compute --categories distribution_based "
            "--max-seconds 8 --fps 25",
            {"fid-lite0", "is-lite0", "fvd-lite0", "kid-lite0"},
        ),
        (
            "--stage-dataset ./my_dataset --compute --metrics all --max-len 64",
            {"fid-lite0", "is-lite0", "fvd-lite0"},
        ),
        (
            "--compute --categories distribution_based,nn_based_video",
            {"fid-lite0", "is-lite0", "fvd-lite0", "kid-lite0"},
        ),
        (
            "--compute --categories distribution_based --metrics simplevqa",
            {"fid-lite0", "is-lite0", "fvd-lite0", "kid-lite0"},
        ),
        ("--compute", {"fid-lite0", "is-lite0", "fvd-lite0"}),
        ("--compute --metrics=fid,distribution_based --fps=native", {"fid-lite0", "kid-lite0"}),
    ],
)
def test_what_would_be_computed(pairs, tmp_path, flat, flags, expected):
    done = flat(*flags.split(), "--input-dir", pairs, "--dry-run")
    assert done.code == 0, done.stderr
    assert expected <= set(planned(done))
    # What has no embedded network is said, not dropped.
    for metric in ("simplevqa", "gstvqa"):
        if metric in flags or "nn_based_video" in flags:
            assert f"{metric} has no number" in done.stderr
    assert not (tmp_path / "my_dataset").exists()


@pytest.mark.parametrize(
    ("flags", "first"),
    [
        (
            "--stage-dataset ./my_dataset --compute --categories nn_based_video "
            "--gstvqa-model {} --simplevqa-model {} --lightvqa-plus-model {} "
            "--lightvqa-plus-swin {}",
            "gstvqa",
        ),
        (
            "--compute --metrics lightvqa+ --lightvqa-plus-model {} --lightvqa-plus-swin {}",
            "lightvqa-plus",
        ),
    ],
)
def test_checkpoint_that_is_not_there_is_an_error_that_names_it(
    pairs, tmp_path, flat, flags, first
):
    # The old script warned, left the metric out and ended with 0.
    missing = tmp_path / "to" / "checkpoint.pth"
    words = [word.format(missing) for word in flags.split()]
    done = flat("--input-dir", pairs, *words, weights="auto")
    assert done.code == 4, done.stderr
    assert f"--model {first}={missing}: there is no file {missing}." in done.stderr
    assert "--lightvqa-plus-swin is not used" in done.stderr
    assert not (tmp_path / "results.json").exists()


def test_list_of_metrics(flat):
    done = flat("--list-metrics")
    assert done.code == 0, done.stderr
    assert {"fid", "gstvqa", "lightvqa-plus"} <= set(planned(done))


def test_help_names_every_flag_of_before_and_imports_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", SCRIPT, "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=process_environment(),
        check=True,
    )
    for flag in (
        *("--input-dir", "--out-json", "--generated-suffixes", "--stage-dataset", "--link"),
        *("--compute", "--metrics", "--categories", "--list-metrics", "--max-len"),
        *("--max-seconds", "--fps", "--pad", "--use-cpu", "--fvd-model", "--gstvqa-model"),
        *("--simplevqa-model", "--lightvqa-plus-model", "--lightvqa-plus-swin"),
    ):
        assert flag in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "numpy", "typer", "aigve_cli"}


def test_runs_from_a_checkout_that_is_not_installed(pairs, tmp_path, flat):
    checkout = tmp_path / "checkout"
    for name in ("aigve_cli", "models"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).symlink_to(ROOT / name)
    (checkout / "scripts").mkdir()
    script = shutil.copy(SCRIPT, checkout / "scripts")
    # No site-packages of this checkout's own installation: only what it depends on.
    packages = [path for path in sys.path if path.endswith("site-packages")]
    done = subprocess.run(
        [sys.executable, "-S", script, "--input-dir", pairs, "--out-json", "found.json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=process_environment({"PYTHONPATH": os.pathsep.join(packages)}),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert pairs_of(tmp_path / "found.json") == EXPECTED_PAIRS


def test_without_a_folder(flat):
    done = flat("--compute", "--metrics", "all")
    assert done.code == 2
    assert done.stderr.splitlines()[0] == "Error: --input-dir is missing."
    assert done.stderr.splitlines()[1].startswith("Hint: ")


def test_flags_without_compute_are_said_and_left_out(pairs, tmp_path, flat):
    done = flat(
        *("--max-len", "8", "--fps=25", "--pad", "--gstvqa-model", "x.ckpt", "--link"),
        *("--out-json", "found.json", "--input-dir", pairs),
    )
    assert done.code == 0, done.stderr
    said = done.stderr.splitlines()[0]
    assert said == "aigve prepare does not use --max-len, --fps, --pad, --gstvqa-model, --link."
    assert pairs_of(tmp_path / "found.json") == EXPECTED_PAIRS


def arguments_of(line: str, *variables: str) -> str:
    return " ".join(flat_to_call(line.split(), variables).arguments)


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("--input-dir i", "prepare --input-dir i"),
        ("--link --stage-dataset=s --input-dir i", "stage --link --stage-dataset=s --input-dir i"),
        ("--compute --input-dir i --pad", "compute --input-dir i --pad"),
        # A category alone runs that category; `all` adds fid, is and fvd.
        (
            "--compute --input-dir i --categories nn_based_video",
            "compute --input-dir i --categories nn_based_video",
        ),
        (
            "--compute --metrics all --categories nn_based_video --input-dir i",
            "compute --input-dir i --metrics all --categories nn_based_video",
        ),
        # Metrics could be categories, and empty lists said nothing.
        (
            "--compute --input-dir i --metrics fid,nn_based_video --categories=",
            "compute --input-dir i --metrics fid --categories nn_based_video",
        ),
        # The last of two counts.
        ("--compute --input-dir i --metrics a --metrics b", "compute --input-dir i --metrics b"),
        ("--compute --input-dir i --metrics none", "prepare --input-dir i"),
        ("--compute --input-dir i --metrics=", "prepare --input-dir i"),
        (
            "--compute --input-dir i --metrics none --stage-dataset s --max-len 9",
            "stage --input-dir i --stage-dataset s",
        ),
        (
            "--compute --input-dir i --metrics none --categories distribution_based",
            "compute --input-dir i --categories distribution_based",
        ),
        # Global flags come before, unknown ones reach aigve, which says what was meant.
        ("--input-dir i -q --color never", "-q --color never prepare --input-dir i"),
        ("--input-dir i --mas-len 3", "prepare --input-dir i --mas-len 3"),
        ("--input-dir i --compute --metrics", "compute --input-dir i --metrics"),
        ("--list-metrics --input-dir i --format json", "list-metrics --format json"),
        ("--compute --annotations a.json", "compute --annotations a.json"),
        # A value may look like a flag.
        (
            "--input-dir i --generated-suffixes -gen",
            "prepare --input-dir i --generated-suffixes -gen",
        ),
        ("--version", "--version list-metrics"),
    ],
)
def test_call_of_a_line(line, call):
    assert arguments_of(line) == call


def test_variables_stand_for_flags():
    assert arguments_of("--pad", "AIGVE_INPUT_DIR") == "prepare"
    assert arguments_of("", "AIGVE_INPUT_DIR", "AIGVE_STAGE_DATASET") == "stage"
    with pytest.raises(UsageError, match="--input-dir is missing"):
        flat_to_call(["--annotations", "a.json"])


def test_what_changed_is_said():
    notes = flat_to_call(["--compute", "--input-dir", "i", "--categories", "nn_based_video"]).notes
    assert notes == ["Only --categories: add --metrics all for fid, is and fvd as well."]
    notes = flat_to_call(["--compute", "--input-dir", "i", "--metrics", "none"]).notes
    assert notes == ["--metrics none: nothing is computed."]
    assert flat_to_call(["--compute", "--input-dir", "i", "--metrics", "fid"]).notes == []
