"""Models of billions of weights: in which numbers they run, and which of them fit together.

Everything here is decided before the first of them is loaded, from the sizes of their files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from aigve_cli.engine.plan import PlannedMetric, Producer
from aigve_cli.engine.producers import Precision, resolve_device
from aigve_cli.engine.resolve import Resolved
from aigve_cli.engine.setup import Plan
from aigve_cli.errors import SetupError
from aigve_cli.weights import Located, network_card, weights_status
from aigve_cli.weights.folder_check import CONFIG, folder_weights

PrecisionChoice = Literal["auto", "fp32", "tf32", "bf16"]
WORKING_BYTES = 3 << 30
"""What a large model needs beside its weights: frames, activations and a conversation."""
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Memory(NamedTuple):
    """Bytes that are free."""

    main: int
    gpu: int | None
    """None without a GPU."""


@dataclass(frozen=True)
class Place:
    """How one large model is loaded."""

    numbers: str
    """``float32``, ``bfloat16``, or ``auto``: as it is saved."""
    bytes: int
    """Of its weights in these numbers."""
    gpu_bytes: int | None = None
    """Of a GPU that is too small: what its weights may take there; the rest stays in main
    memory."""


@dataclass(frozen=True)
class Fit:
    """What can be computed, and what is loaded at the same time."""

    plan: Plan
    """With a reason for each metric whose model fits nowhere."""
    passes: tuple[tuple[PlannedMetric, ...], ...]
    """Metrics that look at the videos together: mostly all of them."""
    places: Mapping[str, Place]
    """Of each large model, by checkpoint."""
    free: Memory

    def precision_of(self, planned: PlannedMetric, base: str) -> str:
        """The arithmetic of one metric: that of its large model, where it has one."""
        mine = [
            self.places[n.checkpoint]
            for n in self.plan.networks_of(planned)
            if n.checkpoint in self.places
        ]
        if not mine:
            return base
        return "bf16" if any(place.numbers == "bfloat16" for place in mine) else "fp32"

    @property
    def notes(self) -> list[str]:
        """What to say of it, for people."""
        lines = [
            f"{checkpoint} is larger than the GPU's free {_size(self.free.gpu or 0)}: its layers "
            "wait in main memory for their turn, which takes much longer."
            for checkpoint, place in self.places.items()
            if place.gpu_bytes is not None
        ]
        if len(self.passes) > 1:
            names = [", ".join(planned.name for planned in group) for group in self.passes]
            sizes = [f"{name} {_size(place.bytes)}" for name, place in self.places.items()]
            lines.append(
                f"{len(self.passes)} passes over the videos, each decodes them: {'; '.join(names)}."
                f" The models ({', '.join(sizes)}) do not fit together into "
                f"{_size(_budget(self.free) + WORKING_BYTES)}."
            )
        return lines


def key_of(here: Located, place: Place | None) -> str:
    """What a checkpoint is called in the keys of scores: other numbers give other scores."""
    half = place is not None and place.numbers == "bfloat16"
    return f"{here.sha256}:bfloat16" if half else here.sha256


def base_precision(choice: PrecisionChoice) -> Precision:
    """The arithmetic of all networks but large models."""
    return "fp32" if choice == "auto" else choice


def large_numbers(stated: str, choice: PrecisionChoice, device: str) -> str:
    """The type of numbers of a large model's weights.

    Args:
        stated: What its card says for a GPU.
        choice: What the user says.
        device: ``cpu`` or ``cuda``. A processor computes in float32 unless told otherwise.
    """
    if choice == "auto":
        return stated if stated == "auto" or device != "cpu" else "float32"
    return "bfloat16" if choice == "bf16" else "float32"


def free_memory(device: str) -> Memory:
    """What is free now, for a process in a container as much as that may still take."""
    import psutil

    main = min([psutil.virtual_memory().available, *_container_bytes()])
    if device == "cpu":
        return Memory(main, None)
    import torch

    return Memory(main, torch.cuda.mem_get_info()[0])


def fit_models(resolved: Resolved, *, device: str, precision: PrecisionChoice) -> Fit:
    """Decide how large models are loaded, and in how many passes.

    Args:
        resolved: What is to be computed. Of weights that are not located yet and can be fetched,
            the size that is published counts: nobody should wait for a model that fits nowhere.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: What the user says.

    Raises:
        SetupError: No metric is left whose model fits into memory, or there is no such device.
    """
    plan = resolved.plan
    if not any(network_card(network.name).numbers for network in plan.networks):
        return Fit(plan, (tuple(plan.computed),), {}, Memory(0, None))
    device = resolve_device(device)
    places = {}
    for network in plan.networks:
        stated = network_card(network.name).numbers
        if stated and (
            place := _place(resolved, network, large_numbers(stated, precision, device))
        ):
            places[network.checkpoint] = place
    free = free_memory(device)
    needs = {planned.name: _large_of(plan, planned, places) for planned in plan.computed}
    problems = {name: _problem(name, mine, places, free) for name, mine in needs.items()}
    metrics = [
        replace(planned, missing=f"{problem.message} {problem.hint}")
        if not planned.missing and (problem := problems[planned.name])
        else planned
        for planned in plan.metrics
    ]
    fitting = replace(plan, metrics=metrics)
    if not fitting.computed and (problem := next(filter(None, problems.values()), None)):
        raise problem
    asked = [(planned, needs[planned.name]) for planned in fitting.computed]
    for _, mine in asked:
        if _total(mine, places) > _budget(free):
            for name in mine:
                places[name] = replace(places[name], gpu_bytes=_budget(free))
    used = frozenset[str]().union(*(mine for _, mine in asked))
    passes = group_by_memory(asked, {name: place.bytes for name, place in places.items()}, free)
    return Fit(fitting, passes, {n: place for n, place in places.items() if n in used}, free)


def group_by_memory(
    metrics: Sequence[tuple[PlannedMetric, frozenset[str]]], sizes: Mapping[str, int], free: Memory
) -> tuple[tuple[PlannedMetric, ...], ...]:
    """Metrics that can be computed together, in the order in which they were asked for.

    Each goes to the first pass that has room for its models; one without a large model to the
    first.

    Args:
        metrics: Each with the large models that it needs.
        sizes: Bytes of each model's weights.
        free: What is free.
    """
    budget = _budget(free)
    groups: list[tuple[list[PlannedMetric], set[str]]] = []
    for planned, models in metrics:
        for members, loaded in groups:
            together = loaded | models
            if models <= loaded or sum(sizes[name] for name in together) <= budget:
                members.append(planned)
                loaded |= models
                break
        else:
            groups.append(([planned], set(models)))
    return tuple(tuple(members) for members, _ in groups)


def model_bytes(folder: Path, numbers: str) -> int:
    """Bytes of a folder's weights in a type of numbers, from the heads of its files."""
    files = [folder / name for name in folder_weights(folder) if not name.endswith(".json")]
    saved = sum(path.stat().st_size for path in files)
    if numbers == "auto":
        return saved
    counts = [_safetensors_numbers(path) for path in files if path.suffix == ".safetensors"]
    if len(counts) == len(files):
        return sum(counts) * _BYTES[numbers]
    return saved * _BYTES[numbers] // _BYTES[_saved_numbers(folder)]


