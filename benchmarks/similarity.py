"""Video and prompt: metrics of one CLIP in one run, beside a plain loop of transformers.

All load the same folder, which has the sizes of openai/clip-vit-base-patch32 and deterministic
weights: nothing is downloaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import measure
from measure import ROOT, Rows, cpu, interleaved, mb, script, table, wall

METRICS = ("clipsim", "cliptemp")
PROMPTS = ("a red ball on the grass", "a dog runs in the snow", "a city street at night")
"""Fewer than videos: a prompt that many share is read once."""


def write_folder(folder: Path) -> Path:
    """A model of real size, as transformers saves one."""
    sys.path.insert(0, str(ROOT))
    from tests.networks.model_folders import write_clip

    return folder if folder.exists() else write_clip(folder, real_size=True)


def similarity_metrics(folder: Path, *, videos: int, frames: int, rounds: int) -> str:
    """So many videos of 640 x 360 by us and by a plain loop.

    Args:
        folder: For clips, the model and results.
        videos: How many.
        frames: Of each.
        rounds: Of interleaved runs.
    """
    model = write_folder(folder / "clip-vit-base-patch32")
    clips, tiny = folder / f"similar{videos}x{frames}", folder / "similar_tiny"
    for seed in range(videos):
        measure.make_clip(
            clips / f"clip{seed:04d}.mp4", width=640, height=360, frames=frames, seed=seed
        )
    measure.make_clip(tiny / "clip0000.mp4", width=64, height=48, frames=2, seed=1)
    prompts = folder / "prompts.json"
    named = {f"clip{seed:04d}.mp4": PROMPTS[seed % len(PROMPTS)] for seed in range(videos)}
    prompts.write_text(json.dumps(named))

    def output(metrics: str, where: Path) -> Path:
        return folder / "results" / f"similar-{metrics}-{where.name}"

    def ours(metrics: str, where: Path = clips) -> list[str]:
        options = [f"--set={name}.model={model}" for name in metrics.split(",")]
        return measure.aigve(
            *("compute", "--input-dir", where, "--prompts", prompts, "--metrics", metrics),
            *("--output-dir", output(metrics, where), "--fresh", "--use-cpu", *options),
        )

    def plain(metric: str, where: Path = clips) -> list[str]:
        return script("similarity_program.py", metric, model, where, prompts)

    both = ",".join(METRICS)
    commands = {"one run": ours(both)}
    commands |= {name: ours(name) for name in METRICS}
    commands |= {f"plain {name}": plain(name) for name in METRICS}
    commands["forwards alone"] = plain("forwards")
    starts = {"one run": ours(both, tiny), "plain clipsim": plain("clipsim", tiny)}
    costs = interleaved({**commands, **{f"start {k}": v for k, v in starts.items()}}, rounds=rounds)

    rows: Rows = []
    for name, of in costs.items():
        peak = max(cost.own_peak + cost.child_peak for cost in of)
        start = costs["start one run" if "plain" not in name else "start plain clipsim"]
        more = "" if "start" in name else f"{videos / (wall(of) - wall(start)):.2f}"
        rows.append([name, f"{cpu(of):.1f}", f"{wall(of):.1f}", more, mb(peak)])
    for what, names in {
        "two runs": METRICS,
        "plain, both": tuple(f"plain {name}" for name in METRICS),
    }.items():
        for measured in (cpu, wall):
            total = sum(measured(costs[name]) for name in names)
            unit = "CPU" if measured is cpu else "wall"
            ratio = total / measured(costs["one run"])
            rows.append([f"{what} / one run, {unit}", f"{ratio:.2f} ×", "", "", ""])
    counts = json.loads((output(both, clips) / "results.json").read_text())["counts"]
    (looked,), (read,) = counts["looked"].values(), counts["read"].values()
    head = (
        f"{videos} videos of {frames} frames, 640 x 360, {len(set(named.values()))} prompts. One "
        f"run: {counts['decodes']} decodes, {looked} pictures encoded, {read} texts encoded; the "
        f"plain loop {2 * videos}, {2 * videos * frames} and {videos}."
    )
    header = ["", "CPU s", "wall s", "videos a second, less start-up", "peak MB"]
    return f"{head}\n\n{_values(output(both, clips), costs)}\n\n{table(header, rows)}"


def _values(output: Path, costs: dict[str, list[measure.Cost]]) -> str:
    """Ours and the plain loop's mean, so that a reader sees that they did the same."""
    records = json.loads((output / "results.json").read_text())["results"]
    ours = {record["value_name"]: record["value"] for record in records}
    pairs = (
        f"{name} {ours[name]:.7f} and {float(costs[f'plain {name}'][0].output.split()[-1]):.7f}"
        for name in METRICS
    )
    return f"Values, ours and the plain loop's: {', '.join(pairs)}."
