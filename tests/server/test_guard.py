"""What a caller may not name, whichever option it stands in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aigve_cli.dataset.samples import load_dataset
from aigve_cli.errors import UsageError
from aigve_cli.server.commandline import declarations, parse_command
from aigve_cli.server.guard import OPENAI, ForbiddenError, Guard

PATHS = [option for option in declarations() if option.kind == "path"]
ENDINGS = {"out_json": ".json", "save_stats": ".npz", "reference_stats": ".npz"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "videos").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.mp4").write_bytes(b"secret")
    return folder


@pytest.fixture
def guard(root: Path, tmp_path: Path) -> Guard:
    state = root / "state"
    (state / "jobs" / "mine").mkdir(parents=True)
    (state / "jobs" / "theirs").mkdir()
    return Guard((root,), state)


def check(guard: Guard, *words: str) -> None:
    guard.check(parse_command("compute", words))


@pytest.mark.parametrize("option", PATHS, ids=lambda option: option.name)
def test_every_option_that_is_a_path_stays_in_the_roots(
    option: object, guard: Guard, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(root.parent / "outside"))
    flag, ending = option.flag, ENDINGS.get(option.name, "")  # type: ignore[attr-defined]
    (root / "link").symlink_to(root.parent / "outside")
    for inside in (root / f"videos/x{ending}", f"videos/../new/x{ending}"):
        check(guard, f"{flag}={inside}")
        check(guard, flag, str(inside))
    for outside in (
        root.parent / f"outside/x{ending}",
        f"../outside/x{ending}",
        f"videos/../../outside/x{ending}",
        f"link/x{ending}",
        f"~/x{ending}",
        f"/etc/passwd{ending}",
        f"{root}-2/x{ending}",
    ):
        for words in ([f"{flag}={outside}"], [flag, str(outside)]):
            with pytest.raises(ForbiddenError) as error:
                check(guard, *words)
            assert error.value.option == option.name  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "words",
    [
        "--model=gstvqa=/etc/passwd",
        "--set=vbench.detections=/etc/passwd",
        "--set=vbench-color.detections=../outside/x.json",
        "--set=tifa.questions=/etc/passwd",
        "--set=clipsim.model=/tmp/model",
        "--set=clipsim.model=~/model",
        "--set=clipsim.model=somebody/unknown",
        "--set=clipsim.model=openai/clip-vit-base-patch32@refs/pr/1",
        "--judge=local:somebody/unknown",
        "--judge=local:/tmp/model",
        "--judge=openai:gpt",
        "--judge-text=openai:gpt",
    ],
)
def test_what_names_a_file_a_model_or_a_judge_in_its_own_way_is_seen(
    words: str, guard: Guard, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(ForbiddenError):
        check(guard, words)


def test_models_of_cards_and_folders_inside_may_be_named(guard: Guard, root: Path) -> None:
    for model in ("openai/clip-vit-base-patch32", "vit-base-patch32", root / "videos"):
        check(guard, f"--set=clipsim.model={model}")
    check(guard, "--judge=local:qwen3-vl-4b-instruct", f"--model=gstvqa={root / 'videos'}")


def test_a_judge_is_asked_only_where_the_operator_allows(root: Path, guard: Guard) -> None:
    address = "http://127.0.0.1:8000/v1"
    open_to_one = Guard((root,), guard.closed, judge_urls=(f"{address}/",))
    check(open_to_one, "--judge=openai:m", f"--judge-url={address}")
    for words in (
        ["--judge=openai:m"],
        ["--judge=openai:m", "--judge-url=http://169.254.169.254/"],
        [
            *("--judge=openai:m", f"--judge-url={address}"),
            *("--judge-text=openai:m", "--judge-text-url=http://10.0.0.1/v1"),
        ],
        ["--judge=openai:m", f"--judge-url={address}.evil.example"],
        # The texts' judge would be asked at the other one's address.
        [
            *("--judge=local:qwen3-vl-4b-instruct", "--judge-text=openai:m"),
            "--judge-url=http://evil.example/v1",
        ],
    ):
        with pytest.raises(ForbiddenError):
            check(open_to_one, *words)
    check(Guard((root,), guard.closed, judge_urls=(OPENAI,)), "--judge=openai:m")


def test_the_address_alone_does_not_turn_the_operators_judge_elsewhere(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGVE_JUDGE", "openai:m")
    check(guard, "--metrics=viescore")  # the operator's own choice
    with pytest.raises(ForbiddenError):
        check(guard, "--judge-url=http://evil.example/v1")
    monkeypatch.delenv("AIGVE_JUDGE")
    monkeypatch.setenv("AIGVE_JUDGE_TEXT", "openai:m")
    local = "--judge=local:qwen3-vl-4b-instruct"
    with pytest.raises(ForbiddenError):
        check(guard, local, "--judge-url=http://evil.example/v1")


def test_the_servers_own_folder_is_closed_but_for_the_job(guard: Guard) -> None:
    own = guard.of_job(guard.closed / "jobs" / "mine")
    check(own, f"--input-dir={guard.closed}/jobs/mine/upload")
    for path in ("", "/jobs", "/jobs/theirs", "/jobs/mine/../theirs", "/jobs.sqlite"):
        with pytest.raises(ForbiddenError):
            check(own, f"--input-dir={guard.closed}{path}")


def test_videos_that_are_links_to_the_outside_are_refused(guard: Guard, root: Path) -> None:
    (root / "videos" / "a.mp4").write_bytes(b"")
    (root / "videos" / "b.mp4").symlink_to(root / "videos" / "a.mp4")
    found = load_dataset(input_dir=root / "videos", opens=guard.opens)
    assert [sample.name for sample in found.samples] == ["a.mp4", "b.mp4"]
    for link, target in (
        (root / "videos" / "c.mp4", root.parent / "outside" / "secret.mp4"),
        (root / "videos" / "broken.mp4", root.parent / "outside" / "none.mp4"),
    ):
        link.symlink_to(target)
        with pytest.raises(ForbiddenError) as error:
            load_dataset(input_dir=root / "videos", opens=guard.opens)
        assert "outside" not in str(error.value)
        link.unlink()


def test_subfolders_that_lead_outside_are_not_entered(guard: Guard, root: Path) -> None:
    (root / "videos" / "a.mp4").write_bytes(b"")
    load_dataset(input_dir=root / "videos", recursive=True, opens=guard.opens)
    (root / "videos" / "sub").symlink_to(root.parent / "outside")
    load_dataset(input_dir=root / "videos", opens=guard.opens)  # only its name is seen
    for folder in (root / "videos", root):  # and below the root is the server's own folder
        with pytest.raises(ForbiddenError) as error:
            load_dataset(input_dir=folder, recursive=True, opens=guard.opens)
        assert "secret" not in str(error.value)
        assert "theirs" not in str(error.value)


@pytest.mark.parametrize("name", ["secret.mp4", "none.mp4"])
@pytest.mark.parametrize("how", ["absolute", "relative", "source", "reference"])
def test_annotations_do_not_tell_what_is_outside(
    name: str, how: str, guard: Guard, root: Path
) -> None:
    outside = root.parent / "outside"
    (root / "videos" / "a.mp4").write_bytes(b"")
    entry = {"video_path_pd": f"../../outside/{name}" if how == "relative" else str(outside / name)}
    meta = {}
    if how == "source":
        entry, meta = {"video_path_pd": name}, {"source": str(outside)}
    if how == "reference":
        entry = {"video_path_pd": "a.mp4", "video_path_gt": str(outside / name)}
    path = root / "videos" / "list.json"
    path.write_text(json.dumps({"metainfo": meta, "data_list": [entry]}))
    with pytest.raises(UsageError) as error:
        load_dataset(annotations=path, opens=guard.opens)
    # The same words whether there is such a file or not.
    if how == "source":
        assert str(root / "videos") in str(error.value)
    else:
        assert isinstance(error.value, ForbiddenError)


def test_a_models_folder_with_links_to_the_outside(guard: Guard, root: Path) -> None:
    folder = root / "model" / "deep"
    folder.mkdir(parents=True)
    (folder / "inside").symlink_to(root / "videos")
    model = root / "model"
    words = (f"--weights-dir={model}", f"--model=vgg16={model}", f"--set=clipsim.model={model}")
    check(guard, *words)
    (folder / "config.json").symlink_to(root.parent / "outside" / "secret.mp4")
    for word in (*words, f"--gstvqa-model={model}"):
        with pytest.raises(ForbiddenError):
            check(guard, word)


@pytest.mark.parametrize("place", ["evaluate", "annotations", "annotations/evaluate.json"])
def test_staging_follows_no_link_to_the_outside(guard: Guard, root: Path, place: str) -> None:
    link = root / "staged" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(root.parent / "outside")
    with pytest.raises(ForbiddenError):
        check(guard, f"--stage-dataset={root / 'staged'}")


@pytest.mark.parametrize("name", ["journal.jsonl", "features", "results.json"])
def test_a_folder_of_results_with_a_link_to_the_outside(
    guard: Guard, root: Path, name: str
) -> None:
    (root / "out").mkdir()
    (root / "out" / name).symlink_to(root.parent / "outside")
    with pytest.raises(ForbiddenError):
        check(guard, f"--output-dir={root / 'out'}")


def test_annotations_beside_the_videos_are_not_written_through_a_link(
    guard: Guard, root: Path
) -> None:
    (root / "videos" / "annotations.json").symlink_to(root.parent / "outside" / "x.json")
    with pytest.raises(ForbiddenError):
        guard.check(parse_command("prepare", [f"--input-dir={root / 'videos'}"]))


@pytest.mark.parametrize(
    "words",
    [
        "--out-json={root}/videos/clip.mp4",
        "--save-stats={root}/aigve.toml",
        "--reference-stats={root}/videos/clip.mp4",
        "--max-len=99999999999",
        "--max-len=1000000",
        "--batch-size=1000000000",
        "--fps=1e308",
        "--fps=nan",
        "--model=vgg16=~nobody-of-this-name/x",
        "-qh",
        "--prompt=\ud800",
        "--max-seconds=nan",
        "--max-seconds=1e300",
        "--decode-workers=100000",
        f"--decode-workers={'9' * 5000}",
        "--judge-concurrency=100000",
        "--prompt=a\0b",
        "--set=fvd.length=99999999999999",
    ],
)
def test_values_that_are_of_no_use_to_a_run(words: str, guard: Guard, root: Path) -> None:
    with pytest.raises(UsageError):
        check(guard, words.format(root=root))


def test_what_the_operator_has_set_is_not_the_callers(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGVE_WEIGHTS_DIR", "/srv/weights")
    monkeypatch.setenv("AIGVE_MODEL", f"gstvqa=/srv/x.pt{os.pathsep}vgg16=/srv/y.pt")
    check(guard, "--metrics=fid")


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_no_run(word: str) -> None:
    with pytest.raises(UsageError):
        parse_command("compute", [word])
