"""VBench's suite: which videos count for which dimension, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aigve_cli.contract import Sample
from aigve_cli.dataset.samples import load_dataset
from aigve_cli.dataset.vbench_suite import (
    DIMENSIONS_KEY,
    missing_videos,
    read_suite,
    samples_to_suite,
    split_name,
)
from aigve_cli.errors import UsageError
from tests.networks.vbench_weights import GOLDENS

INFO: list[dict[str, Any]] = [
    {"prompt_en": "a dog", "dimension": ["object_class", "overall_consistency"],
     "auxiliary_info": {"object_class": {"object": "dog"}}},
    {"prompt_en": "a beach, Van Gogh style", "dimension": ["appearance_style"],
     "auxiliary_info": {"appearance_style": {"appearance_style": "Van Gogh style"}}},
    {"prompt_en": "a beach, Van Gogh style", "dimension": ["overall_consistency"]},
    {"prompt_en": "sci-fi robot, 1", "dimension": ["scene", "background_consistency"],
     "auxiliary_info": {"scene": {"scene": {"scene": "alley"}}}},
    {"prompt_en": "a cat left of a dog", "dimension": ["spatial_relationship"],
     "auxiliary_info": {"spatial_relationship": {"spatial_relationship": {
         "object_a": "cat", "object_b": "dog", "relationship": "on the left of"}}}},
]  # fmt: skip


@pytest.fixture
def info(tmp_path: Path) -> Path:
    path = tmp_path / "info.json"
    path.write_text(json.dumps(INFO), encoding="utf-8")
    return path


def videos(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"not looked at here")
    return folder


def test_the_suite_knows_what_each_prompt_is_for(info):
    suite = read_suite(info)
    assert len(suite) == 4
    assert suite["a dog"].extra == {"object_class": "dog"}
    # A prompt that is there twice is one prompt with the dimensions of both.
    beach = suite["a beach, Van Gogh style"]
    assert beach.dimensions == ("appearance_style", "overall_consistency")
    assert beach.extra == {"appearance_style": "Van Gogh style"}
    assert suite["sci-fi robot, 1"].extra == {"scene": "alley"}
    assert suite["a cat left of a dog"].extra["spatial_relationship"]["object_b"] == "dog"


def test_videos_are_found_by_their_names(info, tmp_path):
    names = ("a dog-0.mp4", "a dog-4.mp4", "a dog-5.mp4", "a dog.mp4", "A dog-1.mp4")
    folder = videos(tmp_path / "in", *names, "sci-fi robot, 1-2.mp4", "another-0.mp4")
    dataset = load_dataset(input_dir=folder, vbench_info=info)
    assert [s.name for s in dataset.samples] == [
        "a dog-0.mp4",
        "a dog-4.mp4",
        "sci-fi robot, 1-2.mp4",
    ]
    dog, _, robot = dataset.samples
    assert (dog.prompt, robot.prompt) == ("a dog", "sci-fi robot, 1")
    assert dog.extra[DIMENSIONS_KEY] == ["object_class", "overall_consistency"]
    assert robot.extra["scene"] == "alley"
    out = {item.path.name: item.reason for item in dataset.left_out}
    assert set(out) == {"a dog-5.mp4", "a dog.mp4", "A dog-1.mp4", "another-0.mp4"}
    assert all("not one of VBench's suite" in reason for reason in out.values())


def test_what_is_missing_is_named_by_dimension(info, tmp_path):
    folder = videos(tmp_path / "in", *(f"a dog-{i}.mp4" for i in range(5)))
    dataset = load_dataset(input_dir=folder, vbench_info=info)
    notes = "\n".join(dataset.notes)
    assert "object_class" not in notes
    assert "overall_consistency: 5 of 10 videos missing: 'a beach, Van Gogh style-0'" in notes
    assert "scene: 5 of 5 videos missing" in notes
    assert "and 2 more" in notes
    missing = missing_videos(dataset.samples, read_suite(info))
    assert [item.dimension for item in missing] == sorted(item.dimension for item in missing)
    assert sum(len(item.names) for item in missing) == 5 * 5


def test_metrics_are_about_their_own_videos(info, tmp_path):
    folder = videos(tmp_path / "in", "a dog-0.mp4", "sci-fi robot, 1-0.mp4")
    dog, robot = load_dataset(input_dir=folder, vbench_info=info).samples
    from aigve_cli.registry import registry

    about = {
        name: [s.prompt for s in (dog, robot) if metric().left_out(s, {}) is None]
        for name, metric in registry().metrics.items()
        if metric.card.group == "vbench"
    }
    assert about.pop("vbench-object-class") == about.pop("vbench-overall-consistency") == ["a dog"]
    assert about.pop("vbench-scene") == ["sci-fi robot, 1"]
    assert about.pop("vbench-background-consistency") == ["sci-fi robot, 1"]
    assert not any(about.values())
    # Videos of one's own count for everything.
    own = Sample("own.mp4", None)
    assert all(
        metric().left_out(own, {}) is None
        for metric in registry().metrics.values()
        if metric.card.group == "vbench"
    )


def test_names_are_split_as_vbench_splits_them():
    formulas = json.loads((GOLDENS / "formulas.json").read_text(encoding="utf-8"))
    for name, prompt in formulas["prompt_from_filename"].items():
        assert split_name(name)[0] == prompt
    assert split_name("a-12.gif") == ("a", 12)
    assert split_name("x/sci-fi.mp4") == ("sci-fi", None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "a list of prompts is expected"),
        ("[]", "a list of prompts is expected"),
        ('[{"prompt_en": "a"}]', "entry 0 has no 'prompt_en' with a list of 'dimension'"),
        ('[{"prompt_en": "a", "dimension": [1]}]', "entry 0"),
        ('[{"prompt_en": "a", "dimension": [], "auxiliary_info": 1}]', "entry 0"),
        ("nonsense", "JSON"),
    ],
)
def test_other_files_are_refused(content, words, tmp_path):
    path = tmp_path / "info.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=words):
        read_suite(path)


def test_folders_and_options_that_do_not_fit_are_refused(info, tmp_path):
    folder = videos(tmp_path / "in", "another-0.mp4")
    with pytest.raises(UsageError, match=r"None of the 1 video is of the suite"):
        load_dataset(input_dir=folder, vbench_info=info)
    with pytest.raises(UsageError, match="leave the other options of prompts out"):
        load_dataset(input_dir=folder, vbench_info=info, prompt="x")
    with pytest.raises(UsageError, match="does not exist"):
        load_dataset(input_dir=folder, vbench_info=tmp_path / "none.json")


def test_references_stay(info, tmp_path):
    folder = videos(tmp_path / "in", "a dog-0.mp4")
    references = videos(tmp_path / "real", "a dog-0.mp4")
    (sample,) = load_dataset(input_dir=folder, reference_dir=references, vbench_info=info).samples
    assert sample.reference is not None
    assert samples_to_suite([], read_suite(info)) == ((), {})


def test_references_without_a_pair_stay_too(info, tmp_path):
    folder = videos(tmp_path / "in", "a dog-0.mp4")
    references = videos(tmp_path / "real", "other.mp4")
    dataset = load_dataset(input_dir=folder, reference_dir=references, vbench_info=info)
    assert [path.name for path in dataset.references] == ["other.mp4"]


def test_a_video_of_the_suite_counts_once(info, tmp_path):
    folder = videos(tmp_path / "in", "a dog-0.mp4", "a dog-0.mkv", "a dog-00.mp4")
    dataset = load_dataset(input_dir=folder, vbench_info=info)
    assert [sample.name for sample in dataset.samples] == ["a dog-0.mkv"]
    out = {item.path.name: item.reason for item in dataset.left_out}
    assert "the same video of VBench's suite as 'a dog-0.mkv'" in out["a dog-0.mp4"]
    assert "not one of" in out["a dog-00.mp4"]


def test_a_dimension_that_vbench_does_not_have_is_refused(tmp_path):
    path = tmp_path / "info.json"
    path.write_text(json.dumps([{"prompt_en": "a", "dimension": ["colour"]}]))
    with pytest.raises(UsageError, match="is for 'colour', which VBench does not have"):
        read_suite(path)
