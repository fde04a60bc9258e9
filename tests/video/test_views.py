"""Views are exactly the named resamplers of torch and PIL."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from aigve_cli.contract import Normalise, Resize
from aigve_cli.video.views import frame_to_host_view, frames_to_view, split_view, view_to_text

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
