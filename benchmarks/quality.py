"""Video quality: the category in one run, beside a run a metric and beside a plain loader.

All load the same checkpoints of deterministic weights: nothing is downloaded.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import measure
from measure import ROOT, Cost, Rows, cpu, interleaved, mb, script, table, wall

METRICS = ("gstvqa", "simplevqa", "lightvqa")
NETWORKS = ("vgg16", "gstvqa", "simplevqa", "slowfast-r50", "lightvqa")
NONE = "none"
Costs = Mapping[str, Sequence[Cost]]


def write_checkpoints(folder: Path) -> Path:
    """Checkpoints under their published names and in their published containers."""
    from aigve_cli.weights import network_card

    sys.path.insert(0, str(ROOT))
    from tests.networks.checkpoints import write_checkpoint

    for name in NETWORKS:
        if not (folder / network_card(name).entry().file).exists():
            write_checkpoint(folder, name)
    return folder


def quality_networks(folder: Path, *, videos: int, frames: int, vgg_of: int, rounds: int) -> str:
    """So many videos of 1360 x 768 by us and by a plain loader.

    Args:
        folder: For clips, checkpoints and results.
        videos: How many.
        frames: Of each.
        vgg_of: VGG-16 runs on one of so many frames: a forward takes seconds.
        rounds: Of interleaved runs.
    """
    checkpoints = write_checkpoints(folder / "quality_weights")
    clips, tiny = folder / f"quality{videos}x{frames}", folder / "quality_tiny"
    for seed in range(videos):
        size = {"width": 1360, "height": 768, "frames": frames, "seed": seed}
        measure.make_clip(clips / f"clip{seed:04d}.mp4", filters="fps=16", **size)
    measure.make_clip(tiny / "clip.mp4", width=64, height=48, frames=8, seed=1)
    results = folder / "results"

    def ours(forwards: str, metrics: str, where: Path = clips) -> list[str]:
        models = (f"--model={name}={checkpoints}" for name in NETWORKS)
        output = results / f"quality-{forwards}-{metrics}-{where.name}"
        more = ("--metrics", metrics, *models, "--fresh", "--use-cpu")
        folders = ("--input-dir", where, "--output-dir", output)
        return script("quality_program.py", forwards, "aigve", "compute", *folders, *more)

    def plain(forwards: str, *metrics: str, where: Path = clips) -> list[str]:
        return script("quality_program.py", forwards, "plain", checkpoints, where, *metrics)

    sections = []
    for forwards in (NONE, f"vgg-of-{vgg_of}"):
        commands = {"one run": ours(forwards, ",".join(METRICS))}
        commands |= {name: ours(forwards, name) for name in METRICS}
        commands["plain"] = plain(forwards, *METRICS)
        if forwards == NONE:
            commands |= {f"plain {name}": plain(forwards, name) for name in METRICS}
            commands |= {f"start {name}": ours(NONE, name, tiny) for name in METRICS}
            commands["start one run"] = ours(NONE, ",".join(METRICS), tiny)
            commands["start plain"] = plain(NONE, *METRICS, where=tiny)
            commands |= {f"start plain {name}": plain(NONE, name, where=tiny) for name in METRICS}
        # Networks take minutes, and the same in every round.
        costs = interleaved(commands, rounds=rounds if forwards == NONE else 1)
        if forwards == NONE:
            starts = {name: costs[f"start {name}"] for name in costs if "start" not in name}
        decodes = {
            name: _decodes(Path(commands[name][commands[name].index("--output-dir") + 1]))
            for name in ("one run", *METRICS)
        }
        sections.append(_runs(costs, starts, decodes, forwards, videos))
        sections.append(_parts(costs["one run"], costs["plain"], videos))
    head = f"{videos} videos of {frames} frames of 1360 x 768, 16 a second."
    return "\n\n".join([head, *sections])


def _decodes(output: Path) -> int:
    return int(json.loads((output / "results.json").read_text())["counts"]["decodes"])


def _runs(
    costs: Costs,
    starts: Costs,
    decodes: Mapping[str, int],
    forwards: str,
    videos: int,
) -> str:
    """Costs of whole processes, and their ratios to the one run."""
    columns: dict[str, list[float]] = {}
    for name, of in costs.items():
        if name.startswith("start"):
            continue
        vgg = _median(of, "forward vgg16")
        count = float(decodes.get(name, videos * (len(METRICS) if name == "plain" else 1)))
        seconds = [cpu(of), cpu(of) - cpu(starts[name]), cpu(of) - vgg, wall(of)]
        peaks = [_peak(of), _peak(of) - _peak(starts[name])]
        columns[name] = [count, *seconds, *peaks]
    three = [sum(columns[name][index] for name in METRICS) for index in range(5)]
    largest = [max(columns[name][index] for name in METRICS) for index in (5, 6)]
    columns["three runs"] = [*three, *largest]
    rows: Rows = []
    for name, (count, *seconds, peak, more) in columns.items():
        ratios = [value / one for value, one in zip(columns[name], columns["one run"], strict=True)]
        numbers = [f"{value:.1f}" for value in seconds]
        rows.append([name, f"{count:.0f}", *numbers, mb(peak), mb(more)])
        if name in ("three runs", "plain"):
            rows.append([f"{name} / one run", *(f"{ratio:.2f} ×" for ratio in ratios)])
    header = ["", "decodes", "CPU s", "less start-up and loading", "less VGG-16", "wall s"]
    header += ["peak MB", "less that of start-up"]
    return f"Forwards: {forwards}.\n\n{table(header, rows)}"


def _peak(costs: Sequence[Cost]) -> float:
    return statistics.median(cost.own_peak + cost.child_peak for cost in costs)


def _parts(ours: Sequence[Cost], plain: Sequence[Cost], videos: int) -> str:
    """What the parts of a whole process took, in CPU milliseconds each and seconds a video."""
    rows: Rows = []
    for way, of in (("one run", ours), ("plain", plain)):
        whole = cpu(of)
        for part in sorted(_taken(of[0]), key=lambda part: -_median(of, part)):
            count, taken = _taken(of[0])[part][0], _median(of, part)
            each = f"{1000 * taken / count:.1f}" if count else ""
            share = f"{100 * taken / whole:.1f} %"
            rows.append([way, part, f"{count:.0f}", each, f"{taken / videos:.2f}", share])
    return table(["", "part", "times", "CPU ms each", "CPU s a video", "of the whole"], rows)


def _taken(cost: Cost) -> dict[str, list[float]]:
    parts: dict[str, list[float]] = json.loads(cost.output.strip().splitlines()[-1])
    return parts


def _median(costs: Sequence[Cost], part: str) -> float:
    """CPU seconds of a part; 0 where there is none."""
    return statistics.median(_taken(cost).get(part, [0, 0.0])[1] for cost in costs)
