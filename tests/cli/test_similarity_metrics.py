"""Videos and prompts through the whole tool: from files and options to `results.json`.

Models are tiny or have the published sizes, all with made-up weights; what transformers gave for
the tiny ones is in tests/goldens/vision_language. Such weights do not know what a red ball is: that
the right prompt gets a higher score cannot be shown here.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigve_cli.main import main
from aigve_cli.video.ffmpeg import ffmpeg_binary
from aigve_cli.weights import network_card
from tests.cli.finished import Finished
from tests.conftest import moving_pattern, process_environment, write_clip
from tests.engine.watched import TINY, listed, scores, values
from tests.networks.model_folders import write_blip, write_clip as write_clip_model, write_json
from tests.networks.vision_goldens import CLIP_FILE, COSINES, SCALED, clip_frames, goldens

COMMAND = [sys.executable, "-c", "from aigve_cli.main import run; run()", "compute"]
GOLDENS = goldens()
# Prompts are read without the space around them, which changes no token.
PROMPTS: list[str] = [prompt.strip() for prompt in GOLDENS["prompts"]]
EMPTY, LONG = 3, 4
CLIP, PICK, BLIP = (GOLDENS[name] for name in ("tiny-clip", "tiny-pickscore", "tiny-blip-itm"))
ALL = "clipsim,cliptemp,blipsim,pickscore"
# The goldens cut BLIP's texts there.
BLIP_LIMIT = 35
SAME = 1e-6


def sets(models: Mapping[str, object], *more: str) -> list[str]:
    """``--set`` for the model of each metric, and for more."""
    chosen = [f"{metric}.model={folder}" for metric, folder in models.items()]
    return [part for option in (*chosen, *more) for part in ("--set", option)]


def process(out: Path, *arguments: object, env: Mapping[str, str] | None = None) -> Finished:
    """`aigve compute` as a process of its own, without the network."""
    alone = {
        "AIGVE_OFFLINE": "1",
        "HF_HUB_CACHE": str(out.parent / "no hub"),
        # Two of them run side by side.
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*COMMAND, "--use-cpu", "--output-dir", str(out), *map(str, arguments)],
        env=process_environment({**alone, **(env or {})}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Finished(done.returncode, done.stdout, done.stderr, out)


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no hub"))
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def compute(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """The same command line within this process: transformers is imported once."""

    def compute(*arguments: object, out: Path = tmp_path / "out") -> Finished:
        capfd.readouterr()
        code = main(["compute", "--use-cpu", "--output-dir", str(out), *map(str, arguments)])
        stdout, stderr = capfd.readouterr()
        assert "Traceback" not in stderr, stderr
        return Finished(code, stdout, stderr, out)

    return compute


def near(found: Any, expected: Any, tolerance: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# --- goldens, as processes --------------------------------------------------------------------


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BLIP, its texts cut as those of the goldens."""
    folder = tmp_path_factory.mktemp("models") / "blip"
    shutil.copytree(TINY["blipsim"], folder)
    path = folder / "tokenizer_config.json"
    stated = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, stated | {"model_max_length": BLIP_LIMIT})
    return folder


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden clip once a prompt: ``0.mkv`` to ``5.mkv``."""
    folder = tmp_path_factory.mktemp("copies")
    for index in range(len(PROMPTS)):
        shutil.copy(CLIP_FILE, folder / f"{index}.mkv")
    return folder


def write_prompts(path: Path) -> Path:
    """The prompts of ``0.mkv`` to ``5.mkv``, in the layout that the file's name asks for."""
    named = {f"{index}.mkv": prompt for index, prompt in enumerate(PROMPTS)}
    rows = [{"video": video, "prompt": prompt} for video, prompt in named.items()]
    text = {
        ".csv": "video,prompt\n" + "".join(f'{v},"{p}"\n' for v, p in named.items()),
        ".jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        ".json": json.dumps(named),
        ".txt": "".join(f"{v}\t{p}\n" for v, p in named.items()),
    }[path.suffix]
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(
    blip: Path, copies: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Finished]:
    """The golden runs by name: two at a time, for most of each is imports."""
    folder = tmp_path_factory.mktemp("runs")
    models = {**TINY, "blipsim": blip}
    prompted = {name: models[name] for name in ALL.split(",")}
    own = [f"{name}.preprocess" for name in ("clipsim", "cliptemp", "pickscore")]
    frames = clip_frames()
    for side, (first, second) in (("ours", (5, 1)), ("theirs", (2, 0))):
        write_clip(folder / side / "x.mkv", [frames[first]])
        write_clip(folder / side / "y.mkv", [frames[second]])
    one_file = listed(folder / "listed.json", [("0.mkv", prompt) for prompt in PROMPTS])
    arguments: dict[str, Sequence[object]] = {
        "csv": (
            *("--input-dir", copies, "--prompts", write_prompts(folder / "p.csv")),
            *("--metrics", ALL, *sets(prompted)),
        ),
        "annotations": (
            *("--annotations", one_file, "--video-dir", copies, "--batch-size", 5),
            *("--metrics", ALL),
            *sets(prompted, "blipsim.head=itm", *(f"{option}=aigve" for option in own)),
        ),
        "jsonl": (
            *("--input-dir", copies, "--prompts", write_prompts(folder / "p.jsonl")),
            *("--metrics", "clipsim,cliptemp,pickscore"),
            *sets(
                {name: models[name] for name in ("clipsim", "cliptemp", "pickscore")},
                *(f"{option}=evalcrafter" for option in own),
            ),
        ),
        "win": (
            *("--input-dir", folder / "ours", "--reference-dir", folder / "theirs"),
            *("--prompt", PROMPTS[0], "--metrics", "pickscore-win"),
            *sets({"pickscore-win": models["pickscore-win"]}),
        ),
    }
    with ThreadPoolExecutor(2) as pool:
        runs = {
            name: pool.submit(process, folder / f"out-{name}", *given)
            for name, given in arguments.items()
        }
    return {name: run.result() for name, run in runs.items()}


