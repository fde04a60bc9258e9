"""What a caller may not name, whichever option it stands in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aigve_cli.contract import Sample
from aigve_cli.dataset.samples import Dataset
from aigve_cli.errors import UsageError
from aigve_cli.server.commandline import declarations, parse_command
from aigve_cli.server.guard import OPENAI, ForbiddenError, Guard

PATHS = [option for option in declarations() if option.kind == "path"]
ENDINGS = {"out_json": ".json", "save_stats": ".npz"}


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


def test_the_servers_own_folder_is_closed_but_for_the_job(guard: Guard) -> None:
    own = guard.of_job(guard.closed / "jobs" / "mine")
    check(own, f"--input-dir={guard.closed}/jobs/mine/upload")
    for path in ("", "/jobs", "/jobs/theirs", "/jobs/mine/../theirs", "/jobs.sqlite"):
        with pytest.raises(ForbiddenError):
            check(own, f"--input-dir={guard.closed}{path}")


def test_videos_that_are_links_to_the_outside_are_refused(guard: Guard, root: Path) -> None:
    (root / "videos" / "a.mp4").write_bytes(b"")
    (root / "videos" / "b.mp4").symlink_to(root / "videos" / "a.mp4")
    (root / "videos" / "c.mp4").symlink_to(root.parent / "outside" / "secret.mp4")

    def dataset(*names: str, reference: Path | None = None) -> Dataset:
        samples = [Sample(name, root / "videos" / name, reference) for name in names]
        return Dataset(tuple(samples), root / "videos", "no prompts")

    guard.check_dataset(dataset("a.mp4", "b.mp4"))
    with pytest.raises(ForbiddenError):
        guard.check_dataset(dataset("a.mp4", "c.mp4"))
    with pytest.raises(ForbiddenError):
        guard.check_dataset(dataset("a.mp4", reference=root.parent / "outside" / "secret.mp4"))


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
        "--max-len=99999999999",
        "--max-seconds=nan",
        "--max-seconds=1e300",
        "--decode-workers=100000",
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
