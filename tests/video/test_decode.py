"""What comes out of files of every kind: equal to OpenCV where it can read them."""

import itertools
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from aigve_cli.errors import VideoError
from aigve_cli.video.decode import VideoReader
from aigve_cli.video.encode import LOSSLESS, file_to_copy, frames_to_file

cv2 = pytest.importorskip("cv2")

# Header of a GIF of one colour that claims 16000 x 16000 pixels, and a picture of a few codes.
SIDE = struct.pack("<H", 16000)
HUGE_GIF = (
    b"GIF89a" + SIDE + SIDE + b"\xf0\x00\x00\x00\x00\x00\xff\xff\xff"
    b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
    b"\x21\xf9\x04\x00\x0a\x00\x00\x00"
    b"\x2c\x00\x00\x00\x00" + SIDE + SIDE + b"\x00"
    b"\x02\x1d\x8c\x2d\x99\x87\x2a\x1c\xdc\x33\xa0\x02\x75\xec\x95\xfa\xa8\xde\x60\x8c\x04\x91"
    b"\x4c\x01\x00\x00\x00\x00\x00\x00\x00\x00\x3b"
)

ODD = {"size": "321x241", "source": "testsrc"}


def read_with_opencv(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        good, frame = capture.read()
        if not good:
            capture.release()
            return frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def assert_equal_to_opencv(path, frames):
    expected = read_with_opencv(path)
    assert len(frames) == len(expected) > 0
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(frames, expected, strict=True)) == 0


def problem_of(path, **options):
    with pytest.raises(VideoError) as caught, VideoReader(path, **options) as reader:
        list(reader)
    return caught.value


# --- equal to OpenCV --------------------------------------------------------------------------


def test_real_clips_equal_opencv(media, read):
    clips = [
        *sorted((media / "lavie").glob("*.mp4"))[:2],
        *sorted((media / "cogvideox_3frame").glob("*.mp4"))[:2],
        min((media / "cogvideox").glob("*.mp4")),
    ]
    assert len(clips) == 5
    for clip in clips:
        frames, _ = read(clip)
        assert_equal_to_opencv(clip, frames)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("h264.mp4", ("-c:v", "libx264"), {}),
        ("tagged.mp4", ("-c:v", "libx264", "-colorspace", "bt709", "-color_primaries", "bt709",
                        "-color_trc", "bt709"), {"size": "320x240"}),
        ("mpeg4.avi", ("-c:v", "mpeg4"), {}),
        ("mpeg4.mp4", ("-c:v", "mpeg4"), {"size": "320x240"}),
        ("small.gif", ("-c:v", "gif"), {"pixels": "pal8"}),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime"), {}),
        ("full444.mkv", ("-c:v", "libx264"), {"pixels": "yuv444p"}),
        ("odd444.mkv", ("-c:v", "libx264"), {"pixels": "yuv444p", **ODD}),
        # VP9 states no chroma position. Where one is stated (MPEG-4), ffmpeg honours it and
        # OpenCV does not, which shows at odd heights only.
        ("odd420.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime"), {**ODD}),
    ],
)  # fmt: skip
def test_made_files_equal_opencv(make_video, read, name, codec, options):
    path = make_video(name, *codec, **options)
    frames, decoded = read(path)
    assert decoded.frames == 20
    assert f"{decoded.width}x{decoded.height}" == options.get("size", "64x48")
    assert_equal_to_opencv(path, frames)


def test_what_was_written_without_loss_is_read_to_the_last_bit(tmp_path, read):
    random = np.random.default_rng(3)
    written = list(random.integers(0, 256, (5, 33, 47, 3), dtype=np.uint8))
    frames_to_file(written, tmp_path / "noise.mkv", fps=8, codec=LOSSLESS)
    frames, decoded = read(tmp_path / "noise.mkv")
    assert np.array_equal(frames, written)
    assert (decoded.width, decoded.height, decoded.fps) == (47, 33, 8.0)


# --- unusual, but good ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rate.mp4", "rate.mkv", "rate.webm"])
def test_variable_rate_gives_each_frame_once(make_video, run_ffmpeg, read, tmp_path, name):
    # 60 frames at 30 a second, then one a second: Matroska states 30 for all of its 12 s, so that
    # frames promised (360) and frames there (70) differ without anything missing.
    source = make_video("even.mkv", *LOSSLESS, frames=360, rate=30, pixels="gbrp")
    codec = ["-c:v", "libvpx-vp9", "-lossless", "1", "-deadline", "realtime"]
    if not name.endswith("webm"):
        codec = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0"]
    choice = "noise=alls=30:allf=t,select='lt(n,60)+not(mod(n,30))'"
    picture = ["-vf", choice, "-fps_mode", "passthrough", "-pix_fmt", "yuv444p"]
    run_ffmpeg(["-i", str(source), *picture, *codec, str(tmp_path / name)])
    frames, _ = read(tmp_path / name)
    assert len(frames) == 70
    assert all((a != b).any() for a, b in itertools.pairwise(frames))
    assert_equal_to_opencv(tmp_path / name, frames)


