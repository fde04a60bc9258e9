"""Named steps instead of an image processor: the same pixels as transformers' own on PIL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoProcessor

from aigve_cli.contract import (
    CentreCrop,
    Normalise,
    Resize,
    ResizeBetween,
    ResizeShorter,
    Scale,
)
from aigve_cli.engine.preprocessing import folder_to_view
from aigve_cli.errors import WeightsError
from aigve_cli.video.decode import VideoReader
from aigve_cli.video.views import frame_to_host_view, split_view
from tests.networks.model_folders import (
    BICUBIC,
    MEAN,
    STD,
    write_blip,
    write_clip,
    write_json,
    write_processor,
    write_siglip,
)
from tests.networks.owl_folders import owl_config, write_owl
from tests.networks.score_folders import write_videoscore
from tests.networks.vision_goldens import PICTURES, on_pil, seen_by

SHAPES = [(91, 53), (53, 91), (47, 71), (64, 64), (32, 32), (5, 3), (1, 1), (1, 40), (301, 402)]
CLIP: dict[str, Any] = {
    "size": {"shortest_edge": 37},
    "crop_size": {"height": 32, "width": 31},
    "do_center_crop": True,
}
SQUASHED: dict[str, Any] = {"size": {"height": 29, "width": 34}}


def noise(height: int, width: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(height * 1000 + width)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_transformers(processor: Any, frame: NDArray[np.uint8]) -> Tensor:
    inputs = {"images": Image.fromarray(frame), "input_data_format": "channels_last"}
    pixels: Tensor = processor(**inputs, return_tensors="pt")["pixel_values"]
    return pixels


def furthest(folder: Path, processor: Any, frame: NDArray[np.uint8]) -> float:
    """The largest difference between our pixels and the processor's."""
    ours, theirs = seen_by(folder, frames=[frame]), by_transformers(processor, frame)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == torch.float32
    return float((ours - theirs).abs().max())


# --- the same pixels ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "clip": write_clip(folder / "clip"),
        "older clip": write_clip(folder / "older-clip", older=True),
        "blip": write_blip(folder / "blip"),
        "older blip": write_blip(folder / "older-blip", older=True),
        "siglip": write_siglip(folder / "siglip"),
    }


@pytest.mark.parametrize("name", ["clip", "older clip", "blip", "older blip", "siglip"])
def test_frames_of_any_size(folders: dict[str, Path], name: str) -> None:
    processor = on_pil(AutoProcessor, folders[name])
    for shape in SHAPES:
        assert furthest(folders[name], processor, noise(*shape)) <= PICTURES, shape


@pytest.mark.parametrize("name", ["clip", "blip", "siglip"])
def test_frames_of_real_clips(folders: dict[str, Path], name: str, media: Path) -> None:
    processor = on_pil(AutoProcessor, folders[name])
    paths = sorted((media / "lavie").glob("*.mp4"))[:3]
    assert paths
    for path in paths:
        with VideoReader(path, frames=2) as reader:
            for frame in reader:
                assert furthest(folders[name], processor, frame) <= PICTURES


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("CLIP", CLIP),
        ("CLIP", {"size": {"height": 33, "width": 35}, **{k: CLIP[k] for k in list(CLIP)[1:]}}),
        ("CLIP", {**SQUASHED, "do_center_crop": False}),
        ("Siglip", {**SQUASHED, "resample": 2}),
        ("Siglip", {**SQUASHED, "do_normalize": False}),
        ("Siglip", {**SQUASHED, "rescale_factor": 1 / 127.5, "image_std": [0.5, 0.25, 1.5]}),
        ("Blip", {**SQUASHED, "rescale_factor": 0.5}),
        # To the largest picture of a batch, where all have one size.
        ("Blip", {**SQUASHED, "do_pad": True, "size_divisor": 32}),
        ("Blip", {**SQUASHED, "do_rescale": False, "image_mean": [9.0, 99.0, 199.0]}),
    ],
)
def test_every_setting(tmp_path: Path, kind: str, changed: dict[str, Any]) -> None:
    write_processor(tmp_path, kind, **changed)
    processor = on_pil(AutoImageProcessor, tmp_path)
    for shape in [(91, 53), (53, 91), (64, 64), (5, 3)]:
        expected = by_transformers(processor, noise(*shape))
        scale = max(1.0, float(expected.abs().max()) / 4)
        assert furthest(tmp_path, processor, noise(*shape)) <= PICTURES * scale, shape


