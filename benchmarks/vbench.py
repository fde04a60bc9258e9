"""VBench's seven dimensions in one run, beside a run each and beside VBench's way of doing it.

Networks have their published sizes and deterministic weights: nothing is downloaded, and what is
scored means nothing. Most tables leave their forwards out, which take minutes a clip on a CPU.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import measure
from measure import ROOT, Cost, Rows, mb, script, table

DIMENSIONS = tuple(
    f"vbench-{name}"
    for name in (
        *("aesthetic-quality", "background-consistency", "dynamic-degree", "imaging-quality"),
        *("motion-smoothness", "subject-consistency", "temporal-flickering"),
    )
)
DEGREE, FLICKERING = DIMENSIONS[2], DIMENSIONS[6]
NETWORKS = (
    *("dino-vit-b-16", "clip-vit-b-32", "clip-vit-l-14", "laion-aesthetic", "musiq", "amt-s"),
    "raft-large",
)
ONE, PLAIN, BOTH = "one run", "VBench's way", "seven runs"
HD = {"width": 1360, "height": 768, "frames": 81, "filters": "fps=16"}
SD = {"width": 720, "height": 480, "frames": 49, "filters": "fps=8"}
NETWORK_UNITS: dict[str, tuple[list[int], int]] = {
    "raft-large": ([1, 3, 2, 480, 720], 48),
    "clip-vit-l-14": ([6, 3, 224, 224], 49),
    "amt-s": ([1, 3, 3, 480, 720], 24),
    "dino-vit-b-16": ([4, 3, 224, 336], 49),
    "musiq": ([1, 3, 341, 512], 49),
    "clip-vit-b-32": ([6, 3, 224, 224], 49),
}
"""By network: a batch of the tool's on a CPU, and how many of its units a clip as ``SD`` has."""
FLOW_HEAD = "update_block.flow_head.conv2"
LEAST = 0.01
"""Of a whole: parts that are smaller are not told apart."""
STILL_GAIN = 0.02
"""Of RAFT's last layer: with it, and without its bias, nothing moves."""


def vbench_dimensions(folder: Path, *, quick: bool, rounds: int) -> str:
    """All tables.

    Args:
        folder: For clips, checkpoints and results.
        quick: Without networks, but for RAFT on a small clip, and on few videos.
        rounds: Of interleaved runs where forwards are left out.
    """
    drawn = [(SD, 1)] if quick else [(SD, 4), (HD, 2)]
    sets = {
        _words(size): _clips(folder / "vbench", videos=videos, **size) for size, videos in drawn
    }
    if media := os.environ.get("AIGVE_TEST_MEDIA"):
        real = sorted((Path(media) / "cogvideox").glob("*.mp4"))[: 1 if quick else None]
        sets["real clips of CogVideoX"] = _linked(folder / "vbench-real", real)
    parts = [_without_networks(folder, *of, rounds) for of in sets.items()]
    parts.append(_long_and_short(folder, (24, 96) if quick else (49, 490), rounds))
    parts.append(_undecided(folder, quick=quick))
    if not quick:
        checkpoints = _write_checkpoints(folder / "vbench-weights")
        parts.append(_with_networks(folder, checkpoints))
        parts.append(_shares(folder, checkpoints))
        parts += _on_gpu(folder, checkpoints)
    return "\n\n".join(parts)


def _clips(folder: Path, *, videos: int, **size: Any) -> Path:
    """Drawn videos in a folder of that name, their size and number."""
    sizes = (size[key] for key in ("width", "height", "frames"))
    folder = folder.with_name("-".join((folder.name, *map(str, (*sizes, videos)))))
    for seed in range(videos):
        measure.make_clip(folder / f"clip{seed:04d}.mp4", seed=seed, **size)
    return folder


def _words(size: Mapping[str, Any]) -> str:
    rate = size["filters"].rpartition("fps=")[2]
    return f"{size['frames']} frames of {size['width']} x {size['height']}, {rate} a second"


def _linked(folder: Path, files: Iterable[Path]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)
    return folder