def prompted_videos(run: Finished, metric: str) -> dict[int, dict[str, Any]]:
    """The score of each prompt that is not empty, by its place; the empty one has a reason."""
    found = scores(run.document, metric)
    by_prompt = {
        video["prompt"]: video["scores"][metric]
        for video in run.document["videos"]
        if video["scores"][metric]["values"]
    }
    reasons = [score["reason"] for score in found.values() if not score["values"]]
    assert reasons == ["no prompt"]
    assert set(by_prompt) == set(PROMPTS) - {""}
    return {PROMPTS.index(prompt): score for prompt, score in by_prompt.items()}


def test_every_prompt_of_a_csv_file(finished):
    run = finished["csv"]
    assert run.code == 3, run.stderr
    for index, score in prompted_videos(run, "clipsim").items():
        expected = CLIP["prompts"][index]
        near(score["curve"]["frame"], expected["cos_per_frame"], COSINES)
        near(score["values"]["clipsim"], expected["cos_mean"], COSINES)
        near(score["values"]["clipsim"], CLIP["batched_text_cos_mean"][index], COSINES)
    for score in scores(run.document, "cliptemp").values():
        near(score["curve"]["pair"], CLIP["cliptemp_adjacent"], COSINES)
        near(score["values"]["cliptemp"], CLIP["cliptemp_mean"], COSINES)
    for index, score in prompted_videos(run, "blipsim").items():
        expected = BLIP["prompts"][index]
        near(score["curve"]["frame"], expected["itc_cos_per_frame"], COSINES)
        near(score["values"]["blipsim"], expected["itc_cos_mean"], COSINES)
    for index, score in prompted_videos(run, "pickscore").items():
        expected = PICK["prompts"][index]
        near(score["curve"]["frame"], expected["logit_scaled_per_frame"], SCALED)
        near(score["values"]["pickscore"], expected["logit_scaled_mean"], SCALED)
        near(score["values"]["pickscore-cosine"], expected["cos_mean"], COSINES)


