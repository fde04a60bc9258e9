"""The packet scan counts what the decoder gives."""

import subprocess
from dataclasses import replace

import cv2
import pytest

from aigve_cli.errors import VideoError
from aigve_cli.video.encode import file_to_copy
from aigve_cli.video.ffmpeg import ffmpeg_binary
from aigve_cli.video.probe import probe, scan_packets


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("h264.mp4", ("-c:v", "libx264", "-bf", "3")),
        ("mpeg4.avi", ("-c:v", "mpeg4", "-bf", "2")),
        ("vp9.webm", ("-c:v", "libvpx-vp9", "-auto-alt-ref", "1", "-lag-in-frames", "10")),
        ("gif.gif", ("-c:v", "gif")),
        ("one.mov", ("-c:v", "libx264", "-frames:v", "1")),
    ],
)
def test_constant_rate(make_video, read, name, codec):
    path = make_video(name, *codec, pixels="pal8" if name == "gif.gif" else "yuv420p")
    facts = probe(path)
    assert facts == read(path)[1].facts
    assert facts.frames == (1 if name == "one.mov" else 20)


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv"])
def test_variable_rate(make_video, read, tmp_path, name):
    path = tmp_path / name
    file_to_copy(make_video("even.mp4"), path, filters="select='not(mod(n,3))+gt(n,14)'")
    decoded = read(path)[1].facts
    # A decoder only knows what ffmpeg states, to two decimals.
    assert replace(probe(path), fps=decoded.fps) == decoded
    assert probe(path).fps == pytest.approx(decoded.fps, abs=0.006)
    assert probe(path).frames == 10


def test_a_turned_picture_is_measured_as_it_is_shown(make_video, run_ffmpeg, read, tmp_path):
    turned = tmp_path / "turned.mp4"
    source = str(make_video("upright.mp4"))
    run_ffmpeg(["-display_rotation", "270", "-i", source, "-c", "copy", str(turned)])
    assert probe(turned) == read(turned)[1].facts
    assert (probe(turned).width, probe(turned).height) == (48, 64)


def test_frames_before_an_edit_are_not_counted(make_video, run_ffmpeg, read, tmp_path):
    edited = tmp_path / "edited.mp4"
    source = str(make_video("source.mp4", "-c:v", "libx264"))
    run_ffmpeg(["-ss", "0.35", "-i", source, "-c", "copy", str(edited)])
    assert probe(edited) == read(edited)[1].facts


def test_the_end_is_the_last_picture_s_and_not_the_sound_s(make_video, run_ffmpeg, tmp_path):
    both = tmp_path / "both.mp4"
    sound = ["-f", "lavfi", "-i", "sine=duration=9", "-c:v", "copy", "-c:a", "aac"]
    run_ffmpeg(["-i", str(make_video("silent.mp4")), *sound, str(both)])
    packets = scan_packets(both)
    assert packets.end == pytest.approx(2.0, abs=1e-3)
    assert packets.header.seconds == pytest.approx(9.0, abs=0.1)
    assert packets.header.has_audio


def test_real_clips(media, read):
    for path in sorted((media / "cogvideox_3frame").glob("*.mp4"))[:3]:
        decoded = read(path)[1].facts
    # A decoder only knows what ffmpeg states, to two decimals.
    assert replace(probe(path), fps=decoded.fps) == decoded
    assert probe(path).fps == pytest.approx(decoded.fps, abs=0.006)


def test_bad_files(run_ffmpeg, tmp_path):
    run_ffmpeg(["-f", "lavfi", "-i", "sine=duration=1", str(tmp_path / "sound.mp4")])
    (tmp_path / "text.mp4").write_text("once upon a time")
    (tmp_path / "empty.mp4").touch()
    told = {}
    for name in ("sound", "text", "empty", "absent"):
        with pytest.raises(VideoError) as caught:
            probe(tmp_path / f"{name}.mp4")
        told[name] = caught.value.status
    assert told == {
        "sound": "no_video",
        "text": "unreadable",
        "empty": "unreadable",
        "absent": "missing",
    }


@pytest.mark.parametrize(
    ("rate", "fps"),
    [("60000/1001", 60000 / 1001), ("11.997", 11.997), ("20.004", 20.004), ("24", 24.0)],
)
def test_the_frame_rate_is_exact_where_the_container_is(tmp_path, rate, fps):
    """ffmpeg states two decimals, and OpenCV reads what is in the file."""
    path = tmp_path / "a.mp4"
    picture = ["-f", "lavfi", "-i", f"testsrc2=s=64x48:r={rate}", "-frames:v", "30"]
    encoder = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-video_track_timescale", "1000000"]
    subprocess.run([ffmpeg_binary(), "-v", "error", *picture, *encoder, str(path)], check=True)
    assert probe(path).fps == pytest.approx(fps, rel=2e-6)
    capture = cv2.VideoCapture(str(path))
    assert probe(path).fps == pytest.approx(capture.get(cv2.CAP_PROP_FPS), rel=1e-9)
    capture.release()