def test_chinese_clip_s_steps_are_clip_s(tmp_path: Path) -> None:
    for kind in ("CLIP", "ChineseCLIP"):
        write_processor(tmp_path / kind, kind, **CLIP)
    assert folder_to_view(tmp_path / "ChineseCLIP") == folder_to_view(tmp_path / "CLIP")


SIDE = st.integers(1, 120)


@given(height=SIDE, width=SIDE)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_crop_of_any_frame(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "cropped"
    write_processor(folder, "CLIP", **CLIP)
    processor = on_pil(AutoImageProcessor, folder)
    assert furthest(folder, processor, noise(height, width)) <= PICTURES


def test_the_default_backend_is_another(folders: dict[str, Path]) -> None:
    """The reason to name PIL: torchvision's pixels would be told apart."""
    frame = noise(91, 53)
    processor = AutoProcessor.from_pretrained(folders["clip"])
    theirs = processor(images=Image.fromarray(frame), return_tensors="pt")["pixel_values"]
    assert (seen_by(folders["clip"], frames=[frame]) - theirs).abs().max() > 1000 * PICTURES


# --- the steps ------------------------------------------------------------------------------------


def test_steps_are_named(folders: dict[str, Path]) -> None:
    after = (Scale(divisor=255), Normalise(tuple(MEAN), tuple(STD)))
    expected = (ResizeShorter(32, "pil-bicubic"), CentreCrop(32, 32), *after)
    assert folder_to_view(folders["clip"]) == expected
    assert folder_to_view(folders["older clip"]) == expected
    assert folder_to_view(folders["blip"]) == (Resize(32, 32, "pil-bicubic"), *after)


@pytest.mark.parametrize("how", ["standard", "aigve", "evalcrafter"])
def test_pictures_are_resized_as_bytes_beside_the_decoder(
    folders: dict[str, Path], how: str
) -> None:
    for name in ("clip", "blip", "siglip"):
        host, device = split_view(folder_to_view(folders[name], how))
        assert len(host) == (2 if how == "aigve" else 1)
        assert not any(isinstance(step, Resize | ResizeShorter) for step in device)
        assert frame_to_host_view(noise(91, 53), host).dtype == np.uint8


def test_as_aigve_did(folders: dict[str, Path]) -> None:
    frame = noise(91, 153)
    squashed = cv2.resize(frame, (224, 224), interpolation=cv2.INTER_LINEAR)
    for name in ("clip", "blip"):
        processor = on_pil(AutoProcessor, folders[name])
        ours = seen_by(folders[name], "aigve", [frame])
        assert (ours - by_transformers(processor, squashed)).abs().max() <= PICTURES


def test_as_evalcrafter_did(folders: dict[str, Path]) -> None:
    frame = noise(91, 153)
    squashed = cv2.resize(frame, (32, 32), interpolation=cv2.INTER_LINEAR)
    for name in ("clip", "blip"):
        ours = seen_by(folders[name], "evalcrafter", [frame])
        assert torch.equal(ours[0], torch.from_numpy(squashed).permute(2, 0, 1).float())


def test_evalcrafter_s_size_is_what_is_left_after_the_crop(tmp_path: Path) -> None:
    write_processor(tmp_path, "CLIP", **CLIP)
    assert folder_to_view(tmp_path, "evalcrafter") == (Resize(32, 31, "cv2-linear"),)


def test_another_way_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="'vbench' is not a way to prepare pictures: standard, "):
        folder_to_view(folders["clip"], "vbench")


# --- of judges of videos --------------------------------------------------------------------------

RATED = (
    ResizeBetween(28, 56, "pil-bilinear"),
    Scale(divisor=255),
    Normalise((0.5,) * 3, (0.5,) * 3),
)
# A side of 1 or 5 becomes 28, and one of 301 or 402 becomes 56: both, one or none is changed.
SEEN_BY_IDEFICS2 = [*SHAPES, (40, 50), (28, 56), (57, 56), (56, 57), (20, 200), (768, 1360)]


def with_processor(folder: Path, **changed: Any) -> Path:
    """A folder of which only the image processor is left, with other settings."""
    path = folder / "preprocessor_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for file in folder.iterdir():
        file.unlink()
    write_json(path, config | changed)
    return folder


def owl_steps() -> tuple[Any, ...]:
    side = owl_config()["vision_config"]["image_size"]
    return (
        ResizeShorter(side, "pil-bicubic"),
        CentreCrop(side, side),
        Scale(divisor=255),
        Normalise(tuple(MEAN), tuple(STD)),
    )


