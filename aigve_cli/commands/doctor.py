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
from aigve_cli.commands.config import run_parameters
from aigve_cli.commands.origins import option_ranks, outranked
from aigve_cli.config import (
    CONFIG,
    CONFIG_PROBLEM,
    Config,
    environment_models,
    environment_settings,
    merge_settings,
)
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
    """The file, then every value that it or the environment sets, as ``compute`` would see it."""
    problem = ctx.meta.get(CONFIG_PROBLEM)
    config: Config = ctx.meta.get(CONFIG, Config())
    path = str(config.path) if config.path else "no aigve.toml"
    if problem is not None:
        yield Check("config", "broken", " ".join(filter(None, (problem.message, problem.hint))))
    else:
        yield Check("config", "ok", path)
    yield from _guarded("options", lambda: _options(ctx, path))
    yield from _guarded("metric options", lambda: _settings(config, path))
    yield from _guarded("model", lambda: _models(config, path))
    shown = {"AIGVE_SET", "AIGVE_MODEL", *(option.envvar for option in run_parameters(ctx))}
    for name, value in sorted(os.environ.items()):
        if name.startswith("AIGVE_") and name not in shown:
            # What doctor prints is pasted into reports: a key is only said to be there.
            words = "set" if name.endswith("_KEY") else value
            yield Check(f"  {name}", "ok", f"{words} (environment)")


def _options(ctx: typer.Context, path: str) -> Iterator[Check]:
    root = ctx.find_root()
    compute = root.command.commands["compute"]  # type: ignore[attr-defined]
    try:
        run = compute.make_context("compute", [], parent=root)
    except typer.BadParameter as error:
        places = f"({path} or the environment)"
        yield Check("options", "broken", f"{error.format_message()} {places}")
        return
    losers = outranked(option_ranks(run))
    for option in sorted(run_parameters(ctx), key=lambda option: str(option.name)):
        origin = {"DEFAULT_MAP": path, "ENVIRONMENT": option.envvar}.get(
            run.get_parameter_source(option.name).name
        )
        if origin is None:
            continue
        name, value = option.name.rstrip("_"), run.params[option.name]
        words = f"{str(value).lower() if isinstance(value, bool) else value} ({origin})"
        if option.name in losers:
            yield Check(f"  {name}", "note", f"{words}, not used: {losers[option.name]} wins")
        else:
            yield Check(f"  {name}", "ok", words)


def _settings(config: Config, path: str) -> Iterator[Check]:
    environment = merge_settings(environment_settings())
    for metric, values in sorted(merge_settings(config.metrics, environment).items()):
        for name, value in values.items():
            origin = "AIGVE_SET" if name in environment.get(metric, {}) else path
            yield Check(f"  {metric}.{name}", "ok", f"{value} ({origin})")


def _models(config: Config, path: str) -> Iterator[Check]:
    environment = environment_models()
    for name, place in sorted({**config.models, **environment}.items()):
        origin = "AIGVE_MODEL" if name in environment else path
        yield Check(f"  model {name}", "ok", f"{place} ({origin})")
