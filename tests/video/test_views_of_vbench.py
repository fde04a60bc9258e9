"""What VBench's dimensions see of a frame is what torchvision's transforms make of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    Resize as TorchvisionResize,
)

from aigve_cli.contract import CentreCrop, Clamp, Normalise, ResizeShorter, ResizeWithin, View
from aigve_cli.metrics._vbench import CLIP_VIEW, DINO_VIEW, FIXED, PARITY, clip_view
from aigve_cli.metrics.vbench_imaging_quality import VIEW as MUSIQ_VIEW
from aigve_cli.video.views import (
    frames_to_view,
    shorter_side_size,
    size_within,
    split_view,
    view_to_text,
)
from tests.networks.vbench_weights import golden

# Above 255 a step of float32 is 3e-5, which 255 and a deviation of 0.22 divide to 5e-7: two steps,
# and four where another build of torch, on another machine, has rounded each of the weighted sums.
SAME, SAME_ELSEWHERE = 1e-6, 2e-6
IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
TO_DINO = Compose(
    [
        TorchvisionResize(224, InterpolationMode.BILINEAR, antialias=False),
        lambda pixels: pixels / 255,
        IMAGENET,
    ]
)
TO_CLIP = Compose(
    [
        TorchvisionResize(224, InterpolationMode.BICUBIC, antialias=False),
        CenterCrop(224),
        lambda pixels: pixels / 255,
        CLIP,
    ]
)
SIZES = [
    (224, 224),
    (64, 64),
    (500, 500),
    (225, 224),
    (224, 225),
    (223, 224),
    (96, 144),
    (121, 68),
    (480, 720),
    (720, 480),
    (131, 150),
    (37, 53),
    (53, 37),
    (301, 999),
    (448, 450),
    (450, 448),
    (2, 3),
    (1, 1),
]
"""Height and width."""
ODD_MARGINS = [(224, 281), (281, 224), (224, 283), (283, 224), (448, 562), (566, 448)]
"""The side that is cropped is larger than 224 by 57 or 59, whose halves are rounded down and up."""
GOLDENS = {
    "subject": golden("subject_consistency_vitb16"),
    "background": golden("background_consistency_vitb32"),
    "imaging": golden("imaging_quality_musiq"),
}


def noise(height: int, width: int, frames: int = 1) -> np.ndarray:
    random = np.random.default_rng(1000 * height + width)
    return random.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def decoded(frames: np.ndarray) -> torch.Tensor:
    """As VBench reads a video: float32 [T, 3, H, W] on 0..255."""
    return torch.Tensor(frames).permute(0, 3, 1, 2)


def seen(frames: np.ndarray, view: View) -> torch.Tensor:
    """float32 [T, 3, h, w], as the engine makes it."""
    return frames_to_view(torch.from_numpy(frames), view)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.dtype == theirs.dtype == torch.float32
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= SAME


def to_musiq(frames: np.ndarray) -> torch.Tensor:
    """VBench's mode ``longer``."""
    pixels = decoded(frames)
    height, width = pixels.shape[2:]
    if max(height, width) > 512:
        scale = 512.0 / max(height, width)
        size = int(scale * height), int(scale * width)
        pixels = TorchvisionResize(size, InterpolationMode.BILINEAR, antialias=False)(pixels)
    return pixels / 255


# --- torchvision ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES + ODD_MARGINS)
def test_clip_sees_what_torchvision_makes(size):
    frames = noise(*size)
    same(seen(frames, CLIP_VIEW), TO_CLIP(decoded(frames)))


@pytest.mark.parametrize("size", SIZES + ODD_MARGINS)
def test_dino_sees_what_torchvision_makes(size):
    frames = noise(*size)
    same(seen(frames, DINO_VIEW), TO_DINO(decoded(frames)))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 500), st.integers(2, 500))
