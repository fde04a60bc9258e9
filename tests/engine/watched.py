"""Networks that write down what they are given, and what a run with them gave."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.networks.vision_goldens import GOLDENS

TINY = {
    "clipsim": GOLDENS / "tiny-clip",
    "cliptemp": GOLDENS / "tiny-clip",
    "blipsim": GOLDENS / "tiny-blip-itm",
    "pickscore": GOLDENS / "tiny-pickscore",
    "pickscore-win": GOLDENS / "tiny-pickscore",
}
"""The model of each metric."""


class Watched(nn.Module):
    """A network, and every call of it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.batches: list[int] = []
        """Pictures or clips of each call without a text."""
        self.texts: list[str] = []
        """Texts that were read by themselves."""
        self.together: list[tuple[str, ...]] = []
        """The texts of each call with pictures."""

    def forward(self, units: Tensor) -> Mapping[str, Tensor]:
        self.batches.append(len(units))
        outputs: Mapping[str, Tensor] = self.network(units)
        return outputs

    def text(self, texts: tuple[str, ...]) -> Mapping[str, Tensor]:
        self.texts += texts
        outputs: Mapping[str, Tensor] = self.network.text(texts)
        return outputs

    def with_text(self, units: Tensor, texts: tuple[str, ...]) -> Mapping[str, Tensor]:
        assert len(units) == len(texts)
        self.together.append(texts)
        outputs: Mapping[str, Tensor] = self.network.with_text(units, texts)
        return outputs

    def head(self, *rows: Tensor) -> Mapping[str, Tensor]:
        outputs: Mapping[str, Tensor] = self.network.head(*rows)
        return outputs


class Watching:
    """Stands in for the loader: its networks are watched, or are those given by name."""

    def __init__(self, load: Any, instead: Mapping[str, nn.Module] | None = None) -> None:
        self._load = load
        self._instead = dict(instead or {})
        self.loaded: list[tuple[str, Watched]] = []

    def __call__(self, card: Any, located: Any, **options: Any) -> Watched:
        found = self._instead.get(card.name)
        network = Watched(found if found is not None else self._load(card, located, **options))
        self.loaded.append((card.name, network))
        return network

    def __getitem__(self, name: str) -> Watched:
        """The network that was loaded last under a name."""
        return [network for loaded, network in self.loaded if loaded == name][-1]


def models(*metrics: str, **options: Any) -> dict[str, dict[str, Any]]:
    """``options`` of ``evaluate``: the tiny model of each metric, and more of the first one's."""
    given: dict[str, dict[str, Any]] = {name: {"model": str(TINY[name])} for name in metrics}
    given[metrics[0]] |= options
    return given


def listed(path: Path, entries: Iterable[tuple[str, str | None]]) -> Path:
    """An annotation file of videos and prompts."""
    data = [{"video_path_pd": video, "prompt_gt": prompt} for video, prompt in entries]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"data_list": data}), encoding="utf-8")
    return path


def scores(document: Mapping[str, Any], metric: str) -> dict[str, dict[str, Any]]:
    """What was said of each sample, by its name."""
    return {
        video["sample"]: video["scores"][metric]
        for video in document["videos"]
        if metric in video["scores"]
    }


def values(document: Mapping[str, Any], metric: str, name: str = "") -> dict[str, float | None]:
    """The number of each sample; None where it has a reason instead."""
    return {
        sample: score["values"].get(name or metric)
        for sample, score in scores(document, metric).items()
    }


class FrameMean(nn.Module):
    """Stands in for a network over pictures of any size: five numbers of each.

    Args:
        refuses: A picture whose mean is above this is refused.
    """

    def __init__(self, refuses: float = float("inf")) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layer = nn.Conv2d(3, 5, 3, padding=1)
        self.refuses = refuses

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if bool((images.mean((1, 2, 3)) > self.refuses).any()):
            raise ValueError("a picture is too bright")
        return {"taps": self.layer(images / 255).relu().mean((2, 3))}


class Spread(nn.Module):
    """Stands in for a network's head over the rows of a video: how far they lie apart."""

    def head(self, rows: Tensor) -> dict[str, Tensor]:
        return {"score": rows.std(0, correction=0).sum()[None, None]}


class ClipMean(nn.Module):
    """Stands in for a network over clips of any size: five numbers of each."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.layer = nn.Conv3d(3, 5, 3, padding=1)

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        return {"features": self.layer(clips / 255).relu().mean((2, 3, 4))}
