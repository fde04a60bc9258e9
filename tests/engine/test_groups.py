"""One name for several metrics, settings that hold for all of them, and weights of videos."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from aigve_cli import evaluate
from aigve_cli.commands.compute import _complete_metrics
from aigve_cli.config import merge_settings
from aigve_cli.contract import Card, Extent, Metric, Option, Score, Value
from aigve_cli.dataset.samples import load_dataset
from aigve_cli.engine.plan import PlannedMetric, wanted_names
from aigve_cli.engine.scores import json_to_score, score_to_json
from aigve_cli.engine.setup import Plan, make_plan
from aigve_cli.errors import UsageError
from aigve_cli.output import Output
from aigve_cli.registry import Registry, registry
from aigve_cli.statistics.summaries import scores_to_mean
from tests.conftest import moving_pattern, write_clip

SEVEN = [
    "vbench-aesthetic-quality",
    "vbench-background-consistency",
    "vbench-dynamic-degree",
    "vbench-imaging-quality",
    "vbench-motion-smoothness",
    "vbench-subject-consistency",
    "vbench-temporal-flickering",
]
"""Every dimension of VBench that needs no text: all that are possible without one."""
SIXTEEN = sorted(
    [
        *SEVEN,
        "vbench-appearance-style",
        "vbench-color",
        "vbench-human-action",
        "vbench-multiple-objects",
        "vbench-object-class",
        "vbench-overall-consistency",
        "vbench-scene",
        "vbench-spatial-relationship",
        "vbench-temporal-style",
    ]
)
"""Every dimension of VBench."""
OTHERS = [name for name in SIXTEEN if name != "vbench-temporal-flickering"]
FLICKERING, DEGREE = "vbench-temporal-flickering", "vbench-dynamic-degree"
WITHOUT_A_MODE = "vbench-imaging-quality"
FIXED = {"mode": "fixed"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that moves."""
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "a.mkv", moving_pattern(0, 4))
    return folder


def plan_of(folder: Path, *metrics: str, options: Any = None) -> Plan:
    return make_plan(
        load_dataset(input_dir=folder),
        metrics=metrics,
        categories=(),
        extent=Extent(),
        weights="auto",
        weights_dir=None,
        offline=True,
        models={},
        options=options or {},
        output=Output(silent=True),
    )


def option_by_metric(plan: Plan, option: str) -> dict[str, Any]:
    """The value of an option in each metric that has it."""
    return {p.name: p.options[option] for p in plan.metrics if option in p.options}


# --- names ------------------------------------------------------------------------------------


def test_vbench_is_its_dimensions():
    assert registry().groups["vbench"] == SIXTEEN
    cards = {name: metric.card for name, metric in registry().metrics.items()}
    assert {name for name, card in cards.items() if card.group == "vbench"} == set(SIXTEEN)


@pytest.mark.parametrize("written", ["vbench", "VBench", "VBENCH", " vbench "])
def test_a_group_s_name_is_written_as_one_likes(written):
    assert wanted_names(registry(), [written], ()) == SIXTEEN
    assert registry().members(written) == SIXTEEN
    assert registry().settings_by_metric({written: FIXED}) == registry().settings_by_metric(
        {"vbench": FIXED}
    )


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (["is", "vbench"], ["is", *SIXTEEN]),
        (["vbench", "is"], [*SIXTEEN, "is"]),
        (["vbench", "vbench", "VBENCH"], SIXTEEN),
        ([FLICKERING, "vbench"], [FLICKERING, *OTHERS]),
        (["vbench", FLICKERING.upper(), "fid"], [*SIXTEEN, "fid"]),
        (["all", "vbench", "all"], ["fid", "is", "fvd", *SIXTEEN]),
    ],
)
def test_each_metric_once_in_the_order_of_what_was_asked(metrics, expected):
    assert wanted_names(registry(), metrics, ()) == expected


