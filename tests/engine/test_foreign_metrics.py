"""Metrics that another author might write, together with ours, in one process."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from aigve_cli import evaluate, registry as registry_module
from aigve_cli.contract import Card, Extent, Frames, Metric, Request, Score, Value
from aigve_cli.metrics._lite0 import VIEW, feature_frames
from aigve_cli.video.sampling import FirstFrames
from tests.conftest import read_results


class Mean(Metric):
    """The mean feature, as numpy gives it."""

    card = Card(
        name="mean-feature",
        title="mean feature",
        category="multi_faceted",
        values=(Value("mean-feature", "higher"),),
        version=1,
    )

    def requests(self, options, extent):
        return {"frames": feature_frames(extent)}

    def score(self, features, sample, options):
        return Score(
            {"mean-feature": features.generated["frames"].mean()},
            curve={"mean-feature": features.generated["frames"].mean(axis=1)},
        )


class FewFrames(Mean):
    card = replace(Mean.card, name="few-frames", values=(Value("few-frames", "higher"),))

    def requests(self, options, extent):
        return {"frames": Request(feature_frames(Extent()).output, (Frames(VIEW, FirstFrames(8)),))}

    def score(self, features, sample, options):
        return Score({"few-frames": len(features.generated["frames"])})


class NotANumber(Mean):
    card = replace(Mean.card, name="not-a-number", values=(Value("not-a-number", "higher"),))

    def score(self, features, sample, options):
        return Score({"not-a-number": 1.0}, details={"spread": float("nan")})


@pytest.fixture
def with_metrics(monkeypatch):
    """Add metrics to the registry for one test."""

    def add(*metrics):
        found = registry_module.registry()
        more = {metric.card.name: metric for metric in metrics}
        changed = replace(
            found,
            metrics={**found.metrics, **more},
            sources={**found.sources, **dict.fromkeys(more, "test")},
        )
        monkeypatch.setattr("aigve_cli.engine.setup.registry", lambda: changed)

    return add


def test_numpy_scalars_and_arrays_become_plain_numbers(with_metrics, pairs, tmp_path):
    with_metrics(Mean)
    evaluate(pairs, metrics="mean-feature", device="cpu", output_dir=tmp_path)
    document = read_results(tmp_path)
    (record,) = document["results"]
    curves = [
        video["scores"]["mean-feature"]["curve"]["mean-feature"] for video in document["videos"]
    ]
    assert [len(curve) for curve in curves] == [18] * 4
    assert record["value"] == pytest.approx(np.mean(curves), rel=1e-6)


def test_a_metric_that_gives_nan_has_its_reason_and_stops_nothing(with_metrics, pairs, tmp_path):
    with_metrics(NotANumber)
    results = evaluate(pairs, metrics="not-a-number,is-lite0", device="cpu", output_dir=tmp_path)
    assert results.exit_code == 3
    assert results.value("not-a-number") is None
    assert results.value("is-lite0") is not None
    assert json.loads((tmp_path / "results.json").read_text())["results"][0]["reason"]


@pytest.mark.parametrize("order", ["fid-lite0,few-frames", "few-frames,fid-lite0"])
def test_black_frames_are_those_of_a_metric_that_pads(with_metrics, pairs, tmp_path, order):
    with_metrics(FewFrames)
    evaluate(pairs, metrics=order, device="cpu", output_dir=tmp_path, max_len=20, pad=True)
    records = {record["value_name"]: record for record in read_results(tmp_path)["results"]}
    assert records["few-frames"]["value"] == 8
    assert records["few-frames"]["videos"]["padded_frames"] == 0
    assert records["fid-lite0"]["videos"]["padded_frames"] == 4 * 2
    assert records["fid-lite0"]["details"]["frames"] == {"generated": 80, "reference": 80}


def test_a_video_with_two_prompts_is_one_member_of_its_set(pairs, tmp_path):
    listed = [
        {"video_path_pd": f"clip{index}_synthetic.mkv", "prompt_gt": prompt}
        for index in (0, 1)
        for prompt in ("one", "two")
    ]
    (tmp_path / "listed.json").write_text(json.dumps({"data_list": listed}))
    results = evaluate(
        annotations=tmp_path / "listed.json",
        video_dir=pairs,
        metrics="is-lite0",
        device="cpu",
        output_dir=tmp_path,
    )
    (record,) = results.records
    assert record["videos"]["videos"] == 2
    assert record["details"]["frames"]["generated"] == 36
    assert len(results.document["videos"]) == 4


def test_a_metric_asked_for_under_two_names_answers_to_both(pairs, tmp_path):
    results = evaluate(pairs, metrics="is-lite0,is", device="cpu", output_dir=tmp_path)
    first, second = results.records
    assert (first["requested"], second["requested"]) == ("is-lite0", "is")
    assert first["value"] == second["value"]
    assert [entry["requested"] for entry in results.document["substitutions"]] == ["is"]
