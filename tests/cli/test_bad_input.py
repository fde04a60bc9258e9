"""`aigve compute` on bad files, bad arguments, full disks and interrupted runs, as a process."""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from aigve_cli.video.ffmpeg import ffmpeg_binary
from tests.conftest import (
    moving_pattern,
    process_environment,
    read_results,
    values_of,
    write_clip,
)

METRICS = ("--metrics", "is-lite0,fid-lite0", "--use-cpu")
COMMAND = [sys.executable, "-c", "from aigve_cli.main import run; run()", "compute"]


def make(*arguments: str) -> None:
    command = [ffmpeg_binary(), "-nostdin", "-hide_banner", "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True)


def write_bad_files(folder: Path) -> dict[str, tuple[str, str]]:
    """Bad files of many kinds; by name the status and a word of the reason that each must get."""
    folder.mkdir(exist_ok=True)
    clip = folder / "clip.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10:duration=2"]
    fast = ["-c:v", "libx264", "-preset", "ultrafast"]
    make(*picture, "-pix_fmt", "yuv420p", *fast, "-movflags", "+faststart", str(clip))
    whole = clip.read_bytes()
    late = folder / "late.mp4"
    make("-i", str(clip), "-c", "copy", str(late))
    damaged = bytearray(whole)
    for position in range(len(whole) // 4, len(whole) - 100, 97):
        damaged[position] ^= 0xFF
    side = struct.pack("<H", 16000)
    huge = b"GIF89a" + side + side + b"\xf0\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0" + side + side
    contents = {
        "empty_synthetic.mp4": (b"", "unreadable", "empty"),
        "text_synthetic.mp4": (b"once upon a time", "unreadable", "moov"),
        "zeros_synthetic.avi": (bytes(9999), "unreadable", ""),
        "cut_synthetic.mp4": (whole[: len(whole) // 2], "partial", "cut"),
        "headless_synthetic.mov": (late.read_bytes()[:9000], "unreadable", "moov"),
        "damaged_synthetic.mp4": (bytes(damaged), "partial", "errors"),
        "huge_synthetic.gif": (huge + b"\0\x02\x02\x4c\x01\0;", "unreadable", "16000x16000"),
        "list_synthetic.mp4": (b"ffconcat version 1.0\nfile clip0.mkv\n", "unreadable", "playlist"),
        "page_synthetic.webm": (b"<!doctype html><p>404", "unreadable", ""),
        'it\'s, "bad"\nünd\t%d_synthetic.mp4': (b"x", "unreadable", ""),
        "-i_synthetic.mkv": (b"\x1aE\xdf\xa3", "unreadable", ""),
        "text.mp4": (b"its reference is no better", "unreadable", ""),
    }
    for name, (content, _, _) in contents.items():
        (folder / name).write_bytes(content)
    sound = ["-f", "lavfi", "-i", "sine=duration=1"]
    make(*sound, str(folder / "sound_synthetic.mp4"))
    clip.unlink()
    late.unlink()
    told = {name: (status, word) for name, (_, status, word) in contents.items()}
    return {**told, "sound_synthetic.mp4": ("no_video", "no video stream")}


def write_no_files(folder: Path) -> set[str]:
    """Names that end like a video's and are no files at all."""
    (folder / "folder.mp4").mkdir()
    (folder / "broken_synthetic.mp4").symlink_to("nowhere.mp4")
    (folder / "circle_synthetic.mp4").symlink_to("circle_synthetic.mp4")
    os.mkfifo(folder / "pipe_synthetic.mp4")
    Path(os.fsdecode(os.fsencode(folder) + b"/latin\xfc_synthetic.mp4")).write_bytes(b"x")
    return {
        "folder.mp4",
        "broken_synthetic.mp4",
        "circle_synthetic.mp4",
        "pipe_synthetic.mp4",
        os.fsdecode(b"latin\xfc_synthetic.mp4"),
    }


@pytest.fixture(scope="module")
def usual(pairs, tmp_path_factory):
    """What the good pairs give alone."""
    folder = tmp_path_factory.mktemp("usual")
    command = [*COMMAND, "--input-dir", str(pairs), "--output-dir", str(folder), *METRICS]
    subprocess.run(command, check=True, env=process_environment(), capture_output=True)
    return read_results(folder)


def by_file(document):
    """What results say of each file, by its name."""
    files = [entry[role] for entry in document["videos"] for role in ("generated", "reference")]
    return {file["path"]: file for file in files if file}


def test_bad_files_cost_the_good_ones_nothing(pairs, usual, tmp_path, aigve):
    mixed, out = tmp_path / "mixed", tmp_path / "out"
    shutil.copytree(pairs, mixed)
    bad = write_bad_files(mixed)
    left_out = write_no_files(mixed)
    arguments = ("compute", "--input-dir", mixed, "--output-dir", out, *METRICS)
    done = aigve(*arguments)
    assert done.code == 3, done.stderr
    document = read_results(out)
    assert values_of(document) == values_of(usual)
    files, before = by_file(document), by_file(usual)
    assert {name: files[name] for name in before} == before
    told = {name: (file["status"], file["reason"]) for name, file in files.items()}
    failed = {name: reason for name, reason in told.items() if reason[0] != "ok"}
    assert {name: status for name, (status, _) in failed.items()} == {
        name: status for name, (status, _) in bad.items()
    }
    for name, (_, word) in bad.items():
        assert failed[name][1], name
        assert word in failed[name][1], (name, failed[name])
    assert document["counts"]["failed"] == len(bad)
    assert f"{len(bad)} videos failed" in done.stderr
    assert {Path(item["path"]).name for item in document["dataset"]["left_out"]} == left_out
    # Again: nothing good is decoded twice, and --strict turns "partial" into "failed".
    again = aigve(*arguments, "--strict")
    assert again.code == 1, again.stderr
    assert values_of(read_results(out)) == values_of(usual)
    assert read_results(out)["counts"]["frames"] == 0


def test_only_bad_files(tmp_path, aigve):
    bad = write_bad_files(tmp_path / "in")
    done = aigve("compute", "--input-dir", tmp_path / "in", *METRICS)
    assert done.code == 1, done.stderr
    document = read_results(tmp_path)
    assert set(values_of(document).values()) == {None}
    assert all(record["reason"] for record in document["results"])
    assert {name: file["status"] for name, file in by_file(document).items()} == {
        name: status for name, (status, _) in bad.items()
    }


def test_there_is_nothing_to_score(tmp_path, aigve):
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "notes.txt").write_text("no video")
    (tmp_path / "words" / "deeper").mkdir()
    write_clip(tmp_path / "words" / "deeper" / "clip.mkv", moving_pattern(0, 2))
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "broken.mp4").symlink_to("nowhere.mp4")
    for given, words in (
        ("nowhere", "does not exist"),
        ("empty", "No videos"),
        ("words", "--recursive"),
        ("words/notes.txt", "is a file, not a folder"),
        ("links", "broken link"),
    ):
        done = aigve("compute", "--input-dir", tmp_path / given, *METRICS)
        assert (done.code, words in done.stderr, done.stdout) == (2, True, ""), done.stderr
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--device", "cuda"], {"CUDA_VISIBLE_DEVICES": ""}, "No CUDA device"),
        (["--use-cpu"], {"IMAGEIO_FFMPEG_EXE": "/nowhere/ffmpeg"}, "/nowhere/ffmpeg"),
        (["--use-cpu", "--output-dir", "a file/out"], {}, "a file"),
        (["--use-cpu", "--output-dir", "/proc/out"], {}, "/proc/out"),
    ],
    ids=["no gpu", "no ffmpeg", "output below a file", "output nowhere"],
)
def test_the_machine_is_not_as_needed(pairs, tmp_path, aigve, arguments, environment, words):
    (tmp_path / "a file").touch()
    done = aigve(
        *("compute", "--input-dir", pairs, "--metrics", "is-lite0", *arguments), env=environment
    )
    assert (done.code, words in done.stderr) == (4, True), done.stderr
    assert "Hint:" in done.stderr
    assert not (tmp_path / "results.json").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 500 kB, and a function that enlarges it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        yield (
            folder,
            lambda: subprocess.run(["mount", "-o", "remount,size=50m", str(folder)], check=True),
        )
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_then_space(pairs, usual, small_disk, aigve):
    folder, enlarge = small_disk
    arguments = ("compute", "--input-dir", pairs, "--output-dir", folder, *METRICS)
    done = aigve(*arguments)
    assert done.code == 4, done.stderr
    assert "disk is full" in done.stderr
    assert "is kept" in done.stderr
    assert not (folder / "results.json").exists()
    enlarge()
    done = aigve(*arguments)
    assert done.code == 0, done.stderr
    document = read_results(folder)
    assert values_of(document) == values_of(usual)
    assert 0 < document["counts"]["decodes"] < usual["counts"]["decodes"]


