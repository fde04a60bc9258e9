"""What VBench's five dimensions by detectors share: a file of what was found in each frame.

VBench finds objects and describes them with GRiT, and describes scenes with Tag2Text. Both need
detectron2 of 2022 and other packages that no longer install, so aigve does not run them, and takes
no other detector in their place: what a detector has found comes in a file, and the arithmetic here
is VBench's.

The file is JSON::

    {"videos": {"a dog and a cat-0.mp4": {"frames": [
        {"caption": "a dog and a cat on a lawn",
         "objects": [{"label": "dog", "box": [10, 20, 110, 220], "caption": "a black dog"}]}]}}}

Frames are those that VBench looks at, the middles of 16 parts; a box is left, top, right, bottom.
An object needs what its dimension reads: its ``label``, with ``box`` for spatial relationship and
``caption`` for color. A frame's own ``caption`` is for scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from aigve_cli.contract import Extent, Option, OptionValue, Request, Sample, SampleFeatures, Score
from aigve_cli.dataset.textfiles import read_text, text_to_json
from aigve_cli.errors import UsageError
from aigve_cli.metrics import _vbench

Frame = Mapping[str, Any]
KIND = "File of detections"
FRAMES = 16
"""Of each video, as VBench takes them."""
LARGEST_SIDE = 1e6
"""Pixels: what is not finite is none either."""
KEY = "vbench_detections"
"""In a sample's ``extra``: the frames of the file."""
COLOURS = (
    *("white", "red", "pink", "blue", "silver", "purple"),
    *("orange", "green", "gray", "yellow", "black", "grey"),
)
"""The words that VBench takes for the mention of a colour."""
DEVIATIONS = (
    "Objects and captions come from a file (detections=); the original detectors, which need "
    "packages that no longer install, are not run, and no other stands in for them.",
    _vbench.OF_FRAMES,
)


class Detected(_vbench.Dimension):
    """Base: the frames of a file, and what a video should show."""

    field: ClassVar[str]
    """Where a sample's annotations say what it should show."""
    reads: ClassVar[tuple[str, ...]] = ("label",)
    """What the dimension reads of each object."""
    reads_of_frame: ClassVar[str] = "objects"
    """What it reads of each frame: that nothing was found is said, not left out."""
    wanted_words: ClassVar[str] = "text"
    """What the annotations must be, for people."""

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """Nothing of the videos themselves; the file is read and checked."""
        if options["detections"]:
            read_detections(str(options["detections"]))
        return {}

    def lacks(self, options: Mapping[str, OptionValue]) -> str | None:
        """A file of detections."""
        if options["detections"]:
            return None
        return f"no detections: give a file with --set {self.card.name}.detections=FILE"

    def annotated(self, sample: Sample, options: Mapping[str, OptionValue]) -> Sample:
        """With the video's frames of the file."""
        if not options["detections"]:
            return sample
        videos = read_detections(str(options["detections"]))
        name = sample.name
        found = videos.get(name, videos.get(name.rpartition("/")[2]))
        return sample if found is None else replace(sample, extra={**sample.extra, KEY: found})

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """The share of frames, or a reason."""
        if why := self.lacks(options):
            return Score.missing(why)
        frames = sample.extra.get(KEY)
        if frames is None:
            return Score.missing(f"'{options['detections']}' has nothing about this video")
        if not frames:
            return Score.missing(f"'{options['detections']}' has no frame of this video")
        wanted = sample.extra.get(self.field)
        if not wanted:
            return Score.missing(f"no '{self.field}' among its annotations")
        if not self.understands(wanted):
            return Score.missing(f"'{self.field}' of its annotations is no {self.wanted_words}")
        if problem := self.problem(frames):
            return Score.missing(f"'{options['detections']}': {problem}")
        score = self.frames_to_score(frames, wanted, sample)
        if score.values and len(frames) != FRAMES:
            note = f"{len(frames)} frames in the file; VBench looks at {FRAMES}"
            score = replace(score, notes=(*score.notes, note))
        return score

    def understands(self, wanted: Any) -> bool:
        """Whether the annotations are what the dimension needs."""
        return isinstance(wanted, str)

    def problem(self, frames: Sequence[Frame]) -> str | None:
        """What the dimension reads and an object does not have, or None."""
        for number, frame in enumerate(frames):
            if self.reads_of_frame not in frame:
                return f"frame {number} of this video has no '{self.reads_of_frame}'"
            for found in frame.get("objects", ()):
                for name in self.reads:
                    if name not in found:
                        return f"an object of frame {number} of this video has no '{name}'"
        return None

    def frames_to_score(self, frames: Sequence[Frame], wanted: Any, sample: Sample) -> Score:
        """The score of the frames of one video."""
        raise NotImplementedError

    def share(self, hits: Sequence[float]) -> Score:
        """The mean over frames, which is also that of a run."""
        return Score(
            values={self.card.name: sum(hits) / len(hits)},
            curve={"frame": [float(hit) for hit in hits]},
            weight=float(len(hits)),
        )


def detections_option() -> Option:
    """The option that names the file."""
    words = "A JSON file of what a detector has found in each frame."
    return Option("detections", "", words, names="file")


def labels(frame: Frame) -> set[str]:
    """The distinct labels of a frame's objects."""
    return {found["label"] for found in frame.get("objects", ())}


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> Mapping[str, Sequence[Frame]]:
    content = text_to_json(read_text(path, KIND), path, KIND)
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise UsageError(f"'{path}' holds no detections: an object with 'videos' is expected.")
    for name, video in videos.items():
        frames = video.get("frames") if isinstance(video, dict) else None
        if not isinstance(frames, list):
            raise UsageError(f"'{path}': '{name}' has no list of 'frames'.")
        for number, frame in enumerate(frames):
            if not _is_frame(frame):
                raise UsageError(
                    f"'{path}': frame {number} of '{name}' is no object with 'objects', a list, "
                    "or 'caption', a text; an object's 'label' and 'caption' are texts, its 'box' "
                    "is four numbers."
                )
    return {name: video["frames"] for name, video in videos.items()}


def _is_frame(frame: Any) -> bool:
    if not isinstance(frame, dict) or not isinstance(frame.get("caption", ""), str):
        return False
    objects = frame.get("objects", [])
    return isinstance(objects, list) and all(map(_is_object, objects))


def _is_object(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    box = found.get("box", (0, 0, 0, 0))
    numbers = isinstance(box, list | tuple) and len(box) == 4
    return (
        numbers
        and all(map(_is_coordinate, box))
        and all(isinstance(found.get(name, ""), str) for name in ("label", "caption"))
    )


def _is_coordinate(side: Any) -> bool:
    return isinstance(side, int | float) and not isinstance(side, bool) and abs(side) < LARGEST_SIDE


def read_detections(path: str) -> Mapping[str, Sequence[Frame]]:
    """The frames of each video of a file, by the video's name.

    Raises:
        UsageError: There is no such file, or it is of another kind.
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise UsageError(f"There is no file of detections '{path}'.")
    return _read(file, file.stat().st_mtime_ns)
