"""`aigve compute` as a process: numbers, files, streams and exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from aigve_cli.engine.networks import load_network
from aigve_cli.weights import locate_weights, network_card, weights_policy
from tests.conftest import moving_pattern, noisy, read_results, values_of, write_clip


def frames_to_features(clips: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Features of EfficientNet-Lite0 by a path of its own: float64 [T, 1280] a clip."""
    card = network_card("efficientnet-lite0")
    network = load_network(card, locate_weights(card, weights_policy()), device="cpu")
    features = []
    for clip in clips:
        pictures = torch.from_numpy(np.stack(clip)).permute(0, 3, 1, 2)
        small = torch.nn.functional.interpolate(
            pictures, size=(224, 224), mode="bilinear", antialias=True
        )
        with torch.inference_mode():
            # In sixes, as the engine runs them: a batch's size moves float32 by 1e-7.
            outputs = [network((part.float() - 127) / 128) for part in small.split(6)]
        features.append(torch.cat([out["features"] for out in outputs]).double().numpy())
    return features


def frechet_by_the_book(x: np.ndarray, y: np.ndarray) -> float:
    """|μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁^½ Σ₂ Σ₁^½)^½ through eigenvectors of Σ₁."""
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ second @ root)
    difference = x.mean(0) - y.mean(0)
    cross = np.sqrt(np.clip(inner, 0, None)).sum()
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * cross)


def kernel_by_the_book(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased MMD² with the cubic kernel, written out."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    xx, yy = kernel(x, x), kernel(y, y)
    n, m = len(x), len(y)
    return float(
        (xx.sum() - np.trace(xx)) / (n * (n - 1))
        + (yy.sum() - np.trace(yy)) / (m * (m - 1))
        - 2 * kernel(x, y).mean()
    )


def test_numbers_of_lossless_clips(tmp_path, aigve):
    references = [moving_pattern(seed) for seed in range(4)]
    generated = [noisy(clip, seed) for seed, clip in enumerate(references)]
    for index, (reference, copy) in enumerate(zip(references, generated, strict=True)):
        write_clip(tmp_path / "in" / f"clip{index}.mkv", reference)
        write_clip(tmp_path / "in" / f"clip{index}_synthetic.mkv", copy)
    done = aigve(
        *("compute", "--input-dir", tmp_path / "in", "--output-dir", tmp_path / "out"),
        *("--metrics", "fid-lite0,kid-lite0", "--use-cpu", "--format", "json"),
    )
    assert done.code == 0, done.stderr
    x = np.concatenate(frames_to_features(generated))
    y = np.concatenate(frames_to_features(references))
    values = values_of(read_results(tmp_path / "out"))
    # The kernel distance is a polynomial of the features: float64 all the way, 1e-9.
    assert values["kid-lite0"] == pytest.approx(kernel_by_the_book(x, y), rel=1e-9)
    # By the singular values of the factors, an independent and exact form: 1e-9.
    a = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    b = (y - y.mean(0)) / np.sqrt(len(y) - 1)
    shift = x.mean(0) - y.mean(0)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    exact = shift @ shift + (a**2).sum() + (b**2).sum() - 2 * cross
    assert values["fid-lite0"] == pytest.approx(exact, rel=1e-9)
    # By the published formula, whose roots of rounding errors cost digits: 1e-5.
    assert values["fid-lite0"] == pytest.approx(frechet_by_the_book(x, y), rel=1e-5)
    assert [record["value"] for record in json.loads(done.stdout)] == list(values.values())


def test_identical_sets_are_at_zero(tmp_path, aigve):
    for seed in range(3):
        clip = write_clip(tmp_path / "a" / f"{seed}.mkv", moving_pattern(seed))
        (tmp_path / "b").mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / "b" / f"{9 - seed}.mkv")
    done = aigve(
        *("compute", "--input-dir", tmp_path / "a", "--reference-dir", tmp_path / "b"),
        *("--metrics", "fid-lite0,fvd-lite0", "--output-dir", tmp_path, "--use-cpu"),
    )
    assert done.code == 0, done.stderr
    document = read_results(tmp_path)
    assert values_of(document) == {"fid-lite0": 0.0, "fvd-lite0": 0.0}
    # Equal content under two names is one video: three decodes, not six.
    assert document["counts"]["decodes"] == 3