def _write_checkpoints(folder: Path, names: Sequence[str] = NETWORKS) -> dict[str, Path]:
    """Checkpoints by network, under their published names."""
    from aigve_cli.weights import network_card

    sys.path.insert(0, str(ROOT))
    from tests.networks.vbench_checkpoints import write_vbench_checkpoint

    files = {name: folder / network_card(name).entry().file for name in names}
    for name, file in files.items():
        if not file.exists():
            write_vbench_checkpoint(folder, name)
    return files


def _without_motion(file: Path, folder: Path) -> Path:
    """A checkpoint of RAFT that sees next to no motion anywhere."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    state = torch.load(file)
    state[f"{FLOW_HEAD}.weight"] *= STILL_GAIN
    state[f"{FLOW_HEAD}.bias"] *= 0
    torch.save(state, folder / file.name)
    return folder / file.name


# --- commands, and what they say --------------------------------------------------------------


def _ours(
    folder: Path, videos: Path, metrics: str, *more: str, weights: Mapping[str, Path] | None = None
) -> tuple[Path, list[str]]:
    """Where results go, and a command; without weights, forwards are left out."""
    forwards = "all" if weights else "none"
    output = folder / "results" / "-".join((videos.name, metrics, forwards, *more))
    files = weights or dict.fromkeys(NETWORKS, _absent(folder / "vbench-absent.pth"))
    models = (f"--model={name}={file}" for name, file in files.items())
    asked = ("--input-dir", videos, "--output-dir", output, "--metrics", metrics, "--fresh")
    return output, script("vbench_program.py", forwards, "aigve", "compute", *asked, *models, *more)


def _absent(file: Path) -> Path:
    """What is named as every network's checkpoint where none is loaded."""
    import torch

    torch.save({}, file)
    return file


def _plain(videos: Path) -> list[str]:
    return script("vbench_program.py", "plain", videos, *DIMENSIONS)


def _said(cost: Cost) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(cost.output.strip().splitlines()[-1])
    return said


def _stages(cost: Cost) -> dict[str, dict[str, float]]:
    """What came after the start-up."""
    return {name: of for name, of in _said(cost)["stages"].items() if name != "start"}


def _seconds(cost: Cost, kind: str) -> float:
    """Seconds after start-up."""
    return sum(stage[kind] for stage in _stages(cost).values())


def _memory(cost: Cost) -> float:
    """Bytes above those of the start-up, decoders included."""
    stages = list(_stages(cost).values())
    return max(stage["peak"] for stage in stages) - stages[0]["before"] + cost.child_peak


def _whole_memory(cost: Cost) -> float:
    return max(stage["peak"] for stage in _said(cost)["stages"].values()) + cost.child_peak


def _part(cost: Cost, start: str) -> tuple[int, float]:
    """How often parts whose names begin so ran, and their CPU seconds."""
    of = [taken for name, taken in _said(cost)["parts"].items() if name.startswith(start)]
    return int(sum(times for times, _ in of)), sum(seconds for _, seconds in of)