def test_rotation_is_applied(make_video, run_ffmpeg, read, tmp_path):
    upright, turned = make_video("upright.mp4"), tmp_path / "turned.mp4"
    run_ffmpeg(["-display_rotation", "90", "-i", str(upright), "-c", "copy", str(turned)])
    frames, decoded = read(turned)
    assert (decoded.width, decoded.height) == (48, 64)
    assert frames[0].shape == (64, 48, 3)
    assert np.array_equal(frames, [np.rot90(frame) for frame in read(upright)[0]])


@pytest.mark.parametrize(
    ("name", "encoder", "options"),
    [
        ("hevc.mp4", "libx265", {}),
        ("hevc10.mp4", "libx265", {"pixels": "yuv420p10le"}),
        ("h264_10.mp4", "libx264", {"pixels": "yuv420p10le"}),
        ("vp8.webm", "libvpx", {}),
        ("alpha.webm", "libvpx-vp9", {"pixels": "yuva420p"}),
        ("av1.mkv", "libsvtav1", {}),
        ("av1.mp4", "libaom-av1", {"frames": 4}),
        ("ffv1.mkv", "ffv1", {"pixels": "bgr0"}),
        ("animated.mov", "png", {"pixels": "rgba"}),
        ("odd.mkv", "libx264", {"pixels": "yuv444p10le", **ODD}),
        ("tiny.mkv", "ffv1", {"size": "1x1", "source": "rgbtestsrc", "pixels": "bgr0"}),
        ("flat.mkv", "ffv1", {"size": "500x1", "source": "rgbtestsrc", "pixels": "bgr0"}),
    ],
)
def test_codecs_and_pixel_formats(make_video, encoders, read, name, encoder, options):
    if f" {encoder} " not in encoders:
        pytest.skip(f"this ffmpeg has no {encoder}")
    fast = {"libaom-av1": ("-cpu-used", "8"), "libx265": ("-preset", "ultrafast")}
    frames, decoded = read(make_video(name, "-c:v", encoder, *fast.get(encoder, ()), **options))
    width, height = map(int, options.get("size", "64x48").split("x"))
    assert decoded.frames == len(frames) == options.get("frames", 20)
    assert {frame.shape for frame in frames} == {(height, width, 3)}


def test_one_frame(make_video, read):
    frames, decoded = read(make_video("one.mp4", frames=1))
    assert len(frames) == decoded.frames == 1


def test_a_file_that_states_no_duration_is_not_cut(make_video, run_ffmpeg, read, tmp_path):
    live = tmp_path / "live.webm"
    source = make_video("source.webm", "-c:v", "libvpx-vp9", "-deadline", "realtime")
    run_ffmpeg(["-i", str(source), "-c", "copy", "-live", "1", str(live)])
    assert len(read(live)[0]) == 20
    assert len(read(live, frames=64)[0]) == 20


def test_audio_that_lasts_longer_than_the_video_is_not_a_cut(
    make_video, run_ffmpeg, read, tmp_path
):
    both = tmp_path / "both.mp4"
    sound = ["-f", "lavfi", "-i", "sine=duration=9", "-c:v", "copy", "-c:a", "aac"]
    run_ffmpeg(["-i", str(make_video("silent.mp4")), *sound, str(both)])
    assert len(read(both)[0]) == 20


def test_frames_before_an_edit_are_not_shown(make_video, run_ffmpeg, read, tmp_path):
    source = make_video("source.mp4", "-c:v", "libx264")
    run_ffmpeg(["-ss", "0.35", "-i", str(source), "-c", "copy", str(tmp_path / "edited.mp4")])
    frames, _ = read(tmp_path / "edited.mp4")
    assert 0 < len(frames) < 20
    assert_equal_to_opencv(tmp_path / "edited.mp4", frames)


def test_a_cover_picture_is_no_video(make_video, run_ffmpeg, tmp_path):
    cover = make_video("cover.png", "-c:v", "png", "-update", "1", frames=1, pixels="rgb24")
    song = tmp_path / "song.mp4"
    sound = ["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac"]
    covered = ["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-disposition:v", "attached_pic"]
    run_ffmpeg(["-i", str(cover), *sound, *covered, str(song)])
    assert problem_of(song).status == "no_video"


