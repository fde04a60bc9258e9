"""Metrics of other packages, through the entry point of a real small project."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import process_environment, read_results

PROJECT = Path(__file__).parent.parent / "plugin_project"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The plugin project as pip installs it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    shutil.copytree(PROJECT, source)
    site = folder / "packages"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--target", str(site), str(source)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path = process_environment()["PYTHONPATH"]
    return {"PYTHONPATH": f"{path}:{site}"}


def test_a_plugin_is_listed_and_a_broken_one_is_named(aigve, installed):
    done = aigve("list-metrics", "--format", "json", env=installed)
    assert done.code == 0
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["mean-feature"]["source"] == "sharpness-metric 1.2.3"
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning:")]
    assert len(warnings) == 2
    assert "'broken' of sharpness-metric 1.2.3" in warnings[0]
    assert "a_package_that_nobody_has" in warnings[0]
    assert "'impostor' of sharpness-metric 1.2.3" in warnings[1]
    assert "fid-lite0" in rows


def test_a_plugin_scores_videos_beside_our_metrics(pairs, tmp_path, aigve, installed):
    arguments = ("--input-dir", pairs, "--output-dir", tmp_path, "--use-cpu")
    done = aigve(
        *("compute", *arguments, "--metrics", "mf,fid-lite0", "--set", "mf.factor=100"),
        env=installed,
    )
    document = read_results(tmp_path)
    own, fid = document["results"]
    # One of four videos makes the plugin fail: that is its own reason, and nobody else's.
    assert done.code == 3
    assert own["videos"]["videos"] == 3
    assert own["options"] == {"factor": 100.0}
    assert own["interval95"][0] < own["value"] < own["interval95"][1]
    assert fid["videos"]["videos"] == 4
    excluded = {v["sample"]: v["excluded"] for v in document["videos"] if v["excluded"]}
    assert list(excluded) == ["clip1_synthetic.mkv"]
    assert "clip1 is not to its taste" in excluded["clip1_synthetic.mkv"]["mean-feature"]
    scores = [v["scores"]["mean-feature"]["values"].get("mean-feature") for v in document["videos"]]
    known = [score for score in scores if score is not None]
    assert own["value"] == pytest.approx(sum(known) / 3)
    # Both look at the same features: one pass.
    assert document["counts"]["decodes"] == 8