def test_a_category_and_a_group_that_lies_in_it():
    category = registry().in_category("multi_faceted")
    assert set(SIXTEEN) <= set(category)
    found = wanted_names(registry(), ["vbench"], ["multi_faceted"])
    assert found == category


@given(st.lists(st.sampled_from(["vbench", "all", "is", "kid", *SIXTEEN]), min_size=1))
def test_a_group_is_its_members_wherever_it_stands(metrics):
    written_out: list[str] = []
    for name in metrics:
        written_out += SIXTEEN if name == "vbench" else [name]
    found = wanted_names(registry(), metrics, ())
    assert found == wanted_names(registry(), written_out, ())
    assert len(set(found)) == len(found)


def test_a_plan_has_the_seven_under_their_own_names(videos):
    plan = plan_of(videos, "vbench", FLICKERING)
    assert [planned.requested for planned in plan.metrics] == SEVEN
    assert [planned.name for planned in plan.metrics] == SEVEN


@pytest.mark.parametrize("name", ["vbenc", "vbench2", "v-bench"])
def test_a_name_that_is_nearly_the_group_s(videos, name):
    with pytest.raises(UsageError) as caught:
        plan_of(videos, name)
    assert f"'{name}'" in caught.value.message
    assert "vbench" in caught.value.hint.replace("?", "").split()


def test_a_group_is_no_metric():
    with pytest.raises(UsageError, match="Unknown metric 'vbench'"):
        registry().canonical("vbench")


def test_no_group_goes_by_the_name_of_a_metric():
    found = registry()
    assert not set(found.groups) & ({*found.metrics, *found.aliases, "all"})
    assert set(found.groups) <= set(found.names)
    for members in found.groups.values():
        assert members == sorted(set(members))


# --- a group of one's own ---------------------------------------------------------------------


def made_up(name: str, *options: Option, **facts: Any) -> type[Metric]:
    card = Card(
        name=name,
        title="…",
        category="multi_faceted",
        values=(Value(name, "higher"),),
        version=1,
        options=options,
        **facts,
    )
    return type(name, (Metric,), {"card": card})


OWN = Registry(
    {
        "b": made_up("b", Option("size", 1, "…"), Option("colour", "red", "…"), group="letters"),
        "a": made_up("a", Option("size", 2, "…"), group="letters", aliases=("alpha",)),
        "c": made_up("c", Option("size", 3, "…"), group="letters", only_by_name=True),
        "d": made_up("d", Option("size", 4, "…")),
    },
    {},
    (),
)


def test_variants_belong_to_no_group():
    assert OWN.groups == {"letters": ["a", "b"]}
    assert wanted_names(OWN, ["letters", "c"], ()) == ["a", "b", "c"]
    assert OWN.settings_by_metric({"letters": {"size": 9}}) == {"a": {"size": 9}, "b": {"size": 9}}


@pytest.mark.parametrize("own", ["a", "A", "alpha"])
@pytest.mark.parametrize("first", ["group", "metric"])
def test_what_is_set_by_name_is_nearer_whichever_comes_first(own, first):
    both = [("letters", {"size": 8, "colour": "blue"}), (own, {"size": 7})]
    given_settings = dict(both if first == "group" else reversed(both))
    found = OWN.settings_by_metric(given_settings)
    assert found == {"a": {"size": 7}, "b": {"size": 8, "colour": "blue"}}


def test_what_is_given_is_not_changed():
    given_settings = {"letters": {"size": 8}, "a": {"size": 7}}
    kept = json.loads(json.dumps(given_settings))
    OWN.settings_by_metric(given_settings)["a"]["size"] = 6
    assert given_settings == kept


# --- settings ---------------------------------------------------------------------------------


def test_a_mode_holds_for_those_that_have_one(videos):
    plan = plan_of(videos, "vbench", options={"vbench": FIXED})
    modes = option_by_metric(plan, "mode")
    assert modes == {name: "fixed" for name in SEVEN if name != WITHOUT_A_MODE}
    usual = option_by_metric(plan_of(videos, "vbench"), "mode")
    assert usual == dict.fromkeys(modes, "parity")