def test_a_folder_that_may_not_be_written(pairs, tmp_path, aigve):
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("root writes everywhere, and may not mount here")
    try:
        done = aigve("compute", "--input-dir", pairs, "--output-dir", folder, *METRICS)
    finally:
        if os.path.ismount(folder):
            subprocess.run(["umount", "-l", str(folder)], check=True)
    assert done.code == 4, done.stderr
    assert "--output-dir" in done.stderr


# --- interrupted ------------------------------------------------------------------------------


def put_ffmpeg(path: Path, call: int, body: str) -> dict[str, str]:
    """The environment with ffmpeg behind a script that once, from a call on, does something else.

    Decoders start at the same time: `mkdir` lets exactly one of them in.
    """
    count, once = shlex.quote(f"{path}.calls"), shlex.quote(f"{path}.once")
    path.write_text(
        f"#!/bin/sh\necho >> {count}\n"
        f'if [ "$(wc -l < {count})" -ge {call} ] && mkdir {once} 2> /dev/null; then\n{body}\nfi\n'
        f'exec {shlex.quote(ffmpeg_binary())} "$@"\n'
    )
    path.chmod(0o755)
    return {"IMAGEIO_FFMPEG_EXE": str(path)}


def test_signals_keep_what_is_done(pairs, usual, tmp_path, aigve):
    out = tmp_path / "out"
    arguments = ("compute", "--input-dir", pairs, "--output-dir", out, *METRICS)
    for name in ("TERM", "INT"):
        pid = tmp_path / f"{name}.pid"
        hanging = f"echo $$ > {shlex.quote(str(pid))}\nkill -{name} $PPID\nexec sleep 1000"
        done = aigve(*arguments, env=put_ffmpeg(tmp_path / name, 5, hanging))
        assert done.code == 130, done.stderr
        assert "Interrupted. What is done is kept" in done.stderr
        assert done.stdout == ""
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)
        assert not (out / "results.json").exists()
    done = aigve(*arguments)
    assert done.code == 0, done.stderr
    document = read_results(out)
    assert values_of(document) == values_of(usual)
    assert 0 < document["counts"]["decodes"] < usual["counts"]["decodes"]


