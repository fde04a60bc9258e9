"""CPU seconds, wall seconds and peak memory of child processes; clips to measure on; tables.

CPU seconds are user + system of a process and of all children that it waited for, from
`os.wait4`: on a shared machine they vary far less than wall clock. Commands that are compared run
interleaved in one session, and medians are quoted.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "numpy", "scipy", "timm", "imageio-ffmpeg", "opencv-python-headless")
POLL_SECONDS = 0.02
PAGE = os.sysconf("SC_PAGE_SIZE")
Rows = list[list[str]]


@dataclass(frozen=True)
class Cost:
    """What a child process took."""

    cpu: float
    wall: float
    own_peak: int
    """Largest resident memory of the process itself, bytes."""
    child_peak: int
    """Largest sum of resident memory over its descendants, the decoders, bytes, polled."""
    output: str


def environment() -> dict[str, str]:
    """The environment of a child: it imports this checkout, and its matrix products use one thread.

    Threads that wait for each other spin, which counts as CPU time and beside other work on the
    same cores multiplies it; set OMP_NUM_THREADS to measure otherwise.
    """
    paths = [str(ROOT), str(ROOT / "models"), os.environ.get("PYTHONPATH", "")]
    paths_text = os.pathsep.join(filter(None, paths))
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": paths_text}


def aigve(*arguments: str | Path) -> list[str]:
    """The command line of `aigve`."""
    code = "import sys; sys.argv[0] = 'aigve'; from aigve_cli.main import run; run()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def script(name: str, *arguments: str | Path) -> list[str]:
    """The command line of a script beside this file."""
    return [sys.executable, str(Path(__file__).parent / name), *map(str, arguments)]


def run(
    command: Sequence[str], *, ok: Sequence[int] = (0,), more: Mapping[str, str] | None = None
) -> Cost:
    """Run a command to its end, with more environment variables.

    Raises:
        RuntimeError: It ended with another exit code than those that are ok.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environment(), **(more or {})},
    )
    assert process.stdout is not None
    peak = [0]
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
    watcher.start()
    with process.stdout as stream:
        output = stream.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    done.set()
    watcher.join()
    if process.returncode not in ok:
        raise RuntimeError(f"{command} ended with {process.returncode}:\n{output[-2000:]}")
    own = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Cost(usage.ru_utime + usage.ru_stime, wall, own, peak[0], output)


def interleaved(
    commands: Mapping[str, Sequence[str]], *, rounds: int, ok: Sequence[int] = (0,)
) -> dict[str, list[Cost]]:
    """Every command once a round, in turn; every second round backwards."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds):
        names = list(commands)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            costs[name].append(run(commands[name], ok=ok))
    return costs


def cpu(costs: Sequence[Cost]) -> float:
    """Median CPU seconds."""
    return statistics.median(cost.cpu for cost in costs)


def wall(costs: Sequence[Cost]) -> float:
    """Median wall seconds."""
    return statistics.median(cost.wall for cost in costs)


def _watch(root: int, peak: list[int], done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        total = sum(_resident(process, root) for process in _descendants(root) if process != root)
        peak[0] = max(peak[0], total)


def _descendants(root: int) -> list[int]:
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return found


def _resident(process: int, root: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        # Between vfork and exec a child shows its parent's memory.
        if os.readlink(f"/proc/{process}/exe") == os.readlink(f"/proc/{root}/exe"):
            return 0
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    return 0


# --- clips ------------------------------------------------------------------------------------


def make_clip(
    path: Path, *, width: int, height: int, frames: int, seed: int, filters: str = "null"
) -> Path:
    """A moving test picture with a little grain, H.264 at about the rate of generated videos."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = f"testsrc2=s={width}x{height}:r=24"
    grain = f"noise=alls=6:allf=t:all_seed={seed}"
    chain = f"hue=h={seed * 37 % 360}:s={1 + seed % 3},{grain},{filters}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-v", "error", "-y"]
    command += ["-f", "lavfi", "-i", f"{picture},{chain}", "-frames:v", str(frames)]
    command += ["-c:v", "libx264", "-crf", "26", "-preset", "veryfast", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, str(path)], check=True)
    return path


def make_pairs(folder: Path, *, pairs: int, width: int, height: int, frames: int) -> Path:
    """Clips and blurred `_synthetic` copies."""
    for seed in range(pairs):
        size = {"width": width, "height": height, "frames": frames, "seed": seed}
        make_clip(folder / f"clip{seed:04d}.mp4", **size)
        blurred = f"gblur=sigma={1 + seed % 4}"
        make_clip(folder / f"clip{seed:04d}_synthetic.mp4", filters=blurred, **size)
    return folder


def make_many(folder: Path, *, videos: int) -> Path:
    """Tiny clips of distinct content: one file with another last box, which no decoder reads."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [
        make_clip(
            folder.parent / f"seed{seed}.mp4", width=64, height=48, frames=16, seed=seed
        ).read_bytes()
        for seed in range(4)
    ]
    for number in range(videos):
        name = f"clip{number // 2:05d}{'_synthetic' if number % 2 else ''}.mp4"
        free_box = (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        (folder / name).write_bytes(seeds[number % 4] + free_box)
    return folder


# --- words ------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Rows) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mb(size: float) -> str:
    return f"{size / 1e6:.0f}"


def machine() -> str:
    """Processor, cores and versions, in words."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if "model name" in x), model)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}; {time.strftime('%Y-%m-%d')}"
    )
