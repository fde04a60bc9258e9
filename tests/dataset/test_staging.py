import errno
import json
import os
import shutil

import pytest

from aigve_cli.dataset import staging
from aigve_cli.dataset.samples import load_dataset
from aigve_cli.dataset.staging import stage_dataset
from aigve_cli.errors import SetupError, UsageError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a, 1.mp4", "a, 1_synthetic.mp4", "b_synthetic.mov"):
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out"


def kinds(staged):
    return {action.target.name: action.kind for action in staged.actions}


def stage(folder, target, **options):
    return stage_dataset(load_dataset(input_dir=folder), target, **options)


def test_copies_and_annotations(folder, target):
    staged = stage_dataset(load_dataset(input_dir=folder, prompt="p"), target)
    assert set(kinds(staged).values()) == {"copied"}
    assert sorted(os.listdir(target / "evaluate")) == sorted(os.listdir(folder))
    document = json.loads((target / "annotations" / "evaluate.json").read_text())
    assert document["metainfo"]["length"] == 2
    assert document["data_list"][0] == {
        "prompt_gt": "p",
        "video_path_pd": "a, 1_synthetic.mp4",
        "video_path_gt": "a, 1.mp4",
    }
    assert load_dataset(annotations=staged.annotations).samples == staged.dataset.samples


def test_again_only_what_changed(folder, target):
    stage(folder, target)
    (folder / "a, 1.mp4").write_bytes(b"longer than before")
    assert kinds(stage(folder, target)) == {
        "a, 1.mp4": "updated",
        "a, 1_synthetic.mp4": "unchanged",
        "b_synthetic.mov": "unchanged",
    }
    assert (target / "evaluate" / "a, 1.mp4").read_bytes() == b"longer than before"
    os.utime(folder / "a, 1.mp4", ns=(1, 1))
    assert kinds(stage(folder, target))["a, 1.mp4"] == "updated"
    assert "3 unchanged" in stage(folder, target).describe()[0]


def test_links_are_absolute_and_follow_the_source(folder, target, monkeypatch):
    monkeypatch.chdir(folder.parent)
    staged = stage_dataset(
        load_dataset(input_dir=folder.relative_to(folder.parent)), target, link=True
    )
    assert set(kinds(staged).values()) == {"linked"}
    assert os.readlink(target / "evaluate" / "a, 1.mp4") == str(folder / "a, 1.mp4")
    assert set(kinds(stage(folder, target, link=True)).values()) == {"unchanged"}
    moved = folder.rename(folder.parent / "moved")
    assert set(kinds(stage(moved, target, link=True)).values()) == {"linked"}
    assert (target / "evaluate" / "a, 1.mp4").read_bytes() == b"a, 1.mp4"


def test_copy_and_link_take_each_others_place(folder, target):
    stage(folder, target, link=True)
    assert set(kinds(stage(folder, target)).values()) == {"updated"}
    assert not (target / "evaluate" / "a, 1.mp4").is_symlink()
    assert set(kinds(stage(folder, target, link=True)).values()) == {"linked"}
    assert (folder / "a, 1.mp4").read_bytes() == b"a, 1.mp4"


@pytest.mark.parametrize("exists", [True, False])
def test_never_writes_through_a_link(folder, target, tmp_path, exists):
    victim = tmp_path / "victim"
    if exists:
        victim.write_bytes(b"precious")
    (target / "evaluate").mkdir(parents=True)
    (target / "evaluate" / "a, 1.mp4").symlink_to(victim)
    stage(folder, target)
    assert (target / "evaluate" / "a, 1.mp4").read_bytes() == b"a, 1.mp4"
    assert victim.exists() == exists
    assert not exists or victim.read_bytes() == b"precious"


def test_others_are_left_alone(folder, target):
    (target / "evaluate").mkdir(parents=True)
    (target / "evaluate" / "old.mp4").write_bytes(b"old")
    staged = stage(folder, target)
    assert staged.others == ("old.mp4",)
    assert "'old.mp4'" in staged.describe()[1]
    assert (target / "evaluate" / "old.mp4").read_bytes() == b"old"


def test_dry_run_writes_nothing(folder, target):
    staged = stage(folder, target, dry_run=True)
    assert set(kinds(staged).values()) == {"copied"}
    assert not target.exists()


