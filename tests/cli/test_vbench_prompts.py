"""VBench's dimensions that need texts, and its suite, through the whole tool.

Networks are tiny ones of the published layouts, with the weights of VBench's goldens: their sizes
stand in for the published ones in this process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models import clip_vit_b_32, umt_large, viclip
from aigve_models._kinetics400 import ACTIONS
from aigve_models._openai_clip import Layout, Sizes
from torch import Tensor

from aigve_cli import evaluate
from aigve_cli.api import Results
from aigve_cli.main import main
from aigve_cli.results.vbench import read_values
from aigve_cli.weights import network_card
from tests.cli.finished import Finished
from tests.cli.vbench_kit import FLICKERING, process
from tests.conftest import moving_pattern, read_results, write_clip
from tests.networks.test_umt_large import places
from tests.networks.vbench_checkpoints import openai_shapes
from tests.networks.vbench_weights import golden, vbench_state

OVERALL, TEMPORAL = "vbench-overall-consistency", "vbench-temporal-style"
STYLE, ACTION = "vbench-appearance-style", "vbench-human-action"
TINY_CLIP = Sizes(
    patch=32, image_width=128, image_layers=2, text_width=64, text_layers=1, dimensions=64
)
TINY_VICLIP = viclip.Sizes(
    patch=32, video_width=128, video_layers=2, text_width=64, text_layers=2, dimensions=64
)
TINY_UMT = umt_large.Sizes(width=96, layers=2, heads=3)
# Other orders of sums: 1e-7 was seen.
SCORE = 2e-6


def _states() -> dict[str, Mapping[str, Tensor]]:
    """Checkpoints of the tiny networks."""
    videos = viclip.build().state_dict()
    actions = umt_large.build().state_dict()
    states = {
        name: vbench_state((key, tuple(tensor.shape)) for key, tensor in own.items())
        for name, own in (("viclip", videos), ("umt-large", actions))
    }
    states["umt-large"]["head.weight"] *= 4
    states["umt-large"]["pos_embed"] = places(TINY_UMT.width)
    states["clip-vit-b-32"] = vbench_state(openai_shapes(clip_vit_b_32).items())
    return {**states, "viclip": {"model": states["viclip"]}}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of checkpoints, of networks that are tiny for the time of a test."""
    layout = Layout(TINY_CLIP, "clip.")
    monkeypatch.setattr(clip_vit_b_32, "SIZES", TINY_CLIP)
    monkeypatch.setattr(clip_vit_b_32, "checkpoint_to_state", layout.to_state)
    monkeypatch.setattr(clip_vit_b_32, "published_names", layout.published_names)
    monkeypatch.setattr(viclip, "PUBLISHED", TINY_VICLIP)
    monkeypatch.setattr(umt_large, "PUBLISHED", TINY_UMT)
    folder = tmp_path / "weights"
    folder.mkdir()
    for name, state in _states().items():
        torch.save(state, folder / network_card(name).entry().file)
    return folder


@pytest.fixture
def score(weights: Path, tmp_path: Path) -> Callable[..., Results]:
    """Score one clip, each time with another prompt, in this process."""

    def score(frames: Sequence[np.ndarray], metrics: str, **more: Any) -> Results:
        folder = tmp_path / f"clip {len(list(tmp_path.iterdir()))}"
        write_clip(folder / "a.mkv", list(frames), fps=8)
        return evaluate(
            folder,
            metrics=metrics,
            device="cpu",
            offline=True,
            weights_dir=weights,
            models={"clip-vit-b-32": weights / "ViT-B-32.pt"},
            output_dir=folder / "scores",
            **more,
        )

    return score


# --- goldens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [OVERALL, TEMPORAL])
@pytest.mark.parametrize("text", [0, 1])
def test_a_video_and_its_prompt_are_as_near_as_in_vbench(score, metric, text):
    arrays = golden("overall_consistency_viclip_tiny")
    results = score(arrays["frames"], metric, prompt=str(arrays["texts"][text]))
    assert results.value(metric) == pytest.approx(float(arrays["scores"][0, text]), abs=SCORE)
    assert results.document["counts"]["looked"] == {"viclip": 1}


def test_both_dimensions_share_one_look(score):
    arrays = golden("overall_consistency_viclip_tiny")
    results = score(arrays["frames"], f"{OVERALL},{TEMPORAL}", prompt="a cat")
    assert results.value(OVERALL) == results.value(TEMPORAL)
    assert results.document["counts"]["looked"] == {"viclip": 1}


def test_a_long_prompt_is_cut_with_a_note(score):
    results = score(moving_pattern(1, 3), OVERALL, prompt=" ".join(["dog"] * 50))
    (record,) = results.records
    assert "1 of 1 prompts were cut to what the model reads" in record["notes"]