def test_it_changes_what_is_asked_for(videos):
    fixed, usual = plan_of(videos, "vbench", options={"vbench": FIXED}), plan_of(videos, "vbench")
    outputs = {p.name: p.requests for p in usual.metrics}
    changed = {p.name for p in fixed.metrics if p.requests != outputs[p.name]}
    # Imaging quality has no mode, and DINO sees the same in both.
    assert changed == set(SEVEN) - {WITHOUT_A_MODE, "vbench-subject-consistency"}


@pytest.mark.parametrize("first", ["group", "metric"])
def test_a_metric_s_own_setting_wins_whichever_comes_first(videos, first):
    both = [("vbench", FIXED), (FLICKERING, {"mode": "parity"})]
    options = dict(both if first == "group" else reversed(both))
    modes = option_by_metric(plan_of(videos, "vbench", options=options), "mode")
    assert modes.pop(FLICKERING) == "parity"
    assert set(modes.values()) == {"fixed"}


def test_an_option_that_one_metric_has(videos):
    plan = plan_of(videos, "vbench", options={"vbench": {"magnitude": "false", **FIXED}})
    assert option_by_metric(plan, "magnitude") == {DEGREE: False}
    assert set(option_by_metric(plan, "mode").values()) == {"fixed"}


def test_settings_of_a_group_hold_for_a_metric_that_was_asked_for_alone(videos):
    (planned,) = plan_of(videos, FLICKERING, options={"VBench": FIXED}).metrics
    assert isinstance(planned, PlannedMetric)
    assert planned.options == FIXED


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vbench": {"mood": "fixed"}}, ["Unknown option of vbench 'mood'", "Did you mean mode"]),
        ({"vbench": {"magnitud": True}}, ["'magnitud'", "Did you mean magnitude"]),
        ({"vbench": {"splits": 3}}, ["Unknown option of vbench 'splits'", "mode"]),
        ({"vbench": {"mode": "fixd"}}, ["mode=fixd: not allowed", "Allowed: parity, fixed"]),
        ({"vbench": {"magnitude": "perhaps"}}, ["magnitude=perhaps", "true or false"]),
        ({"vbnch": FIXED}, ["Unknown metric 'vbnch'", "Did you mean vbench"]),
        # By name, an option must be the metric's own.
        ({"vbench-imaging-quality": FIXED}, ["vbench-imaging-quality", "mode"]),
        # A good setting does not hide a bad one.
        ({"vbench": {"mode": "fixed", "mod": 1}}, ["'mod'", "Did you mean mode"]),
    ],
)
def test_settings_that_are_refused(videos, options, words):
    with pytest.raises(UsageError) as caught:
        plan_of(videos, "vbench", options=options)
    said = f"{caught.value.message} {caught.value.hint}"
    assert all(word in said for word in words), said
    assert caught.value.exit_code == 2


def test_a_wrong_value_is_refused_though_nobody_asks_for_the_group(videos):
    with pytest.raises(UsageError, match="mode=fixd"):
        plan_of(videos, "is-lite0", options={"vbench": {"mode": "fixd"}})


# --- layers -----------------------------------------------------------------------------------

Layer = Mapping[str, Mapping[str, str]]


def modes_of(*layers: Layer) -> dict[str, Any]:
    """The mode of each metric after file, environment and flags."""
    return {name: values["mode"] for name, values in merge_settings(*layers).items()}


ALL_FIXED = {name: "fixed" for name in SEVEN if name != WITHOUT_A_MODE}
PARITY = {"mode": "parity"}


