"""Views are exactly the named resamplers of torch and PIL."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from aigve_cli.contract import (
    CentreCrop,
    Grey,
    Normalise,
    Quantise,
    Resize,
    ResizeShorter,
    Scale,
    Tile,
)
from aigve_cli.metrics._i3d import CONVENTIONS
from aigve_cli.video.views import (
    frame_to_host_view,
    frames_to_view,
    shorter_side_size,
    split_view,
    view_to_text,
)

UINT8 = Resize(height=24, width=32, resampler="torch-bilinear-antialias-uint8")
CUBIC = Resize(height=24, width=32, resampler="pil-bicubic")
PLAIN = Resize(height=24, width=32, resampler="torch-bilinear")
SMOOTH = Resize(height=24, width=32, resampler="torch-bilinear-antialias")
NORMALISE = Normalise(mean=(127.0, 100.0, 90.0), std=(128.0, 50.0, 60.0))


@pytest.fixture
def frames():
    return np.random.default_rng(5).integers(0, 256, (6, 47, 71, 3), dtype=np.uint8)


def channels_first(frames):
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def test_uint8_antialias_is_torch_s_own_call(frames):
    expected = interpolate(
        channels_first(frames).contiguous(), size=(24, 32), mode="bilinear", antialias=True
    )
    for frame, one in zip(frames, expected, strict=True):
        seen = frame_to_host_view(frame, (UINT8,))
        assert seen.dtype == np.uint8
        assert np.array_equal(seen, one.permute(1, 2, 0).numpy())


def test_uint8_antialias_is_within_one_of_the_float_call(frames):
    exact = interpolate(
        channels_first(frames).double(), size=(24, 32), mode="bilinear", antialias=True
    )
    seen = np.stack([frame_to_host_view(frame, (UINT8,)) for frame in frames])
    # Integer weights of 16 bits and one rounding a direction.
    assert (channels_first(seen).double() - exact).abs().max() <= 1.01


def test_pil_bicubic_is_pil_s_own_call(frames):
    for frame in frames:
        expected = Image.fromarray(frame).resize((32, 24), Image.Resampling.BICUBIC)
        assert np.array_equal(frame_to_host_view(frame, (CUBIC,)), np.asarray(expected))


@pytest.mark.parametrize(("step", "antialias"), [(PLAIN, False), (SMOOTH, True)])
def test_float_resamplers_are_torch_s_own_calls(frames, step, antialias):
    expected = interpolate(
        channels_first(frames).float(),
        size=(24, 32),
        mode="bilinear",
        align_corners=False,
        antialias=antialias,
    )
    seen = frames_to_view(torch.from_numpy(frames), (step,))
    assert seen.dtype == torch.float32
    assert torch.equal(seen, expected)


def test_antialias_makes_a_difference(frames):
    batch = torch.from_numpy(frames)
    assert (frames_to_view(batch, (PLAIN,)) - frames_to_view(batch, (SMOOTH,))).abs().max() > 10


def test_normalise_is_by_channel(frames):
    seen = frames_to_view(torch.from_numpy(frames), (NORMALISE,))
    mean, std = (np.float32([NORMALISE.mean, NORMALISE.std])).reshape(2, 1, 3, 1, 1)
    expected = (frames.transpose(0, 3, 1, 2).astype(np.float32) - mean) / std
    assert np.array_equal(seen.numpy(), expected)


def test_native_is_the_frame_itself(frames):
    frame = frames[0]
    assert frame_to_host_view(frame, ()) is frame
    assert np.array_equal(frames_to_view(torch.from_numpy(frames), ()).numpy(),
                          frames.transpose(0, 3, 1, 2))  # fmt: skip


@pytest.mark.parametrize("view", [(PLAIN, NORMALISE), (SMOOTH,), (NORMALISE,), ()])
def test_one_by_one_equals_a_batch(frames, view):
    together = frames_to_view(torch.from_numpy(frames), view)
    alone = [frames_to_view(torch.from_numpy(frame)[None], view) for frame in frames]
    assert torch.equal(torch.cat(alone), together)


@pytest.mark.parametrize(
    ("view", "host"),
    [
        ((), 0),
        ((UINT8,), 1),
        ((UINT8, NORMALISE), 1),
        ((CUBIC, UINT8, NORMALISE), 2),
        ((Resize(24, 32, "pil-bilinear"), Grey(), NORMALISE), 2),
        ((Resize(24, 32, "cv2-linear"), Tile(12, 16), Grey()), 1),
        ((ResizeShorter(24, "pil-bilinear"), CentreCrop(24, 24), NORMALISE), 1),
        ((ResizeShorter(24, "torch-bilinear"), Grey()), 0),
        ((NORMALISE, UINT8), 0),
        ((PLAIN, NORMALISE), 0),
    ],
)
def test_only_leading_uint8_steps_run_beside_the_decoder(view, host):
    assert split_view(view) == (view[:host], view[host:])


def test_a_step_in_the_wrong_place_is_refused(frames):
    with pytest.raises(ValueError, match="put it before"):
        frames_to_view(torch.from_numpy(frames), (NORMALISE, UINT8))
    with pytest.raises(ValueError, match="not a step for uint8"):
        frame_to_host_view(frames[0], (NORMALISE,))


def test_the_text_names_every_step():
    assert view_to_text(()) == "native"
    assert view_to_text((UINT8, NORMALISE)) == (
        "resize 24x32 torch-bilinear-antialias-uint8; normalise mean=127,100,90 std=128,50,60"
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (2, 3)])
def test_pictures_of_a_few_pixels(size):
    frame = np.full((*size, 3), 77, dtype=np.uint8)
    for step in (UINT8, CUBIC):
        assert (frame_to_host_view(frame, (step,)) == 77).all()
    for step in (PLAIN, SMOOTH):
        assert (frames_to_view(torch.from_numpy(frame)[None], (step,)) - 77).abs().max() < 1e-4


def tf1_bilinear(frame, height, width):
    """TensorFlow 1's definition, pixel by pixel: [H, W, 3] → float64 [height, width, 3]."""

    def neighbours(index, length, size):
        place = index * length / size
        before = int(np.floor(place))
        return before, min(before + 1, length - 1), place - before

    rows, columns = frame.shape[:2]
    seen = np.zeros((height, width, 3))
    for y in range(height):
        top, bottom, down = neighbours(y, rows, height)
        for x in range(width):
            left, right, along = neighbours(x, columns, width)
            upper, lower = (
                frame[row, left] + (frame[row, right].astype(float) - frame[row, left]) * along
                for row in (top, bottom)
            )
            seen[y, x] = upper + (lower - upper) * down
    return seen


