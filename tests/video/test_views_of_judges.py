"""Sizes that judges of videos see: the rules of Idefics2 and of Qwen2-VL, and PIL's own pixels."""

import importlib
import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, strategies as st
from PIL import Image

from aigve_cli.contract import Normalise, Resize, ResizeArea, ResizeBetween, Scale
from aigve_cli.metrics.videoscore2 import VIEW
from aigve_cli.video.views import (
    frame_to_host_view,
    frames_to_view,
    size_between,
    size_of_area,
    split_view,
    view_to_text,
)

IDEFICS2 = ResizeBetween(378, 980)
(QWEN2_VL,) = VIEW
LEAST, MOST, UNIT = 128 * 28 * 28, 768 * 28 * 28, 28
SIDE = st.integers(16, 2000)


def noise(height, width, channels=3):
    shape = (height, width, channels)
    return np.random.default_rng(11).integers(0, 256, shape, dtype=np.uint8)


def in_transformers(name, *modules):
    """A function of the installed release, from the first of its modules that has it."""
    for module in modules:
        try:
            return getattr(importlib.import_module(f"transformers.models.{module}"), name)
        except (ImportError, AttributeError):
            continue
    pytest.skip(f"transformers has {name} elsewhere; the tables beside this still hold")


@pytest.fixture(scope="module")
def by_idefics2():
    """Height and width by transformers' own rule, from those of a picture and the two bounds."""
    rule = in_transformers(
        "get_resize_output_image_size",
        "idefics2.image_processing_pil_idefics2",
        "idefics2.image_processing_idefics2",
    )
    # The first releases of transformers 5 ask for more, and have bounds in a dictionary.
    older = "input_data_format" in inspect.signature(rule).parameters

    def size(height, width, shorter, longer):
        picture = np.broadcast_to(np.uint8(0), (3, height, width))
        bounds = {"shortest_edge": shorter, "longest_edge": longer}
        if older:
            return rule(picture, bounds, input_data_format="channels_first")
        return rule(picture, SimpleNamespace(**bounds))

    return size


@pytest.fixture(scope="module")
def by_qwen2_vl():
    return in_transformers(
        "smart_resize",
        "qwen2_vl.image_processing_qwen2_vl",
        "qwen2_vl.image_processing_pil_qwen2_vl",
    )


# --- Idefics2 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        # Height and width. The longer side is cut to 980, and the other to a whole number.
        ((768, 1360), (553, 980)),  # 553.4
        ((1360, 768), (980, 553)),
        ((1080, 1920), (551, 980)),  # 551.25
        ((1920, 1080), (980, 551)),
        ((981, 981), (980, 980)),
        ((978, 981), (977, 980)),  # 977.003
        ((981, 978), (980, 977)),
        # What lies between the two stays.
        ((512, 512), (512, 512)),
        ((480, 832), (480, 832)),
        ((832, 480), (832, 480)),
        ((480, 720), (480, 720)),
        ((980, 980), (980, 980)),
        ((378, 378), (378, 378)),
        # Each side that is too small is stretched alone.
        ((48, 64), (378, 378)),
        ((320, 512), (378, 512)),
        ((512, 320), (512, 378)),
        ((100, 2000), (378, 980)),  # 49
        ((2000, 100), (980, 378)),
        ((1, 9000), (378, 980)),  # 0.1
    ],
)
def test_sizes_of_idefics2(picture, expected):
    assert size_between(*picture, IDEFICS2) == expected


@given(
    height=SIDE, width=SIDE, bounds=st.sampled_from([(378, 980), (28, 56), (224, 448), (300, 300)])
)
@example(height=768, width=1360, bounds=(378, 980))
@example(height=980, width=981, bounds=(378, 980))
def test_sizes_are_those_of_transformers_idefics2(by_idefics2, height, width, bounds):
    assert size_between(height, width, ResizeBetween(*bounds)) == by_idefics2(
        height, width, *bounds
    )


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_both_sides_of_idefics2_s_lie_between(height, width):
    seen = size_between(height, width, IDEFICS2)
    assert 378 <= min(seen) <= max(seen) <= 980
    turned = size_between(width, height, IDEFICS2)
    # A quotient and a product may be rounded to the two sides of a whole number.
    assert np.abs(np.subtract(turned[::-1], seen)).max() <= 1
    if 378 <= min(height, width) <= max(height, width) <= 980:
        assert seen == (height, width)


