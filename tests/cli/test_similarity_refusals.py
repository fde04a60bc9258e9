"""What `aigve compute` says of models that do not fit, and of numbers that are not the published.

Models are tiny, with made-up weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aigve_cli.main import main
from aigve_cli.output import Output
from aigve_cli.results.tables import RESULT_COLUMNS
from aigve_cli.weights import network_card
from aigve_cli.weights.folder_check import PROCESSOR_FILES
from tests.cli.finished import Finished
from tests.conftest import moving_pattern, write_clip
from tests.engine.watched import TINY, scores
from tests.networks.model_folders import write_json, write_processor

CLIP, PICK = network_card("clip").entry(), network_card("pickscore").entry()
FRAMES = 3


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no hub"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("a.mkv", "b.mkv")):
        write_clip(folder / name, moving_pattern(seed, FRAMES, height=40, width=56))
    return folder


@pytest.fixture
def compute(
    videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """`aigve compute` within this process, of two videos that have a prompt."""

    def compute(
        metrics: str,
        *arguments: object,
        sets: Mapping[str, object] | None = None,
        folder: Path = videos,
        before: tuple[object, ...] = (),
    ) -> Finished:
        capfd.readouterr()
        out = tmp_path / "out"
        given = (
            *(*before, "compute", "--use-cpu", "--output-dir", out, "--input-dir", folder),
            *("--prompt", "a cat", "--metrics", metrics, *arguments),
        )
        chosen = [
            part for pair in (sets or {}).items() for part in ("--set", "=".join(map(str, pair)))
        ]
        code = main([*map(str, given), *chosen])
        stdout, stderr = capfd.readouterr()
        assert "Traceback" not in stderr, stderr
        return Finished(code, stdout, stderr, out)

    return compute


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the tiny CLIP."""
    return shutil.copytree(TINY["clipsim"], tmp_path / "model")


# --- models that do not fit -------------------------------------------------------------------

BOTH = {"clipsim.model": TINY["clipsim"], "cliptemp.model": TINY["cliptemp"]}


def of_24_pixels(folder: Path) -> None:
    """The image processor of a model that takes other pictures."""
    side = {"height": 24, "width": 24}
    write_processor(folder, "CLIP", size={"shortest_edge": 24}, crop_size=side, do_center_crop=True)


@pytest.mark.parametrize("how", ["standard", "aigve", "evalcrafter"])
def test_pictures_of_another_size_are_refused_before_the_first(
    compute, model, how, counting_ffmpeg
):
    of_24_pixels(model)
    run = compute("clipsim", sets={"clipsim.model": model, "clipsim.preprocess": how})
    assert run.code == 4, run.stderr
    for words in (str(model), "makes pictures of 24x24 pixels", "takes 32x32"):
        assert words in run.message
    assert counting_ffmpeg.decodes() == 0
    assert not (run.out / "results.json").exists()


def test_pictures_of_another_size_beside_a_model_that_fits(compute, model, counting_ffmpeg):
    of_24_pixels(model)
    run = compute("clipsim,cliptemp", sets={**BOTH, "clipsim.model": model})
    assert run.code == 3, run.stderr
    assert run.record("cliptemp")["value"] is not None
    record = run.record("clipsim")
    assert record["value"] is None
    for text in (record["reason"], run.stderr):
        assert "makes pictures of 24x24 pixels" in text
        assert "takes 32x32" in text
    assert counting_ffmpeg.decodes() == 2


def test_a_model_of_another_kind_beside_one_that_fits(compute):
    run = compute("clipsim,cliptemp", sets={**BOTH, "clipsim.model": TINY["blipsim"]})
    assert run.code == 3, run.stderr
    assert run.record("cliptemp")["value"] is not None
    record = run.record("clipsim")
    assert record["value"] is None
    for text in (record["reason"], run.stderr):
        assert f"{TINY['blipsim']} cannot be loaded as clip" in text
        assert "its model_type is 'blip'" in text


def test_a_model_of_another_kind_alone(compute, counting_ffmpeg):
    run = compute("clipsim", sets={"clipsim.model": TINY["blipsim"]})
    assert run.code == 4, run.stderr
    assert "its model_type is 'blip'" in run.message
    assert counting_ffmpeg.decodes() == 0


