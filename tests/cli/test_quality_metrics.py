"""No-reference quality networks through the whole tool: from a video file to `results.json`.

Checkpoints are in their published containers with deterministic weights, videos are lossless; what
the original implementations gave for them is in tests/goldens/vqa. Such weights do not know what a
blurred or a noisy picture is: that a worse copy gets a lower score cannot be shown here.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models import slowfast_r50
from PIL import Image

from aigve_cli.engine.journal import Journal
from aigve_cli.main import main
from aigve_cli.video.ffmpeg import ffmpeg_binary
from aigve_cli.weights import network_card
from tests.conftest import (
    Done,
    moving_pattern,
    process_environment,
    read_results,
    values_of,
    write_clip,
)
from tests.networks.checkpoints import (
    CLIP,
    GSTVQA,
    LIGHTVQA,
    LIGHTVQA_PLUS,
    SIMPLEVQA,
    SLOWFAST,
    VGG,
    published_state,
    write_checkpoint,
)
from tests.networks.light_goldens import published_shapes, zeros

GOLDENS = Path(__file__).parents[1] / "goldens" / "vqa"
FPS = 5.0
COMMAND = [sys.executable, "-c", "from aigve_cli.main import run; run()", "compute"]
NAMES = (GSTVQA, VGG, SIMPLEVQA, SLOWFAST, LIGHTVQA)
PROVEN = ("gstvqa", "simplevqa", "lightvqa")
# Of scores: float32 alone moves the originals by up to 1.4e-5.
SCORE = 1e-4
# Relative L2 of rows against the originals': other orders of sums, measured 1e-7 to 3e-6.
ROWS = 1e-5
# What batches and neighbours may change.
SAME = 1e-6


@dataclass(frozen=True)
class Finished:
    """A process that has ended, and what it wrote."""

    done: Done
    out: Path

    @property
    def document(self) -> dict[str, Any]:
        return read_results(self.out)

    def scores(self, metric: str) -> dict[str, dict[str, Any]]:
        """What was said of each video, by its name."""
        return {video["sample"]: video["scores"][metric] for video in self.document["videos"]}

    def values(self, metric: str) -> dict[str, float | None]:
        return {
            name: score["values"].get(metric) if not score["reason"] else None
            for name, score in self.scores(metric).items()
        }

    def curve(self, metric: str, sample: str) -> np.ndarray:
        (curve,) = self.scores(metric)[sample]["curve"].values()
        return np.array(curve)

    def record(self, metric: str) -> dict[str, Any]:
        (record,) = (r for r in self.document["results"] if r["requested"] == metric)
        return record


Run = Callable[..., Finished]


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / f"{name}.npz") as arrays:
        return dict(arrays)


def flags(weights: Path, *names: str) -> tuple[str, ...]:
    return tuple(part for name in names for part in ("--model", f"{name}={weights}"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`aigve compute` as a process, in runs that several tests look at."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    alone = {"AIGVE_OFFLINE": "1", "AIGVE_CACHE_DIR": str(cache)}

    def run(
        videos: Path, *arguments: object, out: Path | None = None, env: Mapping[str, str] = alone
    ) -> Finished:
        out = out or tmp_path_factory.mktemp("out")
        given = ("--input-dir", videos, "--use-cpu", "--output-dir", out, *arguments)
        done = subprocess.run(
            [*COMMAND, *map(str, given)],
            env=process_environment({**alone, **env}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Finished(Done(done.returncode, done.stdout, done.stderr), out)

    return run


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Half a gigabyte of checkpoints, removed when they have been read."""
    folder = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        write_checkpoint(folder, name)
    yield folder
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def models(weights: Path) -> tuple[str, ...]:
    return flags(weights, *NAMES)


@pytest.fixture(scope="module")
def clip_a() -> np.ndarray:
    """uint8 [40, 64, 80, 3], RGB: 8 seconds."""
    frames: np.ndarray = np.load(GOLDENS / "clip_a.npy")
    return frames


# --- gstvqa -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gstvqa(run: Run, models: tuple[str, ...], clip_a: np.ndarray, tmp_path_factory: Any):
    folder = tmp_path_factory.mktemp("gstvqa")
    late = clip_a.copy()
    late[35] = 255 - late[35]
    write_clip(folder / "clip_a.mkv", list(clip_a), fps=FPS)
    write_clip(folder / "late.mkv", list(late), fps=FPS)
    return run(folder, "--metrics", "gstvqa", *models)


