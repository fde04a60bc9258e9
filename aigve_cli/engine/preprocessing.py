"""From the image processor in a model's folder to named steps of a view.

transformers reads the file, old layouts included; the steps are those of its PIL backend. Its
default, torchvision's, shrinks pictures otherwise: 1.7e-3 of a cosine on a tiny model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from aigve_cli.contract import (
    CentreCrop,
    Normalise,
    Resize,
    ResizeBetween,
    ResizeShorter,
    Scale,
    Step,
    View,
)
from aigve_cli.engine.networks import transformers_missing
from aigve_cli.errors import WeightsError
from aigve_cli.weights.folder_check import IMAGE_PROCESSORS

STANDARD, SQUASHED, AIGVE, EVALCRAFTER = "standard", "squashed", "aigve", "evalcrafter"
HOW = (STANDARD, SQUASHED, AIGVE, EVALCRAFTER)
_SQUASH = {SQUASHED: Resize(224, 224, "pil-bilinear"), AIGVE: Resize(224, 224, "cv2-linear")}
"""What comes before the image processor."""
OWL = "MplugOwlImageProcessor"
_KINDS = (
    "CLIPImageProcessor",
    "ChineseCLIPImageProcessor",
    "BlipImageProcessor",
    "SiglipImageProcessor",
    "Idefics2ImageProcessor",
)
"""Image processors that do these steps and no other."""
_RESAMPLERS: dict[int, Literal["pil-bilinear", "pil-bicubic"]] = {
    2: "pil-bilinear",
    3: "pil-bicubic",
}
"""By PIL's numbers."""


