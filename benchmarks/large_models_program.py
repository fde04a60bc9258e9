"""`aigve`, which then writes down how long it took to load models and to look, and its memory.

    large_models_program.py [--most-tokens N] [--free BYTES] REPORT ARGUMENT …

An answer ends after so many tokens, and so much memory is said to be free. The report is JSON.
Memory is that of pages of its own and of pages of files, which the system takes back when it needs
them; both are polled, and there only under Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from aigve_cli import api
from aigve_cli.engine import memory, passes
from aigve_cli.main import main as aigve

POLL_SECONDS = 0.05
KINDS = {"RssAnon": "own", "RssFile": "files", "VmRSS": "both"}


class Watch:
    """Seconds by step, of each call, and peaks of memory in bytes."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"find": [], "load": [], "look": []}
        self.peaks = dict.fromkeys(KINDS.values(), 0)

    def timed(self, step: str, function: Any) -> Any:
        """The same function, whose calls are timed."""

        def call(*arguments: Any, **named: Any) -> Any:
            begin = time.monotonic()
            result = function(*arguments, **named)
            self.seconds[step].append(time.monotonic() - begin)
            return result

        return call

    def load(self, *arguments: Any, **named: Any) -> Any:
        """A network, whose looks are timed too."""
        network = load_network(*arguments, **named)
        network.with_text = self.timed("look", network.with_text)
        return network

    def poll(self, done: threading.Event) -> None:
        while not done.wait(POLL_SECONDS):
            with contextlib.suppress(OSError):
                for line in Path("/proc/self/status").read_text().splitlines():
                    name, _, size = line.partition(":")
                    if kind := KINDS.get(name):
                        self.peaks[kind] = max(self.peaks[kind], int(size.split()[0]) * 1024)


def gpu_peak() -> int:
    """Bytes that torch has taken of the GPU at most."""
    torch = sys.modules.get("torch")
    return torch.cuda.max_memory_reserved() if torch and torch.cuda.is_available() else 0


load_network = passes.load_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most-tokens", type=int)
    parser.add_argument("--free", type=int)
    parser.add_argument("report", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    watch = Watch()
    api.resolve_plan = watch.timed("find", api.resolve_plan)
    passes.load_network = watch.timed("load", watch.load)
    if given.most_tokens:
        from aigve_models import videophy2, videoscore2

        videophy2.MAX_WRITTEN = videoscore2.MAX_TOKENS = given.most_tokens
    if given.free:
        memory.free_memory = lambda device: memory.Memory(given.free, None)
    done = threading.Event()
    poller = threading.Thread(target=watch.poll, args=(done,))
    poller.start()
    code = aigve(given.arguments)
    done.set()
    poller.join()
    report = {"seconds": watch.seconds, "peaks": watch.peaks | {"gpu": gpu_peak()}}
    given.report.write_text(json.dumps(report), encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