@pytest.mark.parametrize(
    "size", [(24, 32), (47, 71), (94, 142), (53, 60), (1, 1), (47, 100), (7, 200)]
)
def test_tf1_bilinear_is_its_definition(frames, size):
    seen = frames_to_view(torch.from_numpy(frames[:1]), (Resize(*size, "tf1-bilinear"),))
    expected = tf1_bilinear(frames[0], *size)
    # Places are float32: up to 71 columns, an error of 4e-6 of a step of up to 255.
    assert np.abs(seen[0].permute(1, 2, 0).numpy() - expected).max() < 2e-3


def test_tf1_bilinear_aligns_corners_where_torch_aligns_centres(frames):
    batch = torch.from_numpy(frames)
    tensorflow = frames_to_view(batch, (Resize(94, 142, "tf1-bilinear"),))
    assert torch.equal(tensorflow[:, :, ::2, ::2], channels_first(frames).float())
    plain = frames_to_view(batch, (Resize(94, 142, "torch-bilinear"),))
    assert (tensorflow - plain).abs().max() > 10


def test_pil_bicubic_float_keeps_fractions_and_the_range():
    frame = np.zeros((12, 12, 3), np.uint8)
    frame[:, 6:] = (255, 128, 1)
    step = Resize(17, 17, "pil-bicubic-float")
    seen = frame_to_host_view(frame, (step,))
    assert seen.dtype == np.float32
    assert seen.shape == (17, 17, 3)
    for index in range(3):
        channel = Image.fromarray(frame[:, :, index].astype(np.float32))
        free = np.asarray(channel.resize((17, 17), Image.Resampling.BICUBIC))
        assert free.min() < 0, "the weights leave the range on this edge"
        assert np.array_equal(seen[:, :, index], free.clip(0, 255))
    assert seen.min() == 0
    assert seen.max() == 255
    assert (seen != np.round(seen)).any()
    # The device takes what the CPU made, without another rounding.
    assert np.array_equal(frames_to_view(torch.from_numpy(seen[None]), ())[0, 2], seen[:, :, 2])