def _safetensors_numbers(path: Path) -> int:
    with path.open("rb") as file:
        head: Mapping[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(facts["shape"]) for name, facts in head.items() if name != "__metadata__")


def _saved_numbers(folder: Path) -> str:
    """What ``config.json`` says that weights are saved in."""
    config = json.loads((folder / CONFIG).read_bytes())
    stated = config.get("dtype") or config.get("torch_dtype")
    return stated if stated in _BYTES else "float32"


def _place(resolved: Resolved, network: Producer, numbers: str) -> Place | None:
    """How a large model is loaded; None of one whose size is not known before it is needed."""
    here = resolved.located.get(network.checkpoint)
    if here is not None:
        return Place(numbers, model_bytes(here.path, numbers))
    card, tag = network_card(network.name), network.weights or None
    published = card.entry(tag).about_bytes
    if published is None or weights_status(card, resolved.plan.policy, tag=tag) != "to fetch":
        return None
    # Such models are published in halves.
    return Place(numbers, published * 2 if numbers == "float32" else published)


def _large_of(plan: Plan, planned: PlannedMetric, places: Mapping[str, Place]) -> frozenset[str]:
    mine = {network.checkpoint for network in plan.networks_of(planned)}
    return frozenset(mine & places.keys())


def _total(models: Iterable[str], places: Mapping[str, Place]) -> int:
    return sum(places[name].bytes for name in models)


def _budget(free: Memory) -> int:
    """What weights may take of the device."""
    return (free.main if free.gpu is None else free.gpu) - WORKING_BYTES


def _problem(
    metric: str, models: Iterable[str], places: Mapping[str, Place], free: Memory
) -> SetupError | None:
    """Why a metric's models cannot be loaded together anywhere, or None."""
    needed = _total(models, places)
    in_parts = 0 if free.gpu is None else max(0, free.main - WORKING_BYTES)
    if needed <= max(0, _budget(free)) + in_parts:
        return None
    numbers = sorted({places[name].numbers for name in models})
    there = f"{_size(free.main)} of main memory are free"
    if free.gpu is not None:
        there = f"{_size(free.gpu)} of the GPU's memory and {there}"
    half = "--precision bf16 needs half of it; or take" if "float32" in numbers else "Take"
    return SetupError(
        f"{metric} needs about {_size(needed + WORKING_BYTES)}, for its model in "
        f"{', '.join(numbers)} and to compute with, and {there}.",
        hint=f"{half} a machine with more memory.",
    )


def _size(size: int) -> str:
    return f"{max(0, size) / 1e9:.1f} GB"


def _container_bytes() -> list[int]:
    """What a control group leaves to this process: empty where there is none or no bound."""
    group = Path("/sys/fs/cgroup")
    try:
        most = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    # Pages of files that were read count as used, and are given up for anything else.
    used -= int(facts.get("inactive_file", 0))
    return [int(most) - used] if most.isdecimal() else []