def test_a_summary_is_over_the_videos_with_a_prompt(finished):
    run = finished["csv"]
    for name, key, tolerance in (
        ("clipsim", [p["cos_mean"] for p in CLIP["prompts"]], COSINES),
        ("pickscore", [p["logit_scaled_mean"] for p in PICK["prompts"]], SCALED),
        ("blipsim", [p["itc_cos_mean"] for p in BLIP["prompts"]], COSINES),
    ):
        record = run.record(name)
        near(record["value"], np.mean([n for i, n in enumerate(key) if i != EMPTY]), tolerance)
        low, high = record["interval95"]
        assert low < record["value"] < high
        assert record["videos"]["videos"] == 5
        assert run.record("cliptemp")["videos"]["videos"] == 6
    for words in ("clipsim: 1 video not used, first: 3.mkv: no prompt", "5 with a prompt"):
        assert words in run.stderr


def test_cut_prompts_are_said(finished):
    run = finished["csv"]
    limits = {"clipsim": 77, "pickscore": 77, "blipsim": BLIP_LIMIT}
    for metric, limit in limits.items():
        found = prompted_videos(run, metric)
        (note,) = found.pop(LONG)["notes"]
        assert re.search(rf"cut: it has \d+ tokens, and the model reads {limit}$", note)
        assert all("cut" not in " ".join(score["notes"]) for score in found.values())
        (note,) = (n for n in run.record(metric)["notes"] if "cut" in n)
        assert note.startswith("1 of 5 prompts were cut")
    assert not any("cut" in note for note in run.record("cliptemp")["notes"])


def test_a_record_says_where_its_number_comes_from(finished, blip):
    run = finished["csv"]
    prompted = {"clipsim": "clip", "blipsim": "blip-itm", "pickscore": "pickscore"}
    digests = {}
    for metric, network in {**prompted, "cliptemp": "clip"}.items():
        record = run.record(metric)
        assert record["category"] == "vision_language_similarity"
        model = blip if metric == "blipsim" else TINY[metric]
        assert record["options"]["model"] == str(model)
        assert record["options"]["preprocess"] == "standard"
        (described,) = record["networks"]
        assert (described["name"], described["weights"]) == (network, "custom")
        assert described["tag"] == str(model)
        assert described["licence"] == "unknown"
        digests[metric] = described["sha256"]
        assert re.fullmatch("[0-9a-f]{64}", digests[metric])
        (inputs,) = record["inputs"]
        assert inputs["sampling"] == "every frame"
        squashed = metric == "blipsim"
        resized = "resize 32x32" if squashed else "resize shorter side to 32"
        assert inputs["view"].startswith(f"{resized} pil-bicubic; ")
        assert ("centre crop 32x32" in inputs["view"]) != squashed
        assert "normalise mean=0.48" in inputs["view"]
    assert digests["clipsim"] == digests["cliptemp"]
    assert len(set(digests.values())) == 3
    assert (run.record("clipsim")["range"], run.record("clipsim")["unit"]) == ([-1, 1], "cosine")
    assert run.document["counts"]["read"] == {
        f"{network}:{run.record(metric)['options']['model']}": 5
        for metric, network in prompted.items()
    }


