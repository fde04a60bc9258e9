"""``--save-stats`` and ``--reference-stats``: a reference set without its videos."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigve_cli import evaluate
from aigve_cli.api import Results
from aigve_cli.errors import AigveError, UsageError
from aigve_cli.metrics._sets import SAVED_NOTE
from tests.conftest import Done, read_results
from tests.networks.checkpoints import I3D, INCEPTION, write_checkpoint

SIBLINGS = ("fid-lite0", "kid-lite0", "fvd-lite0")
# The root of a covariance of fewer rows than dimensions, instead of its factor: 1e-16 of a matrix
# is 1e-8 of its root.
FROM_MOMENTS = 1e-8
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def generated(pairs, tmp_path_factory) -> Path:
    """The generated side of ``pairs`` alone."""
    folder = tmp_path_factory.mktemp("generated")
    for path in pairs.glob("*_synthetic.mkv"):
        shutil.copy(path, folder / path.name.replace("_synthetic", ""))
    return folder


@pytest.fixture(scope="module")
def saved(pairs, tmp_path_factory) -> tuple[Path, Results]:
    """Statistics of the references of ``pairs`` for three metrics, and the run that wrote them."""
    folder = tmp_path_factory.mktemp("saved")
    file = folder / "reference.npz"
    results = evaluate(
        pairs,
        metrics=SIBLINGS,
        device="cpu",
        save_stats=file,
        output_dir=folder / "out",
        keep_features=True,
    )
    return file, results


@pytest.fixture
def against(saved, generated, tmp_path) -> Callable[..., Results]:
    """Compare the generated videos with a file; what the network saw is there already."""
    shutil.copytree(saved[1].folder, tmp_path / "out")

    def compare(file: Path, **options: Any) -> Results:
        usual = {"metrics": "fid-lite0", "device": "cpu", "keep_features": True}
        return evaluate(
            generated, reference_stats=file, output_dir=tmp_path / "out", **{**usual, **options}
        )

    return compare


@pytest.fixture
def changed(saved, tmp_path) -> Callable[[Change], Path]:
    """The file of statistics with other arrays."""

    def rewrite(change: Change) -> Path:
        with np.load(saved[0]) as file:
            arrays = dict(file)
        change(arrays)
        path = tmp_path / "changed.npz"
        np.savez(path, **arrays)
        return path

    return rewrite


def by_name(results: Results) -> dict[str, Mapping[str, Any]]:
    return {record["value_name"]: record for record in results.records}


# --- the same numbers -------------------------------------------------------------------------


def test_the_same_values_as_with_the_videos(saved, generated, tmp_path, counting_ffmpeg):
    file, with_videos = saved
    results = evaluate(
        generated, metrics=SIBLINGS, device="cpu", reference_stats=file, output_dir=tmp_path
    )
    assert results.exit_code == 0
    assert counting_ffmpeg.decodes() == 4
    expected, found = by_name(with_videos), by_name(results)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for name in SIBLINGS:
        ours, theirs = found[name], expected[name]
        assert ours["value"] == pytest.approx(theirs["value"], rel=FROM_MOMENTS)
        assert ours["details"]["noise_floor"] == theirs["details"]["noise_floor"]
        for unit in ("videos", "dimensions"):
            assert ours["details"][unit] == theirs["details"][unit]
        assert ours["reference_statistics"] == {"path": str(file), "sha256": digest}
        assert theirs["reference_statistics"] is None
        assert ours["references"] is None
    assert found["kid-lite0"]["value"] == expected["kid-lite0"]["value"]
    assert "reference_statistics" in read_results(tmp_path)["results"][0]


@pytest.mark.parametrize("name", ["fid-lite0", "fvd-lite0"])
def test_the_error_is_of_the_generated_side_alone_and_says_so(saved, against, name):
    file, with_videos = saved
    record = by_name(against(file, metrics=name))[name]
    assert SAVED_NOTE in record["notes"]
    assert SAVED_NOTE not in by_name(with_videos)[name]["notes"]
    error = record["standard_error"]
    assert 0 < error < by_name(with_videos)[name]["standard_error"]
    low, high = record["interval95"]
    assert low <= record["value"] <= high


def test_a_kernel_distance_keeps_the_rows_and_so_the_error_of_both(saved, against):
    file, with_videos = saved
    record = by_name(against(file, metrics="kid-lite0"))["kid-lite0"]
    expected = by_name(with_videos)["kid-lite0"]
    assert record["standard_error"] == expected["standard_error"]
    assert SAVED_NOTE not in record["notes"]


def test_the_published_fid(pairs, generated, tmp_path, counting_ffmpeg):
    weights = write_checkpoint(tmp_path, INCEPTION)
    file = tmp_path / "fid.npz"
    options = {
        "metrics": "fid",
        "device": "cpu",
        "models": {INCEPTION: weights},
        "max_len": 2,
        "keep_features": True,
        "output_dir": tmp_path / "out",
    }
    expected = evaluate(pairs, save_stats=file, **options)
    with np.load(file) as arrays:
        assert arrays["mu"].shape == (2048,)
        assert arrays["sigma"].shape == (2048, 2048)
    found = evaluate(generated, reference_stats=file, **options)
    assert counting_ffmpeg.decodes() == 8
    assert found.value("fid") == pytest.approx(expected.value("fid"), rel=FROM_MOMENTS)
    assert found.records[0]["weights"] == "custom"

    # Another checkpoint under the same name.
    other = tmp_path / "other.pth"
    other.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(UsageError, match="networks was") as caught:
        evaluate(generated, reference_stats=file, **{**options, "models": {INCEPTION: other}})
    assert str(file) in caught.value.message
    with pytest.raises(UsageError, match="view was"):
        evaluate(
            generated,
            reference_stats=file,
            options={"fid": {"convention": "pytorch-fid"}},
            **options,
        )

    # What pytorch-fid writes: mu and sigma alone.
    plain = tmp_path / "plain.npz"
    with np.load(file) as arrays:
        np.savez_compressed(plain, mu=arrays["mu"], sigma=arrays["sigma"])
    with pytest.raises(UsageError, match="does not say how") as caught:
        evaluate(generated, reference_stats=plain, **options)
    assert "--set fid.convention=C" in str(caught.value.hint)
    assert "pytorch-fid" in str(caught.value.hint)
    said = {"options": {"fid": {"convention": "torch-fidelity"}}}
    again = evaluate(generated, reference_stats=plain, **said, **options)
    assert again.value("fid") == found.value("fid")
    assert again.records[0]["details"]["noise_floor"] is None
    assert counting_ffmpeg.decodes() == 8


# --- the file ---------------------------------------------------------------------------------


def test_a_single_frechet_distance_is_what_pytorch_fid_reads(pairs, saved, tmp_path):
    from pytorch_fid.fid_score import compute_statistics_of_path

    shutil.copytree(saved[1].folder, tmp_path / "out")
    file = tmp_path / "new.npz"
    options = {"device": "cpu", "output_dir": tmp_path / "out", "keep_features": True}
    evaluate(pairs, metrics="fid-lite0,kid-lite0", save_stats=file, **options)
    mu, sigma = compute_statistics_of_path(str(file), None, 1, 1280, "cpu")
    with np.load(saved[0], allow_pickle=False) as three:
        assert np.array_equal(mu, three["fid-lite0.mu"])
        assert np.array_equal(sigma, three["fid-lite0.sigma"])
        assert "mu" not in three.files, "two Fréchet distances: neither is the plain one"
    assert np.array_equal(sigma, sigma.T)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_statistics_of_the_only_set(pairs, saved, generated, against, tmp_path):
    file = tmp_path / "own.npz"
    options = {"metrics": "fid-lite0", "device": "cpu", "keep_features": True}
    against(saved[0])  # its rows are in tmp_path / "out" now
    evaluate(generated, save_stats=file, output_dir=tmp_path / "out", **options)
    turned = tmp_path / "turned"
    turned.mkdir()
    for path in pairs.glob("clip?.mkv"):
        shutil.copy(path, turned)
    results = evaluate(turned, reference_stats=file, output_dir=tmp_path / "out", **options)
    # The Fréchet distance is symmetric.
    expected = by_name(saved[1])["fid-lite0"]["value"]
    assert results.value("fid-lite0") == pytest.approx(expected, rel=FROM_MOMENTS)


def test_the_only_set_is_the_reference_and_has_no_distance(generated, tmp_path):
    results = evaluate(
        generated,
        metrics="fid-lite0",
        device="cpu",
        max_len=1,
        save_stats=tmp_path / "own.npz",
        output_dir=tmp_path,
    )
    assert results.exit_code == 0
    assert any("takes the input videos" in line for line in results.document["warnings"])
    (record,) = results.records
    assert (record["value"], record["reason"]) == (None, "there are no generated videos")
    assert (tmp_path / "own.npz").exists()
    assert not (tmp_path / "fid-lite0_results.json").exists()


def test_statistics_of_too_few_videos_are_not_written(pairs, tmp_path):
    few = tmp_path / "in"
    few.mkdir()
    for path in pairs.glob("clip0*"):
        shutil.copy(path, few)
    file = tmp_path / "few.npz"
    results = evaluate(
        few, metrics="fid-lite0,kid-lite0", device="cpu", save_stats=file, output_dir=tmp_path
    )
    assert results.exit_code == 1
    assert not file.exists()


def test_a_metric_without_a_reference_set_saves_nothing(generated, tmp_path):
    with pytest.raises(UsageError, match="no statistics to save of is-lite0"):
        evaluate(
            generated,
            metrics="is-lite0",
            device="cpu",
            max_len=1,
            save_stats=tmp_path / "no.npz",
            output_dir=tmp_path,
        )


def test_a_folder_that_is_not_there(saved, pairs, tmp_path):
    shutil.copytree(saved[1].folder, tmp_path / "out")
    with pytest.raises(UsageError, match="there is no folder") as caught:
        evaluate(
            pairs,
            metrics="fid-lite0",
            device="cpu",
            save_stats=tmp_path / "none" / "file.npz",
            output_dir=tmp_path / "out",
            keep_features=True,
        )
    assert caught.value.exit_code == 2


# --- files that do not fit --------------------------------------------------------------------


def test_metrics_that_the_file_has_nothing_for(saved, against):
    results = against(saved[0], metrics="fid-lite0,is-lite0,mind,kid-lite0", models={})
    assert results.exit_code == 3
    values = {name: record["value"] for name, record in by_name(results).items()}
    assert values["fid-lite0"] is not None
    assert values["is-lite0"] is not None, "it needs no reference"
    assert values["mind"] is None
    assert by_name(results)["is-lite0"]["reference_statistics"] is None


def test_one_metric_s_file_and_two_metrics(saved, against, changed):
    def drop(arrays: dict[str, Any]) -> None:
        for name in [name for name in arrays if name.startswith("kid-lite0.")]:
            del arrays[name]

    file = changed(drop)
    results = against(file, metrics="fid-lite0,kid-lite0")
    assert results.exit_code == 3
    kid = by_name(results)["kid-lite0"]
    assert kid["value"] is None
    assert kid["reason"] == f"{file} has no statistics for it"
    assert kid["reference_statistics"] is None
    assert by_name(results)["fid-lite0"]["value"] is not None


def test_a_file_of_no_use(saved, against):
    with pytest.raises(UsageError, match="of no use to is-lite0"):
        against(saved[0], metrics="is-lite0")


def test_a_plain_file_for_a_metric_without_conventions(saved, generated, tmp_path):
    plain = tmp_path / "plain.npz"
    with np.load(saved[0]) as arrays:
        np.savez(plain, mu=arrays["fid-lite0.mu"], sigma=arrays["fid-lite0.sigma"])
    with pytest.raises(UsageError, match="does not say how they were made") as caught:
        evaluate(
            generated,
            metrics="fid-lite0",
            device="cpu",
            reference_stats=plain,
            output_dir=tmp_path,
        )
    assert "convention" not in str(caught.value.hint)


def test_another_precision(saved, generated, tmp_path):
    with pytest.raises(UsageError, match="precision was fp32, is bf16") as caught:
        evaluate(
            generated,
            metrics="fid-lite0",
            device="cpu",
            precision="bf16",
            reference_stats=saved[0],
            output_dir=tmp_path,
        )
    assert "save the statistics again" in str(caught.value.hint)


@pytest.fixture(scope="module")
def i3d(tmp_path_factory) -> dict[str, Path]:
    return {I3D: write_checkpoint(tmp_path_factory.mktemp("i3d"), I3D)}


@pytest.fixture(scope="module")
def of_clips(pairs, i3d, tmp_path_factory) -> Path:
    """Statistics of clips of nine frames in a row."""
    folder = tmp_path_factory.mktemp("clips")
    evaluate(
        pairs,
        metrics="fvd",
        device="cpu",
        models=i3d,
        options={"fvd": {"length": 9}},
        save_stats=folder / "clips.npz",
        output_dir=folder,
    )
    return folder / "clips.npz"


def test_clips_of_another_length(generated, i3d, of_clips, tmp_path):
    with pytest.raises(UsageError, match="does not fit this run of fvd") as caught:
        evaluate(
            generated,
            metrics="fvd",
            device="cpu",
            models=i3d,
            options={"fvd": {"length": 10}},
            reference_stats=of_clips,
            output_dir=tmp_path,
        )
    assert "9-frame" in caught.value.message
    assert "10-frame" in caught.value.message


def test_clips_of_another_stride(generated, i3d, of_clips, tmp_path):
    """Nine frames in a row are another motion than every second of seventeen."""
    with pytest.raises(UsageError, match="does not fit this run of fvd"):
        evaluate(
            generated,
            metrics="fvd",
            device="cpu",
            models=i3d,
            options={"fvd": {"length": 9, "stride": 2}},
            reference_stats=of_clips,
            output_dir=tmp_path,
        )


def test_more_frames_of_the_references_than_of_the_videos(saved, against):
    """Statistics of a longer look are still those of the reference set."""
    record = by_name(against(saved[0], max_len=4))["fid-lite0"]
    assert record["value"] is not None
    assert record["details"]["frames"] == {"generated": 16, "reference": 72}


# --- broken files -----------------------------------------------------------------------------


def missing(path: Path, saved: Path) -> None:
    pass


def directory(path: Path, saved: Path) -> None:
    path.mkdir()


def cut_short(path: Path, saved: Path) -> None:
    path.write_bytes(saved.read_bytes()[:-1000])


def text(path: Path, saved: Path) -> None:
    path.write_text("mu sigma")


def empty(path: Path, saved: Path) -> None:
    path.write_bytes(b"")


def single_array(path: Path, saved: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def other_arrays(path: Path, saved: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.zeros(3), y=np.zeros(3))


def objects(path: Path, saved: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, mu=np.array([print], dtype=object), sigma=np.zeros((1, 1)))


def flipped(path: Path, saved: Path) -> None:
    with np.load(saved) as file, path.open("wb") as target:
        np.savez_compressed(target, mu=file["fid-lite0.mu"], sigma=file["fid-lite0.sigma"])
    content = bytearray(path.read_bytes())
    for index in range(200, 400):
        content[index] ^= 0xFF
    path.write_bytes(content)


def about_that_is_no_json(path: Path, saved: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, aigve=np.array("{"), mu=np.zeros(1280), sigma=np.eye(1280))


def about_that_is_a_list(path: Path, saved: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, aigve=np.array("[]"), mu=np.zeros(1280), sigma=np.eye(1280))


def about_of_no_metric(path: Path, saved: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, aigve=np.array('{"format": 1}'), mu=np.zeros(1280), sigma=np.eye(1280))


def later_format(path: Path, saved: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, aigve=np.array('{"format": 2}'))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing, "cannot be read: No such file"),
        (directory, "cannot be read: Is a directory"),
        (cut_short, "is no file of statistics"),
        (text, "is no file of statistics"),
        (empty, "is no file of statistics"),
        (single_array, "is no file of statistics"),
        (other_arrays, "holds x, y, not mu and sigma"),
        (objects, "is no file of statistics"),
        (flipped, "is no file of statistics"),
        (about_that_is_no_json, "is no file of statistics"),
        (about_that_is_a_list, "is no file of statistics"),
        (about_of_no_metric, "of no use to fid-lite0"),
        (later_format, "has format 2; this version of aigve reads 1"),
    ],
)
def test_a_broken_file_is_refused_before_anything_is_decoded(
    saved, generated, tmp_path, make, says, counting_ffmpeg
):
    path = tmp_path / "stats.npz"
    make(path, saved[0])
    with pytest.raises(UsageError, match=says) as caught:
        evaluate(
            generated,
            metrics="fid-lite0",
            device="cpu",
            reference_stats=path,
            output_dir=tmp_path / "out",
        )
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 2
    assert counting_ffmpeg.decodes() == 0


def not_square(arrays: dict[str, Any]) -> None:
    arrays["fid-lite0.sigma"] = arrays["fid-lite0.sigma"][:, :10]


def not_symmetric(arrays: dict[str, Any]) -> None:
    arrays["fid-lite0.sigma"] = np.triu(arrays["fid-lite0.sigma"])


def not_finite(arrays: dict[str, Any]) -> None:
    arrays["fid-lite0.mu"][3] = np.nan


def not_there(arrays: dict[str, Any]) -> None:
    del arrays["fid-lite0.sigma"]


def of_another_width(arrays: dict[str, Any]) -> None:
    arrays["fid-lite0.mu"] = arrays["fid-lite0.mu"][:10]
    arrays["fid-lite0.sigma"] = arrays["fid-lite0.sigma"][:10, :10]


@pytest.mark.parametrize(
    "change", [not_square, not_symmetric, not_finite, not_there, of_another_width]
)
def test_moments_that_are_none_are_refused_before_anything_is_decoded(
    changed, generated, tmp_path, change, counting_ffmpeg
):
    file = changed(change)
    with pytest.raises(AigveError, match=r"changed\.npz"):
        evaluate(
            generated,
            metrics="fid-lite0",
            device="cpu",
            max_len=1,
            reference_stats=file,
            output_dir=tmp_path / "out",
        )
    assert counting_ffmpeg.decodes() == 0


def test_as_a_process(saved, generated, tmp_path, aigve: Callable[..., Done]):
    shutil.copytree(saved[1].folder, tmp_path / "out")
    done = aigve(
        *("compute", "--input-dir", generated, "--metrics", "fid-lite0,fvd-lite0", "--use-cpu"),
        *("--reference-stats", saved[0], "--output-dir", tmp_path / "out", "--keep-features"),
    )
    assert done.code == 0, done.stderr
    assert SAVED_NOTE in done.stdout
    assert read_results(tmp_path / "out")["counts"]["decodes"] == 0


# --- files that must not be lost --------------------------------------------------------------


@pytest.mark.parametrize("what", ["a video", "a text", "a folder", "a link", "another tool's"])
def test_nothing_else_is_replaced_by_statistics(saved, pairs, tmp_path, what):
    target = tmp_path / "target.npz"
    if what == "a video":
        shutil.copy(next(pairs.glob("*.mkv")), target)
    elif what == "a text":
        target.write_text("precious")
    elif what == "a folder":
        target.mkdir()
    elif what == "a link":
        target.symlink_to(saved[0])
    else:
        np.savez(target, mu=np.zeros(3), sigma=np.eye(3))
    before = target.read_bytes() if target.is_file() else None
    with pytest.raises(UsageError, match="no file of --save-stats"):
        evaluate(pairs, metrics="fid-lite0", device="cpu", save_stats=target, output_dir=tmp_path)
    assert (target.read_bytes() if target.is_file() else None) == before


def test_statistics_and_reference_videos_exclude_each_other(saved, pairs, tmp_path):
    shutil.copytree(pairs, tmp_path / "real")
    with pytest.raises(UsageError, match="exclude each other"):
        evaluate(
            pairs,
            tmp_path / "real",
            metrics="fid-lite0",
            reference_stats=saved[0],
            output_dir=tmp_path,
        )


def test_a_sigma_that_is_no_covariance(tmp_path, pairs):
    file = tmp_path / "plain.npz"
    np.savez(file, mu=np.zeros(1280), sigma=-np.eye(1280))
    with pytest.raises(UsageError, match="no covariance"):
        evaluate(
            pairs, metrics="fid-lite0", device="cpu", reference_stats=file, output_dir=tmp_path
        )
