"""Models of billions of weights: in which numbers they run, and which of them fit together.

Everything here is decided before the first of them is loaded, from the sizes of their files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from aigve_cli.engine.kept import KeptNetworks, Kind, kinds_of
from aigve_cli.engine.plan import PlannedMetric, Producer
from aigve_cli.engine.producers import Precision, resolve_device
from aigve_cli.engine.resolve import Resolved
from aigve_cli.engine.setup import Plan
from aigve_cli.errors import SetupError
from aigve_cli.weights import Located, network_card, weights_status
from aigve_cli.weights.folder_check import CONFIG, folder_weights

PrecisionChoice = Literal["auto", "fp32", "tf32", "bf16"]
WORKING_BYTES = 3 << 30
"""What a large model needs beside its weights in halves: frames, activations and a conversation; in
float32 twice as much. Measured of VideoScore, the hungriest, see benchmarks/README.md."""
SMALLEST_PART = 2 << 30
"""Of a GPU's room: what a model in parts must have there at least, a layer and its embeddings."""
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
    main_bytes: int = 0
    """What they may take of main memory, if they are in parts."""


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
        if any(place.numbers == "bfloat16" for place in mine):
            return "bf16"
        return "tf32" if base == "tf32" else "fp32"

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
                f" What they load ({', '.join(sizes)}, and other networks) does not fit together "
                f"into the {_size(_of_device(self.free))} that are free."
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


def fit_models(
    resolved: Resolved,
    *,
    device: str,
    precision: PrecisionChoice,
    kept: KeptNetworks | None = None,
) -> Fit:
    """Decide how large models are loaded, and in how many passes.

    Args:
        resolved: What is to be computed. Of weights that are not located yet and can be fetched,
            the size that is published counts: nobody should wait for a model that fits nowhere.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: What the user says.
        kept: Networks that are loaded already; what else they hold is given back where large
            models are to be loaded.

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
    kinds = kinds_of([n.checkpoint for n in plan.networks], resolved.located, places, device)
    free = _free_for(kinds, kept if places else None, device)
    whole = any(place.numbers == "float32" for place in places.values())
    working = WORKING_BYTES * (2 if whole else 1)
    room = _of_device(free) - working
    needs = {planned.name: _networks_of(plan, planned) for planned in plan.computed}
    sizes = {name: place.bytes for name, place in places.items()}
    problems = {
        name: _problem(name, [places[one] for one in mine if one in places], free, working)
        for name, mine in needs.items()
    }
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
        large = [name for name in mine if name in places]
        total = sum(sizes[name] for name in large)
        if total > room:
            for name in large:
                share = room * sizes[name] // total
                rest = free.main - WORKING_BYTES
                places[name] = replace(places[name], gpu_bytes=share, main_bytes=rest)
    # The others take what their files do: little beside these, but not nothing.
    sizes |= {
        name: _files_bytes(here.path)
        for name, here in resolved.located.items()
        if name not in places
    }
    passes = group_by_memory(asked, sizes, room)
    used = frozenset[str]().union(*(mine for _, mine in asked))
    placed = {name: place for name, place in places.items() if name in used}
    return Fit(fitting, passes, placed, free)


def _free_for(kinds: set[Kind], kept: KeptNetworks | None, device: str) -> Memory:
    """What is free for these networks, the room of those included that are loaded already."""
    if kept is None:
        return free_memory(device)
    kept.make_room(kinds)
    free, already = free_memory(device), kept.bytes_of(kinds)
    if free.gpu is None:
        return Memory(free.main + already, None)
    return Memory(free.main, free.gpu + already)


def group_by_memory(
    metrics: Sequence[tuple[PlannedMetric, frozenset[str]]], sizes: Mapping[str, int], room: int
) -> tuple[tuple[PlannedMetric, ...], ...]:
    """Metrics that can be computed together, in the order in which they were asked for.

    Each goes to the first pass that has room for its networks, one without any to the first.

    Args:
        metrics: Each with the networks that it needs.
        sizes: Bytes of each network's weights, as far as they are known.
        room: Bytes that weights may take.
    """
    groups: list[tuple[list[PlannedMetric], set[str]]] = []
    for planned, networks in metrics:
        for members, loaded in groups:
            together = sum(sizes.get(name, 0) for name in loaded | networks)
            if networks <= loaded or together <= room:
                members.append(planned)
                loaded |= networks
                break
        else:
            groups.append(([planned], set(networks)))
    return tuple(tuple(members) for members, _ in groups)


def model_bytes(folder: Path, numbers: str) -> int:
    """Bytes of a folder's weights in a type of numbers, from the heads of its files."""
    saved = _files_bytes(folder)
    if numbers == "auto":
        return saved
    files = _files(folder)
    counts = [_safetensors_numbers(path) for path in files if path.suffix == ".safetensors"]
    if len(counts) == len(files):
        return sum(counts) * _BYTES[numbers]
    return saved * _BYTES[numbers] // _BYTES[_saved_numbers(folder)]


def _files(path: Path) -> list[Path]:
    """The files with weights: of a folder, or the one itself."""
    if not path.is_dir():
        return [path]
    return [path / name for name in folder_weights(path) if not name.endswith(".json")]


def _files_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _safetensors_numbers(path: Path) -> int:
    with path.open("rb") as file:
        head: Mapping[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(facts["shape"]) for name, facts in head.items() if name != "__metadata__")


def _saved_numbers(folder: Path) -> str:
    """What ``config.json`` says that weights are saved in."""
    config = json.loads((folder / CONFIG).read_bytes())
    stated = config.get("dtype") or config.get("torch_dtype")
    return stated if isinstance(stated, str) and stated in _BYTES else "float32"


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


def _networks_of(plan: Plan, planned: PlannedMetric) -> frozenset[str]:
    return frozenset(network.checkpoint for network in plan.networks_of(planned))


def _of_device(free: Memory) -> int:
    """What is free where networks run."""
    return free.main if free.gpu is None else free.gpu


def _problem(metric: str, places: Sequence[Place], free: Memory, working: int) -> SetupError | None:
    """Why a metric's models cannot be loaded together anywhere, or None."""
    needed = sum(place.bytes for place in places)
    room = _of_device(free) - working
    # Below that, no layer would fit beside what comes and goes.
    in_parts = free.gpu is not None and room >= SMALLEST_PART
    if needed <= max(0, room) + (max(0, free.main - WORKING_BYTES) if in_parts else 0):
        return None
    numbers = sorted({place.numbers for place in places})
    there = f"{_size(free.main)} of main memory are free"
    hint = "Take a machine with more memory."
    if free.gpu is not None:
        there = f"{_size(free.gpu)} of the GPU's memory and {there}"
        hint = "Free some of the GPU's memory, or try --use-cpu."
    if "float32" in numbers:
        hint = f"--precision bf16 needs half of it. {hint}"
    return SetupError(
        f"{metric} needs about {_size(needed + working)}, for its model in "
        f"{', '.join(map(numbers_to_text, numbers))} and to compute with, and {there}.",
        hint=hint,
    )


def numbers_to_text(numbers: str) -> str:
    """For people."""
    return "the numbers that it is saved in" if numbers == "auto" else numbers


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