@pytest.mark.parametrize("colour", ["AV_LOG_FORCE_COLOR", "AV_LOG_FORCE_256COLOR"])
def test_coloured_messages_are_understood(make_video, read, monkeypatch, colour):
    monkeypatch.setenv(colour, "1")
    frames, decoded = read(make_video("clip.mp4"))
    assert (len(frames), decoded.codec) == (20, "h264")


def test_a_title_cannot_pass_for_a_message(make_video, run_ffmpeg, read, tmp_path):
    title = "x\n[error] y\nOutput #0\nStream #0:0: Video: rawvideo, 8x8\nDuration: 99:00:00.00"
    named = tmp_path / "named.mkv"
    tags = ["-c", "copy", "-metadata", f"title={title}", "-metadata:s:v", f"title={title}"]
    run_ffmpeg(["-i", str(make_video("plain.mkv")), *tags, str(named)])
    frames, decoded = read(named)
    assert (len(frames), decoded.width, decoded.height) == (20, 64, 48)


# --- names ------------------------------------------------------------------------------------

NAMES = [
    "with spaces and, commas.mp4",
    "quotes ' \" and \\ backslash.mp4",
    "ünïcödé 影片 🎬.mp4",
    "-i leading dash.mp4",
    "percent %03d %s %%.mp4",
    "line\nbreak.mp4",
    "http: colon pipe:0.mp4",
    "glob * ? [a-z] {x}.mp4",
    "$(touch owned); `id` & | .mp4",
    "x" * 251 + ".mp4",
    b"not utf-8 \xff\xfe.mp4",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_only_names(make_video, read, tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    make_video("plain.mp4").rename(path)
    assert len(read(path)[0]) == 20


def test_a_pattern_in_the_name_of_a_gif_is_no_sequence(make_video, read, tmp_path):
    make_video("a001.gif", "-c:v", "gif", pixels="pal8", frames=3)
    pattern = make_video("plain.gif", "-c:v", "gif", pixels="pal8").rename(tmp_path / "a%03d.gif")
    assert len(read(pattern)[0]) == 20


# --- bad files --------------------------------------------------------------------------------


def test_cut_behind_its_index_is_partial(make_video, tmp_path):
    whole = make_video(
        "whole.mp4", "-c:v", "libx264", "-movflags", "+faststart", size="320x240"
    ).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    problem = problem_of(tmp_path / "cut.mp4")
    assert problem.status == "partial"
    assert "of about 20 frames" in problem.message


def test_cut_before_its_index_is_unreadable(make_video, tmp_path):
    whole = make_video("whole.mp4", size="320x240").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    problem = problem_of(tmp_path / "cut.mp4")
    assert (problem.status, "moov" in problem.message) == ("unreadable", True)


@pytest.mark.parametrize("name", ["long.avi", "long.mkv"])
def test_other_containers_that_are_cut(make_video, tmp_path, name):
    whole = make_video(name, "-c:v", "mpeg4", frames=60, size="320x240").read_bytes()
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(whole[: len(whole) // 2])
    assert problem_of(cut).status == "partial"


def test_a_header_that_promises_more_than_there_is(make_video, tmp_path):
    # Flash video may end anywhere between two frames: ffmpeg itself sees nothing wrong.
    whole = make_video("whole.flv", "-c:v", "flv1", frames=60, size="320x240").read_bytes()
    frame = whole.rindex(b"\x09", 0, len(whole) // 2)  # the tag that opens a picture
    while (
        int.from_bytes(whole[frame - 4 : frame]) > 1 << 20
        or whole[frame + 8 : frame + 11] != b"\0\0\0"
    ):
        frame = whole.rindex(b"\x09", 0, frame)
    (tmp_path / "cut.mp4").write_bytes(whole[:frame])
    problem = problem_of(tmp_path / "cut.mp4")
    assert problem.status == "partial"
    assert "where its header states about 60" in problem.message


def test_concealed_damage_is_told(make_video, tmp_path):
    whole = bytearray(make_video("whole.mkv", "-c:v", "libx264", size="320x240").read_bytes())
    random = np.random.default_rng(1)
    for position in random.integers(len(whole) // 4, len(whole) - 200, 200):
        whole[position] ^= 0xFF
    (tmp_path / "damaged.mkv").write_bytes(whole)
    problem = problem_of(tmp_path / "damaged.mkv")
    assert problem.status == "partial"
    assert "decoding errors: " in problem.message


def test_what_is_behind_the_wanted_frames_does_not_matter(make_video, read, tmp_path):
    whole = make_video("whole.mp4", "-movflags", "+faststart", size="320x240", frames=60)
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames, decoded = read(tmp_path / "cut.mp4", frames=2, threads=1)
    assert decoded.frames == 2
    assert np.array_equal(frames, read(whole, frames=2)[0])


def test_audio_only_holds_no_video(run_ffmpeg, tmp_path):
    run_ffmpeg(["-f", "lavfi", "-i", "sine=duration=1", str(tmp_path / "sound.mp4")])
    problem = problem_of(tmp_path / "sound.mp4")
    assert (problem.status, problem.message) == ("no_video", "the file holds no video stream")


@pytest.mark.parametrize("content", [b"once upon a time\n" * 9, bytes(5000), b"\x00"])
def test_not_a_video_is_unreadable(tmp_path, content):
    (tmp_path / "text.mp4").write_bytes(content)
    assert problem_of(tmp_path / "text.mp4").status == "unreadable"


@pytest.mark.parametrize(
    "content",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n#EXTINF:2,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_playlist_opens_no_other_file(make_video, tmp_path, content):
    make_video("secret.mp4")
    (tmp_path / "list.mp4").write_text(content)
    assert problem_of(tmp_path / "list.mp4").status == "unreadable"


def test_a_picture_is_not_a_video(make_video, tmp_path):
    picture = make_video("picture.png", "-c:v", "png", "-update", "1", frames=1, pixels="rgb24")
    problem = problem_of(picture.rename(tmp_path / "picture.mp4"))
    assert "picture" in problem.message


def test_what_is_no_file(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "circle.mp4").symlink_to(tmp_path / "circle.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    told = {
        name: (problem_of(tmp_path / f"{name}.mp4").status)
        for name in ("empty", "folder", "broken", "circle", "pipe", "absent", "n" * 300)
    }
    assert told == {
        "empty": "unreadable",
        "folder": "unreadable",
        "broken": "missing",
        "circle": "missing",
        "pipe": "unreadable",
        "absent": "missing",
        "n" * 300: "unreadable",
    }


def test_a_file_that_may_not_be_read(make_video, tmp_path):
    path = make_video("private.mp4")
    path.chmod(0)
    (tmp_path / "closed").mkdir()
    inside = make_video("closed/clip.mp4")
    inside.parent.chmod(0)
    try:
        if os.access(path, os.R_OK):  # root reads everything: ask as somebody else
            told = _problems_as_nobody([path, inside])
        else:
            told = [str(problem_of(path)), str(problem_of(inside))]
    finally:
        inside.parent.chmod(0o700)
    assert told == ["no permission to read the file", "cannot be read: Permission denied"]


def _problems_as_nobody(paths):
    from aigve_cli.video.ffmpeg import check_is_file

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for folder in paths[0].parents:
                if folder.owner() == "root" and folder.is_relative_to("/tmp/"):
                    folder.chmod(folder.stat().st_mode | 0o011)
            os.setgid(65534)
            os.setuid(65534)
            lines = []
            for path in paths:
                try:
                    check_is_file(path)
                except VideoError as error:
                    lines.append(error.message)
            os.write(writing, "\n".join(lines).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        return told.read().splitlines()


# --- memory -----------------------------------------------------------------------------------

MEASURED = """
import resource, sys
from pathlib import Path
from aigve_cli.errors import VideoError
from aigve_cli.video.decode import VideoReader

count = 0
try:
    with VideoReader(Path(sys.argv[1]), threads=1) as reader:
        for _ in reader:
            count += 1
except VideoError as error:
    print(error)
kib = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(count, *kib)
"""  # noqa: E501


def measured(path):
    """Messages, frames, and the largest memory in MiB of Python and of ffmpeg."""
    command = [sys.executable, "-c", MEASURED, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    *messages, last = done.stdout.splitlines()
    frames, own, child = map(int, last.split())
    return messages, frames, own / 1024, child / 1024


def test_a_small_file_that_claims_a_huge_picture(tmp_path):
    assert len(HUGE_GIF) == 89
    (tmp_path / "huge.gif").write_bytes(HUGE_GIF)
    messages, frames, _, child = measured(tmp_path / "huge.gif")
    assert frames == 0
    assert "16000x16000 exceeds" in messages[0]
    assert child < 200  # decoding it takes 2,000 MiB and more


def test_memory_does_not_grow_with_length(make_video):
    short = measured(make_video("short.mp4", size="640x360", frames=60))
    long = measured(make_video("long.mp4", size="640x360", frames=600))
    assert (short[1], long[1]) == (60, 600)
    for before, after in ((short[2], long[2]), (short[3], long[3])):
        assert after < before * 1.1 + 8  # 600 frames would be 395 MiB


def test_a_degraded_copy_keeps_every_frame(make_video, read, tmp_path):
    file_to_copy(make_video("clip.mp4"), tmp_path / "blurred.mp4", filters="gblur=sigma=2")
    assert len(read(tmp_path / "blurred.mp4")[0]) == 20
