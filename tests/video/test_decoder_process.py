"""The process behind a video: one that hangs, dies or babbles, and none that stays behind."""

import os
import select
import shutil
import threading

import numpy as np
import pytest

from aigve_cli.contract import Resize
from aigve_cli.errors import EXIT_ENVIRONMENT, SetupError, VideoError
from aigve_cli.video import prefetch
from aigve_cli.video.decode import VideoReader
from aigve_cli.video.ffmpeg import ffmpeg_binary
from aigve_cli.video.prefetch import CHUNK_FRAMES, DecodeJob, HostView, Prefetcher
from aigve_cli.video.probe import probe

HEADER = """
echo '[info] Input #0, mov, from x:' >&2
echo '[info]   Duration: 00:00:02.00, start: 0.000000' >&2
echo '[info]   Stream #0:0: Video: h264, yuv420p, 64x48, 10 fps' >&2
echo '[info] Output #0, rawvideo, to pipe:' >&2
echo '[info]   Stream #0:0: Video: rawvideo, rgb24, 64x48, 10 fps' >&2
"""
TWO_FRAMES = f"head -c {2 * 64 * 48 * 3} /dev/zero"
SMALL = (Resize(height=8, width=8, resampler="torch-bilinear-antialias-uint8"),)


@pytest.fixture
def some_file(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"anything")
    return path


def problem_of(path, stall_seconds=20.0):
    with (
        pytest.raises(VideoError) as caught,
        VideoReader(path, stall_seconds=stall_seconds) as reader,
    ):
        list(reader)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        "sleep 1000",
        f"{HEADER} sleep 1000",
        f"{HEADER} {TWO_FRAMES}; sleep 1000",
        f"{HEADER} {TWO_FRAMES}; exec >&-; sleep 1000",
        "yes garbage",
    ],
    ids=["at once", "after its header", "after two frames", "at its end", "unread"],
)
def test_a_decoder_that_hangs_is_ended(some_file, fake_ffmpeg, no_children, body):
    fake_ffmpeg(body)
    problem = problem_of(some_file, stall_seconds=0.3)
    assert (problem.status, problem.message) == (
        "unreadable",
        "the decoder gave nothing for 0.3 s",
    )
    no_children()


def test_what_a_script_around_ffmpeg_started_ends_with_it(some_file, fake_ffmpeg, tmp_path):
    fake_ffmpeg(f"sleep 1000 & echo $! > '{tmp_path}/pid'; wait")
    problem_of(some_file, stall_seconds=0.5)
    pid = int((tmp_path / "pid").read_text())
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    # A killed process may take a moment to end; its file descriptor tells when it has.
    ended, _, _ = select.select([watched], [], [], 30)
    os.close(watched)
    assert ended


def test_the_packet_scan_is_ended_too(some_file, fake_ffmpeg, no_children):
    fake_ffmpeg("sleep 1000")
    with pytest.raises(VideoError, match="took longer than"):
        probe(some_file, seconds=0.3)
    no_children()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("head -c 100000 /dev/urandom; exit 0", "unreadable", "no frame (exit code 0)"),
        ("head -c 3000000 /dev/urandom >&2; exit 7", "unreadable", "no frame (exit code 7)"),
        (f"{HEADER} {TWO_FRAMES}; exit 3", "partial", "2 of about 20 frames"),
        (f"{HEADER} {TWO_FRAMES}; kill -SEGV $$", "partial", "signal 11 after 2 frames"),
        ("kill -KILL $$", "unreadable", "signal 9 after 0 frames"),
        (f"{HEADER} head -c 100 /dev/zero; exit 0", "unreadable", "no frame"),
    ],
)
def test_a_decoder_that_fails_gives_its_reason(
    some_file, fake_ffmpeg, no_children, body, status, words
):
    fake_ffmpeg(body)
    problem = problem_of(some_file)
    assert problem.status == status
    assert words in problem.message
    no_children()


def test_a_decoder_that_never_ends_its_line_takes_no_memory(some_file, fake_ffmpeg):
    fake_ffmpeg("head -c 50000000 /dev/zero | tr '\\0' 'x' >&2; exit 1")
    with pytest.raises(VideoError), VideoReader(some_file) as reader:
        list(reader)


@pytest.mark.parametrize("kind", ["missing", "not executable", "not a program", "a folder"])
def test_without_ffmpeg_nothing_works_and_it_says_so(some_file, tmp_path, monkeypatch, kind):
    binary = tmp_path / "ffmpeg"
    if kind == "a folder":
        binary.mkdir()
    elif kind != "missing":
        binary.write_text("neither a script nor a program")
        binary.chmod(0o755 if kind == "not a program" else 0o644)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(binary))
    for use in (lambda: list(VideoReader(some_file)), lambda: probe(some_file)):
        with pytest.raises(SetupError) as caught:
            use()
        assert str(binary) in caught.value.message
        assert "IMAGEIO_FFMPEG_EXE" in (caught.value.hint or "")
        assert caught.value.exit_code == EXIT_ENVIRONMENT


