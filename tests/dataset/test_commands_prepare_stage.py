import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aigve_cli.dataset.samples import load_dataset

ROOT = Path(__file__).parents[2]
CODE = "from aigve_cli.main import run; run()"


def aigve(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", CODE, *map(str, arguments)],
        cwd=folder,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("AIGVE_")},
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'models'}",
            "NO_COLOR": "1",
            "COLUMNS": "80",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a, b.mp4", "a, b_Synthetic.MOV", "c-generated_1.mp4", "d.mp4"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_prepare_writes_annotations(folder):
    done = aigve(folder.parent, "prepare", "--input-dir", "in")
    path = folder / "annotations.json"
    assert (done.returncode, done.stdout) == (0, f"{path}\n")
    assert json.loads(path.read_text()) == {
        "metainfo": {"source": str(folder), "length": 2},
        "data_list": [
            {
                "prompt_gt": "",
                "video_path_pd": "a, b_Synthetic.MOV",
                "video_path_gt": "a, b.mp4",
            },
            {"prompt_gt": "", "video_path_pd": "c-generated_1.mp4"},
        ],
    }
    assert done.stderr.splitlines() == [
        "2 generated, 1 paired with 1 reference, 1 unpaired, 0 with a prompt",
        "Left out: 1 file",
        "  d.mp4: a reference to which no generated video belongs",
        f"video_dir: {folder}",
        "prompt_dir: no prompts",
    ]


def test_prepare_dry_run_prints_the_document_only(folder):
    done = aigve(folder, "-q", "prepare", "--input-dir", ".", "--prompt", "ü", "--dry-run")
    assert done.returncode == 0
    assert json.loads(done.stdout)["data_list"][0]["prompt_gt"] == "ü"
    assert done.stderr == ""
    assert not (folder / "annotations.json").exists()


def test_prepare_without_any_pair_is_fine(folder):
    for name in ("a, b_Synthetic.MOV", "c-generated_1.mp4"):
        (folder / name).unlink()
    done = aigve(folder, "prepare", "--input-dir", ".", "--out-json", "../deep/er/x.json")
    assert (done.returncode, done.stdout) == (0, "../deep/er/x.json\n")
    written = json.loads((folder.parent / "deep/er/x.json").read_text())
    assert [row["video_path_pd"] for row in written["data_list"]] == ["a, b.mp4", "d.mp4"]


def test_prepare_does_not_lose_prompts_typed_by_hand(folder):
    assert aigve(folder, "prepare", "--input-dir", ".", "--prompt", "typed").returncode == 0
    before = (folder / "annotations.json").read_text()
    refused = aigve(folder, "prepare", "--input-dir", ".")
    assert refused.returncode == 2
    assert "would be lost" in refused.stderr
    assert "--prompts" in refused.stderr
    assert (folder / "annotations.json").read_text() == before
    (folder / "c-generated_1.mp4").unlink()
    kept = aigve(folder, "prepare", "--input-dir", ".", "--prompts", "annotations.json")
    assert kept.returncode == 0
    rows = json.loads((folder / "annotations.json").read_text())["data_list"]
    assert [row["prompt_gt"] for row in rows] == ["typed"]


def test_options_come_from_the_environment(folder):
    done = aigve(
        folder,
        "prepare",
        "--dry-run",
        AIGVE_INPUT_DIR=str(folder),
        AIGVE_GENERATED_SUFFIXES="none-of-them",
        AIGVE_PROMPT_FROM_NAME="1",
    )
    assert [row["prompt_gt"] for row in json.loads(done.stdout)["data_list"]] == [
        "a, b",
        "a, b_Synthetic",
        "c-generated 1",
        "d",
    ]