def test_one_file_with_every_prompt_as_aigve_prepared_it(finished, blip):
    run = finished["annotations"]
    assert run.code == 3, run.stderr
    for index, score in prompted_videos(run, "clipsim").items():
        expected = CLIP["prompts"][index]["aigve_squash224_cos_mean"]
        near(score["values"]["clipsim"], expected, COSINES)
    for score in scores(run.document, "cliptemp").values():
        near(score["values"]["cliptemp"], CLIP["cliptemp_aigve_squash224_mean"], COSINES)
    for index, score in prompted_videos(run, "pickscore").items():
        expected = PICK["prompts"][index]["aigve_squash224_cos_mean"]
        near(score["values"]["pickscore-cosine"], expected, COSINES)
    # A probability, of the usual pictures.
    for index, score in prompted_videos(run, "blipsim").items():
        expected = BLIP["prompts"][index]
        near(score["curve"]["frame"], expected["itm_prob_per_frame"], COSINES)
        near(score["values"]["blipsim"], expected["itm_prob_mean"], COSINES)
    record = run.record("blipsim")
    assert (record["range"], record["unit"]) == ([0, 1], "probability of a match")
    counts = run.document["counts"]
    assert (counts["decodes"], counts["frames"]) == (1, 7)
    assert counts["looked"] == {
        f"clip:{TINY['clipsim']}": 7,
        f"pickscore:{TINY['pickscore']}": 7,
        f"blip-itm:{blip}": 5 * 7,
    }
    assert "preprocess=aigve" in run.record("clipsim")["notes"]
    (inputs,) = run.record("clipsim")["inputs"]
    assert inputs["view"].startswith("resize 224x224 cv2-linear; resize shorter side to 32 pil-")


def test_as_evalcrafter_prepared_it(finished):
    run = finished["jsonl"]
    assert run.code == 3, run.stderr
    for index, score in prompted_videos(run, "clipsim").items():
        expected = CLIP["prompts"][index]["evalcrafter_raw_pixels_cos_mean"]
        near(score["values"]["clipsim"], expected, COSINES)
    for score in scores(run.document, "cliptemp").values():
        near(score["values"]["cliptemp"], CLIP["cliptemp_evalcrafter_mean"], COSINES)
    for index, score in prompted_videos(run, "pickscore").items():
        expected = PICK["prompts"][index]["evalcrafter_raw_pixels_cos_mean"]
        near(score["values"]["pickscore-cosine"], expected, COSINES)
    (inputs,) = run.record("clipsim")["inputs"]
    assert inputs["view"] == "resize 32x32 cv2-linear"


def test_two_sets_of_one_prompt(finished):
    run = finished["win"]
    assert run.code == 0, run.stderr
    shares = PICK["softmax_over_frames_prompt0"]
    scaled = PICK["prompts"][0]["logit_scaled_per_frame"]
    for name, ours, theirs in (("x.mkv", 5, 2), ("y.mkv", 1, 0)):
        score = scores(run.document, "pickscore-win")[name]
        # Of a softmax over all frames, two are in the proportion of a softmax over them.
        expected = shares[ours] / (shares[ours] + shares[theirs])
        near(score["values"]["pickscore-win"], expected, COSINES)
        near(score["details"]["pickscore"], scaled[ours], SCALED)
        near(score["details"]["reference"], scaled[theirs], SCALED)
    assert run.document["counts"]["looked"] == {f"pickscore:{TINY['pickscore']}": 4}


def test_prompts_from_names_scaled_as_the_model_was_trained(compute, tmp_path, monkeypatch):
    for index, place in ((0, "-0"), (1, "-12"), (2, "-3"), (5, "")):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(CLIP_FILE, tmp_path / "in" / f"{PROMPTS[index]}{place}.mkv")
    # A model's folder may be named from where the command is given.
    monkeypatch.chdir(TINY["clipsim"].parent)
    run = compute(
        *("--input-dir", tmp_path / "in", "--prompt-from-name", "--metrics", "clipsim"),
        *sets({"clipsim": "tiny-clip"}, "clipsim.scale=logit"),
    )
    assert run.code == 0, run.stderr
    found = {v["prompt"]: v["scores"]["clipsim"] for v in run.document["videos"]}
    assert set(found) == {PROMPTS[index] for index in (0, 1, 2, 5)}
    for prompt, score in found.items():
        expected = CLIP["prompts"][PROMPTS.index(prompt)]
        near(score["curve"]["frame"], expected["logit_scaled_per_frame"], SCALED)
        near(score["values"]["clipsim"], expected["logit_scaled_mean"], SCALED)
    record = run.record("clipsim")
    assert (record["unit"], record["range"]) == ("the model's logit", [None, None])
    assert record["networks"][0]["tag"] == str(TINY["clipsim"])


