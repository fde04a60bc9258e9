"""All benchmarks: costs of aigve beside the costs of the usual ways, measured side by side.

    python benchmarks/run.py [--quick | --full] [--only NAME ...] [--rounds N] [--output FILE]

Prints markdown. `--quick` takes small inputs and one round, `--full` adds a Fréchet distance of
10,000 rows (minutes). Run it in the project's environment, with its test dependencies (OpenCV).
The benchmarks are `fused`, `frechet`, `memory`, `startup`, `decode`, `prefetch`, `resize`,
`forward`, `many`, `networks`, `peers`, `published`, `quality`, `similarity`, `judges`, `vbench` and
`server`, and `large`, which runs by its name only: it writes models of 15 GB, one after another,
and takes as much memory. Real clips are looked at too where `AIGVE_TEST_MEDIA` names a folder of
them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import measure
from judges import judged_metrics
from large_models import real_models, tiny_models
from measure import Rows, aigve, cpu, interleaved, mb, script, table, wall
from peers import beside_peers, five_metrics
from quality import quality_networks
from serving import jobs_and_health
from similarity import similarity_metrics
from vbench import vbench_dimensions

METRICS = ("fid-lite0", "is-lite0", "kid-lite0", "fvd-lite0")
PARTIAL = (0, 1, 3)
"""One pair is too few for a distance of sets: exit code 3, or 1 where nothing else was asked."""


@dataclass(frozen=True)
class Setting:
    folder: Path
    quick: bool
    full: bool
    rounds: int

    def output(self, name: str) -> Path:
        return self.folder / "results" / name


def compute(videos: Path, output: Path, metrics: str, *more: str) -> list[str]:
    where = ("--input-dir", videos, "--output-dir", output)
    return aigve("compute", *where, "--metrics", metrics, "--fresh", "--use-cpu", *more)


def counts(output: Path) -> dict[str, int]:
    return json.loads((output / "results.json").read_text())["counts"]


def fused(setting: Setting) -> str:
    """Four metrics in one run against four runs."""
    pairs = 3 if setting.quick else 6
    videos = measure.make_pairs(
        setting.folder / f"pairs{pairs}", pairs=pairs, width=640, height=360, frames=64
    )
    tiny = measure.make_pairs(setting.folder / "tiny", pairs=2, width=64, height=48, frames=16)
    commands = {"one run": compute(videos, setting.output("all"), ",".join(METRICS))}
    commands |= {name: compute(videos, setting.output(name), name) for name in METRICS}
    commands["nearly nothing"] = compute(tiny, setting.output("tiny"), "is-lite0")
    costs = interleaved(commands, rounds=setting.rounds)
    fixed = cpu(costs["nearly nothing"])
    rows: Rows = []
    for name in ("one run", *METRICS):
        done = counts(setting.output("all" if name == "one run" else name))
        rows.append(
            [
                name,
                str(done["decodes"]),
                f"{cpu(costs[name]):.1f}",
                f"{cpu(costs[name]) - fixed:.1f}",
                f"{wall(costs[name]):.1f}",
            ]
        )
    four = [sum(float(row[column]) for row in rows[1:]) for column in range(1, 5)]
    rows.append(["four runs", *(f"{value:.0f}" for value in four)])
    ratios = [value / float(rows[0][column]) for column, value in enumerate(four, start=1)]
    rows.append(["four runs / one run", *(f"{ratio:.2f} ×" for ratio in ratios)])
    header = ["", "videos decoded", "CPU s", f"CPU s less {fixed:.1f} s of start-up", "wall s"]
    return f"{pairs} pairs of 64 frames, 640 x 360.\n\n{table(header, rows)}"


def frechet(setting: Setting) -> str:
    """The Fréchet distance against `scipy.linalg.sqrtm`."""
    sizes = ["--sizes", "16", "256"] + ([] if setting.quick else ["2048"])
    dimensions = ["--dimensions", "512" if setting.quick else "2048"]
    full = ["--full"] if setting.full else []
    return measure.run(script("frechet.py", *sizes, *dimensions, *full)).output


def memory(setting: Setting) -> str:
    """Peak memory by decoded frames of one 1080p video, or pair of videos."""
    lengths = (16, 64) if setting.quick else (60, 600)
    one, pair = (setting.folder / f"{name}{lengths[-1]}" for name in ("long", "long_pair"))
    size = {"width": 1920, "height": 1080, "frames": lengths[-1]}
    measure.make_clip(one / "clip.mp4", seed=1, **size)
    measure.make_clip(pair / "clip.mp4", seed=1, **size)
    measure.make_clip(pair / "clip_synthetic.mp4", seed=2, **size)
    rows: Rows = []
    cases = {
        "is-lite0, one video": (one, "is-lite0"),
        "four metrics, one pair": (pair, ",".join(METRICS)),
    }
    for case, (videos, metrics) in cases.items():
        commands = {}
        for frames in lengths:
            # The whole video is there in both cases: --max-len says how much of it is decoded.
            output = setting.output(f"memory{frames}")
            more = ("--max-len", str(frames), "--keep-features")
            commands[str(frames)] = compute(videos, output, metrics, *more)
        costs = interleaved(commands, rounds=1, ok=PARTIAL)
        base = 0
        for frames in lengths:
            cost = costs[str(frames)][0]
            # Short decodes end before the network has its peak: the peaks are added, not their sum
            # at a moment, so that both lengths are bounded alike.
            total = cost.own_peak + cost.child_peak
            base = base or total
            kept = _folder_bytes(setting.output(f"memory{frames}") / "features")
            peaks = (mb(cost.own_peak), mb(cost.child_peak), mb(total))
            growth = f"{100 * (total / base - 1):+.1f} %"
            rows.append([case, str(frames), *peaks, growth, f"{kept / 1e6:.1f}"])
    header = ["run", "frames", "own peak MB", "decoders' peak MB", "sum MB", "growth"]
    header += ["features MB"]
    return table(header, rows)


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*"))


def startup(setting: Setting) -> str:
    """Start-up CPU time, and what is imported."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "aigve --version": aigve("--version"),
        "aigve --help": aigve("--help"),
        "aigve compute --help": aigve("compute", "--help"),
        "aigve list-metrics": aigve("list-metrics"),
        "aigve models list": aigve("models", "list"),
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
    }
    costs = interleaved(commands, rounds=3 if setting.quick else 7)
    rows: Rows = []
    for name in commands:
        modules, heavy = "", ""
        if name.startswith("aigve"):
            modules, heavy = _modules(name.split()[1:])
        rows.append([f"`{name}`", f"{cpu(costs[name]):.3f}", modules, heavy])
    return table(["command", "CPU s", "modules", "of these heavy"], rows)


