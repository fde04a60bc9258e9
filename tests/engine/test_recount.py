"""A frame count that was wrong: clips that depend on it are looked at once more."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from aigve_cli import evaluate
from aigve_cli.engine import look
from tests.conftest import moving_pattern, read_results, write_clip
from tests.networks.checkpoints import I3D, write_checkpoint


@pytest.mark.parametrize(("counted", "decodes"), [(12, 3), (14, 4)])
def test_a_wrong_count_costs_a_second_decode_of_that_video(tmp_path, monkeypatch, counted, decodes):
    for index in range(3):
        frames = moving_pattern(index, 12 if index == 1 else 16, height=32, width=40)
        write_clip(tmp_path / "in" / f"{index}.mkv", frames)
    original = look.probe

    def wrong(path):
        facts = original(path)
        return replace(facts, frames=counted) if path.name == "1.mkv" else facts

    monkeypatch.setattr(look, "probe", wrong)
    shutil.copytree(tmp_path / "in", tmp_path / "same")
    results = evaluate(
        tmp_path / "in",
        tmp_path / "same",
        metrics="fvd",
        models={I3D: write_checkpoint(tmp_path, I3D)},
        options={"fvd": {"short": "loop"}},
        device="cpu",
        output_dir=tmp_path / "out",
    )
    assert results.exit_code == 0
    document = read_results(tmp_path / "out")
    assert document["counts"]["decodes"] == decodes
    assert document["counts"]["passes"] == (2 if decodes > 3 else 1)
    assert document["results"][0]["videos"]["padded_frames"] == 4