def test_of_any_size(height, width):
    # What is a hundred times as wide as high would be a picture of millions of pixels.
    height, width = max(height, width // 4), max(width, height // 4)
    frames = noise(height, width)
    same(seen(frames, CLIP_VIEW), TO_CLIP(decoded(frames)))
    same(seen(frames, DINO_VIEW), TO_DINO(decoded(frames)))


@pytest.mark.parametrize("size", ODD_MARGINS)
def test_the_odd_margins_are_odd_and_told_apart(size):
    """Else the sizes above would prove nothing of how they are cropped."""
    resize, crop, *_ = CLIP_VIEW
    whole = seen(noise(*size), (resize,))
    margins = {side - 224 for side in whole.shape[2:]}
    assert margins == {0, 57} or margins == {0, 59}
    floor = seen(noise(*size), (resize, CentreCrop(224, 224, "floor")))
    even = seen(noise(*size), (resize, crop))
    assert torch.equal(floor, even) == (margins == {0, 57})


def test_nothing_is_smoothed():
    """With antialiasing, which torchvision does by default, it is another picture."""
    frames = noise(480, 720)
    smooth = TorchvisionResize(224, InterpolationMode.BICUBIC, antialias=True)
    other = CLIP(CenterCrop(224)(smooth(decoded(frames))) / 255)
    assert (seen(frames, CLIP_VIEW) - other).abs().max() > 0.5


@pytest.mark.parametrize("view", [CLIP_VIEW, DINO_VIEW, MUSIQ_VIEW])
def test_one_by_one_equals_a_batch(view):
    frames = noise(121, 668, 4)
    alone = [seen(frame[None], view) for frame in frames]
    assert torch.equal(torch.cat(alone), seen(frames, view))


# --- goldens ----------------------------------------------------------------------------------


def golden_clips(name: str) -> list[str]:
    return [key.removeprefix("frames_") for key in GOLDENS[name] if key.startswith("frames_")]


@pytest.mark.parametrize(
    ("name", "clip", "view"),
    [
        *(("subject", clip, DINO_VIEW) for clip in golden_clips("subject")),
        *(("background", clip, CLIP_VIEW) for clip in golden_clips("background")),
    ],
)
def test_goldens_of_both_consistencies(name, clip, view):
    theirs = GOLDENS[name]
    ours = seen(theirs[f"frames_{clip}"], view).numpy()
    first = theirs[f"pre_sub_{clip}"]
    # Both networks see every ninth pixel alike, and all the others in the means.
    np.testing.assert_allclose(ours[0][:, ::9, ::9], first, rtol=0, atol=SAME_ELSEWHERE)
    means = ours.astype(np.float64).mean((2, 3))
    np.testing.assert_allclose(means, theirs[f"pre_mean_{clip}"], rtol=0, atol=SAME_ELSEWHERE)
    if name == "subject":
        assert ours.shape == tuple(theirs[f"pre_shape_{clip}"])
    else:
        assert ours.shape[2:] == (224, 224)
        assert ours.min() == pytest.approx(float(theirs[f"pre_min_{clip}"]), abs=SAME_ELSEWHERE)
        assert ours.max() == pytest.approx(float(theirs[f"pre_max_{clip}"]), abs=SAME_ELSEWHERE)


@pytest.mark.parametrize("clip", golden_clips("imaging"))
def test_goldens_of_imaging_quality(clip):
    theirs = GOLDENS["imaging"]
    ours = seen(theirs[f"frames_{clip}"], MUSIQ_VIEW).numpy()
    assert ours.shape[2:] == tuple(theirs[f"pre_hw_{clip}_longer"])
    first = theirs[f"pre_sub_{clip}_longer"]
    np.testing.assert_allclose(ours[0][:, ::11, ::11], first, rtol=0, atol=SAME_ELSEWHERE)


# --- overshoot --------------------------------------------------------------------------------


def edge(height: int = 100, width: int = 160) -> np.ndarray:
    """A white square on black, at whose edges bicubic weights leave 0..255."""
    frame = np.zeros((1, height, width, 3), dtype=np.uint8)
    frame[:, 30:70, 40:120] = 255
    return frame


def in_pixels(view: torch.Tensor) -> np.ndarray:
    """What CLIP sees, on 0..255 again: float64 [..., 3]."""
    mean, std = (np.array(part, np.float64) for part in (CLIP.mean, CLIP.std))
    return (view[0].permute(1, 2, 0).double().numpy() * std + mean) * 255


def test_overshoot_passes_through_unless_it_is_clamped():
    free = in_pixels(seen(edge(), clip_view({"mode": PARITY})))
    clamped = in_pixels(seen(edge(), clip_view({"mode": FIXED})))
    assert free.min() < -10
    assert free.max() > 265
    # What is within the range is not touched.
    np.testing.assert_allclose(clamped, free.clip(0, 255), rtol=0, atol=1e-3)
    assert clamped.min() == pytest.approx(0, abs=1e-3)
    assert clamped.max() == pytest.approx(255, abs=1e-3)


def test_parity_is_the_plain_view_and_fixed_has_one_step_more():
    assert clip_view({"mode": PARITY}) == CLIP_VIEW
    fixed = clip_view({"mode": FIXED})
    assert tuple(step for step in fixed if step != Clamp()) == CLIP_VIEW
    assert fixed.count(Clamp()) == 1


def test_clamping_keeps_fractions():
    values = torch.tensor([-300.0, -0.25, 0.0, 0.5, 254.75, 255.0, 255.5, 1e9])
    batch = values.view(1, 1, -1, 1).expand(1, 1, len(values), 3)
    kept = frames_to_view(batch, (Clamp(),))[0, :, 0]
    assert kept.tolist() == [[0, 0, 0, 0.5, 254.75, 255, 255, 255]] * 3


def test_bilinear_weights_stay_within():
    pixels = seen(edge(), DINO_VIEW[:1])
    assert pixels.min() == 0
    # Two shares of 255, each rounded.
    assert pixels.max() == pytest.approx(255, abs=1e-4)


# --- imaging quality --------------------------------------------------------------------------

LARGE = [(600, 400), (400, 600), (513, 512), (513, 513), (1080, 1920), (200, 530), (2000, 9)]
SMALL = [(512, 512), (512, 100), (96, 144), (1, 1), (511, 512)]


@pytest.mark.parametrize("size", LARGE + SMALL)
def test_musiq_sees_what_torchvision_makes(size):
    frames = noise(*size)
    same(seen(frames, MUSIQ_VIEW), to_musiq(frames))


@pytest.mark.parametrize("size", SMALL)
def test_what_fits_is_not_resized(size):
    frames = noise(*size)
    assert torch.equal(seen(frames, MUSIQ_VIEW), decoded(frames) / 255)


@pytest.mark.parametrize(
    ("side", "size"),
    [
        (longer, size)
        for size in (512, 384, 224)
        for longer in range(size + 1, 2161)
        if int(size / longer * longer) < size
    ][:60:6],
)
def test_the_longer_side_may_lose_a_pixel_to_round_off(side, size):
    """As VBench computes it: the quotient is a little too small, and its product is cut."""
    frames = noise(side, 1 + side // 3)
    assert size_within(*frames.shape[1:3], size)[0] == size - 1
    ours = seen(frames, (ResizeWithin(size, "torch-bilinear"),))
    assert max(ours.shape[2:]) == size - 1
    expected = torch.nn.functional.interpolate(
        decoded(frames), size=ours.shape[2:], mode="bilinear", align_corners=False
    )
    assert torch.equal(ours, expected)


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(1, 2000))
def test_sizes_within(height, width, size):
    scale = min(1.0, size / max(height, width))
    if not min(int(scale * height), int(scale * width)):
        with pytest.raises(ValueError, match=f"{width}x{height}"):
            size_within(height, width, size)
        return
    small = size_within(height, width, size)
    assert small == (int(scale * height), int(scale * width))
    assert size_within(width, height, size) == small[::-1]
    assert size - 1 <= max(small) <= size or small == (height, width)
    # Cut, not rounded: never more than the exact share, and by less than a pixel.
    exact = [side * min(1.0, size / max(height, width)) for side in (height, width)]
    assert all(0 <= share - side < 1 for share, side in zip(exact, small, strict=True))


@pytest.mark.parametrize("size", [(1, 600), (600, 1), (3, 2000)])
def test_what_would_leave_nothing_is_refused(size):
    height, width = size
    with pytest.raises(ValueError, match=rf"{width}x{height} pixels are too narrow .* 512"):
        seen(noise(*size), MUSIQ_VIEW)


# --- steps ------------------------------------------------------------------------------------


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([7, 30, 224]))
def test_the_other_side_is_cut_to_whole_pixels(height, width, size):
    """224 * 121 / 68 is 398.6: torchvision takes 398, where VideoGPT takes 399."""
    small = shorter_side_size(height, width, ResizeShorter(size, "torch-bicubic"))
    longer = max(height, width), min(height, width)
    assert sorted(small) == [size, size * longer[0] // longer[1]]
    assert np.sign(small[0] - small[1]) in (0, np.sign(height - width))
    up = shorter_side_size(height, width, ResizeShorter(size, "torch-bilinear", "up"))
    assert max(small) <= max(up)


@pytest.mark.parametrize("view", [CLIP_VIEW, clip_view({"mode": FIXED}), DINO_VIEW, MUSIQ_VIEW])
def test_every_step_runs_on_the_device(view):
    """Frames leave the decoder as they are: what two networks see of them may differ."""
    assert split_view(view) == ((), view)


@pytest.mark.parametrize(
    ("view", "words", "normalised"),
    [
        (
            CLIP_VIEW,
            "resize shorter side to 224 torch-bicubic; centre crop 224x224 half-even; "
            "divide by 255",
            CLIP,
        ),
        (
            clip_view({"mode": FIXED}),
            "resize shorter side to 224 torch-bicubic; clamp to 0..255; "
            "centre crop 224x224 half-even; divide by 255",
            CLIP,
        ),
        (DINO_VIEW, "resize shorter side to 224 torch-bilinear; divide by 255", IMAGENET),
        (MUSIQ_VIEW, "longer side at most 512 torch-bilinear; divide by 255", None),
    ],
)
def test_views_in_words(view: View, words: str, normalised: Normalize | None):
    steps, semicolon, last = view_to_text(view).partition("; normalise ")
    assert steps == words
    assert bool(semicolon) == (normalised is not None)
    if normalised is not None:
        found = [part.partition("=") for part in last.split()]
        numbers = {name: [float(x) for x in text.split(",")] for name, _, text in found}
        assert numbers["mean"] == pytest.approx(normalised.mean, abs=1e-6)
        assert numbers["std"] == pytest.approx(normalised.std, abs=1e-6)


def test_views_that_differ_are_told_apart():
    """The text is part of what features are stored under."""
    views = [
        CLIP_VIEW,
        clip_view({"mode": FIXED}),
        DINO_VIEW,
        MUSIQ_VIEW,
        (ResizeShorter(224, "torch-bilinear", "up"), *DINO_VIEW[1:]),
        (CLIP_VIEW[0], CentreCrop(224, 224), *CLIP_VIEW[2:]),
        (ResizeWithin(512), *MUSIQ_VIEW[1:]),
        (*DINO_VIEW[:2], Normalise((0.5,) * 3, (0.5,) * 3)),
    ]
    assert len({view_to_text(view) for view in views}) == len(views)