def test_stdout_has_the_numbers_and_nothing_else(finished):
    for name, run in finished.items():
        header, *rows = run.stdout.splitlines()
        assert header.startswith("metric\tvalue"), name
        assert len(rows) == len(run.document["results"])
        for words in ("Loading weights", "warn", "%|", "HF_", "http"):
            assert words not in run.stderr, run.stderr


# --- the other scales and layouts -------------------------------------------------------------

SCALES = {
    "x100": ("cos_mean_x100", [-100, 100]),
    "clamp100": ("clipscore_clamped_x100", [0, 100]),
    "2.5": ("hessel_2.5_clamped", [0, 2.5]),
}


@pytest.mark.parametrize(
    ("scale", "file"), [("x100", "p.json"), ("clamp100", "p.txt"), ("2.5", "p.json")]
)
def test_every_scale(compute, copies, tmp_path, scale, file):
    """With PickScore's model: its cosines are below 0 for some prompts."""
    key, bounds = SCALES[scale]
    run = compute(
        *("--input-dir", copies, "--prompts", write_prompts(tmp_path / file)),
        *("--metrics", "clipsim", "--max-len", 7),
        *sets({"clipsim": TINY["pickscore"]}, f"clipsim.scale={scale}"),
    )
    assert run.code == 3, run.stderr
    for index, score in prompted_videos(run, "clipsim").items():
        near(score["values"]["clipsim"], PICK["prompts"][index][key], SCALED)
        near(np.mean(score["curve"]["frame"]), score["values"]["clipsim"], SAME)
    record = run.record("clipsim")
    assert record["range"] == bounds
    assert record["options"]["scale"] == scale
    assert f"scale={scale}" in record["notes"]
    assert f"scale={scale}" in run.stdout


# --- what must and must not change a score ----------------------------------------------------


def test_prompts_change_clipsim_and_the_order_of_frames_changes_cliptemp(compute, tmp_path):
    frames = clip_frames()
    orders = {"a.mkv": [0, 1, 2, 3, 4, 5, 6], "b.mkv": [3, 3, 5, 0, 1], "c.mkv": [6, 2, 4]}
    jumbled = {"a.mkv": [4, 0, 6, 2, 5, 1, 3], "b.mkv": [5, 3, 1, 3, 0], "c.mkv": [2, 6, 4]}
    prompts = dict(zip(orders, ("a red ball", "the dog runs", "a blue car"), strict=True))
    turned = dict(zip(orders, ("a blue car", "a red ball", "the dog runs"), strict=True))

    def scored(name: str, order: Mapping[str, Sequence[int]], given: Mapping[str, str]) -> Finished:
        folder = tmp_path / name
        for video, places in order.items():
            write_clip(folder / video, [frames[place] for place in places])
        (tmp_path / f"{name}.json").write_text(json.dumps(given))
        return compute(
            *("--input-dir", folder, "--prompts", tmp_path / f"{name}.json"),
            *("--metrics", "clipsim,cliptemp"),
            *sets({m: TINY[m] for m in ("clipsim", "cliptemp")}),
            out=tmp_path / f"out {name}",
        )

    usual = scored("usual", orders, prompts).document
    other_prompts = scored("prompts", orders, turned).document
    other_order = scored("order", jumbled, prompts).document
    sim, temp = (
        [values(document, metric) for document in (usual, other_prompts, other_order)]
        for metric in ("clipsim", "cliptemp")
    )
    assert temp[1] == temp[0]
    assert all(abs(sim[1][name] - sim[0][name]) > 0.01 for name in orders)
    assert sim[2] == pytest.approx(sim[0], abs=SAME)
    assert all(abs(temp[2][name] - temp[0][name]) > 0.01 for name in orders)


# --- prompts and models that are not there ----------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for name in ("a.mkv", "b.mkv"):
        write_clip(folder / name, moving_pattern(ord(name[0]), 3, height=40, width=56))
    return folder


