"""How frames are shown: true colours, all of them, in order, with their times."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from aigve_cli.judges.backend import Clip, Picture
from aigve_cli.judges.show import (
    BORDER,
    BORDER_LEVEL,
    Shown,
    clip_to_mp4,
    frames_to_grid,
    part_digest,
    picture_to_jpeg,
    shown_to_parts,
)

SATURATED = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
LEVELS = 3
"""8 bits a channel, there and back through YCbCr, and quantised finely: a level or two."""


def flat(colour: tuple[int, int, int], height: int = 36, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


FRAMES = tuple(flat(colour) for colour in SATURATED)


def shown(frames: tuple[np.ndarray, ...] = FRAMES, *, fps: float = 8.0, step: int = 5) -> Shown:
    return Shown(frames, tuple(range(2, 2 + step * len(frames), step)), fps)


def test_one_by_one_each_with_its_place_and_time() -> None:
    parts = shown_to_parts(shown(), "multi")
    assert parts[::2] == (
        "Frame 1 of 6, at 0.25 s:",
        "Frame 2 of 6, at 0.88 s:",
        "Frame 3 of 6, at 1.50 s:",
        "Frame 4 of 6, at 2.12 s:",
        "Frame 5 of 6, at 2.75 s:",
        "Frame 6 of 6, at 3.38 s:",
    )
    pictures = [part.pixels for part in parts[1::2] if isinstance(part, Picture)]
    assert len(pictures) == 6
    assert all(seen is frame for seen, frame in zip(pictures, FRAMES, strict=True))


@pytest.mark.parametrize("how", ["multi", "grid", "video"])
def test_one_frame_is_a_picture(how: str) -> None:
    words, picture = shown_to_parts(Shown(FRAMES[:1], (12,), 8.0), how)
    assert words == "One frame of a video, at 1.50 s:"
    assert isinstance(picture, Picture)
    assert picture.pixels is FRAMES[0]


def test_no_times_where_the_video_states_no_rate() -> None:
    assert shown_to_parts(shown(fps=0.0), "multi")[0] == "Frame 1 of 6:"
    assert shown_to_parts(shown(FRAMES[:1], fps=0.0), "multi")[0] == "One frame of a video:"
    for how in ("grid", "video"):
        words, _ = shown_to_parts(shown(fps=0.0), how)
        assert isinstance(words, str)
        assert " at " not in words


def test_a_grid_says_what_it_is() -> None:
    words, grid = shown_to_parts(shown(FRAMES[:5]), "grid")
    assert words == (
        "The picture shows 5 frames of one video in order of time, row by row, 2 in a row, the "
        "places behind the last one grey, at 0.25 s, 0.88 s, 1.50 s, 2.12 s and 2.75 s:"
    )
    assert isinstance(grid, Picture)
    words, _ = shown_to_parts(shown(tuple(flat((9, 9, 9), 20, 200) for _ in range(3))), "grid")
    assert isinstance(words, str)
    assert "one below the other, at" in words


@pytest.mark.parametrize(
    ("height", "width", "count", "columns"),
    [
        (36, 64, 8, 2),  # 4 rows of 2: 144 x 128
        (64, 64, 8, 3),
        (64, 64, 9, 3),
        (64, 36, 8, 4),
        (64, 64, 2, 1),
        (20, 200, 3, 1),
        (200, 20, 3, 3),
        (1, 1, 1, 1),
    ],
)
def test_a_grid_holds_every_frame_unchanged(
    height: int, width: int, count: int, columns: int
) -> None:
    random = np.random.default_rng(5)
    frames = list(random.integers(0, 256, (count, height, width, 3), dtype=np.uint8))
    grid, in_a_row = frames_to_grid(frames)
    assert in_a_row == columns
    rows = -(-count // columns)
    step = (height + BORDER, width + BORDER)
    assert grid.shape == (rows * step[0] + BORDER, columns * step[1] + BORDER, 3)
    # Cut out at the places that a person would count, what is left is the border.
    for place, frame in enumerate(frames):
        top = place // columns * step[0] + BORDER
        left = place % columns * step[1] + BORDER
        cell = grid[top : top + height, left : left + width]
        assert np.array_equal(cell, frame)
        cell[:] = BORDER_LEVEL
    assert (grid == BORDER_LEVEL).all()


def test_a_video_lasts_as_long_as_what_it_is_made_of() -> None:
    words, clip = shown_to_parts(shown(), "video")
    assert words == (
        "The video is shown by 6 of its frames, at 0.25 s, 0.88 s, 1.50 s, 2.12 s, 2.75 s and "
        "3.38 s:"
    )
    assert isinstance(clip, Clip)
    assert all(seen is frame for seen, frame in zip(clip.frames, FRAMES, strict=True))
    assert clip.fps == pytest.approx(8 / 5)
    uneven = Shown(FRAMES[:3], (0, 1, 9), 9.0)
    _, clip = shown_to_parts(uneven, "video")
    assert isinstance(clip, Clip)
    assert (len(clip.frames) - 1) / clip.fps == pytest.approx(1.0)


@pytest.mark.parametrize(("indices", "fps"), [((4, 4, 4), 8.0), ((0, 5, 9), 0.0)])
def test_a_video_has_some_rate_even_so(indices: tuple[int, ...], fps: float) -> None:
    _, clip = shown_to_parts(Shown(FRAMES[:3], indices, fps), "video")
    assert isinstance(clip, Clip)
    assert clip.fps == (fps or 1.0)


def test_what_cannot_be_shown() -> None:
    with pytest.raises(ValueError, match="multi, grid, video, not 'film'"):
        shown_to_parts(shown(), "film")
    with pytest.raises(ValueError, match="6 frames at 5 places"):
        shown_to_parts(Shown(FRAMES, (0, 1, 2, 3, 4), 8.0), "multi")
    with pytest.raises(ValueError, match="0 frames"):
        shown_to_parts(Shown((), (), 8.0), "multi")
    for how in ("grid", "video"):
        with pytest.raises(ValueError, match=f"several sizes cannot be shown as {how}"):
            shown_to_parts(shown((FRAMES[0], flat((0, 0, 0), 10, 10))), how)


@pytest.mark.parametrize("colour", SATURATED)
@pytest.mark.parametrize("size", [(36, 64), (37, 51), (1, 1)])
def test_a_jpeg_keeps_colours(colour: tuple[int, int, int], size: tuple[int, int]) -> None:
    frame = flat(colour, *size)
    read = np.asarray(Image.open(BytesIO(picture_to_jpeg(frame))))
    assert read.shape == frame.shape
    assert np.abs(read.astype(int) - frame).max() <= LEVELS


def test_a_jpeg_keeps_colours_beside_each_other() -> None:
    """With 4:2:0 columns of red and blue would be violet."""
    frame = flat((255, 0, 0), 16, 16)
    frame[:, 1::2] = (0, 0, 255)
    read = np.asarray(Image.open(BytesIO(picture_to_jpeg(frame)))).astype(int)
    # Quantisation at quality 95 of the sharpest pattern there is.
    assert np.abs(read - frame).max() <= 12


def read_mp4(content: bytes, folder: Path) -> tuple[list[np.ndarray], float]:
    """RGB frames and rate as OpenCV sees them, which looks at no colour tags."""
    path = folder / "clip.mp4"
    path.write_bytes(content)
    film = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = film.read()
        if not more:
            return frames, film.get(cv2.CAP_PROP_FPS)
        frames.append(frame[:, :, ::-1])


@pytest.mark.parametrize(("height", "width"), [(36, 64), (37, 51), (1, 1)])
def test_an_mp4_keeps_frames_colours_and_rate(tmp_path: Path, height: int, width: int) -> None:
    clip = Clip(tuple(flat(colour, height, width) for colour in SATURATED), 1.6)
    frames, fps = read_mp4(clip_to_mp4(clip), tmp_path)
    assert len(frames) == len(SATURATED)
    assert fps == pytest.approx(1.6)
    for seen, colour in zip(frames, SATURATED, strict=True):
        assert seen.shape == (height + height % 2, width + width % 2, 3)
        # To the last row and column, which repeat the ones before where a side was odd.
        assert np.abs(seen.astype(int) - colour).max() <= LEVELS


def test_a_digest_is_of_pixels_and_sizes() -> None:
    frame = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    digest = part_digest(Picture(frame))
    assert len(digest) == 64
    assert part_digest(Picture(frame.copy())) == digest
    # A view of another layout in memory holds the same pixels.
    assert part_digest(Picture(np.asfortranarray(frame))) == digest
    changed = frame.copy()
    changed[5, 7, 2] ^= 1
    others = [
        part_digest(Picture(changed)),
        part_digest(Picture(frame.reshape(8, 6, 3))),
        part_digest(Picture(frame[::-1])),
        part_digest(Picture(frame[:, :, ::-1])),
        part_digest(Clip((frame,), 1.0)),
        part_digest(Clip((frame, changed), 1.0)),
        part_digest(Clip((changed, frame), 1.0)),
        part_digest(Clip((frame, changed), 2.0)),
        part_digest(Clip((frame,), 1.0)),
    ]
    assert digest not in others
    assert len(set(others)) == len(others) - 1
    assert others[4] == others[8]


def test_a_digest_does_not_know_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip(FRAMES, 1.6)
    before = part_digest(Picture(FRAMES[0])), part_digest(clip), picture_to_jpeg(FRAMES[0])
    monkeypatch.setattr("aigve_cli.judges.show.JPEG_QUALITY", 30)
    assert picture_to_jpeg(FRAMES[0]) != before[2]
    assert (part_digest(Picture(FRAMES[0])), part_digest(clip)) == before[:2]