def test_gstvqa_is_the_original_s(gstvqa, weights):
    assert gstvqa.done.code == 0, gstvqa.done.stderr
    expected, state = golden("gstvqa_clip_a"), published_state(GSTVQA)
    score = gstvqa.values("gstvqa")["clip_a.mkv"]
    assert score == pytest.approx(float(expected["score"]), rel=SCORE)
    assert score == pytest.approx(-0.0557782, rel=SCORE)
    quality = expected["rnn"] @ state["q.weight"].numpy().T + state["q.bias"].numpy()
    ours = gstvqa.curve("gstvqa", "clip_a.mkv")
    np.testing.assert_allclose(ours, quality[:, 0], rtol=SCORE, atol=1e-5 * quality.std())
    record = gstvqa.record("gstvqa")
    assert record["metric"] == "gstvqa"
    assert_weights(record, weights, GSTVQA, VGG)
    assert_inputs(
        record,
        ("normalise mean=123.675,116.28,103.53 std=58.395,57.12,57.375", "first 500 frames"),
    )
    assert gstvqa.document["counts"]["frames"] == 80
    assert_historical(gstvqa, "gstvqa", "gstvqa_results.json", "GSTVQA")


def test_a_late_frame_changes_gstvqa(gstvqa):
    before, after = (gstvqa.curve("gstvqa", name) for name in ("clip_a.mkv", "late.mkv"))
    scores = gstvqa.values("gstvqa")
    # Upstream AIGVE's wrapper looks at the first frame only: not a bit would differ.
    moved = abs(scores["late.mkv"] - scores["clip_a.mkv"])
    assert moved > 10 * SCORE * abs(scores["clip_a.mkv"])
    assert abs(before - after)[35] > 10 * abs(before - after)[:35].max()


# --- simplevqa --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simplevqa(run: Run, models: tuple[str, ...], clip_a: np.ndarray, tmp_path_factory: Any):
    folder = tmp_path_factory.mktemp("simplevqa")
    write_clip(folder / "clip_a.mkv", list(clip_a), fps=FPS)
    return run(folder, "--metrics", "simplevqa", *models)


def test_simplevqa_is_the_original_s(simplevqa, weights):
    assert simplevqa.done.code == 0, simplevqa.done.stderr
    expected = golden("simplevqa_clip_a")
    score = simplevqa.values("simplevqa")["clip_a.mkv"]
    assert score == pytest.approx(float(expected["score_eval"]), rel=SCORE)
    assert score == pytest.approx(-0.8217392, rel=SCORE)
    ours = simplevqa.curve("simplevqa", "clip_a.mkv")
    np.testing.assert_allclose(ours, expected["frame_scores_eval"], rtol=SCORE)
    # Frames that were resized by OpenCV are another convention, and close.
    assert score != pytest.approx(float(expected["dataset_pipeline_score"]), rel=SCORE)
    record = simplevqa.record("simplevqa")
    assert_weights(record, weights, SIMPLEVQA, SLOWFAST)
    assert_inputs(
        record,
        (
            "resize shorter side to 520 pil-bilinear; centre crop 448x448",
            "a frame from each second on",
        ),
        ("resize 224x224 pil-bilinear", "32 frames from each second on"),
    )
    assert_historical(simplevqa, "simplevqa", "simplevqa_results.json", "SimpleVQA")


def test_neighbours_and_batches_do_not_change_simplevqa(run, models, clip_a, tmp_path):
    """Alone, and between others under another name in batches of 3."""
    write_clip(tmp_path / "alone" / "clip.mkv", list(clip_a[:10]), fps=FPS)
    write_clip(tmp_path / "many" / "a.mkv", moving_pattern(1, 7), fps=FPS)
    write_clip(tmp_path / "many" / "b.mkv", moving_pattern(2, 7, height=64, width=80), fps=FPS)
    write_clip(tmp_path / "many" / "c.mkv", list(clip_a[:10]), fps=FPS)
    arguments = ("--metrics", "simplevqa", *models)
    alone = run(tmp_path / "alone", *arguments)
    many = run(tmp_path / "many", "--batch-size", 3, *arguments)
    assert alone.done.code == many.done.code == 0, many.done.stderr
    score = alone.values("simplevqa")["clip.mkv"]
    assert many.values("simplevqa")["c.mkv"] == pytest.approx(score, rel=SAME)
    # A second's score is a small sum of large parts, which other batches sum in other orders.
    curve = alone.curve("simplevqa", "clip.mkv")
    np.testing.assert_allclose(many.curve("simplevqa", "c.mkv"), curve, rtol=ROWS)