@pytest.mark.parametrize(
    ("metrics", "named"), [("clipsim", "clipsim"), ("blipsim,pickscore", "blipsim, pickscore")]
)
def test_no_prompts_at_all(compute, two, metrics, named):
    chosen = {name: TINY[name] for name in metrics.split(",")}
    run = compute("--input-dir", two, "--metrics", metrics, *sets(chosen))
    assert run.code == 2
    assert f"There are no prompts for {named}" in run.stderr
    hint = run.stderr.partition("Hint:")[2]
    for option in ("--prompts FILE", "--prompt TEXT", "--prompt-from-name", "annotations"):
        assert option in hint
    assert run.stdout == ""
    assert not run.out.exists()


def test_no_prompts_at_all_beside_metrics_that_need_none(compute, two):
    chosen = {name: TINY[name] for name in ALL.split(",")}
    run = compute("--input-dir", two, "--categories", "vision_language_similarity", *sets(chosen))
    assert run.code == 3
    assert run.record("cliptemp")["value"] is not None
    for metric in ("clipsim", "blipsim", "pickscore"):
        assert run.record(metric)["value"] is None
        assert "no prompt" in run.record(metric)["reason"]
    assert run.document["counts"]["looked"] == {f"clip:{TINY['clipsim']}": 6}


def test_an_empty_prompt_for_all_is_refused(compute, two):
    run = compute(
        *("--input-dir", two, "--prompt", "  ", "--metrics", "clipsim"),
        *sets({"clipsim": TINY["clipsim"]}),
    )
    assert run.code == 2
    assert "--prompt is empty" in run.stderr


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("/no/such/folder", "no folder /no/such/folder"),
        ("./nowhere", "nowhere"),
        ("nowhere", "'nowhere' is no model of clip"),
        ("a/b/c", "'a/b/c' is no model of clip"),
    ],
)
def test_a_model_that_is_neither_a_folder_nor_an_id(compute, two, model, words):
    run = compute(
        *("--input-dir", two, "--prompt", "a cat", "--metrics", "clipsim,cliptemp"),
        *sets({"clipsim": model, "cliptemp": TINY["cliptemp"]}),
    )
    assert run.code == 2, run.stderr
    assert words in run.stderr
    assert not (run.out / "results.json").exists()


def no_config(folder: Path) -> str:
    (folder / "config.json").unlink()
    return "config.json"