def test_category_alone_runs_its_metrics_and_writes_todays_files(pairs, tmp_path, aigve):
    done = aigve(
        *("compute", "--input-dir", pairs, "--categories", "distribution_based"),
        *("--output-dir", tmp_path, "--use-cpu"),
    )
    # Nothing stands in for kvd: it has a reason instead of a number.
    assert done.code == 3, done.stderr
    document = read_results(tmp_path)
    values = values_of(document)
    assert set(values) == {"fid-lite0", "kid-lite0", "is-lite0", "fvd-lite0", "kvd"}
    assert [name for name, value in values.items() if value is None] == ["kvd"]
    kvd = next(record for record in document["results"] if record["metric"] == "kvd")
    assert "i3d_pretrained_400.pt" in kvd["reason"]
    assert {entry["requested"] for entry in document["substitutions"]} == {
        "fid",
        "kid",
        "is",
        "fvd",
    }
    for entry in document["substitutions"]:
        assert "are missing" in entry["why"]
    assert "not comparable with published" in done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split("\t")[:2] == ["metric", "value"]
    assert len(rows) == 5

    today = json.loads((tmp_path / "fid-lite0_results.json").read_text())
    assert not (tmp_path / "fid_results.json").exists()
    assert [row["Generated video_name"] for row in today["video_results"]] == [
        f"clip{i}_synthetic.mkv" for i in range(4)
    ]
    assert [row["Real video_name"] for row in today["video_results"]] == [
        f"clip{i}.mkv" for i in range(4)
    ]
    scores = [row["FID_Score"] for row in today["video_results"]]
    assert today["FID_Mean_Score"] == pytest.approx(np.mean(scores), rel=1e-12)
    assert today["fid-lite0"]["value"] == values_of(document)["fid-lite0"]
    # Eighteen frames hold one clip: a distance between two single points is not defined.
    fvd = json.loads((tmp_path / "fvd-lite0_results.json").read_text())
    assert fvd["FVD_Mean_Score"] is None
    assert all(row["FVD_Score"] is None and row["reason"] for row in fvd["video_results"])
    inception = json.loads((tmp_path / "is-lite0_results.json").read_text())
    assert set(inception["video_results"][0]) == {"Generated video_name", "IS_Score"}


def test_every_record_says_where_it_comes_from(pairs, tmp_path, aigve):
    done = aigve(
        *("compute", "--input-dir", pairs, "--metrics", "fid,is", "--set", "is-lite0.splits=2"),
        *("--output-dir", tmp_path, "--max-len", "17", "--use-cpu"),
    )
    assert done.code == 0, done.stderr
    document = read_results(tmp_path)
    fid, inception = document["results"]
    assert fid["requested"] == "fid"
    assert fid["metric"] == "fid-lite0"
    assert fid["weights"] == "embedded"
    assert fid["networks"][0]["sha256"].startswith("57934424")
    assert fid["inputs"] == [
        {
            "name": "frames",
            "output": "efficientnet-lite0:features",
            "producers": "efficientnet-lite0",
            "videos": "each",
            "view": "resize 224x224 torch-bilinear-antialias-uint8; "
            "normalise mean=127,127,127 std=128,128,128",
            "sampling": "first 17 frames",
        }
    ]
    assert document["environment"]["ffmpeg"].startswith("ffmpeg version")
    assert fid["details"]["frames"] == {"generated": 68, "reference": 68}
    assert fid["interval95"][0] <= fid["value"] <= fid["interval95"][1]
    assert inception["options"] == {"splits": 2}
    assert document["counts"] == {
        "decodes": 8,
        "reused": 0,
        "frames": 136,
        "passes": 1,
        "failed": 0,
        "looked": {"efficientnet-lite0": 136},
        "read": {},
        "judge": None,
    }
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--metrics", "fd-lite0"], 2, "fid-lite0"),
        (["--categories", "distribution"], 2, "Did you mean distribution_based"),
        (["--metrics", "is", "--set", "is.split=2"], 2, "Did you mean splits"),
        (["--metrics", "is", "--set", "is.splits=two"], 2, "a whole number"),
        (["--metrics", "is", "--model", "efficientnet=x"], 2, "Did you mean efficientnet-lite0"),
        (["--metrics", "is", "--model", "efficientnet-lite0=no.pth"], 4, "no.pth"),
        (["--metrics", "fid", "--weights", "standard"], 4, "pt_inception-2015-12-05-6726825d.pth"),
        (["--metrics", "kvd"], 4, "Put i3d_pretrained_400.pt into"),
        (["--metrics", "fvd", "--fvd-model", "x"], 4, "there is no file"),
        (["--metrics", "gstvqa", "--gstvqa-model", "x"], 4, "there is no file"),
        (["--metrics", "is", "--weights-dir", "no/folder"], 2, "there is no such folder"),
        (
            ["--metrics", "fvd", "--fvd-model", "x", "--model", "i3d-kinetics400=y"],
            2,
            "name different files",
        ),
        (["--metrics", "is", "--max-len", "0"], 2, "above 0"),
        (["--metrics", "is,fvd", "--max-len", "8"], 2, "clips that need 16 frames"),
        (["--metrics", "fid", "--set", "is-lite0.splitz=2"], 2, "Did you mean splits"),
        (["--metrics", "is", "--fps", "fast"], 2, "native"),
    ],
)
def test_what_cannot_work_says_so(pairs, tmp_path, aigve, arguments, code, words):
    done = aigve(
        *("compute", "--input-dir", pairs, "--output-dir", tmp_path, "--use-cpu"), *arguments
    )
    assert (done.code, words in done.stderr) == (code, True), done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "results.json").exists()