def test_stage_prints_the_annotations(folder):
    arguments = ("stage", "--input-dir", ".", "--stage-dataset", "../out")
    dry = aigve(folder, *arguments, "--dry-run")
    assert dry.returncode == 0
    assert [line.split("\t")[0] for line in dry.stdout.splitlines()] == ["copied"] * 3
    assert not (folder.parent / "out").exists()
    done = aigve(folder, *arguments, "--out-json", "x.json", "--link")
    path = folder.parent / "out" / "annotations" / "evaluate.json"
    assert (done.returncode, done.stdout) == (0, f"{path}\n")
    assert "--out-json is not used" in done.stderr
    assert "3 linked" in done.stderr
    assert f"prompt_dir: {path}" in done.stderr
    assert not (folder / "x.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "--input-dir"),
        (["stage", "--input-dir", "."], "--stage-dataset"),
        (["prepare", "--input-dir", "nope"], "does not exist"),
        (["prepare", "--input-dir", "d.mp4"], "is a file, not a folder"),
        (["prepare", "--input-dir", ".."], "add --recursive"),
        (["prepare", "--input-dir", "../empty"], "looked for mp4 mov mkv avi webm m4v gif"),
        (["prepare", "--input-dir", ".", "--reference-dir", "../empty"], "No videos in"),
        (["prepare", "--input-dir", ".", "--prompt", "x", "--prompts", "y.csv"], "exclude"),
        (["prepare", "--input-dir", ".", "--prompts", "y.csv"], "Prompt file 'y.csv' does not"),
    ],
)
def test_usage_errors(folder, arguments, message):
    (folder.parent / "empty").mkdir()
    done = aigve(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_that_cannot_be_written(folder):
    done = aigve(folder, "prepare", "--input-dir", ".", "--out-json", "d.mp4/x.json")
    assert done.returncode == 4
    assert "--out-json" in done.stderr


def test_help_needs_no_heavy_import(folder):
    heavy = "numpy", "torch", "scipy"
    code = (
        "import sys; from aigve_cli.main import main; main(['stage', '--help']); "
        f"sys.exit(any(name in sys.modules for name in {heavy}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'models'}"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0


def test_odd_files_are_left_out_with_a_reason(folder):
    (folder / "._a, b.mp4").touch()
    (folder / ".hidden.mp4").touch()
    (folder / "folder.mp4").mkdir()
    (folder / "broken.mp4").symlink_to("nowhere")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "old.wmv").touch()
    (folder / "notes.txt").touch()
    os.mkfifo(folder / "pipe.mp4")
    undecodable = os.fsencode(folder) + b"/\xff.mp4"
    try:
        Path(os.fsdecode(undecodable)).touch()
    except OSError:
        undecodable = b""
    dataset = load_dataset(input_dir=folder)
    reasons = {item.path.name: item.reason for item in dataset.left_out}
    reasons.pop("\udcff.mp4", None)
    assert reasons == {
        "._a, b.mp4": "macOS metadata (AppleDouble), not a video",
        ".hidden.mp4": "hidden",
        "folder.mp4": "a folder, not a file",
        "broken.mp4": "a broken link",
        "loop.mp4": f"a broken link ({os.strerror(errno.ELOOP)})",
        "old.wmv": "its extension is not one of mp4 mov mkv avi webm m4v gif",
        "pipe.mp4": "not a regular file",
        "d.mp4": "a reference to which no generated video belongs",
    }
    assert len(dataset.generated) == 2
    lines = dataset.describe()
    assert f"  and {len(dataset.left_out) - 5} more" in lines


def test_recursive_search_visits_each_folder_once(folder):
    (folder / "s" / "t").mkdir(parents=True)
    (folder / "s" / "t" / "a, b_synthetic.mp4").touch()
    (folder / "s" / "up").symlink_to(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x_synthetic.mp4").touch()
    names = [s.name for s in load_dataset(input_dir=folder, recursive=True).generated]
    assert names == ["a, b_Synthetic.MOV", "c-generated_1.mp4", "s/t/a, b_synthetic.mp4"]


def test_a_folder_of_references_inside_the_input_is_not_generated(folder):
    (folder / "ref").mkdir()
    (folder / "ref" / "d.mp4").touch()
    dataset = load_dataset(input_dir=folder, reference_dir=folder / "ref", recursive=True)
    assert [sample.name for sample in dataset.pairs] == ["d.mp4"]
    assert len(dataset.generated) == 4
    inside = load_dataset(input_dir=folder / "ref", reference_dir=folder, recursive=True)
    assert [sample.name for sample in inside.pairs] == ["d.mp4"]
    assert len(inside.references) == 4