def test_two_runs_in_one_folder(pairs, usual, tmp_path, aigve):
    # The first run's ffmpeg says that it is there, and waits for a lock until the second has ended.
    told, held = tmp_path / "told", tmp_path / "held"
    os.mkfifo(told)
    arguments = ["--input-dir", str(pairs), "--output-dir", str(tmp_path), *METRICS]
    waiting = f"echo there > {shlex.quote(str(told))}\nflock {shlex.quote(str(held))} true"
    with held.open("w") as lock, open(os.open(told, os.O_RDWR), "rb", buffering=0) as reading:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            [*COMMAND, *arguments],
            env=process_environment(put_ffmpeg(tmp_path / "ffmpeg", 2, waiting)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as first:
            try:
                assert select.select([reading], [], [], 120)[0], "the first run never decoded"
                second = aigve("compute", *arguments)
                fcntl.flock(lock, fcntl.LOCK_UN)
                _, stderr = first.communicate()
            finally:
                first.kill()
    assert second.code == 2
    assert "Another run is writing" in second.stderr
    assert first.returncode == 0, stderr
    assert values_of(read_results(tmp_path)) == values_of(usual)


def test_the_reader_of_the_results_leaves_early(pairs, tmp_path):
    shutil.copy(pairs / "clip0_synthetic.mkv", tmp_path / "one.mkv")
    arguments = ["--input-dir", tmp_path, "--metrics", "is-lite0", "--format", "json"]
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--use-cpu", "--output-dir", str(tmp_path)],
        env=process_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate()
    assert b"Traceback" not in stderr
    assert b"Exception" not in stderr
    assert b"Internal error" not in stderr
    assert process.returncode != -signal.SIGPIPE
    read_results(tmp_path)