def test_idefics2_s_steps_are_named(tmp_path: Path) -> None:
    folder = write_videoscore(tmp_path / "videoscore")
    assert folder_to_view(folder) == RATED
    host, device = split_view(RATED)
    assert (host, device) == (RATED[:1], RATED[1:])


def test_frames_of_any_size_as_idefics2_sees_them(tmp_path: Path) -> None:
    """Bytes are PIL's own; /255 and a product with 1/255 differ by a unit in the last place."""
    folder = write_videoscore(tmp_path / "videoscore")
    processor = on_pil(AutoImageProcessor, folder)
    assert type(processor).__name__.startswith("Idefics2")
    for shape in SEEN_BY_IDEFICS2:
        ours = seen_by(folder, frames=[noise(*shape)])
        # [videos, pictures, 3, h, w]: one picture, so that nothing is added to its size.
        (theirs,) = by_transformers(processor, noise(*shape))
        assert ours.shape == theirs.shape, shape
        assert float((ours - theirs).abs().max()) <= PICTURES, shape
        assert float(ours.abs().max()) <= 1


def test_a_frame_stays_whole_whatever_idefics2_s_file_says(tmp_path: Path) -> None:
    """Judges of videos were not trained on frames in parts."""
    folder = with_processor(write_videoscore(tmp_path / "videoscore"), do_image_splitting=True)
    assert folder_to_view(folder) == RATED
    # The file does ask for it: four parts, and the whole behind them.
    theirs = by_transformers(on_pil(AutoImageProcessor, folder), noise(91, 53))
    assert theirs.shape[1] == 5
    ours = seen_by(folder, frames=[noise(91, 53)])
    assert float((ours[0] - theirs[0, -1]).abs().max()) <= PICTURES


@pytest.mark.parametrize(
    ("changed", "resize"),
    [
        ({"resample": BICUBIC}, ResizeBetween(28, 56, "pil-bicubic")),
        ({"size": {"height": 30, "width": 40}}, Resize(30, 40, "pil-bilinear")),
        (
            {"size": {"shortest_edge": 378, "longest_edge": 980}},
            ResizeBetween(378, 980, "pil-bilinear"),
        ),
    ],
)
def test_other_settings_of_idefics2(
    tmp_path: Path, changed: dict[str, Any], resize: Resize | ResizeBetween
) -> None:
    folder = with_processor(write_videoscore(tmp_path / "videoscore"), **changed)
    assert folder_to_view(folder) == (resize, *RATED[1:])
    ours = seen_by(folder, frames=[noise(91, 53)])
    (theirs,) = by_transformers(on_pil(AutoImageProcessor, folder), noise(91, 53))
    assert float((ours - theirs).abs().max()) <= PICTURES


def test_idefics2_s_frames_have_no_one_size_to_squash_them_to(tmp_path: Path) -> None:
    folder = with_processor(write_videoscore(tmp_path / "videoscore"))
    assert folder_to_view(folder, "squashed") == (Resize(224, 224, "pil-bilinear"), *RATED)
    assert folder_to_view(folder, "aigve") == (Resize(224, 224, "cv2-linear"), *RATED)
    with pytest.raises(WeightsError, match="several sizes"):
        folder_to_view(folder, "evalcrafter")


def test_mplug_owl_s_frames_are_squashed_before_clip_s_steps(tmp_path: Path) -> None:
    folder = write_owl(tmp_path / "owl")
    assert folder_to_view(folder) == owl_steps()
    squash = Resize(224, 224, "pil-bilinear")
    assert folder_to_view(folder, "squashed") == (squash, *owl_steps())
    host, device = split_view((squash, *owl_steps()))
    assert (host, device) == ((squash, owl_steps()[0]), owl_steps()[1:])
    processor = on_pil(AutoImageProcessor, folder)
    for shape in [(91, 153), (153, 91), (224, 224), (300, 400)]:
        pil = Image.fromarray(noise(*shape)).resize((224, 224), Image.Resampling.BILINEAR)
        ours = seen_by(folder, "squashed", [noise(*shape)])
        theirs = by_transformers(processor, np.array(pil))
        assert float((ours - theirs).abs().max()) <= PICTURES, shape
        # Without it a long frame loses its ends.
        if shape != (224, 224):
            whole = seen_by(folder, frames=[noise(*shape)])
            assert float((ours - whole).abs().max()) > 1000 * PICTURES