def no_weights(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    return "model.safetensors"


def cut_weights(folder: Path) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return "model"


def no_tokenizer(folder: Path) -> str:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    return "tokenizer"


def another_kind(folder: Path) -> str:
    shutil.rmtree(folder)
    write_blip(folder)
    return "blip"


def broken_config(folder: Path) -> str:
    (folder / "config.json").write_text("{")
    return "config.json"


def no_image_processor(folder: Path) -> str:
    (folder / "processor_config.json").unlink()
    return "processor"


BREAKS = (
    no_config,
    no_weights,
    cut_weights,
    no_tokenizer,
    another_kind,
    broken_config,
    no_image_processor,
)


@pytest.mark.parametrize("spoil", BREAKS)
def test_a_folder_that_is_no_model(compute, two, tmp_path, spoil):
    folder = tmp_path / "model"
    shutil.copytree(TINY["clipsim"], folder)
    word = spoil(folder)
    run = compute(
        *("--input-dir", two, "--prompt", "a cat", "--metrics", "clipsim"),
        *sets({"clipsim": folder}),
    )
    assert run.code == 4, run.stderr
    assert run.stderr.count("Error:") == 1
    said = run.stderr.partition("Error:")[2]
    assert word in said
    assert str(folder) in said
    assert "Hint:" in said
    assert run.stdout == ""
    assert not (run.out / "results.json").exists()


def test_an_empty_folder_is_no_model(compute, two, tmp_path):
    (tmp_path / "empty").mkdir()
    run = compute(
        *("--input-dir", two, "--prompt", "a cat", "--metrics", "clipsim"),
        *sets({"clipsim": tmp_path / "empty"}),
    )
    assert run.code == 4
    assert str(tmp_path / "empty") in run.stderr


OFFLINE = [("--offline", {}), (None, {"HF_HUB_OFFLINE": "1"}), (None, {"AIGVE_OFFLINE": "1"})]


@pytest.mark.parametrize(("flag", "env"), OFFLINE)
def test_a_model_that_is_not_here_and_may_not_be_fetched(
    compute, two, tmp_path, monkeypatch, flag, env
):
    monkeypatch.delenv("AIGVE_OFFLINE")
    # Nobody listens there: a request would be another message.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "W").mkdir()
    run = compute(
        *("--input-dir", two, "--prompt", "a cat", "--metrics", "clipsim,cliptemp"),
        *("--weights-dir", tmp_path / "W", *([flag] if flag else [])),
    )
    assert run.code == 4, run.stderr
    entry = network_card("clip").entry()
    assert entry.hub_id == "openai/clip-vit-base-patch32"
    for words in (
        f"{entry.hub_id} at revision {entry.hub_revision}",
        str(tmp_path / "W" / entry.file),
        "no hub",
        "ffline",
        "--set METRIC.model=FOLDER",
        "licence MIT",
    ):
        assert words in run.stderr, run.stderr
    assert "could not be fetched" not in run.stderr


def test_a_model_that_is_not_here_beside_one_that_is(compute, two):
    """Any id, by its name: the other metric has its number."""
    run = compute(
        *("--input-dir", two, "--prompt", "a cat", "--metrics", "clipsim,blipsim"),
        *sets({"clipsim": TINY["clipsim"], "blipsim": "some-one/some.blip@v2"}),
    )
    assert run.code == 3, run.stderr
    assert run.record("clipsim")["value"] is not None
    record = run.record("blipsim")
    assert record["value"] is None
    for words in ("some-one/some.blip@v2", "--set METRIC.model=FOLDER"):
        assert words in record["reason"]
        assert words in run.stderr


def test_a_dry_run_names_the_model_and_does_nothing(compute, two):
    run = compute(
        *("--input-dir", two, "--prompt", "a cat", "--metrics", "clipsim", "--dry-run"),
        *sets({"clipsim": TINY["clipsim"]}),
    )
    assert run.code == 0, run.stderr
    assert str(TINY["clipsim"]) in run.stdout + run.stderr
    assert not (run.out / "results.json").exists()


# --- a run that was stopped -------------------------------------------------------------------


def ffmpeg_that_stops(path: Path, decode: int, body: str) -> dict[str, str]:
    """The environment with ffmpeg behind a script that does something else at a decode."""
    count = f"{path}.calls"
    path.write_text(
        "#!/bin/sh\n"
        f"case \"$*\" in *rawvideo*pipe:1*) echo >> '{count}'\n"
        f"if [ \"$(wc -l < '{count}')\" -eq {decode} ]; then\n{body}\nfi;; esac\n"
        f"exec '{ffmpeg_binary()}' \"$@\"\n"
    )
    path.chmod(0o755)
    return {"IMAGEIO_FFMPEG_EXE": str(path)}


def test_stopped_while_videos_wait_for_their_batch(compute, tmp_path, counting_ffmpeg):
    """By Ctrl-C when all of them wait, then by a kill when some are done; then to the end."""
    folder = tmp_path / "in"
    for index in range(6):
        write_clip(folder / f"{index}.mkv", moving_pattern(index, 3, height=40, width=56))
    prompts = {f"{index}.mkv": f"a dog and {index} balls" for index in range(6)}
    (tmp_path / "p.json").write_text(json.dumps(prompts))
    given = (
        *("--input-dir", folder, "--prompts", tmp_path / "p.json"),
        *("--metrics", "clipsim,cliptemp", "--decode-workers", 1),
        *sets({name: TINY[name] for name in ("clipsim", "cliptemp")}),
    )
    whole = compute(*given, "--batch-size", 64, out=tmp_path / "whole")
    assert whole.code == 0, whole.stderr

    out = tmp_path / "out"
    kept = []
    for name, size, code in (("INT", 64, 130), ("KILL", 5, -signal.SIGKILL)):
        # A decoder that ended at once would be a video that failed.
        stop = f"kill -{name} $PPID\nexec sleep 100"
        env = ffmpeg_that_stops(tmp_path / name, 5, stop)
        stopped = process(out, *given, "--batch-size", size, env=env)
        assert stopped.code == code, stopped.stderr
        assert stopped.stdout == ""
        assert not (out / "results.json").exists()
        lines = (out / "journal.jsonl").read_bytes().splitlines()
        kept.append(sum(b'"kind":"sample"' in line for line in lines))
    assert kept[0] == 0
    assert 0 < kept[1] < 4
    before = counting_ffmpeg.decodes()
    again = compute(*given, "--batch-size", 64)
    assert again.code == 0, again.stderr
    assert counting_ffmpeg.decodes() - before == 6 - kept[1]
    for metric in ("clipsim", "cliptemp"):
        ours, theirs = (values(run.document, metric) for run in (again, whole))
        assert ours == pytest.approx(theirs, abs=SAME)
        near(again.record(metric)["interval95"], whole.record(metric)["interval95"], SAME)


# --- the published size over real videos ------------------------------------------------------


@pytest.fixture(scope="module")
def real_size(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A weights folder with openai/clip-vit-base-patch32's architecture, in two layouts."""
    folder = tmp_path_factory.mktemp("weights")
    entry = network_card("clip").entry()
    write_clip_model(folder / entry.file, real_size=True)
    write_clip_model(folder / "older", real_size=True, older=True)
    yield folder
    shutil.rmtree(folder)  # 1.2 GB


def test_real_videos_with_their_prompts(compute, media, real_size, tmp_path):
    """The category as a user asks for it; CLIP in the published layout, then in the older one."""
    published = json.loads((media / "lavie" / "annotations.json").read_text(encoding="utf-8"))
    # Three of them: at the published size a frame takes a CPU a while.
    some = published["data_list"][:3]
    (tmp_path / "some.json").write_text(json.dumps({"data_list": some}), encoding="utf-8")
    arguments = (
        *("--annotations", tmp_path / "some.json"),
        *("--video-dir", media / "lavie", "--max-len", 2),
    )
    newer = compute(
        *(*arguments, "--categories", "vision_language_similarity", "--weights-dir", real_size),
        *sets({name: TINY[name] for name in ("blipsim", "pickscore")}),
    )
    assert newer.code == 0, newer.stderr
    document = newer.document
    counts = document["counts"]
    assert (counts["decodes"], counts["frames"]) == (3, 3 * 2)
    # One pass for both metrics on CLIP, and each prompt once.
    assert counts["looked"]["clip"] == 3 * 2
    assert counts["read"]["clip"] == len({video["prompt_gt"] for video in some}) == 3
    for metric in ALL.split(","):
        found = values(document, metric)
        assert len(found) == 3
        assert np.isfinite(list(found.values())).all()
        assert newer.record(metric)["interval95"] is not None
    record = newer.record("clipsim")
    (described,) = record["networks"]
    assert (record["weights"], described["tag"]) == ("standard", "vit-base-patch32")
    assert described["verified"] is False
    assert described["licence"] == "MIT"
    (inputs,) = record["inputs"]
    assert inputs["view"].startswith("resize shorter side to 224 pil-bicubic; centre crop 224x224;")
    assert inputs["sampling"] == "every frame; of the first 2 frames"

    older = compute(
        *(*arguments, "--metrics", "clipsim,cliptemp", "--model", f"clip={real_size / 'older'}"),
        out=tmp_path / "older",
    )
    assert older.code == 0, older.stderr
    for metric in ("clipsim", "cliptemp"):
        # Safetensors lie elsewhere in memory: sums of another order, 2e-9 of a cosine.
        assert values(older.document, metric) == pytest.approx(values(document, metric), abs=SAME)
    assert older.document["counts"]["looked"] == {"clip": 3 * 2}
    (described,) = older.record("clipsim")["networks"]
    assert (described["weights"], described["licence"]) == ("custom", "unknown")
    assert described["sha256"] != record["networks"][0]["sha256"]