@pytest.mark.parametrize(
    ("layers", "flickering"),
    [
        ([{"vbench": FIXED}], "fixed"),
        # A later layer wins, whichever of the names it has.
        ([{FLICKERING: PARITY}, {"vbench": FIXED}], "fixed"),
        ([{"vbench": FIXED}, {FLICKERING: PARITY}], "parity"),
        ([{"vbench": PARITY}, {"VBENCH": FIXED}], "fixed"),
        ([{FLICKERING: FIXED}, {}, {"vbench": FIXED, FLICKERING: PARITY}], "parity"),
        ([{"vbench": FIXED, FLICKERING: PARITY}, {}], "parity"),
    ],
)
def test_a_later_layer_wins(layers, flickering):
    assert modes_of(*layers) == {**ALL_FIXED, FLICKERING: flickering}


def test_layers_are_merged_option_by_option():
    merged = merge_settings({DEGREE: {"magnitude": False}}, {"vbench": FIXED})
    assert merged[DEGREE] == {"magnitude": False, "mode": "fixed"}
    assert set(merged) == set(ALL_FIXED)


@pytest.mark.parametrize("layers", [[{"vbench": {"mood": 1}}], [{}, {"vbenc": FIXED}]])
def test_an_unknown_name_in_any_layer(layers):
    with pytest.raises(UsageError, match="Unknown"):
        merge_settings(*layers)


@pytest.fixture
def planned(videos, tmp_path, aigve):
    """The options of each metric, in words, that a dry run names; or its error."""

    def planned(*flags: str, file: str = "", env: str = "") -> dict[str, str] | str:
        (tmp_path / "aigve.toml").write_text(file)
        done = aigve(
            *("compute", "--input-dir", videos, "--metrics", "VBench", "--dry-run", *flags),
            # A dry run fetches nothing, and leaves out what could not be fetched.
            env={"AIGVE_SET": env, "AIGVE_OFFLINE": ""},
        )
        if done.code:
            assert done.code == 2
            return done.stderr
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        return {row[0]: row[-1] for row in rows[1:]}

    return planned


FETCHED = [name for name in SEVEN if name != "vbench-motion-smoothness"]
"""AMT's weights are fetched by hand."""


def fixed_of(options: dict[str, str] | str) -> list[str]:
    assert isinstance(options, dict), options
    assert list(options) == FETCHED
    return [name for name, text in options.items() if "mode=fixed" in text]


def test_environment_and_flags(planned):
    file = f'[{FLICKERING}]\nmode = "x"\n'
    assert f"{FLICKERING}.mode=x" in planned(file=file)
    everyone = [name for name in FETCHED if name in ALL_FIXED]
    assert fixed_of(planned(file=file, env="vbench.mode=fixed")) == everyone
    flags = ("--set", f"{FLICKERING}.mode=parity", "--set", "VBench.magnitude=false")
    found = planned(*flags, file=file, env="vbench.mode=fixed")
    assert fixed_of(found) == [name for name in everyone if name != FLICKERING]
    assert "mode=parity" in found[FLICKERING]
    assert "magnitude=False" in found[DEGREE]


def test_a_file_may_have_a_table_of_the_group(planned):
    found = fixed_of(planned(file='[vbench]\nmode = "fixed"\n'))
    assert found == [name for name in FETCHED if name in ALL_FIXED]


# --- what people see --------------------------------------------------------------------------


def test_config_prints_the_tables(aigve):
    done = aigve("config", "vbench")
    assert done.code == 0, done.stderr
    assert list(tomllib.loads(done.stdout)) == [*SIXTEEN, "model"]
    # Each once, though it is named twice.
    again = aigve("config", FLICKERING, "VBENCH", "is")
    assert list(tomllib.loads(again.stdout)) == [FLICKERING, *OTHERS, "is", "model"]


@pytest.mark.parametrize(
    ("incomplete", "expected"),
    [
        ("vb", ["vbench", *SIXTEEN]),
        ("fid,vbench", ["fid,vbench", *(f"fid,{name}" for name in SIXTEEN)]),
        ("vbench-temporal-f", [FLICKERING]),
        ("vbench,vbench-d", [f"vbench,{DEGREE}"]),
    ],
)
def test_the_shell_completes_the_name(incomplete, expected):
    assert _complete_metrics(incomplete) == expected