def test_a_generated_video_with_the_name_of_a_reference_gets_a_suffix(tmp_path, target):
    for name in ("gen/a.mp4", "gen/B.mp4", "ref/a.mp4", "ref/b.mp4", "ref/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    dataset = load_dataset(input_dir=tmp_path / "gen", reference_dir=tmp_path / "ref")
    staged = stage_dataset(dataset, target, suffixes="-fake,x")
    assert sorted(kinds(staged)) == ["B-fake.mp4", "a-fake.mp4", "a.mp4", "b.mp4", "c.mp4"]
    document = json.loads(staged.annotations.read_text())
    assert document["reference_list"] == ["c.mp4"]
    assert [(row["video_path_pd"], row["video_path_gt"]) for row in document["data_list"]] == [
        ("B-fake.mp4", "b.mp4"),
        ("a-fake.mp4", "a.mp4"),
    ]
    assert (target / "evaluate" / "a-fake.mp4").read_bytes() == b"gen/a.mp4"


def test_subfolders_become_flat_names(tmp_path, target):
    for name in ("in/x/a.mp4", "in/y/a.mp4", "in/y/a_synthetic.mp4", "in/x/a_synthetic.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    staged = stage_dataset(load_dataset(input_dir=tmp_path / "in", recursive=True), target)
    assert sorted(kinds(staged)) == [
        "x__a.mp4",
        "x__a_synthetic.mp4",
        "y__a.mp4",
        "y__a_synthetic.mp4",
    ]
    (tmp_path / "in" / "x__a_synthetic.mp4").touch()
    with pytest.raises(UsageError, match="both be staged as 'x__a_synthetic") as error:
        stage_dataset(load_dataset(input_dir=tmp_path / "in", recursive=True), target)
    assert "x/a_synthetic.mp4" in error.value.message


def test_a_clash_after_the_suffix_names_both(tmp_path, target):
    for name in ("gen/a.mp4", "gen/a_synthetic.mp4", "ref/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    dataset = load_dataset(input_dir=tmp_path / "gen", reference_dir=tmp_path / "ref")
    with pytest.raises(UsageError, match=r"gen/a.mp4' and .*gen/a_synthetic.mp4' would both"):
        stage_dataset(dataset, target)
    assert not target.exists()


def test_never_onto_its_own_sources(folder, target):
    staged = stage(folder, target)
    with pytest.raises(UsageError, match="onto itself"):
        stage_dataset(staged.dataset, target)
    (folder.parent / "alias").symlink_to(target)
    with pytest.raises(UsageError, match="onto itself"):
        stage_dataset(staged.dataset, folder.parent / "alias", link=True)
    links = folder.parent / "links"
    links.mkdir()
    (links / "a_synthetic.mp4").symlink_to(target / "evaluate" / "b_synthetic.mov")
    with pytest.raises(UsageError, match="onto itself"):
        stage(links, target, link=True)


def test_inside_the_input_folder_is_fine_but_said(folder):
    staged = stage(folder, folder)
    assert "--recursive" in staged.dataset.notes[-1]
    assert set(kinds(stage(folder, folder)).values()) == {"unchanged"}


def test_a_missing_source_keeps_its_own_path(folder, target):
    path = folder / "annotations.json"
    rows = [{"video_path_pd": "a, 1.mp4", "note": "x"}, {"video_path_pd": "gone.mp4"}]
    path.write_text(json.dumps({"data_list": rows}))
    staged = stage_dataset(load_dataset(annotations=path), target)
    again = load_dataset(annotations=staged.annotations)
    assert [sample.name for sample in again.samples] == ["../../in/gone.mp4", "a, 1.mp4"]
    assert again.samples[0].generated.resolve() == folder / "gone.mp4"
    assert again.samples[1].extra == {"note": "x"}
    assert "does not exist" in staged.dataset.notes[-1]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_no_half_file_when_a_copy_stops(folder, target, monkeypatch, error):
    stage(folder, target)
    (folder / "a, 1.mp4").write_bytes(b"a new and longer content")

    def stop(source, temporary):
        temporary.write_bytes(b"half")
        raise error

    monkeypatch.setattr(shutil, "copyfile", stop)
    with pytest.raises((SetupError, KeyboardInterrupt)) as caught:
        stage(folder, target)
    if isinstance(error, OSError):
        assert "24 bytes for 'a, 1.mp4' did not fit" in caught.value.message
        assert "bytes are free" in caught.value.message
    assert (target / "evaluate" / "a, 1.mp4").read_bytes() == b"a, 1.mp4"
    assert len(os.listdir(target / "evaluate")) == 3


def test_too_little_space_is_found_before_the_first_copy(folder, target, monkeypatch):
    monkeypatch.setattr(staging, "_free_bytes", lambda folder: 10)
    with pytest.raises(SetupError, match="41 bytes are needed, 10 bytes are free"):
        stage(folder, target)
    assert not target.exists()
    stage(folder, target, link=True)


def test_an_unreadable_source_costs_only_itself(folder, target, monkeypatch):
    real = shutil.copyfile

    def broken_disk(source, temporary):
        if source.name == "a, 1.mp4":
            raise OSError(errno.EIO, "Input/output error")
        return real(source, temporary)

    monkeypatch.setattr(shutil, "copyfile", broken_disk)
    staged = stage(folder, target)
    assert sorted(kinds(staged)) == ["a, 1_synthetic.mp4", "b_synthetic.mov"]
    assert staged.dataset.pairs[0].reference == folder / "a, 1.mp4"


def test_destination_that_cannot_be(folder, target):
    target.write_text("a file")
    with pytest.raises(SetupError, match="Cannot write"):
        stage(folder, target)
    target.unlink()
    (target / "evaluate" / "a, 1.mp4").mkdir(parents=True)
    with pytest.raises(UsageError, match="is a folder"):
        stage(folder, target)
