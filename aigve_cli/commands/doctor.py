"""``aigve doctor``: is everything here that a run needs?"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from aigve_cli.commands.compute import FormatOption
from aigve_cli.output import Column, Output


class Check(NamedTuple):
    """A thing that was looked at."""

    name: str
    status: str
    """``ok``, ``note`` (works without) or ``broken``."""
    found: str


COLUMNS = (
    Column("check", "CHECK"),
    Column("status", "STATUS"),
    Column("found", "FOUND", wrap=True),
)


def doctor(
    ctx: typer.Context,
    weights_dir: Annotated[
        Path | None,
        typer.Option(
            "--weights-dir",
            metavar="FOLDER",
            envvar="AIGVE_WEIGHTS_DIR",
            help="Folder of published checkpoints.",
        ),
    ] = None,
    format_: FormatOption = "auto",
) -> None:
    """Say whether everything that a run needs is here.

    Looks at python, torch, ffmpeg, disk, weights, plugins and configuration. Exits with 4 if
    something that a run needs is broken.
    """
    from aigve_cli.errors import EXIT_ENVIRONMENT

    output: Output = ctx.obj
    checks = list(_checks(ctx, weights_dir))
    rows = [{"check": c.name, "status": c.status, "found": c.found} for c in checks]
    output.rows(rows, COLUMNS, format_)
    if any(check.status == "broken" for check in checks):
        raise typer.Exit(EXIT_ENVIRONMENT)


def _checks(ctx: typer.Context, weights_dir: Path | None) -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield from _guarded("torch", _torch)
    yield from _guarded("ffmpeg", _ffmpeg)
    yield from _guarded("cache", lambda: _disk(weights_dir))
    yield from _guarded("weights", lambda: _weights(weights_dir))
    yield from _guarded("metrics", _metrics)
    yield from _config(ctx)


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except Exception as error:  # the doctor's work is to say what is broken, however it broke
        yield Check(name, "broken", f"{type(error).__name__}: {error}")


def _torch() -> Iterator[Check]:
    import torch
    import torchvision

    yield Check("torch", "ok", f"{torch.__version__}, torchvision {torchvision.__version__}")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        name = torch.cuda.get_device_name()
        yield Check("gpu", "ok", f"{name}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
    else:
        yield Check("gpu", "note", f"none: networks run on {os.cpu_count()} processors")


def _ffmpeg() -> Iterator[Check]:
    from aigve_cli.video.ffmpeg import ffmpeg_binary

    binary = ffmpeg_binary()
    done = subprocess.run([binary, "-version"], capture_output=True, text=True, check=False)
    if done.returncode:
        yield Check("ffmpeg", "broken", f"{binary} exits with {done.returncode}: {done.stderr}")
    else:
        yield Check("ffmpeg", "ok", f"{done.stdout.split(' Copyright')[0]} ({binary})")


def _disk(weights_dir: Path | None) -> Iterator[Check]:
    from aigve_cli.weights import weights_policy

    folder = weights_policy(weights_dir=weights_dir).cache_dir
    here = folder
    while not here.exists():
        here = here.parent
    writable = os.access(here, os.W_OK)
    free = shutil.disk_usage(here).free / 2**30
    words = f"{folder}, {free:.0f} GiB free" + ("" if writable else ", not writable")
    yield Check("cache", "ok" if writable else "note", words)


def _weights(weights_dir: Path | None) -> Iterator[Check]:
    from aigve_cli.errors import WeightsError
    from aigve_cli.weights import find_weights, network_cards, weights_policy

    policy = weights_policy(weights_dir=weights_dir)
    for name, card in network_cards().items():
        for tag, entry in card.weights.items():
            label = f"weights {name}"
            try:
                here = find_weights(card, policy, tag=tag, rehash=True)
            except WeightsError as error:
                yield Check(label, "broken", error.message)
                continue
            if here:
                yield Check(label, "ok", f"{here.path} ({here.origin}, {entry.licence})")
            elif entry.embedded:
                yield Check(label, "broken", f"the package {entry.package} is not installed")
            else:
                yield Check(label, "note", f"not here; `aigve models fetch {name}`")


def _metrics() -> Iterator[Check]:
    from aigve_cli.registry import registry

    found = registry()
    plugins = sorted({source for source in found.sources.values() if source != "aigve"})
    words = f"{len(found.metrics)} metrics"
    yield Check("metrics", "ok", words + (f", plugins: {', '.join(plugins)}" if plugins else ""))
    for warning in found.warnings:
        yield Check("plugin", "note", warning)


def _config(ctx: typer.Context) -> Iterator[Check]:
    config = ctx.meta.get("aigve.config")
    path = str(config.path) if config and config.path else "no aigve.toml"
    yield Check("config", "ok", path)
    for name, value in sorted(config.options.items() if config else ()):
        yield Check(f"  {name}", "ok", f"{value} ({path})")
    for metric, values in sorted(config.metrics.items() if config else ()):
        for name, value in values.items():
            yield Check(f"  {metric}.{name}", "ok", f"{value} ({path})")
    for name, place in sorted(config.models.items() if config else ()):
        yield Check(f"  model {name}", "ok", f"{place} ({path})")
    for name, value in sorted(os.environ.items()):
        if name.startswith("AIGVE_"):
            yield Check(f"  {name}", "ok", f"{value} (environment)")