@pytest.mark.parametrize(
    ("picture", "size", "expected"),
    [
        ((48, 64), 24, (24, 32)),
        ((64, 48), 24, (32, 24)),
        ((47, 71), 24, (24, 37)),
        ((71, 47), 24, (37, 24)),
        ((50, 50), 128, (128, 128)),
        ((256, 455), 224, (224, 399)),
        # Round-off of VideoGPT's code: 400 * (224 / 400) is a little above 224, and it is rounded
        # up; the crop that follows takes the first 224.
        ((400, 400), 224, (225, 224)),
        ((400, 711), 224, (224, 399)),
    ],
)
def test_the_shorter_side_and_the_other_rounded_up(picture, size, expected):
    assert shorter_side_size(*picture, ResizeShorter(size, "torch-bilinear", "up")) == expected
    frame = np.random.default_rng(1).integers(0, 256, (1, *picture, 3), dtype=np.uint8)
    for resampler, antialias in (("torch-bilinear", False), ("torch-bilinear-antialias", True)):
        seen = frames_to_view(torch.from_numpy(frame), (ResizeShorter(size, resampler, "up"),))
        own = interpolate(
            channels_first(frame).float(),
            size=expected,
            mode="bilinear",
            align_corners=False,
            antialias=antialias,
        )
        assert torch.equal(seen, own)


@pytest.mark.parametrize(
    ("size", "top", "left"),
    [((47, 71), 0, 0), ((46, 70), 0, 0), ((45, 66), 1, 2), ((8, 8), 19, 31)],
)
def test_a_crop_is_from_the_middle(frames, size, top, left):
    seen = frames_to_view(torch.from_numpy(frames), (CentreCrop(*size),))
    height, width = size
    expected = frames[:, top : top + height, left : left + width].transpose(0, 3, 1, 2)
    assert np.array_equal(seen.numpy(), expected)


def test_scaling_divides_first_and_truncating_is_towards_0():
    values = torch.tensor([0.0, 1.0, 7.0, 254.0, 255.0])
    batch = values.view(1, 1, 5, 1).expand(1, 1, 5, 3)
    seen = frames_to_view(batch, (Scale(255.0, 255.0),))[0, 0, 0]
    assert torch.equal(seen, values / 255.0 * 255.0)
    negative = frames_to_view(batch, (Normalise((3.5,) * 3, (2.0,) * 3), Quantise("truncate")))[
        0, 0, 0
    ]
    assert negative.tolist() == [-1.0, -1.0, 1.0, 125.0, 125.0]


@pytest.mark.parametrize("size", [(47, 71), (90, 60), (128, 128), (150, 260)])
def test_the_view_of_cd_fvd_step_by_step(size):
    """As the package does it: floats of 0..1, a crop of 128, uint8, and I3D's squash."""
    frames = np.random.default_rng(7).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    height, width = size
    shorter = min(size)
    # Neither size is one of those in which the package's own round-off adds a pixel.
    small = -(-height * 128 // shorter), -(-width * 128 // shorter)
    floats = torch.from_numpy(frames.astype(np.float32) / np.float32(255)).permute(0, 3, 1, 2)
    floats = interpolate(floats, size=small, mode="bilinear", align_corners=False, antialias=True)
    top, left = (small[0] - 128) // 2, (small[1] - 128) // 2
    floats = floats[:, :, top : top + 128, left : left + 128]
    pixels = (floats.numpy() * np.float32(255)).astype(np.uint8)
    squashed = interpolate(
        torch.from_numpy(pixels).float(), size=(224, 224), mode="bilinear", align_corners=False
    )
    expected = 2 * squashed.numpy() / 255 - 1
    seen = frames_to_view(torch.from_numpy(frames), CONVENTIONS["cd-fvd"].view).numpy()
    # Only the last step rounds in another order.
    assert np.abs(seen - expected).max() < 1e-6