def _results(output: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((output / "results.json").read_text(encoding="utf-8"))
    return document


def _counts(output: Path) -> dict[str, Any]:
    counts: dict[str, Any] = _results(output)["counts"]
    return counts


# --- without networks -------------------------------------------------------------------------


def _without_networks(folder: Path, what: str, videos: Path, rounds: int) -> str:
    """One run, seven runs, and VBench's way: everything around the networks."""
    asked = {ONE: "vbench"} | {name: name for name in DIMENSIONS}
    commands = {
        name: _ours(folder, videos, metrics, "--use-cpu") for name, metrics in asked.items()
    }
    lines = {name: command for name, (_, command) in commands.items()} | {PLAIN: _plain(videos)}
    costs = measure.interleaved(lines, rounds=rounds)
    count = len(list(videos.iterdir()))
    columns = {
        name: [
            float(_counts(commands[name][0])["decodes"] if name in commands else 7 * count),
            *(_median(of, partial(_seconds, kind=kind)) for kind in ("cpu", "wall")),
            *(_median(of, function) for function in (_memory, _whole_memory)),
        ]
        for name, of in costs.items()
    }
    alone = [columns[name] for name in DIMENSIONS]
    sums, largest = ([f(of) for of in zip(*alone, strict=True)] for f in (sum, max))
    columns[BOTH] = [*sums[:3], *largest[3:]]
    rows: Rows = []
    for name in (ONE, *DIMENSIONS, BOTH, PLAIN):
        decodes, cpu, wall, memory, whole = columns[name]
        rows.append([name, f"{decodes:.0f}", f"{cpu:.2f}", f"{wall:.1f}", mb(memory), mb(whole)])
    for name in (BOTH, PLAIN):
        ratios = (x / one for x, one in zip(columns[name], columns[ONE], strict=True))
        rows.append([f"{name} / one run", *(f"{ratio:.2f} ×" for ratio in ratios)])
    header = ["", "videos decoded", "CPU s", "wall s", "peak MB of videos", "peak MB in all"]
    values = _flickering(costs[PLAIN][0], commands[ONE][0])
    head = f"{what}: {count} videos, forwards left out. {values}"
    return "\n\n".join(
        [head, table(header, rows), _parts(costs[ONE], costs[PLAIN], count), _each(costs, count)]
    )


def _median(costs: Sequence[Cost], function: Any) -> float:
    return statistics.median(map(function, costs))


def _flickering(plain: Cost, output: Path) -> str:
    """Whether the one dimension without a network has the same values."""
    lines = (line.split("\t") for line in plain.output.splitlines())
    theirs = {line[1]: float(line[2]) for line in lines if line[0] == FLICKERING}
    ours = {
        video["sample"]: video["scores"][FLICKERING]["values"][FLICKERING]
        for video in _results(output)["videos"]
    }
    apart = max(abs(ours[name] - value) for name, value in theirs.items())
    how = f"differ by {apart:.0e} at most" if apart else "are equal"
    return f"Values of flickering, theirs and ours, {how}."


def _parts(ours: Sequence[Cost], plain: Sequence[Cost], videos: int) -> str:
    """Where the time goes, in CPU seconds a video."""
    rows: Rows = []
    for way, of in ((ONE, ours), (PLAIN, plain)):
        whole = _median(of, partial(_seconds, kind="cpu"))
        taken = {n: _median(of, lambda cost, n=n: _part(cost, n)[1]) for n in _said(of[0])["parts"]}
        taken = {name: seconds for name, seconds in taken.items() if seconds > LEAST * whole}
        taken["all else, decoders' threads or processes among it"] = whole - sum(taken.values())
        for name, seconds in sorted(taken.items(), key=lambda item: -item[1]):
            times, _ = _part(of[0], name)
            each = f"{1000 * seconds / times:.1f}" if times else ""
            shown = name.partition("; normalise")[0].partition("; centre")[0]
            share = f"{100 * seconds / whole:.0f} %"
            rows.append([way, shown, str(times or ""), each, f"{seconds / videos:.3f}", share])
    return table(["", "part", "times", "CPU ms each", "CPU s a video", "of all"], rows)


def _each(costs: Mapping[str, Sequence[Cost]], videos: int) -> str:
    """Each dimension alone beside VBench's way."""
    rows: Rows = []
    start = _median(costs[PLAIN], lambda cost: next(iter(_stages(cost).values()))["before"])
    for name in DIMENSIONS:
        ours = _median(costs[name], partial(_seconds, kind="cpu")) / videos
        theirs = _median(costs[PLAIN], lambda cost, n=name: _stages(cost)[n]["cpu"]) / videos
        peak = _median(costs[PLAIN], lambda cost, n=name: _stages(cost)[n]["peak"]) - start
        memory = mb(_median(costs[name], _memory))
        rows.append([name, f"{ours:.2f}", f"{theirs:.2f}", memory, mb(peak)])
    header = ["", "alone: CPU s a video", PLAIN, "alone: peak MB of videos", PLAIN]
    return table(header, rows)


def _long_and_short(folder: Path, lengths: tuple[int, int], rounds: int) -> str:
    """Memory by the length of a video."""
    commands: dict[str, list[str]] = {}
    for frames in lengths:
        size = {**SD, "frames": frames}
        clips = _clips(folder / "vbench-long", videos=1, **size)
        commands[f"{ONE}, {frames}"] = _ours(folder, clips, "vbench", "--use-cpu")[1]
        commands[f"{PLAIN}, {frames}"] = _plain(clips)
    costs = measure.interleaved(commands, rounds=rounds)
    memory = {
        name: (_median(of, _memory), _median(of, _whole_memory)) for name, of in costs.items()
    }
    rows: Rows = []
    for way in (ONE, PLAIN):
        first = memory[f"{way}, {lengths[0]}"]
        for frames in lengths:
            peaks = memory[f"{way}, {frames}"]
            growth = (f"{peak / before:.2f} ×" for peak, before in zip(peaks, first, strict=True))
            seconds = _median(costs[f"{way}, {frames}"], partial(_seconds, kind="cpu"))
            rows.append([way, str(frames), *map(mb, peaks), *growth, f"{seconds:.2f}"])
    header = ["", "frames", "peak MB of videos", "peak MB in all", "growth", "growth", "CPU s"]
    return (
        f"One video of {SD['width']} x {SD['height']}, forwards left out.\n\n{table(header, rows)}"
    )


# --- with networks ----------------------------------------------------------------------------


def _with_networks(folder: Path, checkpoints: Mapping[str, Path]) -> str:
    """One run and seven runs of a short clip; a round, as forwards take minutes."""
    videos = _clips(folder / "vbench-short", videos=1, **{**SD, "frames": 5})
    asked = {ONE: "vbench"} | {name: name for name in DIMENSIONS}
    columns: dict[str, list[float]] = {}
    for name, metrics in asked.items():
        output, command = _ours(folder, videos, metrics, "--use-cpu", weights=checkpoints)
        cost = measure.run(command)
        loading, forwards = (_part(cost, part)[1] for part in ("load", "forward"))
        around = _seconds(cost, "cpu") - loading - forwards
        columns[name] = [float(_counts(output)["decodes"]), cost.cpu, loading, forwards, around]
        columns[name] += [cost.wall, _whole_memory(cost)]
    alone = [columns[name] for name in DIMENSIONS]
    sums = [sum(of) for of in zip(*alone, strict=True)]
    columns[BOTH] = [*sums[:-1], max(column[-1] for column in alone)]
    rows = [
        [name, f"{of[0]:.0f}", *(f"{value:.1f}" for value in of[1:-1]), mb(of[-1])]
        for name, of in columns.items()
    ]
    ratios = (x / one for x, one in zip(columns[BOTH], columns[ONE], strict=True))
    rows.append([f"{BOTH} / one run", *(f"{ratio:.2f} ×" for ratio in ratios)])
    header = ["", "videos decoded", "CPU s", "loading", "forwards", "around them", "wall s"]
    return f"5 frames of 720 x 480, all networks.\n\n{table([*header, 'peak MB'], rows)}"


def _forwards_alone(
    folder: Path,
    checkpoints: Mapping[str, Path],
    device: str,
    batches: Sequence[tuple[str, list[int], bool]],
) -> dict[str, tuple[int, float]]:
    """By network, how many units it saw and the seconds that took."""
    file = folder / "vbench-batches.json"
    file.write_text(json.dumps(batches), encoding="utf-8")
    (where,) = {path.parent for path in checkpoints.values()}
    cost = measure.run(script("vbench_program.py", "forwards", where, device, file))
    parts = _said(cost)["parts"].items()
    return {n.removeprefix("alone "): of for n, of in parts if n.startswith("alone ")}


def _shares(folder: Path, checkpoints: Mapping[str, Path]) -> str:
    """What each network takes of a clip of 49 frames, computed from single units."""
    batches = [(name, shape, True) for name, (shape, _) in NETWORK_UNITS.items() for _ in range(3)]
    batches += [("raft-large", NETWORK_UNITS["raft-large"][0], False)] * 3
    taken = _forwards_alone(folder, checkpoints, "cpu", batches)
    each = {name: seconds / units for name, (units, seconds) in taken.items()}
    whole = sum(each[name] * units for name, (_, units) in NETWORK_UNITS.items())
    rows: Rows = []
    for name, (shape, units) in NETWORK_UNITS.items():
        seconds = each[name] * units
        batch = " x ".join(map(str, shape))
        row = [name, batch, f"{each[name]:.2f}", str(units), f"{seconds:.0f}"]
        rows.append([*row, f"{100 * seconds / whole:.1f} %"])
    apart = each["raft-large, apart"]
    rows.append(["raft-large, no frame shared", "", f"{apart:.2f}", "48", f"{48 * apart:.0f}", ""])
    header = ["network", "batch", "CPU s a unit", "units", "CPU s", "of all"]
    return f"{_words(SD)}, computed from single units.\n\n{table(header, rows)}"


def _undecided(folder: Path, *, quick: bool) -> str:
    """Dynamic degree with and without the magnitude, of clips that move and do not."""
    small = {"width": 144, "height": 128, "frames": 13, "filters": "fps=8"}
    large = {"width": 320, "height": 240, "frames": 25, "filters": "fps=8"}
    size = small if quick else large
    still = "trim=end_frame=1,loop=loop=-1:size=1,setpts=N/8/TB,fps=8"
    clips = {"moves": _clips(folder / "vbench-moves", videos=1, **size)}
    if not quick:
        frozen = {**size, "filters": still}
        clips["frozen"] = _clips(folder / "vbench-frozen", videos=1, **frozen)
    checkpoint = _write_checkpoints(folder / "vbench-weights", ["raft-large"])["raft-large"]
    files = {
        "moves": checkpoint,
        "frozen": _without_motion(checkpoint, folder / "vbench-still"),
    }
    rows: Rows = []
    for name, videos in clips.items():
        seconds = []
        for magnitude in ("true", "false"):
            more = ("--use-cpu", f"--set={DEGREE}.magnitude={magnitude}")
            output, command = _ours(
                folder, videos, DEGREE, *more, weights={"raft-large": files[name]}
            )
            cost = measure.run(command)
            pairs, forwards = _counts(output)["looked"]["raft-large"], _part(cost, "forward")[1]
            (video,) = _results(output)["videos"]
            degree = video["scores"][DEGREE]["values"][DEGREE]
            seconds.append(forwards)
            ratio = f"{seconds[0] / forwards:.2f} ×"
            row = [name, magnitude, f"{degree:.0f}", str(pairs), f"{forwards:.1f}", ratio]
            rows.append([*row, f"{cost.cpu:.1f}", f"{cost.wall:.1f}"])
    header = ["clip", "magnitude", "degree", "pairs", "RAFT, CPU s", "", "CPU s", "wall s"]
    return f"{_words(size)}.\n\n{table(header, rows)}"


def _on_gpu(folder: Path, checkpoints: Mapping[str, Path]) -> list[str]:
    """Videos a second end to end on a GPU, and the same batches without the tool."""
    import torch

    if not torch.cuda.is_available():
        return []
    looks = {}
    for count in (1, 9):
        videos = _clips(folder / f"vbench-gpu{count}", videos=count, **SD)
        cost = measure.run(_ours(folder, videos, "vbench", weights=checkpoints)[1])
        looks[count] = _stages(cost)["look"]["wall"]
    batches = _said(cost)["batches"]
    networks = [batch for batch in batches if batch[0] in NETWORK_UNITS]
    alone = _forwards_alone(folder, checkpoints, "cuda", networks)
    forwards = sum(seconds for _, seconds in alone.values())
    # Beside the first video a GPU is warmed up.
    end_to_end = (looks[9] - looks[1]) / 8
    rows = [
        [name, str(units), f"{1000 * seconds / units:.1f}", f"{100 * seconds / forwards:.1f} %"]
        for name, (units, seconds) in sorted(alone.items(), key=lambda item: -item[1][1])
    ]
    return [
        f"On {torch.cuda.get_device_name()}, clips of 49 frames, 720 x 480: {1 / end_to_end:.2f} "
        f"videos a second end to end, forwards alone {9 / forwards:.2f}: "
        f"{end_to_end * 9 / forwards:.2f} × their time.\n\n"
        + table(["network", "units", "ms a unit", "of all forwards"], rows)
    ]