def folder_to_view(folder: Path, how: str = STANDARD) -> View:
    """The view of an image processor.

    Args:
        folder: The folder with ``preprocessor_config.json`` or ``processor_config.json``.
        how: ``standard``: what the image processor does. ``squashed``: before that, the decoder
            squashes frames to 224x224 without keeping their aspect, as decord does for mPLUG-Owl;
            PIL's bilinear stands for that of its ffmpeg. ``aigve``: before that, OpenCV squashes
            the picture to 224x224, as AIGVE (8916406) does. ``evalcrafter``: OpenCV squashes it to
            what the model takes, and it stays on 0..255, as in EvalCrafter (1275bda).

    Returns:
        Steps for uint8 frames first, so that they run beside the decoder.

    Raises:
        ValueError: Another ``how``.
        WeightsError: There is no image processor, or it does what no named step does, or pictures
            differ in size and are to be squashed to it.
    """
    if how not in HOW:
        raise ValueError(f"'{how}' is not a way to prepare pictures: {', '.join(HOW)}")
    processor = _folder_to_processor(folder)
    try:
        steps = _processor_to_steps(processor)
    except _InexpressibleError as error:
        raise WeightsError(
            f"The image processor in {folder} cannot be followed exactly: {error}.",
            hint="Use a model whose pictures are resized to one size, cropped and normalised.",
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise WeightsError(
            f"The image processor in {folder} is broken: a size, factor, mean or deviation in it "
            f"cannot be used ({type(error).__name__}: {error}).",
            hint="It is published beside the model: take that file again.",
        ) from error
    if how == EVALCRAFTER:
        size = view_size(steps)
        if size is None:
            raise WeightsError(
                f"The image processor in {folder} leaves pictures at several sizes: there is none "
                f"to squash them to ({how}).",
                hint=f"Prepare them as it does: {STANDARD}.",
            )
        return (Resize(*size, "cv2-linear"),)
    squash = _SQUASH.get(how)
    return steps if squash is None else (squash, *steps)


class _InexpressibleError(Exception):
    """What an image processor does that no named step does."""


def _folder_to_processor(folder: Path) -> Any:
    try:
        import transformers
        from aigve_models._pretrained import quiet, words_of
        from transformers import AutoImageProcessor, CLIPImageProcessor

        # The PIL form had no ending of its own in the first releases of transformers 5.
        owl = getattr(transformers, "CLIPImageProcessorPil", CLIPImageProcessor)
    except ImportError as error:
        raise transformers_missing(error) from error

    if not any((folder / file).is_file() for file in IMAGE_PROCESSORS):
        raise WeightsError(
            f"There is no image processor in {folder}: neither {' nor '.join(IMAGE_PROCESSORS)}.",
            hint="It is published beside the model: copy that file into the folder.",
        )
    try:
        with quiet():
            if _is_owl(folder):
                return owl.from_pretrained(folder, local_files_only=True)
            return AutoImageProcessor.from_pretrained(
                folder, backend="pil", local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        # As many types as there are ways to break a file.
        raise WeightsError(
            f"The image processor in {folder} cannot be read: {words_of(error)}.",
            hint=f"Known types are {', '.join(_KINDS)}.",
        ) from error


def _is_owl(folder: Path) -> bool:
    """Whether it is mPLUG-Owl's image processor, which is CLIP's under a name of its own."""
    path = folder / IMAGE_PROCESSORS[0]
    return path.is_file() and json.loads(path.read_bytes()).get("image_processor_type") == OWL


def _processor_to_steps(processor: Any) -> View:
    kind = type(processor).__name__.removesuffix("Pil").removesuffix("Fast")
    if kind not in _KINDS:
        raise _InexpressibleError(f"its type is {kind}, and known are {', '.join(_KINDS)}")
    resize = _resize_step(processor)
    steps: list[Step] = [resize]
    if not isinstance(resize, ResizeBetween):
        steps += _crop_steps(processor, resize)
        _check_padding(processor, view_size(steps))
    if processor.do_rescale:
        factor = _positive(float(processor.rescale_factor))
        # A float32 quotient is exact where the product with a rounded 1/255 is not.
        whole = round(1 / factor)
        exact = math.isclose(whole * factor, 1, rel_tol=1e-12)
        steps.append(Scale(divisor=whole) if exact else Scale(factor=factor))
    if processor.do_normalize:
        red, green, blue = map(_positive, _by_channel(processor.image_std))
        steps.append(Normalise(_by_channel(processor.image_mean), (red, green, blue)))
    return tuple(steps)


def _resize_step(processor: Any) -> Resize | ResizeShorter | ResizeBetween:
    if not processor.do_resize:
        raise _InexpressibleError("it leaves pictures at the size they have (do_resize)")
    resampler = _RESAMPLERS.get(processor.resample)
    if resampler is None:
        raise _InexpressibleError(
            f"it resamples by PIL's method {processor.resample}, and known are 2 (bilinear) and "
            "3 (bicubic)"
        )
    match _sides(processor.size):
        # Of Idefics2 alone, whose pictures differ in size. It may also cut each into four, which
        # judges of videos were not trained on: a frame stays whole whatever the file says.
        case {"shortest_edge": shorter, "longest_edge": longer, **rest} if not rest and (
            type(processor).__name__.startswith("Idefics2")
        ):
            return ResizeBetween(shorter, longer, resampler)
        case {"height": height, "width": width, **rest} if not rest:
            return Resize(height, width, resampler)
        case {"shortest_edge": shorter, **rest} if not rest:
            return ResizeShorter(shorter, resampler)
    raise _InexpressibleError(
        f"it resizes to {_sides(processor.size)}, and known are height and width, or shortest_edge"
    )


def _crop_steps(processor: Any, resize: Resize | ResizeShorter) -> list[Step]:
    smallest = (
        (resize.size, resize.size)
        if isinstance(resize, ResizeShorter)
        else (resize.height, resize.width)
    )
    if not getattr(processor, "do_center_crop", None):
        if isinstance(resize, ResizeShorter):
            raise _InexpressibleError(
                "it keeps the aspect ratio and cuts nothing off, so pictures differ in size"
            )
        return []
    crop = _sides(processor.crop_size)
    height, width = crop["height"], crop["width"]
    if height > smallest[0] or width > smallest[1]:
        raise _InexpressibleError(
            f"it pads pictures: of {smallest[0]}x{smallest[1]} pixels it cuts {height}x{width}"
        )
    return [CentreCrop(height, width)]


def _check_padding(processor: Any, size: tuple[int, int] | None) -> None:
    """Padding to the largest picture of a batch does nothing where all have one size.

    BLIP's image processor was published with ``do_pad`` by releases that never padded.
    """
    padded = getattr(processor, "pad_size", None) if getattr(processor, "do_pad", None) else None
    if padded is None:
        return
    if size is None or _sides(padded) != {"height": size[0], "width": size[1]}:
        raise _InexpressibleError(f"it pads pictures to {_sides(padded)}")


def view_size(steps: Sequence[Step]) -> tuple[int, int] | None:
    """Height and width behind the last step that changes them; None if pictures differ in size."""
    sized = [step for step in steps if isinstance(step, Resize | CentreCrop)]
    return (sized[-1].height, sized[-1].width) if sized else None


def _sides(size: Any) -> dict[str, int]:
    """What a size states: a mapping in old releases, an object with None for the rest since."""
    stated = size if isinstance(size, Mapping) else vars(size)
    return {name: int(_positive(side)) for name, side in stated.items() if side is not None}


def _by_channel(values: Any) -> tuple[float, float, float]:
    three = (values,) * 3 if isinstance(values, int | float) else values
    red, green, blue = map(float, three)
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f"{values} are not finite")
    return red, green, blue


def _positive(number: float) -> float:
    if not 0 < number < math.inf:
        raise ValueError(f"{number} is not a number above 0")
    return number
