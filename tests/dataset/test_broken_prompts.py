"""Prompts that are no text, and files of prompts that are of no use: said, never in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aigve_cli import evaluate
from aigve_cli.dataset.samples import load_dataset
from aigve_cli.errors import UsageError
from aigve_cli.output import Output
from tests.conftest import moving_pattern, read_results, write_clip
from tests.engine.watched import models, values

HALF = "a cat \ud83d"
NAMES = ("a.mkv", "b.mkv", "c.mkv")
PROMPTS = dict(zip(NAMES, (HALF, "a dog runs", "the night"), strict=True))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(NAMES):
        write_clip(folder / name, moving_pattern(seed, 3, height=40, width=56))
    return folder


def test_half_a_character_costs_one_prompt_and_nothing_else(videos, tmp_path, capsys):
    (tmp_path / "p.json").write_text(json.dumps(PROMPTS), encoding="ascii")
    results = evaluate(
        videos,
        prompts=tmp_path / "p.json",
        metrics="clipsim,cliptemp",
        options=models("clipsim", "cliptemp"),
        device="cpu",
        output_dir=tmp_path / "out",
        output=Output(),
    )
    assert results.exit_code == 3
    document = read_results(tmp_path / "out")
    assert {v["sample"]: v["prompt"] for v in document["videos"]} == {**PROMPTS, "a.mkv": None}
    assert [number is None for number in values(document, "clipsim").values()] == [
        True,
        False,
        False,
    ]
    assert None not in values(document, "cliptemp").values()
    said = capsys.readouterr().err
    assert "1 prompt is not valid Unicode (half a character) and left out, such as that of" in said
    assert "'a.mkv'" in said


def in_json(folder: Path) -> dict[str, Path]:
    path = folder / "p.json"
    path.write_text(json.dumps(PROMPTS), encoding="ascii")
    return {"input_dir": folder, "prompts": path}


def in_jsonl(folder: Path) -> dict[str, Path]:
    path = folder / "p.jsonl"
    lines = [json.dumps({"video": video, "prompt": text}) for video, text in PROMPTS.items()]
    path.write_text("\n".join(lines), encoding="ascii")
    return {"input_dir": folder, "prompts": path}


def in_annotations(folder: Path) -> dict[str, Path]:
    path = folder / "annotations.json"
    entries = [{"video_path_pd": video, "prompt_gt": text} for video, text in PROMPTS.items()]
    path.write_text(json.dumps({"data_list": entries}), encoding="ascii")
    return {"annotations": path, "video_dir": folder}


@pytest.mark.parametrize("given", [in_json, in_jsonl, in_annotations])
def test_wherever_it_comes_from(tmp_path, given):
    for name in NAMES:
        (tmp_path / name).touch()
    dataset = load_dataset(**given(tmp_path))
    assert [sample.prompt for sample in dataset.generated] == [None, "a dog runs", "the night"]
    (note,) = (note for note in dataset.notes if "Unicode" in note)
    assert note.startswith("1 prompt is not valid Unicode")


def test_none_that_is_text_is_none_at_all(videos, tmp_path):
    with pytest.raises(UsageError) as caught:
        evaluate(
            videos,
            prompt=HALF,
            metrics="clipsim",
            options=models("clipsim"),
            output_dir=tmp_path / "out",
        )
    assert "There are no prompts for clipsim" in caught.value.message
    assert "3 prompts are not valid Unicode" in caught.value.message


# --- files of no use --------------------------------------------------------------------------


def test_a_file_that_names_other_videos(videos, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("video,prompt\nx.mkv,a cat\ny.mkv,a dog\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        evaluate(
            videos,
            prompts=path,
            metrics="clipsim",
            options=models("clipsim"),
            output_dir=tmp_path / "out",
        )
    assert caught.value.exit_code == 2
    for words in ("There are no prompts for clipsim", f"2 prompts of '{path}'", "'x.mkv'"):
        assert words in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "video,description\na.mkv,a cat\nb.mkv,a dog\n"),
        ("p.csv", "video\na.mkv\nb.mkv\n"),
        ("p.jsonl", '{"video": "a.mkv", "description": "a cat"}\n{"video": "b.mkv"}\n'),
        ("p.json", '{"a.mkv": null, "b.mkv": "  "}'),
    ],
)
@pytest.mark.parametrize("metrics", ["clipsim", "clipsim,cliptemp"])
def test_a_file_that_names_videos_and_no_prompt(videos, tmp_path, name, text, metrics):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        evaluate(
            videos,
            prompts=path,
            metrics=metrics,
            options=models("clipsim", "cliptemp"),
            output_dir=tmp_path / "out",
        )
    assert caught.value.exit_code == 2
    assert caught.value.message == f"Prompt file '{path}' names 2 videos and no prompt."
    assert "prompt, prompt_gt, caption, text" in caught.value.hint
