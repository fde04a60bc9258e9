"""A run that was killed goes on where it stopped, and gives the same bits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aigve_cli import evaluate
from aigve_cli.errors import UsageError, VideoError
from aigve_cli.video.decode import VideoReader
from tests.conftest import (
    moving_pattern,
    noisy,
    process_environment,
    read_results,
    values_of,
    write_clip,
)

METRICS = ("fid-lite0", "kid-lite0", "is-lite0", "fvd-lite0")


def run(pairs: Path, folder: Path, **options):
    return evaluate(pairs, metrics=METRICS, device="cpu", output_dir=folder, **options)


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    """A complete run, with its features kept."""
    folder = tmp_path_factory.mktemp("whole")
    results = run(pairs, folder, keep_features=True)
    return folder, results


def numbers(document) -> list:
    """Every number of every record and every video: compared to the last bit."""
    records = [
        (r["value_name"], r["value"], r["standard_error"], r["interval95"], r["details"])
        for r in document["results"]
    ]
    videos = [(v["sample"], v["scores"]) for v in document["videos"]]
    return [records, videos]


@pytest.mark.parametrize("seed", range(5))
def test_a_journal_cut_anywhere_is_completed_to_the_same_bits(
    pairs, whole, tmp_path, seed, counting_ffmpeg
):
    folder, results = whole
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    journal = cut / "journal.jsonl"
    content = journal.read_bytes()
    at = random.Random(seed).randrange(content.index(b"\n") + 1, len(content))
    journal.write_bytes(content[:at])
    kept = sum(b'"kind":"video"' in line for line in content[:at].splitlines(keepends=True)[:-1])
    kept += content[:at].endswith(b"\n") and b'"kind":"video"' in content[:at].splitlines()[-1]
    for file in (cut / "features").iterdir():
        # What a dying process wrote behind the last synced row.
        with file.open("ab") as handle:
            handle.write(os.urandom(1000 + seed))
    again = run(pairs, cut, keep_features=True)
    assert numbers(again.document) == numbers(results.document)
    assert counting_ffmpeg.decodes() == again.document["counts"]["decodes"] == 8 - kept
    assert again.document["counts"]["reused"] == kept


@pytest.mark.parametrize("kill_at", [2, 7])
def test_sigkill_then_the_same_command_again(pairs, whole, tmp_path, kill_at, counting_ffmpeg):
    arguments = (
        *("compute", "--input-dir", pairs, "--metrics", ",".join(METRICS)),
        *("--output-dir", tmp_path / "out", "--use-cpu"),
    )
    command = [sys.executable, "-c", "from aigve_cli.main import run; run()", *map(str, arguments)]
    killed = subprocess.run(
        command,
        env=process_environment({"KILL_AT": str(kill_at)}),
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    lines = (tmp_path / "out" / "journal.jsonl").read_bytes().split(b"\n")[:-1]
    done = {json.loads(x)["content"] for x in lines if json.loads(x)["kind"] == "video"}
    before = counting_ffmpeg.decodes()
    again = subprocess.run(
        command, env=process_environment(), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert numbers(read_results(tmp_path / "out")) == numbers(whole[1].document)
    assert counting_ffmpeg.decodes() - before == 8 - len(done)


def test_a_finished_run_with_features_decodes_nothing(pairs, whole, tmp_path, counting_ffmpeg):
    folder = tmp_path / "again"
    shutil.copytree(whole[0], folder)
    again = run(pairs, folder, keep_features=True)
    assert counting_ffmpeg.decodes() == 0
    assert numbers(again.document) == numbers(whole[1].document)


def test_two_halves_one_after_the_other_equal_the_whole(pairs, whole, tmp_path, counting_ffmpeg):
    half = tmp_path / "half"
    half.mkdir()
    for index in (1, 3):
        for name in (f"clip{index}.mkv", f"clip{index}_synthetic.mkv"):
            shutil.copy(pairs / name, half / name)
    run(half, tmp_path / "out", keep_features=True)
    assert counting_ffmpeg.decodes() == 4
    both = run(pairs, tmp_path / "out", keep_features=True)
    assert counting_ffmpeg.decodes() == 8
    assert numbers(both.document) == numbers(whole[1].document)


def test_more_metrics_later_decode_only_for_what_is_missing(pairs, tmp_path, counting_ffmpeg):
    evaluate(
        pairs,
        metrics=["fid-lite0"],
        device="cpu",
        output_dir=tmp_path / "out",
        keep_features=True,
    )
    assert counting_ffmpeg.decodes() == 8
    # The kernel distance reads what the Fréchet distance has stored.
    evaluate(
        pairs,
        metrics=["fid-lite0", "kid-lite0"],
        device="cpu",
        output_dir=tmp_path / "out",
        keep_features=True,
    )
    assert counting_ffmpeg.decodes() == 8
    # Logits were not kept: they are of generated videos only.
    evaluate(
        pairs,
        metrics=["fid-lite0", "is-lite0"],
        device="cpu",
        output_dir=tmp_path / "out",
        keep_features=True,
    )
    assert counting_ffmpeg.decodes() == 12


def test_a_changed_file_is_looked_at_again(tmp_path, counting_ffmpeg):
    videos = tmp_path / "videos"
    for seed in range(3):
        write_clip(videos / f"{seed}.mkv", moving_pattern(seed))
    options = {"metrics": ["is-lite0"], "device": "cpu", "keep_features": True}
    first = evaluate(videos, output_dir=tmp_path, **options)
    write_clip(videos / "1.mkv", noisy(moving_pattern(1), 1))
    second = evaluate(videos, output_dir=tmp_path, **options)
    assert counting_ffmpeg.decodes() == 4
    assert first.value("is-lite0") != second.value("is-lite0")
    fresh = evaluate(videos, output_dir=tmp_path / "fresh", **options)
    assert fresh.value("is-lite0") == second.value("is-lite0")


def test_other_settings_do_not_mix_with_an_unfinished_run(pairs, whole, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(whole[0], folder)
    journal = folder / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(UsageError, match="other settings") as caught:
        run(pairs, folder, precision="bf16")
    assert "precision was fp32, is bf16" in caught.value.message
    assert "--fresh" in (caught.value.hint or "")
    fresh = run(pairs, folder, precision="bf16", fresh=True)
    assert fresh.document["counts"]["decodes"] == 8
    # Float32 again: the kept rows are of another arithmetic.
    finished = run(pairs, folder, keep_features=True)
    assert finished.document["counts"]["decodes"] == 8


def test_a_shorter_look_reads_what_a_longer_one_kept(pairs, whole, tmp_path, counting_ffmpeg):
    folder = tmp_path / "again"
    shutil.copytree(whole[0], folder)
    options = {"metrics": ["fid-lite0"], "device": "cpu", "max_len": 9}
    short = evaluate(pairs, output_dir=folder, keep_features=True, **options)
    assert counting_ffmpeg.decodes() == 0
    alone = evaluate(pairs, output_dir=tmp_path / "alone", **options)
    # Nine frames are other batches than eighteen: float32 inside the network.
    assert short.value("fid-lite0") == pytest.approx(alone.value("fid-lite0"), rel=1e-6)


def test_a_shorter_look_in_between_does_not_change_a_longer_one(pairs, tmp_path):
    options = {"device": "cpu", "output_dir": tmp_path, "keep_features": True, "max_len": 17}
    first = evaluate(pairs, metrics="fid-lite0", **options)
    evaluate(pairs, metrics="fvd-lite0", **options)
    again = evaluate(pairs, metrics="fid-lite0", **options)
    assert again.document["counts"]["decodes"] == 0
    assert numbers(again.document) == numbers(first.document)


def test_files_that_are_not_ours_stay(pairs, tmp_path):
    own = tmp_path / "features" / "mine.f32"
    own.parent.mkdir()
    own.write_bytes(b"mine")
    for fresh in (True, False):
        evaluate(pairs, metrics="is-lite0", device="cpu", output_dir=tmp_path, fresh=fresh)
        assert own.read_bytes() == b"mine"
        assert [path.name for path in own.parent.iterdir()] == ["mine.f32"]


def test_a_file_that_is_no_journal_is_not_overwritten(pairs, tmp_path):
    (tmp_path / "journal.jsonl").write_text("my diary\n")
    with pytest.raises(UsageError, match="not a journal"):
        run(pairs, tmp_path)
    assert (tmp_path / "journal.jsonl").read_text() == "my diary\n"


def test_a_video_that_failed_is_not_tried_again_until_the_run_has_ended(tmp_path, counting_ffmpeg):
    videos = tmp_path / "videos"
    for seed in range(2):
        write_clip(videos / f"{seed}.mkv", moving_pattern(seed))
    (videos / "bad.mkv").write_bytes(b"no video" * 100)
    options = {"metrics": ["is-lite0"], "device": "cpu", "output_dir": tmp_path / "out"}
    results = evaluate(videos, **options)
    assert results.exit_code == 3
    assert counting_ffmpeg.decodes() == 3
    # Rows are kept after a partial run: only what failed is decoded again.
    assert values_of(evaluate(videos, **options).document) == values_of(results.document)
    assert counting_ffmpeg.decodes() == 4


def test_a_video_that_failed_in_passing_is_scored_the_next_time(tmp_path, monkeypatch):
    videos = tmp_path / "videos"
    for seed in range(3):
        write_clip(videos / f"{seed}.mkv", moving_pattern(seed))
    options = {"metrics": "is-lite0", "device": "cpu", "output_dir": tmp_path / "out"}
    reading = VideoReader._frames

    def hangs(self, *arguments):
        if self.path.stem == "1":
            raise VideoError("the decoder gave nothing for 60 s")
        return reading(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(VideoReader, "_frames", hangs)
        assert evaluate(videos, **options).exit_code == 3
    mended = evaluate(videos, **options)
    assert mended.exit_code == 0
    fresh = evaluate(videos, **{**options, "output_dir": tmp_path / "fresh"})
    assert numbers(mended.document) == numbers(fresh.document)
