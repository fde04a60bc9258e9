"""Judges: what three metrics ask, how long it takes, and what asking itself costs.

A judge on loopback takes a fixed time a request and a picture (`judges_server.py`); beside ours
runs a plain loop with the same questions and the same pictures (`judges_program.py`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import measure
from measure import Cost, Rows, cpu, mb, script, table, wall

METRICS = ("viescore", "tifa", "dsg")
SHOWS = ("multi", "per-frame", "grid", "video")
AT_ONCE = (0, 0)
SERVICE = (100, 20)
"""Milliseconds a request, and a picture or video in it."""
DEFAULT_CONCURRENCY = 8
SIZES = {"lavie": (512, 512, 16), "cogvideox": (1360, 768, 81)}
"""Width, height and frames. Drawn instead where there are no real clips."""
ESTIMATE = re.compile(r"^(\w+): .* ([\d,]+) tokens$", re.MULTILINE)


@dataclass(frozen=True)
class Clips:
    """Videos with their prompts."""

    name: str
    annotations: Path
    videos: Path
    count: int


@dataclass(frozen=True)
class Server:
    """The judge."""

    url: str

    def counted(self) -> dict[str, int]:
        """What it was sent since the last call."""
        with urlopen(f"{self.url}/counted") as reply:
            found: dict[str, int] = json.load(reply)
        return found


@contextmanager
def judge_server(service: Sequence[int]) -> Iterator[Server]:
    """A judge that takes so many milliseconds a request and a picture."""
    command = script("judges_server.py", *map(str, service))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()


def clips_of(folder: Path, name: str, most: int) -> Clips:
    """Real clips where the tests have some, else drawn ones of the same size."""
    media = os.environ.get("AIGVE_TEST_MEDIA")
    if media:
        videos = Path(media) / name
        entries = json.loads((videos / "annotations.json").read_text())["data_list"][:most]
    else:
        videos = folder / f"judged_{name}"
        entries = []
        width, height, frames = SIZES[name]
        for seed in range(most):
            path = videos / f"clip{seed:04d}.mp4"
            measure.make_clip(path, width=width, height=height, frames=frames, seed=seed)
            entries.append({"video_path_pd": path.name, "prompt_gt": f"test picture {seed}"})
    annotations = folder / f"judged_{name}{len(entries)}.json"
    kept = [{key: entry[key] for key in ("video_path_pd", "prompt_gt")} for entry in entries]
    annotations.write_text(json.dumps({"data_list": kept}))
    return Clips(name, annotations, videos, len(entries))


@dataclass(frozen=True)
class Runs:
    """Commands, and where they keep what they are told."""

    folder: Path
    server: Server

    @property
    def answers(self) -> Path:
        return self.folder / "answers"

    @property
    def results(self) -> Path:
        return self.folder / "results" / "judged"

    def ours(self, clips: Clips, metrics: Sequence[str], *more: str) -> list[str]:
        folders = ("--output-dir", self.results, "--judge-cache", self.answers)
        return measure.aigve(
            *("compute", "--annotations", clips.annotations, "--video-dir", clips.videos),
            *("--metrics", ",".join(metrics), "--fresh", "--use-cpu", *folders),
            *("--judge", "openai:plain", "--judge-url", f"{self.server.url}/v1", *more),
        )

    def first(self, command: Sequence[str]) -> Cost:
        """Run a command for which nothing was answered before."""
        shutil.rmtree(self.answers, ignore_errors=True)
        return measure.run(command)

    def plain(self, clips: Clips, metric: str) -> Cost:
        command = ("judges_program.py", self.server.url, clips.annotations, clips.videos, metric)
        return measure.run(script(*command))

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.results / "results.json").read_text())
        return found

    def values(self) -> dict[str, float]:
        return {entry["value_name"]: entry["value"] for entry in self.document()["results"]}


def judged_metrics(folder: Path, *, lavie: int, cogvideox: int, rounds: int) -> str:
    """Three metrics over so many real clips, by us and by a plain loop.

    Args:
        folder: For clips, answers and results.
        lavie: Clips of 512 x 512.
        cogvideox: Clips of 1360 x 768.
        rounds: Of interleaved runs.
    """
    (folder / "results").mkdir(parents=True, exist_ok=True)
    sets = [clips_of(folder, "lavie", lavie), clips_of(folder, "cogvideox", cogvideox)]
    measure.make_clip(folder / "judged_tiny" / "clip.mp4", width=64, height=48, frames=8, seed=1)
    tiny_file = folder / "judged_tiny.json"
    entry = {"video_path_pd": "clip.mp4", "prompt_gt": "a test picture"}
    tiny_file.write_text(json.dumps({"data_list": [entry]}))
    tiny = Clips("tiny", tiny_file, folder / "judged_tiny", 1)
    sections = []
    with judge_server(AT_ONCE) as server:
        runs = Runs(folder, server)
        sections += [_asked(runs, clips_of(folder, of.name, min(of.count, 4))) for of in sets]
        sections += [_own_cost(runs, clips, tiny, rounds) for clips in sets]
    with judge_server(SERVICE) as server:
        sections.append(_times(Runs(folder, server), sets[0], rounds))
    return "\n\n".join(sections)


def _asked(runs: Runs, clips: Clips) -> str:
    """What is sent, by metric and by how a video is shown."""
    rows: Rows = []
    for show in SHOWS:
        shown = [f"--set={metric}.show={show}" for metric in METRICS]
        dry = measure.run(runs.ours(clips, METRICS, *shown, "--dry-run")).output
        estimated = {name: int(text.replace(",", "")) for name, text in ESTIMATE.findall(dry)}
        for metric in METRICS:
            runs.server.counted()
            runs.first(runs.ours(clips, [metric], f"--set={metric}.show={show}"))
            sent = runs.server.counted()
            asked = runs.document()["counts"]["judge"]
            if asked["requests"] != sent["requests"]:
                raise RuntimeError(f"{asked} was counted, and {sent} has arrived")
            each = [
                *(sent["requests"], sent["shown requests"], sent["pictures"], asked["images"]),
                *(estimated[metric], sent["picture tokens"]),
            ]
            numbers = [f"{number / clips.count:,.0f}" for number in each]
            numbers.insert(4, f"{sent['bytes'] / clips.count / 1e6:.2f}")
            rows.append([metric, show, *numbers])
    header = ["", "show", "requests", "with pictures", "pictures and videos", "frames in them"]
    header += ["MB sent", "tokens, dry run", "tokens of pictures, 28 x 28 pixels each"]
    head = f"Sent a video ({clips.name}, {clips.count} clips), answers at once."
    return f"{head}\n\n{table(header, rows)}"


def _own_cost(runs: Runs, clips: Clips, tiny: Clips, rounds: int) -> str:
    """What asking takes apart from the judge: it answers at once."""
    costs: dict[str, list[Cost]] = {}
    decodes: dict[str, int] = {}
    facts = values = ""
    ways = ["one run", *METRICS, *(f"plain {metric}" for metric in METRICS)]
    ways += ["start", "start plain"]
    for number in range(rounds):
        for way in ways[:: 1 if number % 2 == 0 else -1]:
            where = tiny if way.startswith("start") else clips
            if "plain" in way:
                metric = way.removeprefix("plain ") if way != "start plain" else METRICS[0]
                costs.setdefault(way, []).append(runs.plain(where, metric))
                decodes[way] = where.count
                continue
            command = runs.ours(where, [way] if way in METRICS else METRICS)
            costs.setdefault(way, []).append(runs.first(command))
            decodes[way] = runs.document()["counts"]["decodes"]
            if way in METRICS:
                continue
            if way == "one run":
                facts, ours = _kept(runs), runs.values()
            costs.setdefault(f"{way} again", []).append(measure.run(command))
            counts = runs.document()["counts"]
            decodes[f"{way} again"] = counts["decodes"]
            if counts["judge"]["requests"]:
                raise RuntimeError("a second run has asked")
        values = ", ".join(
            f"{metric} {ours[metric]:.6f} and {float(costs[f'plain {metric}'][0].output):.6f}"
            for metric in METRICS
        )
    rows: Rows = []
    own: dict[str, float] = {}
    for way, of in sorted(costs.items(), key=lambda item: _places(ways, item[0])):
        own[way] = (cpu(of) - cpu(costs[_start(way)])) / clips.count
        each = "" if way.startswith("start") else f"{own[way]:.3f}"
        peak = mb(max(cost.own_peak + cost.child_peak for cost in of))
        row = [way, f"{decodes[way]}", f"{cpu(of):.2f}", each, f"{wall(of):.2f}", peak]
        rows.append(row)
    for what, names in {
        "plain, all three": [f"plain {metric}" for metric in METRICS],
        "three runs": METRICS,
    }.items():
        ratios = [
            sum(decodes[name] for name in names) / decodes["one run"],
            sum(cpu(costs[name]) for name in names) / cpu(costs["one run"]),
            sum(own[name] for name in names) / own["one run"],
            sum(wall(costs[name]) for name in names) / wall(costs["one run"]),
        ]
        rows.append([f"{what} / one run", *(f"{ratio:.2f} ×" for ratio in ratios), ""])
    header = ["", "decodes", "CPU s", "CPU s a video, less start-up", "wall s", "peak MB"]
    head = f"{clips.name}, {clips.count} clips, a judge that answers at once. {facts}\n"
    head += f"Values, ours and the plain loop's: {values}."
    return f"{head}\n\n{table(header, rows)}"


def _places(ways: Sequence[str], way: str) -> tuple[int, str]:
    """The order of rows: a second run stands below its first."""
    return ways.index(way.removesuffix(" again")), way


def _start(way: str) -> str:
    """The run that is nearly nothing but start-up."""
    if "plain" in way:
        return "start plain"
    return "start again" if way.endswith("again") else "start"


def _kept(runs: Runs) -> str:
    files = [file.stat() for file in runs.answers.rglob("*.json")]
    size, disk = sum(file.st_size for file in files), sum(512 * file.st_blocks for file in files)
    return (
        f"Answers kept: {len(files)} files, {size / len(files):.0f} bytes each, "
        f"{size / 1e6:.2f} MB, on disk {disk / 1e6:.2f}."
    )


def _times(runs: Runs, clips: Clips, rounds: int) -> str:
    """How long all takes by how many requests there are at a time, and as a plain loop."""
    first: dict[str, list[Cost]] = {}
    again: dict[str, list[Cost]] = {}
    requests: dict[str, int] = {}
    loop = "plain, all three"
    ways = ["1", str(DEFAULT_CONCURRENCY), "32", loop]
    for number in range(rounds):
        for way in ways[:: 1 if number % 2 == 0 else -1]:
            runs.server.counted()
            if way == loop:
                first.setdefault(way, []).append(_sum([runs.plain(clips, m) for m in METRICS]))
            else:
                command = runs.ours(clips, METRICS, "--judge-concurrency", way)
                first.setdefault(way, []).append(runs.first(command))
            requests[way] = runs.server.counted()["requests"]
            if way != loop:
                again.setdefault(way, []).append(measure.run(command))
                if runs.server.counted():
                    raise RuntimeError("a second run has asked")
    rows: Rows = []
    for way in ways:
        faster = f"{wall(first[loop]) / wall(first[way]):.1f} ×"
        row = [way, str(requests[way]), f"{wall(first[way]):.1f}", faster, f"{cpu(first[way]):.1f}"]
        second = again.get(way)
        row += [f"{wall(second):.1f}", f"{cpu(second):.1f}"] if second else ["", ""]
        rows.append(row)
    header = ["--judge-concurrency", "requests", "wall s", "plain / this", "CPU s"]
    header += ["second run: wall s", "CPU s"]
    a_request, a_picture = SERVICE
    return (
        f"{clips.name}, {clips.count} clips, three metrics; a judge that takes {a_request} ms a "
        f"request and {a_picture} ms a picture, at most 16 requests at the same time.\n\n"
        f"{table(header, rows)}"
    )


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(
        sum(cost.cpu for cost in costs),
        sum(cost.wall for cost in costs),
        max(cost.own_peak for cost in costs),
        max(cost.child_peak for cost in costs),
        "",
    )