def test_references_are_asked_for_where_all_metrics_need_them(tmp_path, aigve):
    write_clip(tmp_path / "in" / "one.mkv", moving_pattern(0))
    done = aigve("compute", "--input-dir", tmp_path / "in", "--metrics", "fid,fvd")
    assert done.code == 2
    assert "--reference-dir" in done.stderr


def test_dry_run_computes_nothing(pairs, tmp_path, aigve, counting_ffmpeg):
    done = aigve("compute", "--input-dir", pairs, "--dry-run", "--output-dir", tmp_path / "out")
    assert done.code == 0, done.stderr
    assert "first 64 frames" in done.stdout
    assert "MB of features" in done.stderr
    assert counting_ffmpeg.decodes() == 0
    assert not (tmp_path / "out").exists()


def test_staging_then_compute_then_the_staged_folder_by_default(pairs, tmp_path, aigve):
    first = aigve(
        *("compute", "--input-dir", pairs, "--stage-dataset", tmp_path, "--metrics", "is"),
        *("--output-dir", tmp_path / "one", "--use-cpu"),
    )
    assert first.code == 0, first.stderr
    # In the staged folder no input needs to be named.
    second = aigve("compute", "--metrics", "is", "--output-dir", "two", "--use-cpu", cwd=tmp_path)
    assert second.code == 0, second.stderr
    assert "evaluate.json" in second.stderr
    one, two = read_results(tmp_path / "one"), read_results(tmp_path / "two")
    assert values_of(one) == values_of(two)
    assert Path(two["dataset"]["video_dir"]).name == "evaluate"


def test_options_from_file_environment_and_flags(pairs, tmp_path, aigve):
    (tmp_path / "aigve.toml").write_text(
        f'input_dir = "{pairs}"\nmetrics = ["is"]\nmax-len = 4\nuse_cpu = true\n'
        'output_dir = "out"\n[is-lite0]\nsplits = 3\n'
    )
    from_file = aigve("compute", "--dry-run")
    assert "first 4 frames" in from_file.stdout
    assert "splits=3" in from_file.stdout
    from_environment = aigve("compute", "--dry-run", env={"AIGVE_MAX_LEN": "5"})
    assert "first 5 frames" in from_environment.stdout
    from_flag = aigve("compute", "--dry-run", "--max-len", "6", env={"AIGVE_MAX_LEN": "5"})
    assert "first 6 frames" in from_flag.stdout
    typo = aigve("--config", tmp_path / "no.toml", "compute")
    assert typo.code == 2
    (tmp_path / "aigve.toml").write_text("max_length = 4\n")
    typo = aigve("compute")
    assert typo.code == 2
    assert "Did you mean max_len" in typo.stderr
