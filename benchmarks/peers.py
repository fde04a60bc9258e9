"""Published metrics: beside the programs that defined them, all in one run, and what a run adds.

All programs load one checkpoint of deterministic weights: nothing is downloaded, and their numbers
can be compared. Peers read pictures, so what ffmpeg takes to extract them counts for them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import imageio_ffmpeg
import measure
from measure import ROOT, Rows, aigve, cpu, interleaved, script, table, wall

from aigve_cli.weights import network_card

NETWORKS = {"inception-v3-fid": "fid_inception", "i3d-kinetics400": "i3d"}
"""With the names under which tests/networks/det_weights.py gives their weights."""
FIVE = ("fid", "is", "kid", "fvd", "kvd")
ALL_CLIPS = {name: ("--set", f"{name}.clips-per-video=0") for name in ("fvd", "kvd")}


def write_checkpoints(torch_home: Path) -> Path:
    """Checkpoints under their published names, where torch.hub, and so a peer, looks first."""
    import torch

    sys.path.insert(0, str(ROOT / "tests" / "networks"))
    from det_weights import det_state

    folder = torch_home / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    for name, tag in NETWORKS.items():
        card = network_card(name)
        if not (file := folder / card.entry().file).exists():
            torch.save(det_state(tag, import_module(card.module).build()), file)
    return folder


def compute(checkpoints: Path, videos: Path, output: Path, metrics: str, *more: str) -> list[str]:
    models = (f"--model={name}={checkpoints}" for name in NETWORKS)
    where = ("--input-dir", videos, "--output-dir", output)
    return aigve("compute", *where, "--metrics", metrics, *models, "--fresh", "--use-cpu", *more)


def extract(videos: Path, pictures: Path) -> list[str]:
    """The command line that turns videos into the pictures that peers read.

    Peers split and shuffle pictures in the order of their names: it is given the order of our sets,
    that of the hashes of files, so that inception scores are the same number.
    """
    commands = []
    for side, wanted in (("generated", True), ("reference", False)):
        (pictures / side).mkdir(parents=True, exist_ok=True)
        files = [f for f in videos.iterdir() if f.stem.endswith("_synthetic") is wanted]
        files.sort(key=lambda file: hashlib.sha256(file.read_bytes()).digest())
        for number, file in enumerate(files):
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(file)]
            commands.append([*command, str(pictures / side / f"{number:04}-%04d.png")])
    return ["sh", "-c", " && ".join(map(shlex.join, commands))]


def programs(folder: Path, clips: Path, pictures: Path, results: Path) -> dict[str, list[str]]:
    """Command lines: the extraction of pictures, both peers on them, and ours on the videos."""
    checkpoints = write_checkpoints(folder / "torch")
    checkpoint = str(checkpoints / network_card("inception-v3-fid").entry().file)
    sides = [str(pictures / side) for side in ("generated", "reference")]
    module = ("env", f"TORCH_HOME={folder / 'torch'}", sys.executable, "-m")
    return {
        "extraction": extract(clips, pictures),
        "pytorch-fid": [
            *(*module, "pytorch_fid", *sides),
            *("--device", "cpu", "--num-workers", "0", "--batch-size", "8"),
        ],
        "aigve, as pytorch-fid": compute(
            *(checkpoints, clips, results / "pytorch-fid", "fid"),
            *("--set", "fid.convention=pytorch-fid"),
        ),
        "torch-fidelity": [
            *(*module, "torch_fidelity.fidelity", "--input1", sides[0], "--input2", sides[1]),
            *("--fid", "--isc", "--cpu", "--batch-size", "8", "--no-cache", "--silent"),
            *("--feature-extractor-weights-path", checkpoint),
        ],
        "aigve, as torch-fidelity": compute(
            checkpoints, clips, results / "torch-fidelity", "fid,is"
        ),
    }


def beside_peers(folder: Path, *, videos: int, frames: int, rounds: int) -> str:
    """FID and IS of so many videos a side by pytorch-fid, by torch-fidelity and by us."""
    results = folder / "results"
    clips = measure.make_pairs(
        folder / f"peers{videos}", pairs=videos, width=256, height=256, frames=frames
    )
    commands = programs(folder, clips, folder / f"pictures{videos}", results)
    # Before all rounds, the second of which runs backwards.
    measure.run(commands["extraction"])
    costs = interleaved(commands, rounds=rounds)
    seconds = {name: (cpu(of), wall(of)) for name, of in costs.items()}
    rows: Rows = []
    for peer in ("pytorch-fid", "torch-fidelity"):
        ours = f"aigve, as {peer}"
        for name, values in (
            (peer, printed_values(costs[peer][-1].output)),
            (ours, stored_values(results / peer)),
        ):
            alone, took = seconds[name]
            with_pictures = alone + seconds["extraction"][0] * (name == peer)
            row = [_one_digit(alone), _ratio(alone, seconds[ours][0])]
            row += [_one_digit(with_pictures), _ratio(with_pictures, seconds[ours][0])]
            rows.append([name, *values, *row, _one_digit(took)])
    header = ["", "FID", "IS", "CPU s", "/ ours", "with extraction", "/ ours", "wall s"]
    lines = (as_typed(command, folder) for command in commands.values())
    return (
        f"{videos} videos of {frames} frames of 256 x 256 a side. Extraction to PNG took "
        f"{seconds['extraction'][0]:.1f} CPU s.\n\n{table(header, rows)}\n\n" + "\n".join(lines)
    )


def as_typed(command: list[str], folder: Path) -> str:
    """A command line as one would type it in the folder of the benchmarks."""
    if command[0] == "sh":
        return "    ffmpeg -i VIDEO PICTURES/%04d.png  # for each video"
    words = command if "-m" in command else ["aigve", *command[3:]]
    return "    " + shlex.join(words).replace(f"{folder}/", "").replace(sys.executable, "python")


def printed_values(output: str) -> list[str]:
    """FID and IS as a peer prints them."""
    patterns = (r"(?:FID|frechet_inception_distance): *(\S+)", r"inception_score_mean: *(\S+)")
    found = [re.search(pattern, output) for pattern in patterns]
    return [f"{float(match[1]):.6f}" if match else "" for match in found]


def stored_values(output: Path) -> list[str]:
    """FID and IS of a run."""
    records = json.loads((output / "results.json").read_text())["results"]
    values = {record["value_name"]: f"{record['value']:.6f}" for record in records}
    return [values.get(name, "") for name in ("fid", "is")]


def five_metrics(folder: Path, *, pairs: int, frames: int, rounds: int) -> str:
    """Five metrics in one run, beside five runs and beside the networks' forwards alone."""
    checkpoints = write_checkpoints(folder / "torch")
    clips = measure.make_pairs(
        folder / f"published{pairs}", pairs=pairs, width=640, height=360, frames=frames
    )
    results = folder / "results"
    commands = {
        name: compute(checkpoints, clips, results / name, name, *ALL_CLIPS.get(name, ()))
        for name in FIVE
    }
    everything = [part for options in ALL_CLIPS.values() for part in options]
    commands["one run"] = compute(checkpoints, clips, results / "one", ",".join(FIVE), *everything)
    commands["forwards"] = script("forwards.py", checkpoints, str(2 * pairs), str(frames))
    costs = interleaved(commands, rounds=rounds)
    seconds = {name: (cpu(of), wall(of)) for name, of in costs.items()}
    one, alone = seconds["one run"], seconds["forwards"]
    five = [sum(seconds[name][column] for name in FIVE) for column in (0, 1)]
    rows: Rows = [[name, *map(_one_digit, seconds[name])] for name in ("one run", *FIVE)]
    rows.append(["five runs", *map(_one_digit, five)])
    rows.append(["five runs / one run", *map(_ratio, five, one)])
    # Of the middle round in CPU seconds, as all that stands here.
    middle = sorted(costs["forwards"], key=lambda cost: cost.cpu)[rounds // 2]
    parts = [line.split("\t") for line in middle.output.strip().splitlines()]
    rows += [[f"forwards of {count} {unit}", taken, ""] for unit, count, taken in parts]
    rows.append(["one run / forwards", _ratio(one[0], sum(float(part[2]) for part in parts)), ""])
    rows.append(["a program of nothing but these", *map(_one_digit, alone)])
    rows.append(["one run / that program", *map(_ratio, one, alone)])
    return (
        f"{pairs} pairs of {frames} frames, 640 x 360; every clip of 16 frames.\n\n"
        f"{table(['', 'CPU s', 'wall s'], rows)}"
    )


def _one_digit(seconds: float) -> str:
    return f"{seconds:.1f}"


def _ratio(seconds: float, base: float) -> str:
    return f"{seconds / base:.2f} ×"