# --- Qwen2-VL ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        # Height and width, as many 28ths as are nearest: 18.3 and 18.3, 504 * 504 pixels.
        ((512, 512), (504, 504)),
        # 17.1 and 29.7: 476 * 840.
        ((480, 832), (476, 840)),
        ((832, 480), (840, 476)),
        # 17.1 and 25.7: 476 * 728.
        ((480, 720), (476, 728)),
        # 12.5 and 17.5: Python rounds halves to even, so 12 and 18.
        ((350, 490), (336, 504)),
        # 27 * 49 are more than 768. Divided by sqrt(768 * 1360 / 602112) = 1.3171 both sides are
        # 583.1 and 1032.6, of which 20 and 36 units are whole.
        ((768, 1360), (560, 1008)),
        ((1360, 768), (1008, 560)),
        # Divided by 1.8558: 582.0 and 1034.6.
        ((1080, 1920), (560, 1008)),
        # 2 * 2 are less than 128. Times sqrt(100352 / (48 * 64)) = 5.7155 they are 274.3 and
        # 365.8, for which 10 and 14 units are needed.
        ((48, 64), (280, 392)),
        # Nothing at all of a unit: times 31.678, 31.7 and 3167.8, so 2 and 114.
        ((1, 100), (56, 3192)),
        # Both bounds are allowed.
        ((672, 896), (672, 896)),
        ((224, 448), (224, 448)),
    ],
)
def test_sizes_of_qwen2_vl(picture, expected):
    assert ResizeArea(LEAST, MOST, UNIT) == QWEN2_VL
    assert size_of_area(*picture, QWEN2_VL) == expected


@given(height=SIDE, width=SIDE)
@example(height=480, width=832)
@example(height=1999, width=16)
def test_sizes_are_those_of_transformers_qwen2_vl(by_qwen2_vl, height, width):
    expected = by_qwen2_vl(height, width, UNIT, LEAST, MOST)
    assert size_of_area(height, width, QWEN2_VL) == expected


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_areas_lie_between_and_sides_are_multiples(height, width):
    """Of pictures up to 200 times as long as they are wide, which is all that Qwen2-VL takes."""
    assume(max(height, width) <= 200 * min(height, width))
    seen = size_of_area(height, width, QWEN2_VL)
    assert LEAST <= seen[0] * seen[1] <= MOST
    assert min(seen) > 0
    assert [side % UNIT for side in seen] == [0, 0]
    assert size_of_area(width, height, QWEN2_VL) == seen[::-1]
    assert size_of_area(*seen, QWEN2_VL) == seen


# --- as steps of a view -----------------------------------------------------------------------

STEPS = [
    (ResizeBetween(28, 56), (91, 53), (56, 32)),
    (ResizeBetween(28, 56), (53, 91), (32, 56)),
    (ResizeBetween(28, 56), (5, 40), (28, 40)),
    (ResizeBetween(28, 56), (40, 50), (40, 50)),
    (ResizeBetween(28, 56, "pil-bicubic"), (91, 53), (56, 32)),
    (ResizeArea(4 * 28 * 28, 16 * 28 * 28), (91, 153), (84, 140)),
    (ResizeArea(4 * 28 * 28, 16 * 28 * 28), (20, 30), (56, 84)),
    (ResizeArea(4 * 14 * 14, 16 * 14 * 14, 14), (91, 53), (70, 42)),
]


@pytest.mark.parametrize(("step", "picture", "size"), STEPS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_pil_s_own(step, picture, size, channels):
    frame = noise(*picture, channels)
    rule = size_between if isinstance(step, ResizeBetween) else size_of_area
    assert rule(*picture, step) == size
    pil = Image.fromarray(frame.squeeze(2) if channels == 1 else frame)
    resampler = Image.Resampling[step.resampler.removeprefix("pil-").upper()]
    expected = np.asarray(pil.resize(size[::-1], resampler)).reshape(*size, channels)
    seen = frame_to_host_view(frame, (step,))
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, expected)
    # The same as by the step that names its size.
    assert np.array_equal(seen, frame_to_host_view(frame, (Resize(*size, step.resampler),)))


@pytest.mark.parametrize("step", [IDEFICS2, QWEN2_VL])
def test_they_run_beside_the_decoder(step):
    after = (Scale(divisor=255), Normalise((0.5,) * 3, (0.5,) * 3))
    assert split_view((step, *after)) == ((step,), after)
    squash = Resize(224, 224, "pil-bilinear")
    assert split_view((squash, step, *after)) == ((squash, step), after)
    with pytest.raises(ValueError, match="put it before every other step"):
        frames_to_view(torch.zeros(1, 4, 4, 3), (step,))
    with pytest.raises(ValueError, match="not a step for uint8"):
        frame_to_host_view(noise(4, 4), (Resize(4, 4, "pil-bicubic-float"), step))


def test_views_of_judges_in_words():
    assert view_to_text((IDEFICS2, Scale(divisor=255))).startswith(
        "longer side at most 980, each at least 378 pil-bilinear; "
    )
    assert view_to_text((QWEN2_VL,)) == (
        "100352 to 602112 pixels, sides multiples of 28 pil-bicubic"
    )