@pytest.mark.parametrize("stated", [None, 2])
def test_the_tokenizer_of_another_model(compute, model, stated):
    """Also where the model's file says 2 for its last token, as OpenAI's older ones do."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY["blipsim"] / name, model / name)
    if stated is not None:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        config["text_config"]["eos_token_id"] = stated
        write_json(model / "config.json", config)
    run = compute("clipsim", sets={"clipsim.model": model})
    assert run.code == 4, run.stderr
    assert f"the tokenizer in {model} ends texts with token" in run.message
    assert "it is another model's." in run.message
    assert not (run.out / "results.json").exists()


# --- whose numbers they are -------------------------------------------------------------------


def test_a_model_in_the_place_of_the_published_one_is_named(compute, model):
    run = compute("clipsim,cliptemp", "--model", f"clip={model}")
    assert run.code == 0, run.stderr
    for metric in ("clipsim", "cliptemp"):
        record = run.record(metric)
        assert record["notes"] == ["--model clip=model"]
        (described,) = record["networks"]
        assert (described["weights"], described["tag"]) == ("custom", str(model))
        assert described["licence"] == "unknown"
    assert run.stdout.count("--model clip=model") == 2


def test_a_folder_that_nobody_vouches_for_is_noted(compute, tmp_path):
    shutil.copytree(TINY["clipsim"], tmp_path / "W" / CLIP.file)
    run = compute("clipsim", "--weights-dir", tmp_path / "W")
    assert run.code == 0, run.stderr
    record = run.record("clipsim")
    assert record["notes"] == [f"not verified to be {CLIP.hub_id}"]
    (described,) = record["networks"]
    assert (described["weights"], described["tag"]) == ("standard", CLIP.tag)
    assert (described["verified"], described["published"]) == (False, "")


def snapshot(cache: Path, hub_id: str, commit: str) -> Path:
    return cache / f"models--{hub_id.replace('/', '--')}" / "snapshots" / commit


@pytest.mark.parametrize("where", ["cache", "weights folder"])
def test_the_pinned_commit_in_the_layout_of_the_hub_needs_no_note(
    compute, tmp_path, monkeypatch, where
):
    shutil.copytree(TINY["clipsim"], snapshot(tmp_path / "hub", CLIP.hub_id, CLIP.hub_revision))
    if where == "cache":
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        run = compute("clipsim")
    else:
        run = compute("clipsim", "--weights-dir", tmp_path / "hub")
    assert run.code == 0, run.stderr
    record = run.record("clipsim")
    assert record["notes"] == []
    assert record["networks"][0]["published"] == f"{CLIP.hub_id}@{CLIP.hub_revision}"


def bare_pickscore(folder: Path) -> Path:
    """As it is published: without tokenizer and image processor."""
    return shutil.copytree(TINY["pickscore"], folder, ignore=lambda *_: [*PROCESSOR_FILES])


def test_a_tokenizer_from_elsewhere_is_recorded(compute, tmp_path):
    whole = compute("pickscore", sets={"pickscore.model": TINY["pickscore"]})
    expected = whole.record("pickscore")["value"]
    assert whole.record("pickscore")["networks"][0]["processor"] == ""
    shutil.rmtree(whole.out)

    top = tmp_path / "W"
    bare_pickscore(top / PICK.file)
    beside = top / "CLIP-ViT-H-14-laion2B-s32B-b79K"
    beside.mkdir()
    for name in PROCESSOR_FILES:
        if (TINY["pickscore"] / name).is_file():
            shutil.copy(TINY["pickscore"] / name, beside)
    run = compute("pickscore", "--weights-dir", top)
    assert run.code == 0, run.stderr
    record = run.record("pickscore")
    assert record["value"] == pytest.approx(expected, abs=1e-6)
    assert record["networks"][0]["processor"] == str(beside)


def test_a_tokenizer_from_the_hub_is_recorded_with_its_commit(compute, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    bare_pickscore(snapshot(cache, PICK.hub_id, PICK.hub_revision))
    beside = snapshot(cache, PICK.processor_hub_id, PICK.processor_hub_revision)
    shutil.copytree(TINY["pickscore"], beside)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    run = compute("pickscore")
    assert run.code == 0, run.stderr
    (described,) = run.record("pickscore")["networks"]
    assert described["published"] == f"{PICK.hub_id}@{PICK.hub_revision}"
    assert described["processor"] == f"{PICK.processor_hub_id}@{PICK.processor_hub_revision}"


# --- options ----------------------------------------------------------------------------------

NOT_USED = "--model clip=PATH is not used"


def test_a_model_that_no_metric_takes_is_said(compute, model):
    run = compute("clipsim,cliptemp", "--model", f"clip={model}", sets=BOTH)
    assert run.code == 0, run.stderr
    assert [line for line in run.stderr.splitlines() if NOT_USED in line] == [
        f"{NOT_USED}: the metrics' model= names others."
    ]
    assert str(model) not in json.dumps(run.document["results"])


def test_a_model_that_one_metric_takes_is_used(compute, model):
    run = compute(
        *("clipsim,cliptemp", "--model", f"clip={model}"),
        sets={"clipsim.model": TINY["clipsim"]},
    )
    assert run.code == 0, run.stderr
    assert NOT_USED not in run.stderr
    assert run.record("cliptemp")["networks"][0]["tag"] == str(model)


def test_a_choice_that_is_a_number_may_be_written_as_one(compute, tmp_path):
    text = f'[clipsim]\nscale = 2.5\nmodel = "{TINY["clipsim"]}"\n'
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    run = compute("clipsim", before=("--config", tmp_path / "run.toml"))
    assert run.code == 0, run.stderr
    record = run.record("clipsim")
    assert (record["options"]["scale"], record["range"]) == ("2.5", [0, 2.5])


@pytest.mark.parametrize("number", ["2.25", "3", "true"])
def test_a_number_that_is_no_choice_is_refused(compute, tmp_path, number):
    (tmp_path / "run.toml").write_text(f"[clipsim]\nscale = {number}\n", encoding="utf-8")
    run = compute("clipsim", before=("--config", tmp_path / "run.toml"))
    assert run.code == 2, run.stderr
    assert "clipsim.scale=" in run.message


@pytest.mark.parametrize("metric", ["clipsim", "cliptemp", "blipsim", "pickscore"])
def test_an_empty_model_is_not_the_default_one(compute, metric):
    run = compute(metric, sets={f"{metric}.model": ""})
    assert run.code == 2, run.stderr
    assert run.message.startswith(f"{metric}.model=: expected a text, and found none.")


# --- what a reader is told --------------------------------------------------------------------


def test_frozen_videos_are_counted(compute, tmp_path):
    for seed in range(3):
        frames = moving_pattern(seed, 4, height=40, width=56)
        write_clip(tmp_path / "in" / f"{seed}.mkv", [frames[0]] * 4 if seed == 1 else frames)
    run = compute("cliptemp", sets={"cliptemp.model": TINY["cliptemp"]}, folder=tmp_path / "in")
    assert run.code == 0, run.stderr
    notes = run.record("cliptemp")["notes"]
    assert [note for note in notes if "frames are the same" in note] == [
        "in 1 of 3 videos all frames are the same to the network"
    ]
    found = scores(run.document, "cliptemp")
    frozen = {name for name, score in found.items() if any("frozen" in n for n in score["notes"])}
    assert frozen == {"1.mkv"}


def test_without_a_frozen_video_nothing_is_said_of_it(compute):
    run = compute("cliptemp", sets={"cliptemp.model": TINY["cliptemp"]})
    assert not any("frames are the same" in note for note in run.record("cliptemp")["notes"])


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        # As many digits as show two of the error's.
        (0.99987654321, 1.234e-5, "0.999877"),
        (21.456789, 0.0312, "21.457"),
        (1234.56789, 0.5, "1234.57"),
        (-0.123456789, 4.4e-4, "-0.12346"),
        # Never fewer than four, nor more than eight.
        (0.123456789, 3.0, "0.1235"),
        (0.123456789, 1e-15, "0.12345679"),
        # Without an error, or with none to speak of, four.
        (0.123456789, None, "0.1235"),
        (0.123456789, 0.0, "0.1235"),
        (0.0, 0.1, "0"),
    ],
)
def test_a_table_shows_the_digits_that_an_error_leaves(capsys, value, error, shown):
    row = {"metric": "cliptemp", "value": value, "standard_error": error, "better": "higher"}
    Output().rows([row], RESULT_COLUMNS, "table")
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[:2] == ["cliptemp", shown]
    Output().rows([row], RESULT_COLUMNS, "tsv")
    _, line = capsys.readouterr().out.splitlines()
    assert line.split("\t")[1] == repr(value)