# --- lightvqa ---------------------------------------------------------------------------------


def test_lightvqa_is_the_original_network_on_what_its_scripts_say(
    run, models, weights, clip_a, tmp_path
):
    """The key frames are the golden's; each is followed by the next frame, so that light varies."""
    expected = golden("lightvqa_parent_clip_a")
    places = [place for key in expected["key_idx"] for place in (key, key + 1)]
    frames = clip_a[places]
    write_clip(tmp_path / "in" / "keys.mkv", list(frames), fps=8)
    light = run(tmp_path / "in", "--metrics", "lightvqa", *models)
    assert light.done.code == 0, light.done.stderr
    spatial = expected["head_in"][:, :1664]
    clips = frames_to_motion(frames, starts=(0, 8))
    motion = clips[[0, 1, 1, 1, 1, 1, 1, 1]]
    state = published_state(LIGHTVQA)
    by_hand = rows_to_scores(state, spatial, motion, frames_to_consistency(frames))
    assert (by_hand > 0).all()
    np.testing.assert_allclose(light.curve("lightvqa", "keys.mkv"), by_hand, rtol=SCORE)
    score = light.values("lightvqa")["keys.mkv"]
    assert score == pytest.approx(by_hand.mean(), rel=SCORE)
    assert light.scores("lightvqa")["keys.mkv"]["notes"] == [
        "held at the end: 6 of 8 clips are the last again"
    ]
    record = light.record("lightvqa")
    assert_weights(record, weights, LIGHTVQA, SLOWFAST)
    assert_inputs(
        record,
        ("resize 512x960 pil-bilinear", "8 frames, at the beginning of equal parts"),
        ("resize 224x224 pil-bilinear", "32 frames from each second on, 8 at most"),
        ("grey; resize 720x1280 pil-bilinear", "every frame"),
    )
    assert_historical(light, "lightvqa", "lightvqa_results.json", "LightVQA")


def frames_to_motion(frames: np.ndarray, *, starts: tuple[int, ...]) -> np.ndarray:
    """float32 [clips, 2304] of 32 frames from each start on, the last one held."""
    network = slowfast_r50.build()
    network.load_state_dict(published_state(SLOWFAST))
    network.eval().requires_grad_(False)
    rows = []
    for start in starts:
        clip = [frames[min(start + step, len(frames) - 1)] for step in range(32)]
        small = [Image.fromarray(one).resize((224, 224), Image.Resampling.BILINEAR) for one in clip]
        x = torch.from_numpy(np.stack(small)).permute(3, 0, 1, 2)[None].float() / 255
        rows.append(network((x - 0.45) / 0.225)["features"])
    return torch.cat(rows).numpy()


def frames_to_consistency(frames: np.ndarray) -> np.ndarray:
    """float64 [8, 144] of 16 frames: ten times the variance of brightness in each pair."""
    grey = [Image.fromarray(frame).convert("L") for frame in frames]
    large = np.stack([np.array(one.resize((1280, 720), Image.Resampling.BILINEAR)) for one in grey])
    tiles = ((large / 255 - 0.485) / 0.229).reshape(len(frames), 144, 6400).mean(-1)
    return 10 * tiles.reshape(8, 2, 144).var(1, ddof=1)


def rows_to_scores(state: Mapping[str, torch.Tensor], *inputs: np.ndarray) -> np.ndarray:
    """The published head in float64: three layers."""
    x = np.concatenate(inputs, axis=1).astype(np.float64)
    for layer in ("head", "head1", "head2"):
        x = x @ state[f"{layer}.weight"].double().numpy().T + state[f"{layer}.bias"].numpy()
        x = x if layer == "head2" else np.maximum(x, 0)
    return x[:, 0].clip(0, 100)


# --- lightvqa-plus ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plus_models(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """``--model`` for a trunk with a head that nobody knows, and CLIP: 0.8 GB, for one run."""
    folder = tmp_path_factory.mktemp("plus")
    write_checkpoint(folder, CLIP)
    state = published_state(LIGHTVQA)
    trunk = {key: tensor for key, tensor in state.items() if not key.startswith("head")}
    path = folder / "another_head.pth"
    torch.save(trunk | zeros({"cross.weight": [2304, 768], "hvs.weight": [3, 2]}), path)
    yield (
        *("--model", f"{LIGHTVQA_PLUS}={path}", "--model", f"{CLIP}={folder}"),
        *flags(weights, SLOWFAST),
    )
    for file in folder.iterdir():
        file.unlink()


