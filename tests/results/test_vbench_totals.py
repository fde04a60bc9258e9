"""VBench's table: totals as its own script has them, and its files in and out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aigve_cli.errors import UsageError
from aigve_cli.main import main
from aigve_cli.registry import registry
from aigve_cli.results.vbench import (
    DIMENSIONS,
    QUALITY,
    SEMANTIC,
    dimension_to_metric,
    document_to_lines,
    document_to_values,
    document_to_vbench,
    merge_values,
    read_values,
    totals_to_lines,
    values_to_totals,
)
from tests.networks.vbench_weights import GOLDENS

FORMULAS = json.loads((GOLDENS / "formulas.json").read_text(encoding="utf-8"))
RAW = {name.replace(" ", "_"): value for name, value in FORMULAS["total"]["raw"].items()}


def test_totals_are_the_worked_example() -> None:
    totals = values_to_totals(RAW)
    expected = FORMULAS["total"]
    assert totals.quality == pytest.approx(expected["quality"], rel=1e-12)
    assert totals.semantic == pytest.approx(expected["semantic"], rel=1e-12)
    assert totals.total == pytest.approx(expected["total"], rel=1e-12)
    assert totals.missing == ()
    for name, weighted in expected["normalized_times_weight"].items():
        key = name.replace(" ", "_")
        found = totals.normalised[key] * DIMENSIONS[key].weight
        assert found == pytest.approx(weighted, rel=1e-12)


def test_with_zeros_for_all_it_is_what_vbench_gives_where_all_are_missing() -> None:
    totals = values_to_totals(dict.fromkeys(DIMENSIONS, 0.0))
    expected = FORMULAS["total_all_missing"]
    assert totals.quality == pytest.approx(expected["quality"], rel=1e-12)
    assert totals.semantic == pytest.approx(expected["semantic"], rel=1e-12)
    assert totals.total == pytest.approx(expected["total"], rel=1e-12)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_no_score_is_made_up_without_one_of_its_dimensions(name: str) -> None:
    totals = values_to_totals({key: value for key, value in RAW.items() if key != name})
    assert totals.total is None
    assert (totals.quality is None) == (name in QUALITY)
    assert (totals.semantic is None) == (name in SEMANTIC)
    assert totals.missing == (name,)
    assert any(f"without {name}." in line for line in totals_to_lines(totals))


def test_every_dimension_is_a_metric() -> None:
    group = registry().groups["vbench"]
    assert sorted(map(dimension_to_metric, DIMENSIONS)) == group
    assert len(group) == 16


def document() -> dict:
    """The parts of a results.json that are read."""
    values = {dimension_to_metric(name): value for name, value in RAW.items()}
    videos = [
        {
            "sample": "a cat-0.mp4",
            "scores": {name: {"values": {name: 1.0}} for name in values},
        }
    ]
    records = [{"value_name": name, "value": value} for name, value in values.items()]
    return {
        "schema_version": 1,
        "videos": videos,
        "results": [*records, {"value_name": "fid-lite0", "value": 3.0}],
    }


def test_vbenchs_own_json_round_trips(tmp_path: Path) -> None:
    written = document_to_vbench(document())
    assert set(written) == set(DIMENSIONS)
    score, videos = written["imaging_quality"]
    assert score == RAW["imaging_quality"]
    assert videos == [{"video_path": "a cat-0.mp4", "video_results": 100.0}]
    assert written["dynamic_degree"][1][0]["video_results"] is True
    path = tmp_path / "x_eval_results.json"
    path.write_text(json.dumps(written))
    assert read_values(path) == RAW == document_to_values(document())


def test_what_is_missing_stays_missing() -> None:
    content = document()
    content["results"][0]["value"] = None
    gone = next(iter(RAW))
    assert gone not in document_to_values(content)
    assert gone not in document_to_vbench(content)


@pytest.mark.parametrize(
    "content",
    [
        {name: [value, []] for name, value in RAW.items()},
        {name.replace("_", " "): value for name, value in RAW.items()},
        {**{name: [value, []] for name, value in RAW.items()}, "i2v_subject": [1, []]},
    ],
)
def test_files_of_vbenchs_users_are_read(content: dict, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(content))
    assert read_values(path) == RAW


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "is no file of results"),
        ('{"color": "high"}', "'color' has no number"),
        ('{"color": [true, []]}', "'color' has no number"),
        ('{"color": [85, []]}', "'color' is 85, where"),
        ('{"color": [1' + "0" * 400 + ", []]}", "'color' is"),
        ('{"color": 0.5, "Color": 0.75}', "has two scores of color"),
        ('{"schema_version": 1, "results": [{"a": 1}], "videos": []}', "none of VBench's"),
        ('{"fid": [1, []]}', "has none of VBench's dimensions"),
        ("{", "JSON"),
    ],
)
def test_other_files_are_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_values(path)


def test_files_are_put_together_unless_they_contradict(tmp_path: Path) -> None:
    first, second = Path("a.json"), Path("b.json")
    merged = merge_values([(first, {"color": 0.5}), (second, {"scene": 0.25, "color": 0.5})])
    assert merged == {"color": 0.5, "scene": 0.25}
    with pytest.raises(UsageError, match=r"color is 0.5 in 'a.json' and 0.75 in 'b.json'"):
        merge_values([(first, {"color": 0.5}), (second, {"color": 0.75})])


# --- the command ------------------------------------------------------------------------------


def test_the_table_of_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document()))
    target = tmp_path / "vbench.json"
    assert main(["vbench", str(path), "--format", "json", "--out-json", str(target)]) == 0
    rows = {row["name"]: row for row in json.loads(capfd.readouterr().out)}
    assert rows["total score"]["value"] == pytest.approx(FORMULAS["total"]["total"])
    assert rows["dynamic_degree"]["weight"] == 0.5
    assert rows["scene"]["part"] == "semantic"
    assert main(["vbench", str(target), "--format", "tsv"]) == 0
    assert read_values(target) == RAW


def test_without_a_total_the_missing_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({name: RAW[name] for name in QUALITY}))
    assert main(["vbench", str(path), "--format", "json"]) == 3
    out, err = capfd.readouterr()
    names = [row["name"] for row in json.loads(out)]
    assert "quality score" in names
    assert not {"semantic score", "total score"} & set(names)
    assert "VBench has no total score without object_class, multiple_objects" in err
    assert main(["vbench", str(path), "--out-json", str(tmp_path / "x.json")]) == 2
    before = path.read_text()
    assert main(["vbench", str(path), "--out-json", str(path)]) == 2
    assert path.read_text() == before


def test_what_is_not_vbenchs_arithmetic_is_said() -> None:
    content = document()
    assert document_to_lines(content, whole=True) == totals_to_lines(values_to_totals(RAW))
    content["results"][0]["options"] = {"mode": "fixed"}
    assert "not VBench's own numbers: mode=fixed." in document_to_lines(content, whole=True)[-1]
    assert document_to_lines(content, whole=False) == []
