"""Published metrics through the whole tool: the numbers of the reference implementations.

Checkpoints are written in the published layout with deterministic weights, videos losslessly; what
the reference implementations gave for them is in tests/goldens.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aigve_cli import evaluate
from tests.conftest import Done, moving_pattern, read_results, values_of, write_clip
from tests.networks.checkpoints import I3D, INCEPTION, write_checkpoint

GOLDENS = Path(__file__).parents[1] / "goldens"
# Features agree to 5e-7; a Fréchet distance of few rows multiplies that, by up to ten here.
END_TO_END = 1e-5
Aigve = Callable[..., Done]


def golden(name: str) -> np.ndarray:
    with np.load(GOLDENS / name) as archive:
        return archive["x"]


@pytest.fixture(scope="module")
def values() -> dict[str, dict[str, float]]:
    """What the reference implementations gave, by pair of sets."""
    return json.loads((GOLDENS / "distribution" / "values.json").read_text())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both checkpoints under their published names."""
    folder = tmp_path_factory.mktemp("weights")
    for name in (INCEPTION, I3D):
        write_checkpoint(folder, name)
    return folder


@pytest.fixture(scope="module")
def models(weights: Path) -> tuple[str, ...]:
    """``--model`` for both networks: a folder that holds the file under its published name."""
    return tuple(part for name in (INCEPTION, I3D) for part in ("--model", f"{name}={weights}"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """img_A as six generated videos of four frames, img_B as five references."""
    folder = tmp_path_factory.mktemp("pictures")
    for side, name in (("generated", "img_A"), ("reference", "img_B")):
        frames = golden(f"inception/{name}.npz")
        for start in range(0, len(frames), 4):
            write_clip(folder / side / f"{start:02}.mkv", list(frames[start : start + 4]))
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vid_A as five generated videos of 16 frames, vid_B as four references."""
    folder = tmp_path_factory.mktemp("clips")
    for side, name in (("generated", "vid_A"), ("reference", "vid_B")):
        for index, frames in enumerate(golden(f"i3d/{name}.npz")):
            write_clip(folder / side / f"{index}.mkv", list(frames))
    return folder


def sides(folder: Path) -> tuple[str, ...]:
    return (
        *("--input-dir", str(folder / "generated")),
        *("--reference-dir", str(folder / "reference"), "--use-cpu"),
    )


def test_inception_metrics_in_one_pass(pictures, models, values, tmp_path, aigve, counting_ffmpeg):
    done = aigve(
        *("compute", *sides(pictures), *models, "--output-dir", tmp_path),
        *("--metrics", "fid,kid,is,fid-infinity,mind,prdc", "--set", "is.splits=1"),
        *("--set", "fid-infinity.points=4"),
    )
    assert done.code == 0, done.stderr
    document = read_results(tmp_path)
    found, expected = values_of(document), values["img_A_vs_img_B torch-fidelity 2048"]
    assert found["fid"] == pytest.approx(expected["frechet_exact_svd_ddof1"], rel=END_TO_END)
    assert found["kid"] == pytest.approx(expected["kid_full_unbiased"], rel=END_TO_END)
    # The larger set is cut to rows by position, and the order is by content: no number to match.
    assert found["mind"] > 0
    neighbours = expected["torch_fidelity_prc_k3 (x=generated,y=real)"]
    for name in ("precision", "recall"):
        assert found[name] == pytest.approx(neighbours[name], abs=1e-6)
    for name in ("density", "coverage"):
        assert found[name] == pytest.approx(expected["prdc_k5 (real=y,fake=x)"][name], rel=1e-9)
    # One split, so no shuffle: the order of frames is not part of this number.
    scores = values["img_A isc torch-fidelity logits_unbiased"]["splits1_shuffle0"]
    assert found["is"] - 1 == pytest.approx(scores["inception_score_mean"] - 1, rel=1e-4)
    assert np.isfinite(found["fid-infinity"])

    assert counting_ffmpeg.decodes() == document["counts"]["decodes"] == 11
    assert document["counts"]["frames"] == 44
    assert {record["weights"] for record in document["results"]} == {"custom"}
    fid = document["results"][0]
    assert fid["notes"][0] == "torch-fidelity convention"
    assert fid["inputs"][0]["view"].startswith("resize 299x299 tf1-bilinear; normalise mean=128")
    assert json.loads((tmp_path / "fid_results.json").read_text())["fid"]["value"] == found["fid"]


def test_pytorch_fid_s_convention(pictures, models, values, tmp_path, aigve):
    done = aigve(
        *("compute", *sides(pictures), *models, "--output-dir", tmp_path, "--metrics", "fid,kid"),
        *("--set", "fid.convention=pytorch-fid", "--set", "kid.convention=pytorch-fid"),
        *("--set", "kid.estimator=subsets", "--set", "kid.subset-size=12"),
    )
    assert done.code == 0, done.stderr
    found, expected = values_of(read_results(tmp_path)), values["img_A_vs_img_B pytorch-fid 2048"]
    assert found["fid"] == pytest.approx(expected["frechet_exact_svd_ddof1"], rel=END_TO_END)
    # Subsets are drawn by position, and ours is by content: tests/peers compares their numbers.
    kid = read_results(tmp_path)["results"][1]
    assert kid["details"]["all_pairs"] == pytest.approx(expected["kid_full_unbiased"], rel=1e-5)
    assert found["kid"] != kid["details"]["all_pairs"]
    assert "over 100 subsets of 12" in done.stdout


def test_clip_metrics_in_one_pass(clips, models, values, tmp_path, aigve, counting_ffmpeg):
    done = aigve(
        *("compute", *sides(clips), *models, "--output-dir", tmp_path, "--metrics"),
        "fvd,kvd,fvd-infinity,mind",
        *("--set", "mind.features=i3d", "--set", "fvd.protocol=fvd2048-16f"),
    )
    assert done.code == 0, done.stderr
    document = read_results(tmp_path)
    found, expected = values_of(document), values["vid_A_vs_vid_B I3D squash eps1e-3 logits400"]
    assert found["fvd"] == pytest.approx(expected["frechet_exact_svd_ddof0"], rel=END_TO_END)
    assert found["kvd"] == pytest.approx(expected["kid_full_unbiased"], rel=END_TO_END)
    assert found["mind"] > 0
    assert counting_ffmpeg.decodes() == document["counts"]["decodes"] == 9
    assert document["counts"]["frames"] == 9 * 16
    notes = document["results"][0]["notes"]
    assert notes[:3] == [
        "stylegan-v convention",
        "protocol fvd2048-16f",
        "on 5 generated and 4 reference videos instead of 2048 a side",
    ]


@pytest.mark.parametrize(
    ("convention", "features"),
    [("tensorflow", "tf1_eps1e-3"), ("videogpt", "crop_eps1e-5"), ("stylegan-v", "squash_eps1e-3")],
)
def test_what_i3d_sees_by_convention(clips, models, tmp_path, aigve, convention, features):
    """The rows that a run stores are the reference implementations' features."""
    for index in range(2):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(clips / "generated" / f"{index}.mkv", tmp_path / "in")
    shutil.copytree(tmp_path / "in", tmp_path / "same")
    done = aigve(
        *("compute", "--input-dir", tmp_path / "in", "--reference-dir", tmp_path / "same"),
        *("--metrics", "fvd", "--set", f"fvd.convention={convention}", *models, "--use-cpu"),
        *("--keep-features", "--output-dir", tmp_path / "out"),
    )
    assert done.code == 0, done.stderr
    (file,) = (tmp_path / "out" / "features").glob("i3d-kinetics400-logits-*.f32")
    rows = np.fromfile(file, dtype="<f4").reshape(2, 400)
    with np.load(GOLDENS / "i3d" / "expected_i3d.npz") as archive:
        expected = (
            archive[f"vid_A2/{features}/logits400"]
            if "squash" not in features
            else (archive[f"vid_A/{features}/logits400"][:2])
        )
    for row in expected:
        nearest = min(np.linalg.norm(rows - row, axis=1))
        # The nearest of the other conventions is 8e-3 away.
        assert nearest / np.linalg.norm(row) < 1e-5


def test_what_changes_a_number_is_said_beside_it(clips, weights, tmp_path):
    results = evaluate(
        clips / "generated",
        clips / "reference",
        metrics="fid,fvd",
        models={name: weights for name in (INCEPTION, I3D)},
        options={"fid": {"dims": 64}, "fvd": {"length": 10, "offset": 2}},
        max_len=12,
        precision="bf16",
        device="cpu",
        output_dir=tmp_path,
    )
    fid, fvd = results.records
    assert {"precision bf16", "dims=64"} <= set(fid["notes"])
    assert {"precision bf16", "length=10", "offset=2"} <= set(fvd["notes"])
    assert fid["precision"] == "bf16"
    assert any("not those of fp32" in line for line in results.document["warnings"])


def test_a_protocol_takes_so_many_videos_and_says_so(clips, weights, tmp_path, monkeypatch):
    monkeypatch.setattr("aigve_cli.metrics._clips.PROTOCOL_VIDEOS", 3)
    results = evaluate(
        clips / "generated",
        clips / "reference",
        metrics="fvd,kvd",
        models={I3D: weights},
        options={name: {"protocol": "fvd2048-16f"} for name in ("fvd", "kvd")},
        device="cpu",
        output_dir=tmp_path,
    )
    for record in results.records:
        assert record["videos"]["videos"] == record["references"]["videos"] == 3
        assert record["details"]["videos"] == {"generated": 3, "reference": 3}
        assert not any("instead of" in note for note in record["notes"])


def test_clips_that_are_too_short(clips, models, tmp_path, aigve):
    short = tmp_path / "in"
    shutil.copytree(clips / "generated", short)
    write_clip(short / "short.mkv", moving_pattern(1, 12))
    arguments = (
        *("compute", "--input-dir", short, "--reference-dir", clips / "reference"),
        *("--metrics", "fvd", *models, "--use-cpu"),
    )
    dropped = aigve(*arguments, "--output-dir", tmp_path / "dropped")
    assert dropped.code == 3
    assert "fvd: 1 video not used, first: short.mkv: generated: too short" in dropped.stderr
    record = read_results(tmp_path / "dropped")["results"][0]
    assert record["videos"]["videos"] == 5
    looped = aigve(*arguments, "--output-dir", tmp_path / "looped", "--set", "fvd.short=loop")
    assert looped.code == 0, looped.stderr
    record = read_results(tmp_path / "looped")["results"][0]
    assert record["videos"] == {"videos": 6, "padded_videos": 1, "padded_frames": 4}
    assert "short videos looped" in record["inputs"][0]["sampling"]
    refused = aigve(*arguments, "--output-dir", tmp_path / "no", "--set", "fvd.length=8")
    assert refused.code == 2
    assert "must be at least 9" in refused.stderr