def test_features_of_lightvqa_plus_need_no_head_and_are_the_wrapper_s(
    run, plus_models, clip_a, tmp_path
):
    """Frames 0 and 2: of the second, the golden has the words and not the trunk."""
    expected = golden("lightvqa_plus_clip_a")
    assert [*expected["key_idx"][:2]] == [0, 2]
    write_clip(tmp_path / "in" / "two.mkv", list(clip_a[[0, 2]]), fps=FPS)
    arguments = ("--metrics", "lightvqa+", "--set", "lightvqa-plus.output=features")
    plus = run(tmp_path / "in", *arguments, "--keep-features", *plus_models)
    record = plus.record("lightvqa-plus")
    assert record["value"] is None
    assert "everything up to the fusion head was made" in record["reason"]
    names = {network["name"] for network in record["networks"]}
    assert {LIGHTVQA_PLUS, CLIP, SLOWFAST} <= names
    rows = stored_rows(plus.out)
    spatial = rows["lightvqa-plus-spatial"]
    assert spatial.shape == (2, 1536)
    assert_rows(spatial[0, :768], expected["swin_x"][0])
    assert_rows(spatial[0, 768:], expected["swin_z"][0])
    local_n, all_n, local_b, all_b = np.split(rows["light-words-bns"], 4, axis=1)
    for local, name in ((local_n, "N"), (local_b, "B")):
        assert_rows(local[:2], expected[f"local_probs_{name}_singlenorm"])
    held = [0, 2, 2, 2, 2, 2, 2, 2]
    for overall, name in ((all_n, "N"), (all_b, "B")):
        assert_rows(overall, expected[f"global_probs_{name}"].reshape(17, 75)[held])
    # An eighth of so few frames does not vary.
    assert rows["light-words-consistency"].shape == (8, 300)
    assert not rows["light-words-consistency"].any()
    assert rows["slowfast-r50-features"].shape == (8, 2304)


def test_lightvqa_plus_with_another_head_gives_no_score(aigve, plus_models, one_frame, tmp_path):
    arguments = ("--input-dir", one_frame, "--metrics", "lightvqa-plus", "--use-cpu")
    done = aigve("compute", *arguments, *plus_models, "--output-dir", tmp_path)
    assert (done.code, done.stdout) == (4, ""), done.stderr
    for words in ("cross.weight [2304, 768]", "hvs.weight [3, 2]", "missing: head.weight"):
        assert words in done.stderr
    assert not (tmp_path / "results.json").exists()


def test_lightvqa_plus_with_the_only_head_that_shapes_can_tell(
    run, hollow, one_frame, weights, tmp_path
):
    """Trunk and CLIP are zeros, whose words are a fifth each; the head is not."""
    random = torch.Generator().manual_seed(3)
    state = hollow_state(LIGHTVQA_PLUS)
    head = {key: tensor for key, tensor in state.items() if key.startswith("head")}
    state |= {key: 0.1 * torch.randn(value.shape, generator=random) for key, value in head.items()}
    state["head2.bias"] += 50
    torch.save(state, tmp_path / "plus.pth")
    plus = run(
        one_frame,
        *("--metrics", "lightvqa-plus", "--keep-features", *flags(weights, SLOWFAST)),
        *("--model", f"{LIGHTVQA_PLUS}={tmp_path / 'plus.pth'}"),
        *("--model", f"{CLIP}={hollow(CLIP)}"),
    )
    assert plus.done.code == 0, plus.done.stderr
    rows = stored_rows(plus.out)
    last, third = np.split(rows["lightvqa-plus-spatial"][[0] * 8], 2, axis=1)
    words, motion = rows["light-words-bns"], rows["slowfast-r50-features"]
    np.testing.assert_allclose(words, 2, rtol=SAME)
    by_hand = rows_to_scores(state, last, words, third, motion, rows["light-words-consistency"])
    assert ((by_hand > 0) & (by_hand < 100)).all()
    np.testing.assert_allclose(plus.curve("lightvqa-plus", "one.mkv"), by_hand, rtol=SCORE)
    assert any("not proven" in note for note in plus.record("lightvqa-plus")["notes"])
    assert "not proven" in plus.done.stdout
    assert_historical(plus, "lightvqa-plus", "lightvqaplus_results.json", "LightVQAPlus")