# --- leaving early ----------------------------------------------------------------------------


def test_leaving_early_ends_ffmpeg(make_video, no_children):
    path = make_video("long.mp4", size="640x360", frames=200)
    with VideoReader(path) as reader:
        for count, _ in enumerate(reader):
            if count == 1:
                break
    with pytest.raises(RuntimeError, match="not read to its end"):
        _ = reader.decoded
    no_children()


def test_an_error_in_between_ends_ffmpeg(make_video, no_children):
    path = make_video("long.mp4", size="640x360", frames=200)

    def use():
        with VideoReader(path) as reader:
            for _ in reader:
                raise KeyError("what a caller may do")

    with pytest.raises(KeyError):
        use()
    no_children()


def test_closing_before_the_start_starts_nothing(make_video, no_children):
    reader = VideoReader(make_video("clip.mp4"))
    reader.close()
    assert list(reader) == []
    no_children()


def test_closing_the_prefetcher_ends_its_decoders_and_threads(make_video, no_children):
    path = make_video("long.mp4", size="640x360", frames=300)
    before = set(threading.enumerate())
    prefetcher = Prefetcher(workers=3, threads=1)
    streams = [
        prefetcher.open(DecodeJob(path, 300, (HostView(SMALL, range(300)),))) for _ in range(3)
    ]
    first = next(iter(streams[0]))
    assert list(first.pictures[0]) == list(range(CHUNK_FRAMES))
    for stream in streams:
        while not stream._queue.full():  # both threads are at work; the test ends with them
            pass
    prefetcher.close()
    assert set(threading.enumerate()) <= before
    no_children()


def test_closing_the_prefetcher_while_decoders_hang(some_file, fake_ffmpeg, no_children):
    fake_ffmpeg("sleep 1000")
    before = set(threading.enumerate())
    prefetcher = Prefetcher(workers=2, threads=1)
    for _ in range(2):
        prefetcher.open(DecodeJob(some_file, 300, (HostView(SMALL, range(300)),)))
    prefetcher.close()
    assert set(threading.enumerate()) <= before
    no_children()


# --- chunks -----------------------------------------------------------------------------------


def test_chunks_are_the_frames_in_order(make_video, read):
    path = make_video("clip.mp4", frames=40)
    frames, _ = read(path, frames=37)
    prefetcher = Prefetcher(workers=1, threads=1)
    stream = prefetcher.open(DecodeJob(path, 37, (HostView((), range(37)),) * 2))
    chunks = list(stream)
    prefetcher.done(stream)
    assert [chunk.decoded for chunk in chunks] == [16, 16, 5]
    for view in range(2):
        seen = [picture for chunk in chunks for picture in chunk.pictures[view].items()]
        assert [index for index, _ in seen] == list(range(37))
        assert np.array_equal([picture for _, picture in seen], frames)
    assert stream.decoded.frames == 37


def test_a_view_is_made_of_wanted_frames_only(make_video, read, monkeypatch):
    path = make_video("clip.mp4", frames=40)
    frames, _ = read(path)
    made = []
    make = prefetch.frame_to_host_view

    def counting(frame, steps):
        made.append(steps)
        return make(frame, steps)

    monkeypatch.setattr(prefetch, "frame_to_host_view", counting)
    prefetcher = Prefetcher(workers=1, threads=1)
    views = (HostView(SMALL, {0, 17, 39}), HostView((), {17}), HostView((), set()))
    stream = prefetcher.open(DecodeJob(path, 40, views))
    chunks = list(stream)
    prefetcher.done(stream)
    wanted = [sorted(i for chunk in chunks for i in chunk.pictures[view]) for view in range(3)]
    assert wanted == [[0, 17, 39], [17], []]
    assert made.count(SMALL) == 3
    assert len(made) == 4
    assert np.array_equal(chunks[1].pictures[1][17], frames[17])


def test_padding_is_black_and_not_counted_as_decoded(make_video):
    prefetcher = Prefetcher(workers=1, threads=1)
    job = DecodeJob(make_video("clip.mp4", frames=5), 20, (HostView((), range(20)),), pad=True)
    stream = prefetcher.open(job)
    frames = [frame for chunk in stream for frame in chunk.pictures[0].values()]
    prefetcher.done(stream)
    assert len(frames) == 20
    assert stream.decoded.frames == 5
    assert not any(frame.any() for frame in frames[5:])


def test_a_bad_video_raises_where_its_chunks_are_taken(some_file, no_children):
    prefetcher = Prefetcher(workers=1, threads=1)
    stream = prefetcher.open(DecodeJob(some_file, 20, (HostView((), range(20)),)))
    with pytest.raises(VideoError):
        list(stream)
    prefetcher.close()
    no_children()


def test_a_binary_of_the_users_own(make_video, read, tmp_path, monkeypatch):
    path = make_video("clip.mp4")
    shutil.copy(ffmpeg_binary(), tmp_path / "my ffmpeg")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", os.fspath(tmp_path / "my ffmpeg"))
    assert len(read(path)[0]) == 20