@pytest.mark.parametrize("clip", ["wide", "tall"])
@pytest.mark.parametrize("which", ["a", "b"])
def test_frames_and_a_style_are_as_near_as_in_vbench(score, clip, which):
    arrays = golden("appearance_style_tiny")
    options = {STYLE: {"style": str(arrays[f"text_{which}"])}}
    results = score(arrays[f"frames_{clip}"], STYLE, options=options)
    expected = float(arrays[f"score_{clip}_{which}"])
    assert results.value(STYLE) == pytest.approx(expected, abs=SCORE)
    (video,) = results.document["videos"]
    frames = arrays[f"frame_scores_{clip}_{which}"].tolist()
    assert video["scores"][STYLE]["curve"]["frame"] == pytest.approx(frames, abs=SCORE)


def test_each_video_may_have_its_own_style(weights, tmp_path):
    arrays = golden("appearance_style_tiny")
    lines = []
    for which in "ab":
        name = f"{which}.mkv"
        write_clip(tmp_path / "in" / name, list(arrays["frames_wide"]), fps=8)
        style = str(arrays[f"text_{which}"])
        lines.append({"video_path_pd": name, "appearance_style": style})
    write_clip(tmp_path / "in" / "c.mkv", list(arrays["frames_wide"]), fps=8)
    lines.append({"video_path_pd": "c.mkv"})
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps({"data_list": lines}))
    results = evaluate(
        annotations=annotations,
        video_dir=tmp_path / "in",
        metrics=STYLE,
        device="cpu",
        models={"clip-vit-b-32": weights / "ViT-B-32.pt"},
        output_dir=tmp_path / "scores",
    )
    found = {video["sample"]: video["scores"][STYLE] for video in results.document["videos"]}
    for which in "ab":
        value = found[f"{which}.mkv"]["values"][STYLE]
        assert value == pytest.approx(float(arrays[f"score_wide_{which}"]), abs=SCORE)
    assert found["c.mkv"]["reason"] == "no 'appearance_style' among its annotations"


def test_an_action_is_shown_if_it_is_among_the_five_likeliest_and_sure(score):
    arrays = golden("human_action_umt_tiny")
    for place in arrays["top5"][0]:
        name = ACTIONS[place]
        results = score(arrays["frames"], ACTION, prompt=f"A person is {name}")
        assert results.value(ACTION) == 1
    (video,) = results.document["videos"]
    seen = video["scores"][ACTION]["details"]["seen"]
    assert list(seen.values()) == pytest.approx(arrays["top5_prob"][0].round(4).tolist(), abs=1e-4)
    assert score(arrays["frames"], ACTION, prompt="A person is drinking").value(ACTION) == 0


def test_a_prompt_without_an_action_is_left_out_and_not_looked_at(score):
    results = score(moving_pattern(1, 3), ACTION, prompt="A person is writing software")
    (record,) = results.records
    assert record["by_choice"]
    assert "names none of the actions" in record["reason"]
    assert results.document["counts"]["looked"] == {}
    assert results.exit_code == 0


# --- the suite --------------------------------------------------------------------------------

SUITE: list[dict[str, Any]] = [
    {"prompt_en": "a person is dancing ballet", "dimension": ["human_action"]},
    {"prompt_en": "a dog", "dimension": ["object_class"],
     "auxiliary_info": {"object_class": {"object": "dog"}}},
    {"prompt_en": "a dog and a cat", "dimension": ["multiple_objects"],
     "auxiliary_info": {"multiple_objects": {"object": "dog and cat"}}},
    {"prompt_en": "a red car", "dimension": ["color"],
     "auxiliary_info": {"color": {"color": "red"}}},
    {"prompt_en": "a beach, Van Gogh style", "dimension": ["appearance_style"],
     "auxiliary_info": {"appearance_style": {"appearance_style": "Van Gogh style"}}},
    {"prompt_en": "a still lake", "dimension": ["temporal_flickering"]},
    {"prompt_en": "a dog left of a cat", "dimension": ["spatial_relationship"],
     "auxiliary_info": {"spatial_relationship": {"spatial_relationship": {
         "object_a": "dog", "object_b": "cat", "relationship": "on the left of"}}}},
    {"prompt_en": "an alley", "dimension": ["scene"],
     "auxiliary_info": {"scene": {"scene": {"scene": "alley"}}}},
    {"prompt_en": "a bear, zoom in", "dimension": ["temporal_style"]},
    {"prompt_en": "a mug", "dimension": ["overall_consistency"]},
]  # fmt: skip
"""Ten prompts, made up."""
SEEN = {"objects": [{"label": "dog", "box": [0, 0, 10, 10], "caption": "a black dog"},
                    {"label": "cat", "box": [30, 0, 40, 10], "caption": "a cat"},
                    {"label": "car", "box": [1, 1, 2, 2], "caption": "a red car"}],
        "caption": "a dog in an alley"}  # fmt: skip