def test_a_run_of_the_group(videos, tmp_path):
    """The one that needs no weights has its number; the others have a reason each."""
    results = evaluate(
        videos,
        metrics=f"VBench,{FLICKERING}",
        options={"vbench": FIXED},
        offline=True,
        output_dir=tmp_path,
    )
    by_metric: dict[str, dict[str, Any]] = {}
    for record in results.records:
        assert record["requested"] == record["metric"]
        by_metric.setdefault(record["metric"], record)
    assert list(by_metric) == SEVEN
    frames = np.float32(moving_pattern(0, 4))
    differences = [np.abs(frames[i] - frames[i + 1]).mean() for i in range(3)]
    expected = (255 - np.mean(differences)) / 255
    assert by_metric[FLICKERING]["value"] == pytest.approx(expected, abs=1e-6)
    for name in SEVEN[:-1]:
        assert by_metric[name]["value"] is None
        assert "weights" in by_metric[name]["reason"]


# --- weights of videos ------------------------------------------------------------------------

WEIGHTS = st.one_of(st.integers(1, 10**6).map(float), st.floats(1e-3, 1e6))


@given(WEIGHTS, st.floats(-1, 1))
def test_a_weight_survives_the_journal(weight, value):
    score = Score(values={"a": value}, weight=weight)
    line = json.loads(json.dumps(score_to_json(score), allow_nan=False))
    assert json_to_score(line) == score
    assert ("weight" in line) == (weight != 1)


def test_a_weight_of_1_is_left_out():
    """So that journals of metrics that have none are what they were."""
    assert "weight" not in score_to_json(Score(values={"a": 0.5}))
    assert "weight" not in score_to_json(Score.missing("…"))
    assert score_to_json(Score(values={"a": 0.5}, weight=24.0))["weight"] == 24
    assert json_to_score({"values": {"a": 0.5}}).weight == 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 40)), min_size=2, max_size=6))
def test_a_mean_of_weighted_scores_is_that_of_their_frames(pairs):
    kept = [
        json_to_score(score_to_json(Score(values={"a": value}, weight=float(count))))
        for value, count in pairs
    ]
    frames = [value for value, count in pairs for _ in range(count)]
    mean = scores_to_mean(kept)
    assert mean.values["a"] == pytest.approx(np.mean(frames), abs=1e-12)
    low, high = mean.details["interval95"]["a"]
    assert low - 1e-12 <= mean.values["a"] <= high + 1e-12


def test_each_value_has_its_own_weights():
    """A value that only some videos have is a mean over those."""
    scores = [
        Score(values={"a": 1.0, "b": 1.0}, weight=1.0),
        Score(values={"a": 0.0}, weight=3.0),
        Score(values={"a": 0.0, "b": 0.0}, weight=4.0),
    ]
    assert scores_to_mean(scores).values == {"a": 1 / 8, "b": 1 / 5}


def test_one_video_is_its_own_mean_whatever_it_weighs():
    assert scores_to_mean([Score(values={"a": 0.25}, weight=7.0)]).values == {"a": 0.25}


def test_settings_of_a_group_are_not_said_to_be_idle(aigve, tmp_path):
    write_clip(tmp_path / "in" / "a.mkv", moving_pattern(1, 3))
    where = ("compute", "--input-dir", tmp_path / "in", "--metrics", FLICKERING, "--dry-run")
    assert "not used" not in aigve(*where, "--set", "vbench.mode=fixed").stderr
    for setting in (f"{DEGREE}.magnitude=false", "vbench.magnitude=false"):
        assert f"are not used: {DEGREE}." in aigve(*where, "--set", setting).stderr
    idle = aigve(*where, "--set", "kid.subsets=5").stderr
    assert "Settings of metrics that are not computed are not used: kid." in idle


@pytest.mark.parametrize("weight", [0, -1.0, float("inf"), float("nan")])
def test_a_weight_is_above_0(weight):
    with pytest.raises(ValueError, match="above 0"):
        Score(values={"a": 1.0}, weight=weight)