def test_mplug_owl_s_own_image_processor_is_clip_s(tmp_path: Path) -> None:
    owl = {"image_processor_type": "MplugOwlImageProcessor"}
    folder = with_processor(write_owl(tmp_path / "owl"), **owl)
    assert folder_to_view(folder) == owl_steps()
    assert folder_to_view(folder, "squashed")[1:] == owl_steps()
    clip = {"image_processor_type": "CLIPImageProcessor"}
    beside = with_processor(write_owl(tmp_path / "clip"), **clip)
    for shape in SHAPES:
        frames = [noise(*shape)]
        assert torch.equal(seen_by(folder, frames=frames), seen_by(beside, frames=frames))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"image_mean": [0.5, 0.5]}, "is broken: .*expected 3, got 2"),
        ({"size": -224}, "is broken: .*-224 is not a number above 0"),
        ({"resample": 1}, "cannot be followed exactly: it resamples by PIL's method 1"),
        ({"crop_size": 900}, "cannot be followed exactly: it pads pictures"),
    ],
)
def test_a_broken_file_of_mplug_owl(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    owl = {"image_processor_type": "MplugOwlImageProcessor"}
    folder = with_processor(write_owl(tmp_path / "owl"), **owl, **changed)
    with pytest.raises(WeightsError, match=why):
        folder_to_view(folder)


# --- what cannot be followed ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changed", "why"),
    [
        (
            "CLIP",
            {**CLIP, "do_pad": True, "pad_size": {"height": 40, "width": 40}},
            "it pads pictures to {'height': 40, 'width': 40}",
        ),
        ("CLIP", {**CLIP, "do_resize": False}, r"it leaves pictures at the size they have"),
        ("CLIP", {**CLIP, "resample": 1}, "it resamples by PIL's method 1, and known are 2"),
        ("CLIP", {**CLIP, "crop_size": {"height": 38, "width": 8}}, "of 37x37 pixels it cuts 38x8"),
        ("CLIP", {**CLIP, "crop_size": {"height": 8, "width": 38}}, "of 37x37 pixels it cuts 8x38"),
        ("CLIP", {**CLIP, "do_center_crop": False}, "so pictures differ in size"),
        (
            "CLIP",
            {**CLIP, "size": {"shortest_edge": 32, "longest_edge": 64}},
            "it resizes to {.*longest_edge.*}, and known are height and width, or shortest_edge",
        ),
        ("Siglip2", {}, "its type is Siglip2ImageProcessor, and known are CLIPImageProcessor, "),
        ("ViT", {"size": {"height": 32, "width": 32}}, "its type is ViTImageProcessor, and known"),
    ],
)
def test_what_no_step_does_is_refused(
    tmp_path: Path, kind: str, changed: dict[str, Any], why: str
) -> None:
    write_processor(tmp_path, kind, **changed)
    with pytest.raises(WeightsError, match=why) as caught:
        folder_to_view(tmp_path)
    assert f"The image processor in {tmp_path} cannot be followed exactly: it" in str(caught.value)


def test_a_folder_without_an_image_processor(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}', encoding="utf-8")
    with pytest.raises(WeightsError, match="neither preprocessor_config"):
        folder_to_view(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"image_processor_type": "NoSuch"}'])
def test_a_broken_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"cannot be (read|followed)") as caught:
        folder_to_view(tmp_path)
    assert "\n" not in caught.value.message


def test_code_of_the_folder_is_not_run(tmp_path: Path) -> None:
    """An image processor of its own beside a known one: the known one is taken."""
    write_processor(tmp_path, "CLIP", **CLIP)
    path = tmp_path / "processor_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    auto = {"AutoImageProcessor": "own.Own", "AutoProcessor": "own.Own"}
    config["image_processor"]["auto_map"] = auto
    write_json(path, config | {"auto_map": auto})
    (tmp_path / "own.py").write_text("raise SystemExit('was run')\n", encoding="utf-8")
    assert folder_to_view(tmp_path)[0] == ResizeShorter(37, "pil-bicubic")
    config["image_processor"]["image_processor_type"] = "Own"
    write_json(path, config)
    with pytest.raises(WeightsError, match="cannot be read"):
        folder_to_view(tmp_path)


def test_nothing_is_said(
    folders: dict[str, Path],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    folder_to_view(folders["older clip"])
    with pytest.raises(WeightsError):
        folder_to_view(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(WeightsError):
        folder_to_view(tmp_path)
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])
