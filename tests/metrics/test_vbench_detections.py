"""VBench's dimensions by detectors, on what its own functions gave for the same detections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aigve_cli.contract import Extent, Sample, SampleFeatures, Score
from aigve_cli.engine.plan import read_options
from aigve_cli.errors import UsageError
from aigve_cli.metrics._vbench_detections import Detected
from aigve_cli.metrics.vbench_color import Color, prompt_to_object
from aigve_cli.metrics.vbench_multiple_objects import MultipleObjects
from aigve_cli.metrics.vbench_object_class import ObjectClass
from aigve_cli.metrics.vbench_scene import Scene
from aigve_cli.metrics.vbench_spatial_relationship import SpatialRelationship, boxes_to_score
from aigve_cli.statistics.summaries import scores_to_mean
from tests.networks.vbench_weights import GOLDENS

FORMULAS: dict[str, Any] = json.loads((GOLDENS / "formulas.json").read_text(encoding="utf-8"))
ALL = (ObjectClass, MultipleObjects, Color, SpatialRelationship, Scene)


def score(
    metric: type[Detected],
    frames: Sequence[dict[str, Any]],
    wanted: Any,
    folder: Path,
    prompt: str | None = None,
) -> Score:
    """Through the file, as a run does it."""
    file = folder / "detections.json"
    file.write_text(json.dumps({"videos": {"a-0.mp4": {"frames": list(frames)}}}))
    made = metric()
    options = read_options(made.card.name, made.card.options, {"detections": str(file)})
    assert made.requests(options, Extent()) == {}
    sample = Sample("sub/a-0.mp4", None, prompt=prompt, extra={made.field: wanted})
    return made.score(SampleFeatures({}), made.annotated(sample, options), options)


def labelled(labels: Sequence[str]) -> dict[str, Any]:
    return {"objects": [{"label": label} for label in labels]}


@pytest.mark.parametrize("case", FORMULAS["object_class"], ids=lambda case: case["key"])
def test_object_class(case, tmp_path):
    frames = [labelled(labels) for labels in case["frames"]]
    given = score(ObjectClass, frames, case["key"], tmp_path)
    assert sum(given.curve["frame"]) == case["success"]
    assert given.values["vbench-object-class"] == case["success"] / len(frames)
    assert given.weight == len(frames)


@pytest.mark.parametrize("case", FORMULAS["multiple_objects"], ids=lambda case: case["key"])
def test_multiple_objects(case, tmp_path):
    frames = [labelled(labels) for labels in case["frames"]]
    given = score(MultipleObjects, frames, case["key"], tmp_path)
    assert sum(given.curve["frame"]) == case["success"]


@pytest.mark.parametrize("case", FORMULAS["color"], ids=lambda c: f"{c['color']} {c['object']}")
def test_color(case, tmp_path):
    frames = [
        {"objects": [{"label": label, "caption": caption} for caption, label in frame]}
        for frame in case["frames"]
    ]
    prompt = f"a {case['color']} {case['object']}"
    given = score(Color, frames, case["color"], tmp_path, prompt)
    any_color, own = case["result(cur_object,cur_object_color)"]
    assert given.values["vbench-color"] == own / any_color
    assert given.details == {
        "object": case["object"],
        "frames in a color": any_color,
        "in its own": own,
    }


def test_a_video_without_the_object_in_a_color_is_left_out(tmp_path):
    frames = [{"objects": [{"label": "car", "caption": "a car"}]}] * 3
    given = score(Color, frames, "red", tmp_path, "a red car")
    assert (given.values, given.by_choice) == ({}, True)
    assert "'car' in any color" in given.reason


@pytest.mark.parametrize(
    ("prompt", "color", "expected"),
    [
        ("a red bicycle", "red", "bicycle"),
        ("an orange umbrella", "orange", "umbrella"),
        ("a blue sofa and chair", "blue", "sofand chair"),
    ],
)
def test_the_object_is_cut_out_as_vbench_cuts(prompt, color, expected):
    """By whatever letters there are: "a " goes in the middle of words too."""
    assert prompt_to_object(prompt, color) == expected


@pytest.mark.parametrize("case", FORMULAS["spatial_position"], ids=lambda case: case["rel"])
def test_positions_of_boxes(case):
    found = boxes_to_score(case["rel"], case["a"], case["b"])
    assert found == pytest.approx(case["score"], rel=1e-12)


def test_spatial_relationship(tmp_path):
    case = FORMULAS["spatial_relationship"]
    frames = [
        {"objects": [{"label": label, "box": box} for label, box in frame]}
        for frame in case["frames"]
    ]
    given = score(SpatialRelationship, frames, case["key"], tmp_path)
    assert given.curve["frame"] == pytest.approx(case["frame_scores"], rel=1e-12)


@pytest.mark.parametrize("case", FORMULAS["scene"], ids=lambda case: case["scene"])
def test_scene(case, tmp_path):
    frames = [{"caption": caption} for caption in case["captions"]]
    given = score(Scene, frames, case["scene"], tmp_path)
    assert sum(given.curve["frame"]) == case["success"]


def test_a_run_is_the_mean_over_frames(tmp_path):
    short = score(ObjectClass, [labelled(["dog"])] * 2, "dog", tmp_path)
    long = score(ObjectClass, [labelled([])] * 14, "dog", tmp_path)
    assert scores_to_mean([short, long]).values["vbench-object-class"] == 2 / 16


RELATION = {"object_a": "dog", "object_b": "cat", "relationship": "on the left of"}


@pytest.mark.parametrize(
    ("metric", "wanted"),
    [
        (ObjectClass, 7),
        (ObjectClass, {"object": "dog"}),
        (MultipleObjects, "dog"),
        (MultipleObjects, "dog and cat and bird"),
        (Color, "brown"),
        (Scene, ["alley"]),
        (SpatialRelationship, "dog"),
        (SpatialRelationship, {**RELATION, "relationship": "behind"}),
        (SpatialRelationship, {**RELATION, "relationship": ""}),
    ],
)
def test_annotations_of_another_kind_are_a_reason(metric, wanted, tmp_path):
    whole = {"label": "dog", "box": [0, 0, 1, 1], "caption": "a red dog"}
    frames = [{"objects": [whole], "caption": "an alley"}]
    given = score(metric, frames, wanted, tmp_path, "a brown dog")
    assert given.values == {}
    assert f"'{metric.field}' of its annotations is no " in given.reason


def test_a_part_of_a_relation_s_words_is_that_relation(tmp_path):
    """As VBench looks for it."""
    boxes = [{"label": "dog", "box": [0, 0, 1, 1]}, {"label": "cat", "box": [5, 0, 6, 1]}]
    wanted = {**RELATION, "relationship": "left of"}
    given = score(SpatialRelationship, [{"objects": boxes}], wanted, tmp_path)
    assert given.values == {"vbench-spatial-relationship": 1}


def test_another_number_of_frames_is_noted(tmp_path):
    assert score(ObjectClass, [labelled(["dog"])] * 16, "dog", tmp_path).notes == ()
    (note,) = score(ObjectClass, [labelled(["dog"])] * 3, "dog", tmp_path).notes
    assert note == "3 frames in the file; VBench looks at 16"


# --- files and annotations --------------------------------------------------------------------


@pytest.mark.parametrize("metric", ALL)
def test_without_a_file_it_says_how_to_give_one(metric):
    made = metric()
    options = read_options(made.card.name, made.card.options, {})
    sample = Sample("a-0.mp4", None, extra={made.field: "dog"})
    given = made.score(SampleFeatures({}), made.annotated(sample, options), options)
    assert given.reason == made.lacks(options)
    assert f"--set {made.card.name}.detections=FILE" in given.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSON"),
        ("[]", "an object with 'videos' is expected"),
        ('{"videos": {"a": {}}}', "'a' has no list of 'frames'"),
        ('{"videos": {"a": {"frames": [{"objects": [{"label": 3}]}]}}}', "frame 0 of 'a'"),
        ('{"videos": {"a": {"frames": [{"objects": [{"box": [1, 2]}]}]}}}', "frame 0 of 'a'"),
        ('{"videos": {"a": {"frames": [{"objects": [{"box": [1, 2, 3, 1e400]}]}]}}}', "frame 0"),
        ('{"videos": {"a": {"frames": [{"objects": [{"box": [1, 2, 3, true]}]}]}}}', "frame 0"),
        ('{"videos": {"a": {"frames": [{}, {"caption": 7}]}}}', "frame 1 of 'a'"),
        (None, "There is no file of detections"),
    ],
)
def test_broken_files_are_refused_before_anything_runs(content, words, tmp_path):
    file = tmp_path / "detections.json"
    if content is not None:
        file.write_text(content)
    options = read_options("x", ObjectClass.card.options, {"detections": str(file)})
    with pytest.raises(UsageError, match=words):
        ObjectClass().requests(options, Extent())


def test_what_is_missing_is_a_reason(tmp_path):
    frames = [{"objects": [{"label": "dog"}]}]
    assert "has no 'caption'" in score(Color, frames, "red", tmp_path, "a red dog").reason
    assert "has no 'box'" in score(SpatialRelationship, frames, RELATION, tmp_path).reason
    one_sided = [{"caption": "a dog"}]
    assert "has no 'objects'" in score(ObjectClass, one_sided, "dog", tmp_path).reason
    assert "has no 'caption'" in score(Scene, frames, "alley", tmp_path).reason
    assert "no 'object_class'" in score(ObjectClass, frames, None, tmp_path).reason
    assert "has no frame" in score(ObjectClass, [], "dog", tmp_path).reason
    made = ObjectClass()
    options = read_options(
        "x", made.card.options, {"detections": str(tmp_path / "detections.json")}
    )
    other = made.annotated(Sample("b-0.mp4", None, extra={"object_class": "dog"}), options)
    assert "nothing about this video" in made.score(SampleFeatures({}), other, options).reason