HEAVY = ("torch", "torchvision", "transformers", "timm", "numpy", "scipy", "PIL", "requests")


def _modules(arguments: list[str]) -> tuple[str, str]:
    code = (
        "import atexit, sys\n"
        f"sys.argv = ['aigve', *{arguments!r}]\n"
        f"heavy = lambda: [n for n in {HEAVY!r} if n in sys.modules]\n"
        "atexit.register(lambda: print('\\n', len(sys.modules), *heavy()))\n"
        "from aigve_cli.main import run; run()"
    )
    last = measure.run([sys.executable, "-c", code]).output.split("\n")[-2].split()
    return last[0], ", ".join(last[1:]) or "none"


def decode(setting: Setting) -> str:
    """Decoding to RGB arrays against OpenCV."""
    shapes = {"480p": (854, 480, 49), "720p": (1280, 720, 121), "1080p": (1920, 1080, 120)}
    clips = {
        f"{name}, {frames} frames": measure.make_clip(
            setting.folder / f"{name}.mp4", width=width, height=height, frames=frames, seed=5
        )
        for name, (width, height, frames) in shapes.items()
    }
    if media := os.environ.get("AIGVE_TEST_MEDIA"):
        for number, path in enumerate(
            sorted(Path(media).rglob("*.mp4"), key=lambda p: -p.stat().st_size)
        ):
            if number < 2:
                clips[f"real, {path.stem[:20]}"] = path
    rows: Rows = []
    passes = "2" if setting.quick else "5"
    for name, path in clips.items():
        ways = {way: script("decode.py", way, path, passes) for way in ("ours", "ours-1", "cv2")}
        costs = interleaved(ways, rounds=setting.rounds)
        times = {
            way: sorted(float(cost.output.split()[-1]) for cost in of)[len(of) // 2]
            for way, of in costs.items()
        }
        ratios = [f"{times[way] / times['cv2']:.2f} ×" for way in ("ours", "ours-1")]
        row = [name, *(f"{times[way]:.0f}" for way in ("cv2", "ours", "ours-1")), *ratios]
        rows.append(row)
    header = ["clip", "cv2 CPU ms", "ours CPU ms", "ours, 1 thread", "ours / cv2", "1 thread / cv2"]
    return table(header, rows)


def prefetch(setting: Setting) -> str:
    """Videos decoded at the same time."""
    pairs = 2 if setting.quick else 4
    videos = measure.make_pairs(
        setting.folder / f"hd{pairs}", pairs=pairs, width=1280, height=720, frames=64
    )
    commands = {
        workers: compute(
            videos, setting.output(f"workers{workers}"), "fid-lite0", "--decode-workers", workers
        )
        for workers in ("1", "2", "4")
    }
    costs = interleaved(commands, rounds=setting.rounds)
    rows = [
        [
            workers,
            f"{wall(of):.1f}",
            f"{cpu(of):.1f}",
            mb(max(cost.own_peak + cost.child_peak for cost in of)),
        ]
        for workers, of in costs.items()
    ]
    header = ["--decode-workers", "wall s", "CPU s", "peak with ffmpeg MB"]
    return f"{pairs} pairs of 64 frames, 1280 x 720, fid-lite0.\n\n{table(header, rows)}"


def resize(setting: Setting) -> str:
    """One frame to 224 x 224."""
    shapes = [(640, 360), (1360, 768), (1920, 1080)]
    times: dict[str, list[str]] = {}
    for width, height in shapes:
        output = measure.run(script("resize.py", str(width), str(height))).output
        for line in output.strip().splitlines():
            name, milliseconds = line.split("\t")
            times.setdefault(name, []).append(milliseconds)
    rows = [[name, *values] for name, values in times.items()]
    return table(["CPU ms a frame, from", *(f"{w} x {h}" for w, h in shapes)], rows)


def forward(setting: Setting) -> str:
    """The embedded network, 224 x 224, by batch size and by what waiting threads do."""
    cores = str(os.cpu_count())
    variants = {
        "1 thread": {"OMP_NUM_THREADS": "1"},
        f"{cores} threads, spinning": {"OMP_NUM_THREADS": cores},
        f"{cores} threads, passive": {"OMP_NUM_THREADS": cores, "OMP_WAIT_POLICY": "passive"},
    }
    rows: Rows = []
    for name, variables in variants.items():
        output = measure.run(script("forward.py", str(setting.rounds)), more=variables).output
        rows += [[name, *line.split("\t")] for line in output.strip().splitlines()]
    header = ["threads", "batch", "user ms a frame", "system ms", "wall ms", "features"]
    return table(header, rows)


def many(setting: Setting) -> str:
    """Cost of a video beside its frames, and memory, by the number of videos."""
    sizes = (20, 60) if setting.quick else (200, 2000)
    rows: Rows = []
    for videos in sizes:
        folder = measure.make_many(setting.folder / f"many{videos}", videos=videos)
        output = setting.output(f"many{videos}")
        # Two frames each: what is left is the cost of a video, not of its frames.
        command = compute(folder, output, "fid-lite0", "--keep-features", "--max-len", "2")
        first = measure.run(command)
        again = measure.run([part for part in command if part != "--fresh"])
        rows.append(
            [
                str(videos),
                f"{first.cpu:.1f}",
                f"{1000 * first.cpu / videos:.0f}",
                f"{first.wall:.1f}",
                mb(first.own_peak),
                f"{again.cpu:.1f}",
                f"{again.wall:.1f}",
            ]
        )
    header = ["videos", "CPU s", "CPU ms a video", "wall s", "own peak MB"]
    header += ["again: CPU s", "again: wall s"]
    return f"Two frames each of 64 x 48, fid-lite0.\n\n{table(header, rows)}"


def networks(setting: Setting) -> str:
    """Networks as the engine loads them beside their plain form."""
    return measure.run(script("networks.py")).output


def peers(setting: Setting) -> str:
    """FID and IS as published, beside pytorch-fid and torch-fidelity."""
    sizes = [(2, 12)] if setting.quick else [(2, 12), (10, 20)]
    # Half an hour a round.
    sizes += [(100, 20)] if setting.full else []
    return "\n\n".join(
        beside_peers(setting.folder, videos=videos, frames=frames, rounds=setting.rounds)
        for videos, frames in sizes
    )


def published(setting: Setting) -> str:
    """Five published metrics in one run, beside five runs and beside the forwards alone."""
    pairs = 2 if setting.quick else 6
    return five_metrics(setting.folder, pairs=pairs, frames=32, rounds=setting.rounds)


def quality(setting: Setting) -> str:
    """Video quality metrics in one run, beside a run each and beside a plain loader."""
    size = {"videos": 1, "frames": 33} if setting.quick else {"videos": 2, "frames": 81}
    return quality_networks(setting.folder, vgg_of=27, rounds=setting.rounds, **size)


def similarity(setting: Setting) -> str:
    """CLIPSim and CLIPTemp in one run, beside a plain loop of transformers."""
    size = {"videos": 3, "frames": 8} if setting.quick else {"videos": 12, "frames": 32}
    return similarity_metrics(setting.folder, rounds=setting.rounds, **size)


def judges(setting: Setting) -> str:
    """What judges are asked, how long it takes, and what asking costs."""
    size = {"lavie": 3, "cogvideox": 1} if setting.quick else {"lavie": 11, "cogvideox": 4}
    return judged_metrics(setting.folder, rounds=setting.rounds, **size)


def vbench(setting: Setting) -> str:
    """Seven dimensions in one run, beside a run each and beside VBench's way."""
    return vbench_dimensions(setting.folder, quick=setting.quick, rounds=setting.rounds)


def server(setting: Setting) -> str:
    """A later job against a run of the command line, and answers while a job runs."""
    return jobs_and_health(setting.folder, rounds=max(3, setting.rounds))


def large(setting: Setting) -> str:
    """Models of billions of weights: tiny ones together, and of real size one by one."""
    videos = 2 if setting.quick else 4
    tiny = tiny_models(setting.folder, videos=videos, rounds=setting.rounds)
    return tiny if setting.quick else f"{tiny}\n\n{real_models(setting.folder)}"


FUNCTIONS = (
    *(fused, frechet, memory, startup, decode, prefetch, resize, forward, many),
    *(networks, peers, published, quality, similarity, judges, vbench, server, large),
)
BY_NAME = ("large",)
"""Not run unless they are named."""
BENCHMARKS: dict[str, Callable[[Setting], str]] = {
    function.__name__: function for function in FUNCTIONS
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small inputs, one round")
    size.add_argument("--full", action="store_true", help="10,000 rows as well")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--rounds", type=int, help="of interleaved runs (3; with --quick 1)")
    parser.add_argument("--output", type=Path, help="write the tables to this file as well")
    parser.add_argument("--folder", type=Path, help="keep clips and results here")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    parts = [measure.machine()]
    print(parts[0], flush=True)
    with tempfile.TemporaryDirectory(prefix="aigve-benchmarks-") as temporary:
        folder = arguments.folder or Path(temporary)
        setting = Setting(folder.resolve(), arguments.quick, arguments.full, rounds)
        for name in arguments.only or [name for name in BENCHMARKS if name not in BY_NAME]:
            function = BENCHMARKS[name]
            assert function.__doc__ is not None
            parts.append(f"## {name}: {function.__doc__}\n\n{function(setting).strip()}")
            print(f"\n{parts[-1]}", flush=True)
            if arguments.output:
                arguments.output.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