OF_DETECTIONS = (
    "vbench-object-class",
    "vbench-multiple-objects",
    "vbench-color",
    "vbench-spatial-relationship",
    "vbench-scene",
)


@pytest.fixture
def suite(tmp_path: Path) -> list[str]:
    """Two videos of each prompt, one that is no video of the suite, and what a detector found."""
    detections = {}
    for number, entry in enumerate(SUITE):
        for index in range(2):
            name = f"{entry['prompt_en']}-{index}.mkv"
            write_clip(tmp_path / "videos" / name, moving_pattern(2 * number + index, 4))
            detections[name] = {"frames": [SEEN, {"caption": "a park", "objects": []}]}
    write_clip(tmp_path / "videos" / "a mug-7.mkv", moving_pattern(50, 4))
    (tmp_path / "info.json").write_text(json.dumps(SUITE))
    (tmp_path / "found.json").write_text(json.dumps({"videos": detections}))
    return [
        f"--input-dir={tmp_path / 'videos'}",
        f"--vbench-info={tmp_path / 'info.json'}",
        "--metrics=vbench",
        f"--set=vbench.detections={tmp_path / 'found.json'}",
    ]


def test_a_suite_counts_its_videos_and_names_what_is_missing(
    suite, weights, tmp_path, capfd, counting_ffmpeg
):
    """In this process, where the networks are tiny."""
    more = ["--use-cpu", "--offline", f"--weights-dir={weights}", "--format=json"]
    more += [f"--model=clip-vit-b-32={weights / 'ViT-B-32.pt'}"]
    code = main(["compute", *suite, *more, f"--output-dir={tmp_path / 'out'}"])
    stdout, stderr = capfd.readouterr()
    # The seven of part 1 have prompts for flickering only: the others are left out.
    assert code == 0, stderr
    records = {record["value_name"]: record for record in json.loads(stdout)}
    assert set(records) == {OVERALL, TEMPORAL, STYLE, ACTION, *OF_DETECTIONS, FLICKERING}
    assert all(record["videos"]["videos"] == 2 for record in records.values())
    assert records["vbench-object-class"]["value"] == 0.5
    assert records["vbench-color"]["value"] == 1
    document = read_results(tmp_path / "out")
    # Each network has looked at the videos of its own dimension.
    assert document["counts"]["looked"] == {
        "clip-vit-b-32": 8,
        "umt-large": 2,
        "viclip": 4,
        "frame-difference": 6,
    }
    assert "a mug-7.mkv: not one of VBench's suite" in stderr
    assert "scene: 3 of 5 videos missing: 'an alley-2', 'an alley-3', 'an alley-4'" in stderr
    assert "VBench's semantic score: " in stderr
    assert "VBench has no quality score without subject_consistency" in stderr
    written = json.loads((tmp_path / "out" / "vbench_results.json").read_text())
    assert written["scene"][1] == [
        {"video_path": f"an alley-{index}.mkv", "video_results": 0.5} for index in range(2)
    ]
    assert len(read_values(tmp_path / "out" / "vbench_results.json")) == 10
    assert counting_ffmpeg.decodes() == document["counts"]["decodes"] == 20


def test_a_suite_as_a_process_without_any_weights(suite, tmp_path):
    finished: Finished = process(tmp_path / "out", *suite, "--format=json")
    assert finished.code == 3, finished.stderr
    records = {record["value_name"]: record for record in json.loads(finished.stdout)}
    for name in (*OF_DETECTIONS, FLICKERING):
        assert records[name]["value"] is not None
    for name in (OVERALL, TEMPORAL, STYLE, ACTION):
        assert "are missing" in records[name]["reason"]
    assert "VBench has no total score without" in finished.stderr


def test_without_suite_or_prompts_a_group_is_what_is_possible(tmp_path, capfd):
    write_clip(tmp_path / "in" / "a.mkv", moving_pattern(1, 3))
    arguments = ["compute", f"--input-dir={tmp_path / 'in'}", "--metrics=vbench", "--offline"]
    main([*arguments, "--use-cpu", f"--output-dir={tmp_path}", "--format=json"])
    stdout, stderr = capfd.readouterr()
    names = {record["requested"] for record in json.loads(stdout)}
    assert not names & {OVERALL, TEMPORAL, STYLE, ACTION, *OF_DETECTIONS}
    assert len(names) == 7
    assert f"{ACTION}, {OVERALL}, {TEMPORAL} (no prompt)" in stderr
    # Who names one wants to know why it has no number.
    main([*arguments[:2], f"--metrics=vbench,{STYLE},vbench-scene", "--offline", "--use-cpu",
          f"--output-dir={tmp_path / 'other'}", "--format=json"])  # fmt: skip
    records = {record["requested"]: record for record in json.loads(capfd.readouterr().out)}
    assert "no detections: give a file" in records["vbench-scene"]["reason"]
    assert STYLE in records
