"""A small data set to try things on: drawn reference clips, and degraded copies of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aigve_cli.dataset.textfiles import write_json
from aigve_cli.lazy import np
from aigve_cli.video.encode import GOOD, file_to_copy, frames_to_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Grid = NDArray[np.float64]

SIZE = 256
FRAMES = 48
FPS = 16.0
COARSE = ("-c:v", "libx264", "-crf", "40", "-preset", "veryfast", "-pix_fmt", "yuv420p")


@dataclass(frozen=True)
class Scene:
    """A drawn clip: its prompt, how it looks at a time, and what its copy suffers."""

    name: str
    prompt: str
    draw: Callable[[Grid, Grid, float], list[Grid]]
    """x and y in -1..1 and time in 0..1 → red, green and blue in 0..1."""
    filters: str
    coarse: bool = False


def _disc(x: Grid, y: Grid, cx: float, cy: float, radius: float) -> Grid:
    return np.clip((radius - np.hypot(x - cx, y - cy)) * 40, 0, 1)


def _ball(x: Grid, y: Grid, t: float) -> list[Grid]:
    ball = _disc(x, y, -0.7 + 1.4 * t, 0.5 - abs(np.sin(3 * np.pi * t)), 0.2)
    floor = (y > 0.7) * 0.4
    return [0.2 + 0.7 * ball, 0.5 - 0.4 * ball + floor, 0.8 - 0.7 * ball - floor]


def _waves(x: Grid, y: Grid, t: float) -> list[Grid]:
    wave = 0.5 + 0.5 * np.sin(9 * y + 3 * np.sin(4 * x + 2 * np.pi * t) + 6 * np.pi * t)
    sea = y > -0.2
    return [np.where(sea, 0.1 * wave, 0.9), np.where(sea, 0.3 + 0.3 * wave, 0.6), 0.7 + 0.2 * wave]


def _rings(x: Grid, y: Grid, t: float) -> list[Grid]:
    ring = 0.5 + 0.5 * np.cos(18 * np.hypot(x, y) - 4 * np.pi * t)
    return [ring, ring * 0.4, 1 - ring]


def _sunset(x: Grid, y: Grid, t: float) -> list[Grid]:
    sun = _disc(x, y, 0.1, -0.4 + 0.9 * t, 0.3)
    dusk = (1 - 0.6 * t) * (1 - (y + 1) / 3)
    return [np.maximum(dusk, sun), np.maximum(dusk * 0.5, sun * 0.7), 0.4 * dusk + 0.1]


def _board(x: Grid, y: Grid, t: float) -> list[Grid]:
    angle, scale = np.pi * t / 2, 3 + 2 * t
    u = np.cos(angle) * x - np.sin(angle) * y
    v = np.sin(angle) * x + np.cos(angle) * y
    board = (np.floor(u * scale) + np.floor(v * scale)) % 2
    return [board, board * 0.9, board * 0.7 + 0.1]


def _plasma(x: Grid, y: Grid, t: float) -> list[Grid]:
    field = np.sin(5 * x + 6 * t) + np.sin(4 * y - 5 * t) + np.sin(6 * (x + y) + 4 * t)
    return [0.5 + 0.5 * np.sin(np.pi * field / 3 + shift) for shift in (0.0, 2.1, 4.2)]


def _rain(x: Grid, y: Grid, t: float) -> list[Grid]:
    drops = np.sin(60 * x + 5 * np.sin(3 * x)) * np.sin(14 * y - 40 * t + 9 * np.cos(7 * x))
    fall = np.clip(drops - 0.75, 0, 1) * 3
    return [0.25 + fall, 0.3 + fall, 0.38 + fall]


def _planets(x: Grid, y: Grid, t: float) -> list[Grid]:
    angle = 2 * np.pi * t
    sun = _disc(x, y, 0, 0, 0.25)
    near = _disc(x, y, 0.5 * np.cos(angle), 0.5 * np.sin(angle), 0.1)
    far = _disc(x, y, 0.8 * np.cos(angle / 2 + 2), 0.8 * np.sin(angle / 2 + 2), 0.14)
    return [0.03 + sun + 0.2 * near, 0.03 + 0.8 * sun + 0.5 * near + 0.3 * far, 0.1 + near + far]


SCENES = (
    Scene("ball", "a red ball bounces over a green floor", _ball, "gblur=sigma=2"),
    Scene("waves", "blue waves roll under a red sky", _waves, "noise=alls=25:allf=t+u"),
    Scene("rings", "pink and blue rings spread from the middle", _rings, "", coarse=True),
    Scene("sunset", "the sun sets over a dark land", _sunset, "gblur=sigma=4"),
    Scene("board", "a chequered board turns slowly", _board, "noise=alls=40:allf=t+u"),
    Scene("plasma", "coloured clouds of light drift", _plasma, "", coarse=True),
    Scene("rain", "rain falls on a grey evening", _rain, "tmix=frames=6"),
    Scene("planets", "two planets circle a yellow sun", _planets, "eq=contrast=0.6:saturation=0.4"),
)


def make_samples(folder: Path) -> list[Path]:
    """Write the clips, their degraded ``_synthetic`` copies and ``prompts.json``.

    Files that are there already are kept. Returns the paths of the clips.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for scene in SCENES:
        reference = folder / f"{scene.name}.mp4"
        copy = folder / f"{scene.name}_synthetic.mp4"
        if not reference.exists():
            frames_to_file(scene_to_frames(scene), reference, fps=FPS)
        if not copy.exists():
            codec = COARSE if scene.coarse else GOOD
            file_to_copy(reference, copy, filters=scene.filters, codec=codec)
        paths += [reference, copy]
    write_json(
        folder / "prompts.json", {f"{scene.name}_synthetic.mp4": scene.prompt for scene in SCENES}
    )
    return paths


def scene_to_frames(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """uint8 [SIZE, SIZE, 3] RGB, FRAMES of them."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    for frame in range(FRAMES):
        colours = np.stack(scene.draw(x, y, frame / FRAMES), axis=-1)
        yield (np.clip(colours, 0, 1) * 255).round().astype(np.uint8)