def stored_rows(out: Path) -> dict[str, np.ndarray]:
    """Rows of the only video of a run, by producer and output, where its journal says they are."""
    header = json.loads((out / "journal.jsonl").read_text().partition("\n")[0])
    journal = Journal(out, header["settings"], fresh=False)
    try:
        (record,) = journal.videos.values()
        # CLIP's rows of key frames and of all frames have the same name here.
        return {
            key.rpartition("-")[0]: np.fromfile(
                out / "features" / f"{key}.f32",
                "<f4",
                count=stored.size // 4,
                offset=stored.offset,
            ).reshape(stored.shape)
            for key, stored in record.features.items()
        }
    finally:
        journal.close()


def assert_rows(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < ROWS


# --- checkpoints that are not the published ones ----------------------------------------------

# By network: a key of its file, deep in it.
KEYS = {
    GSTVQA: "q_reg2.bias",
    VGG: "features.28.weight",
    SIMPLEVQA: "module.layer4.2.conv3.weight",
    SLOWFAST: "blocks.4.multipathway_blocks.1.res_blocks.2.branch2.conv_c.weight",
    LIGHTVQA: "layers.2.blocks.17.mlp.fc2.bias",
    LIGHTVQA_PLUS: "layers.2.blocks.17.mlp.fc2.bias",
    CLIP: "visual.transformer.resblocks.11.ln_2.bias",
}
USERS = {
    GSTVQA: ("gstvqa", (GSTVQA, VGG)),
    VGG: ("gstvqa", (GSTVQA, VGG)),
    SIMPLEVQA: ("simplevqa", (SIMPLEVQA, SLOWFAST)),
    SLOWFAST: ("simplevqa", (SIMPLEVQA, SLOWFAST)),
    LIGHTVQA: ("lightvqa", (LIGHTVQA, SLOWFAST)),
    LIGHTVQA_PLUS: ("lightvqa-plus", (LIGHTVQA_PLUS, SLOWFAST, CLIP)),
    CLIP: ("lightvqa-plus", (LIGHTVQA_PLUS, SLOWFAST, CLIP)),
}


def hollow_state(name: str) -> dict[str, torch.Tensor]:
    """The published keys and shapes, in a file of a few kilobytes: all zeros."""
    tag = {CLIP: "clip_vit_b32", LIGHTVQA_PLUS: LIGHTVQA}.get(name, name.replace("-", "_"))
    shapes = published_shapes(tag)
    if name == LIGHTVQA_PLUS:
        shapes["head.weight"] = [1024, 4440]
    state = zeros(shapes)
    for key in state:
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
    return {f"module.{key}": state[key] for key in state} if name == SIMPLEVQA else state


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a network's hollow checkpoint, once."""
    folder = tmp_path_factory.mktemp("hollow")

    def write(name: str) -> Path:
        path = folder / f"{name}.pth"
        if not path.exists():
            torch.save(hollow_state(name), path)
        return path

    return write


@pytest.fixture(scope="module")
def one_frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    write_clip(folder / "one.mkv", moving_pattern(0, 1), fps=FPS)
    return folder


def spoiled(state: dict[str, torch.Tensor], key: str, how: str) -> tuple[str, ...]:
    """Spoil a checkpoint; what the message must say."""
    tensor = state.pop(key)
    name = key.removeprefix("module.")
    if how == "missing":
        return (re.escape(name), "missing")
    if how == "renamed":
        state[f"{key}_"] = tensor
        return (rf"missing: {re.escape(name)}\b(?!_)", f"{re.escape(name)}_")
    state[key] = torch.zeros(3, 3)
    return (rf"{re.escape(name)}.*3, 3\W",)


@pytest.mark.parametrize("how", ["missing", "renamed", "of another shape"])
@pytest.mark.parametrize("name", KEYS)
def test_another_checkpoint_is_refused(name, how, hollow, one_frame, tmp_path, capfd):
    metric, networks = USERS[name]
    state = hollow_state(name)
    says = spoiled(state, KEYS[name], how)
    torch.save(state, tmp_path / "bad.pth")
    files = {other: hollow(other) for other in networks} | {name: tmp_path / "bad.pth"}
    given = [part for other, file in files.items() for part in ("--model", f"{other}={file}")]
    arguments = ["compute", "--input-dir", one_frame, "--metrics", metric, "--use-cpu", *given]
    code = main([*map(str, arguments), "--output-dir", str(tmp_path / "out")])
    out, err = capfd.readouterr()
    assert code == 4, err
    for words in (*says, "bad.pth"):
        assert re.search(words, err), err
    assert "Traceback" not in err
    assert out == ""
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {
        "journal.jsonl",
        "journal.jsonl.lock",
    }


# --- short, small and broken videos -----------------------------------------------------------


@pytest.fixture(scope="module")
def odd(run: Run, models: tuple[str, ...], clip_a: np.ndarray, tmp_path_factory: Any) -> Finished:
    folder = tmp_path_factory.mktemp("odd")
    write_clip(folder / "one.mkv", list(clip_a[:1]), fps=FPS)
    write_clip(folder / "three.mkv", list(clip_a[:3]), fps=FPS)
    write_clip(folder / "tiny.mkv", moving_pattern(4, 1, height=16, width=16), fps=FPS)
    write_clip(folder / "slides.mkv", list(clip_a[:2]), fps=0.25)
    (folder / "text.mp4").write_bytes(b"once upon a time")
    return run(folder, "--metrics", ",".join(PROVEN), *models)


@pytest.mark.parametrize(("sample", "frames"), [("one.mkv", 1), ("three.mkv", 3)])
@pytest.mark.parametrize("metric", PROVEN)
def test_a_few_frames_give_a_number_with_a_note(odd, metric, sample, frames):
    score = odd.scores(metric)[sample]
    assert score["reason"] is None
    assert np.isfinite(score["values"][metric])
    again = {"gstvqa": 29 - frames, "simplevqa": 7, "lightvqa": 8 - frames}[metric]
    held = [note for note in score["notes"] if note.startswith("held at the end: ")]
    assert len(held) == 1
    assert f": {again} of" in held[0]
    steady = [note for note in score["notes"] if "steady" in note]
    assert bool(steady) == (metric == "lightvqa")
    assert odd.record(metric)["videos"]["padded_videos"] >= 2


def test_odd_videos_cost_only_what_they_must(odd):
    assert odd.done.code == 3, odd.done.stderr
    for metric in PROVEN:
        assert "moov" in odd.scores(metric)["text.mp4"]["reason"]
    # VGG-16 halves a side four times: its last stage has one row and column, and no deviation.
    tiny = {metric: odd.scores(metric)["tiny.mkv"] for metric in PROVEN}
    assert {metric: bool(score["reason"]) for metric, score in tiny.items()} == {
        "gstvqa": True,
        "simplevqa": False,
        "lightvqa": False,
    }
    assert "16" in tiny["gstvqa"]["reason"]
    # Less than a frame in two seconds, which counts as one a second.
    assert [odd.scores(metric)["slides.mkv"]["reason"] for metric in PROVEN] == [None] * 3
    assert any("6 of 8 frames" in n for n in odd.scores("simplevqa")["slides.mkv"]["notes"])
    document = odd.document
    assert document["counts"]["decodes"] == 4
    assert document["counts"]["failed"] == 1


# --- real videos, interrupted -----------------------------------------------------------------


@pytest.fixture(scope="module")
def real(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of LaVie's videos, 512 x 512, in a folder of their own."""
    folder = tmp_path_factory.mktemp("real")
    for path in sorted((media / "lavie").glob("*.mp4"))[:3]:
        (folder / path.name).symlink_to(path)
    return folder


# Of each video: at this size a frame takes VGG-16 about as long as a clip of 40 above.
SHORT = ("--metrics", ",".join(PROVEN), "--max-len", "1")


def test_real_videos_are_scored_interrupted_or_not_to_the_same_bits(
    real, run, models, tmp_path, counting_ffmpeg
):
    whole = run(real, *SHORT, *models)
    assert whole.done.code == 0, whole.done.stderr
    for metric in PROVEN:
        values = list(whole.values(metric).values())
        assert np.isfinite(values).all()
        assert whole.record(metric)["interval95"] is not None
        # An untrained Light-VQA may say 0 to all of them.
        assert len(set(values)) == 3 or metric == "lightvqa"
    assert whole.document["counts"]["decodes"] == counting_ffmpeg.decodes() == 3

    out = tmp_path / "out"
    # The third decoder starts when the first video is scored.
    for name, decode, code in (("INT", 1, 130), ("KILL", 3, -signal.SIGKILL)):
        # A decoder that ended at once would be a video that failed.
        stop = f"kill -{name} $PPID\n" + ("exec sleep 100" if name == "INT" else "exit 1")
        env = put_ffmpeg_at_decode(tmp_path / name, decode, stop)
        stopped = run(real, *SHORT, *models, out=out, env=env)
        assert stopped.done.code == code, stopped.done.stderr
        assert stopped.done.stdout == ""
        assert not (out / "results.json").exists()
    with (out / "journal.jsonl").open("rb") as journal:
        kept = sum(b'"kind":"sample"' in line for line in journal)
    assert 0 < kept < 3
    before = counting_ffmpeg.decodes()
    again = run(real, *SHORT, *models, out=out)
    assert again.done.code == 0, again.done.stderr
    assert numbers(again.document) == numbers(whole.document)
    assert again.document["counts"]["decodes"] == counting_ffmpeg.decodes() - before == 3 - kept


def put_ffmpeg_at_decode(path: Path, decode: int, body: str) -> dict[str, str]:
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


def numbers(document: Mapping[str, Any]) -> list[Any]:
    """All that a run says of its videos, and of all of them: compared to the last bit."""
    names = ("metric", "value", "standard_error", "interval95", "videos", "notes")
    records = [[record[name] for name in names] for record in document["results"]]
    return [records, [(video["sample"], video["scores"]) for video in document["videos"]]]


# --- with other metrics, and without weights --------------------------------------------------


def test_two_categories_decode_once_and_name_what_is_missing(
    run, weights, tmp_path, counting_ffmpeg
):
    for seed in range(2):
        for side, scene in (("in", seed), ("reference", seed + 5)):
            write_clip(tmp_path / side / f"{seed}.mkv", moving_pattern(scene, 16), fps=16)
    both = run(
        tmp_path / "in",
        *("--categories", "distribution_based,nn_based_video"),
        *("--reference-dir", tmp_path / "reference"),
        *flags(weights, GSTVQA, VGG, SIMPLEVQA, SLOWFAST),
    )
    assert both.done.code == 3, both.done.stderr
    document = both.document
    assert counting_ffmpeg.decodes() == document["counts"]["decodes"] == 4
    assert {record["category"] for record in document["results"]} == {
        "distribution_based",
        "nn_based_video",
    }
    assert both.record("fid")["metric"] == "fid-lite0"
    found = values_of(document)
    for name in ("fid-lite0", "fvd-lite0", "gstvqa", "simplevqa"):
        assert found[name] is not None, both.record(name)["reason"]
    for metric, missing in (
        ("lightvqa", (LIGHTVQA,)),
        ("lightvqa-plus", (LIGHTVQA_PLUS, CLIP)),
    ):
        record = both.record(metric)
        assert record["value"] is None
        for name in missing:
            assert f"--model {name}=PATH" in record["reason"]
            assert f"--model {name}=PATH" in both.done.stderr
    # Nothing but the distributions looks at references.
    assert both.record("gstvqa")["videos"]["videos"] == 2


# --- what every record says -------------------------------------------------------------------


def assert_weights(record: Mapping[str, Any], folder: Path, *names: str) -> None:
    """The record names the user's files, and no licence that it cannot know."""
    by_name = {network["name"]: network for network in record["networks"]}
    for name in names:
        with (folder / network_card(name).entry().file).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        network = by_name[name]
        assert network["sha256"] == digest
        assert (network["weights"], network["licence"]) == ("custom", "unknown")
    assert record["weights"] == "custom"


def assert_inputs(record: Mapping[str, Any], *expected: tuple[str, str]) -> None:
    """Each view and its sampling is in the record."""
    found = [(inputs["view"], inputs["sampling"]) for inputs in record["inputs"]]
    for view, sampling in expected:
        assert any(v.startswith(view) and s.startswith(sampling) for v, s in found), (view, found)


def assert_historical(finished: Finished, metric: str, file: str, key: str) -> None:
    """Today's file of a metric, with today's keys."""
    old = json.loads((finished.out / file).read_text())
    assert set(old) == {"video_results", f"{key}_Mean_Score"}
    assert {
        entry["video_name"]: entry[f"{key}_Score"] for entry in old["video_results"]
    } == finished.values(metric)
    assert old[f"{key}_Mean_Score"] == finished.record(metric)["value"]
