"""Steps on uint8 that are PIL's, torchvision's and OpenCV's own to the bit, and tiles."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torchvision.transforms import Resize as TorchvisionResize, ToTensor

from aigve_cli.contract import Grey, Normalise, Resize, ResizeShorter, ResizeWithin, Tile
from aigve_cli.video.views import frame_to_host_view, frames_to_view


def noise(height, width, channels=3):
    shape = (height, width, channels)
    return np.random.default_rng(11).integers(0, 256, shape, dtype=np.uint8)


def seen_by(frame, *steps):
    seen = frame_to_host_view(frame, steps)
    assert seen.dtype == np.uint8
    return seen


# --- PIL --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "size"),
    [((47, 71), (24, 32)), ((24, 32), (47, 71)), ((40, 40), (40, 40)), ((1, 5), (3, 2))],
)
@pytest.mark.parametrize("resampler", ["pil-bilinear", "pil-bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pil_s_own_call(picture, size, resampler, channels):
    frame = noise(*picture, channels)
    pil = Image.fromarray(frame.squeeze(2) if channels == 1 else frame)
    expected = pil.resize(size[::-1], Image.Resampling[resampler.removeprefix("pil-").upper()])
    seen = seen_by(frame, Resize(*size, resampler))
    assert seen.shape == (*size, channels)
    assert np.array_equal(seen, np.asarray(expected).reshape(seen.shape))


@pytest.mark.parametrize("picture", [(96, 171), (171, 96), (80, 80), (64, 80), (200, 67)])
@pytest.mark.parametrize("size", [52, 96, 150])
def test_the_shorter_side_is_torchvision_s_resize(picture, size):
    frame = noise(*picture)
    expected = np.asarray(TorchvisionResize(size)(Image.fromarray(frame)))
    seen = seen_by(frame, ResizeShorter(size, "pil-bilinear"))
    assert np.array_equal(seen, expected)


def test_both_sides_are_torchvision_s_resize_to_the_tensor():
    frame = noise(47, 71)
    expected = ToTensor()(TorchvisionResize([24, 32])(Image.fromarray(frame)))
    seen = seen_by(frame, Resize(24, 32, "pil-bilinear"))
    view = frames_to_view(torch.from_numpy(seen)[None], (Normalise((0,) * 3, (255,) * 3),))
    assert torch.equal(view[0], expected)


def test_the_longer_side_is_cut_not_rounded():
    # 52 * 71 / 47 is 78.55.
    assert seen_by(noise(47, 71), ResizeShorter(52, "pil-bilinear")).shape == (52, 78, 3)
    assert seen_by(noise(71, 47), ResizeShorter(52, "pil-bilinear")).shape == (78, 52, 3)


@pytest.mark.parametrize(
    ("picture", "size", "expected"),
    [
        ((320, 512), 256, (160, 256)),
        ((512, 320), 256, (256, 160)),
        ((47, 71), 52, (34, 52)),  # 34.42
        ((71, 47), 53, (53, 35)),  # 35.08
        ((5, 4), 4, (4, 3)),  # 3.2
        ((4, 8), 5, (3, 5)),  # 2.5, which round() would make 2
        ((12, 8), 3, (3, 2)),
        ((1, 400), 100, (1, 100)),  # 0.25
        ((300, 300), 1, (1, 1)),
    ],
)
def test_the_longer_side_fits_and_the_other_is_the_nearest(picture, size, expected):
    frame = noise(*picture)
    seen = seen_by(frame, ResizeWithin(size))
    assert seen.shape == (*expected, 3)
    assert np.array_equal(seen, seen_by(frame, Resize(*expected, "pil-bicubic")))


@pytest.mark.parametrize("picture", [(32, 50), (50, 50), (1, 1)])
def test_what_fits_stays_as_it_is(picture):
    frame = noise(*picture)
    assert np.array_equal(seen_by(frame, ResizeWithin(50)), frame)
    assert str(ResizeWithin(50)) == "longer side at most 50 pil-bicubic"


def test_grey_is_pil_s_own_integers():
    frame = noise(60, 70)
    expected = np.asarray(Image.fromarray(frame).convert("L"))
    seen = seen_by(frame, Grey())
    assert seen.shape == (60, 70, 1)
    assert np.array_equal(seen[:, :, 0], expected)
    assert np.array_equal(seen_by(seen, Grey()), seen)


def test_grey_goes_on_through_every_uint8_resampler_and_the_device():
    grey = seen_by(noise(60, 70), Grey())
    for resampler in ("pil-bilinear", "cv2-linear", "torch-bilinear-antialias-uint8"):
        seen = seen_by(grey, Resize(31, 33, resampler))
        assert seen.shape == (31, 33, 1)
        # Three equal channels go through the same arithmetic.
        three = seen_by(grey.repeat(3, axis=2), Resize(31, 33, resampler))
        assert np.array_equal(seen.repeat(3, axis=2), three)
    floats = frame_to_host_view(grey, (Resize(31, 33, "pil-bicubic-float"),))
    assert floats.shape == (31, 33, 1)
    view = frames_to_view(torch.from_numpy(grey)[None], (Normalise((127.5,), (127.5,)),))
    assert view.shape == (1, 1, 60, 70)
    assert torch.equal(view[0, 0], (torch.from_numpy(grey[:, :, 0]) - 127.5) / 127.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_means_of_another_number_of_channels_are_refused(channels):
    batch = torch.zeros(2, 4, 4, channels)
    other = 4 - channels
    with pytest.raises(ValueError, match=f"not for pictures of {channels} channels"):
        frames_to_view(batch, (Normalise((1.0,) * other, (1.0,) * other),))


@pytest.mark.parametrize(
    "step",
    [
        Grey(),
        Resize(2, 2, "pil-bilinear"),
        Resize(2, 2, "cv2-linear"),
        ResizeShorter(2, "pil-bilinear"),
        ResizeWithin(2),
    ],
)
def test_steps_for_uint8_are_refused_on_the_device(step):
    with pytest.raises(ValueError, match="put it before every other step"):
        frames_to_view(torch.zeros(1, 4, 4, 3), (step,))
    with pytest.raises(ValueError, match="not a step for uint8"):
        frame_to_host_view(noise(4, 4), (Resize(4, 4, "pil-bicubic-float"), step))


# --- OpenCV -----------------------------------------------------------------------------------


def opencv(frame, height, width):
    """[H, W, c] → [height, width, c] by the installed version."""
    seen = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    return seen.reshape(height, width, -1)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((768, 1360), (672, 1120)),
        ((512, 512), (672, 1120)),
        ((1080, 1920), (672, 1120)),
        # Halving is a path of its own in OpenCV, and so are whole factors in some versions.
        ((48, 64), (24, 32)),
        ((33, 99), (11, 33)),
        ((33, 97), (66, 194)),
        ((33, 97), (33, 97)),
        ((47, 71), (200, 3)),
        ((1, 1), (5, 4)),
        ((1, 9), (7, 5)),
        ((9, 1), (5, 7)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_linear_is_opencv_s_own_call(picture, size, channels):
    frame = noise(*picture, channels)
    seen = seen_by(frame, Resize(*size, "cv2-linear"))
    assert np.array_equal(seen, opencv(frame, *size))


SIDE = st.integers(1, 150)


@given(height=SIDE, width=SIDE, rows=SIDE, columns=SIDE, channels=st.sampled_from([1, 3]))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_linear_is_opencv_s_own_call_at_any_size(height, width, rows, columns, channels):
    frame = noise(height, width, channels)
    seen = seen_by(frame, Resize(rows, columns, "cv2-linear"))
    assert np.array_equal(seen, opencv(frame, rows, columns))


def test_linear_is_not_what_smooths():
    """Neither PIL's nor torch's: a view that named another resampler would be told apart."""
    frame = noise(96, 96)
    linear = seen_by(frame, Resize(40, 40, "cv2-linear")).astype(int)
    smooth = seen_by(frame, Resize(40, 40, "pil-bilinear"))
    assert np.abs(linear - smooth).max() > 20
    plain = frames_to_view(torch.from_numpy(frame)[None], (Resize(40, 40, "torch-bilinear"),))
    # The same places, but weights of 11 bits and other rounding.
    difference = np.abs(linear - plain[0].permute(1, 2, 0).numpy())
    assert 0.5 < difference.max() < 1.1


# --- tiles ------------------------------------------------------------------------------------


def test_tiles_go_down_the_columns_frame_by_frame():
    frames = torch.from_numpy(np.stack([noise(6, 20), 255 - noise(6, 20)]))
    seen = frames_to_view(frames, (Tile(2, 4),))
    assert seen.shape == (2 * 15, 3, 2, 4)
    rows, columns = 3, 5
    for frame in range(2):
        for column in range(columns):
            for row in range(rows):
                tile = seen[frame * rows * columns + column * rows + row]
                own = frames[frame, 2 * row : 2 * row + 2, 4 * column : 4 * column + 4]
                assert torch.equal(tile, own.permute(2, 0, 1).float())


def test_tiles_are_in_the_order_of_light_vqa_plus():
    """As upstream AIGVE cuts 672 x 1120 into 15 patches, with permute(0, 3, 2, 1, 4, 5)."""
    frames = torch.from_numpy(noise(672, 1120))[None]
    pictures = frames.permute(0, 3, 1, 2).float()
    patches = pictures.unfold(2, 224, 224).unfold(3, 224, 224)  # [1, 3, 3, 5, 224, 224]
    patches = patches.permute(0, 3, 2, 1, 4, 5).reshape(-1, 3, 224, 224)
    assert torch.equal(frames_to_view(frames, (Tile(224, 224),)), patches)


def test_one_tile_is_the_picture():
    frames = torch.from_numpy(noise(6, 8))[None]
    assert torch.equal(frames_to_view(frames, (Tile(6, 8),)), frames_to_view(frames, ()))


@pytest.mark.parametrize("size", [(7, 8), (6, 9), (3, 8), (6, 2)])
def test_a_part_of_a_tile_is_refused(size):
    step = Tile(4 if size[0] == 3 else 2, 4)
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} pixels are not a whole number of"):
        frames_to_view(torch.zeros(1, *size, 3), (step,))
