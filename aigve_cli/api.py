"""What every command, a server and a notebook call."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from aigve_cli import __version__
from aigve_cli.contract import Extent, OptionValue, Request, VideoFacts
from aigve_cli.dataset.samples import Dataset, load_dataset
from aigve_cli.engine.journal import FEATURES, Journal
from aigve_cli.engine.networks import load_function, load_network
from aigve_cli.engine.plan import (
    PlannedMetric,
    plan_metrics,
    request_frames,
    request_producers,
    request_sampling,
    wanted_names,
)
from aigve_cli.engine.produce import (
    Precision,
    Producers,
    resolve_device,
    set_arithmetic,
)
from aigve_cli.engine.run import Run
from aigve_cli.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_PARTIAL,
    UsageError,
    unknown_name,
)
from aigve_cli.output import Output
from aigve_cli.registry import Registry, registry
from aigve_cli.results import files, records
from aigve_cli.video.ffmpeg import ffmpeg_version
from aigve_cli.video.views import view_to_text
from aigve_cli.weights import (
    Located,
    WeightsMode,
    WeightsPolicy,
    find_weights,
    locate_weights,
    network_card,
    network_cards,
    weights_policy,
)

FAILURES_SHOWN = 10
Settings = Mapping[str, Mapping[str, str | OptionValue]]


@dataclass(frozen=True)
class Results:
    """What a run gave: the content of ``results.json`` and the exit code of the command.

    Attributes:
        document: As ``results.json`` holds it; its schema is ``aigve_cli/results/schema.json``.
        folder: Where the files are.
        exit_code: 0 all done, 1 nothing could be scored (or ``strict``), 3 partial.
    """

    document: Mapping[str, Any]
    folder: Path
    exit_code: int

    @property
    def records(self) -> list[dict[str, Any]]:
        """One record a value."""
        return list(self.document["results"])

    def value(self, name: str) -> float | None:
        """The number called ``name``, None where it has a reason instead.

        Raises:
            KeyError: No metric of the run gives such a value.
        """
        for record in self.document["results"]:
            if record["value_name"] == name:
                value: float | None = record["value"]
                return value
        raise KeyError(name)


@dataclass(frozen=True)
class Plan:
    """Everything a run would do, before it does it."""

    dataset: Dataset
    metrics: Sequence[PlannedMetric]
    registry: Registry
    extent: Extent
    policy: WeightsPolicy

    @property
    def networks(self) -> list[str]:
        """Networks with weights that the metrics need."""
        names = {name for request in self.requests for name, _ in request_producers(request)}
        return sorted(name for name in names if network_card(name).weights)

    @property
    def requests(self) -> set[Request]:
        """The distinct requests of all metrics."""
        return {request for planned in self.metrics for request in planned.requests.values()}

    def disk_bytes(self) -> int | None:
        """At most so much disk for rows until the run ends; None if lengths must be read first."""
        total = 0
        for request in self.requests:
            frames = request_frames(request)[0]
            if frames.sampling.limit is None:
                return None
            facts = VideoFacts(0, 0, 0.0, frames.sampling.limit)
            videos = len(self.dataset.generated) if frames.role in ("generated", "each") else 0
            if frames.role in ("reference", "each"):
                videos += len(self.dataset.references)
            width = network_card(request.producer).outputs[request.output_name] or 4096
            total += videos * len(frames.sampling.units(facts)) * width * 4
        return total


def evaluate(
    input_dir: Path | str | None = None,
    reference_dir: Path | str | None = None,
    *,
    annotations: Path | str | None = None,
    video_dir: Path | str | None = None,
    generated_suffixes: str | Sequence[str] = ("synthetic", "generated"),
    recursive: bool = False,
    prompts: Path | str | None = None,
    prompt: str | None = None,
    prompt_from_name: bool = False,
    metrics: str | Sequence[str] = (),
    categories: str | Sequence[str] = (),
    max_len: int | None = None,
    max_seconds: float | None = None,
    fps: float | None = 25.0,
    pad: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    batch_size: int | None = None,
    decode_workers: int | None = None,
    precision: Precision = "fp32",
    weights: WeightsMode = "auto",
    weights_dir: Path | str | None = None,
    offline: bool = False,
    models: Mapping[str, Path | str] | None = None,
    options: Settings | None = None,
    output_dir: Path | str = ".",
    fresh: bool = False,
    keep_features: bool = False,
    strict: bool = False,
    output: Output | None = None,
) -> Results:
    """Score a folder of videos; every video is decoded once for all metrics.

    Args:
        input_dir: Folder of generated videos, or of generated and reference videos.
        reference_dir: Folder of references; then all of ``input_dir`` is generated.
        annotations: Annotation JSON or CSV, instead of ``input_dir``.
        video_dir: Folder that the annotations' paths are relative to.
        generated_suffixes: Tokens that mark a generated file in a mixed folder.
        recursive: Look into subfolders.
        prompts: File with prompts: csv, json, jsonl or txt.
        prompt: One prompt for every video.
        prompt_from_name: Take each prompt from the file's name.
        metrics: Names, or one text with commas; ``all`` is fid, is and fvd.
        categories: Names of categories, alike.
        max_len: Frames of each video; None is each metric's own default.
        max_seconds: Seconds of each video, counted with ``fps``.
        fps: Frames a second for ``max_seconds``; None takes each video's own.
        pad: Count black frames behind the end of short videos (distribution metrics).
        device: ``auto`` takes the GPU where there is one.
        batch_size: Pictures in a batch; None counts pixels.
        decode_workers: Videos decoded at the same time; None counts processors.
        precision: ``fp32``, ``tf32`` or ``bf16``; recorded with the result.
        weights: ``auto``, ``standard`` or ``embedded``.
        weights_dir: Folder of published checkpoints.
        offline: Never use the network.
        models: Checkpoint files or folders by network.
        options: Values by metric and option, as ``--set`` gives them.
        output_dir: Where results, journal and features go.
        fresh: Do not go on with what an earlier run left.
        keep_features: Keep the rows that set metrics read.
        strict: A video that fails makes the exit code 1.
        output: Where words for people go; None is silent.

    Returns:
        The results, as written to ``output_dir``.

    Raises:
        AigveError: Input, weights or the machine are not as needed; its message says what to do.
    """
    output = output or Output(silent=True)
    dataset = load_dataset(
        input_dir=_path(input_dir),
        reference_dir=_path(reference_dir),
        annotations=_path(annotations),
        video_dir=_path(video_dir),
        suffixes=generated_suffixes,
        recursive=recursive,
        prompts=_path(prompts),
        prompt=prompt,
        prompt_from_name=prompt_from_name,
    )
    plan = make_plan(
        dataset,
        metrics=_names(metrics),
        categories=_names(categories),
        extent=Extent(max_len, max_seconds, fps, pad),
        weights=weights,
        weights_dir=_path(weights_dir),
        offline=offline,
        models={name: Path(path) for name, path in (models or {}).items()},
        options=options or {},
        output=output,
    )
    return run_plan(
        plan,
        device=device,
        batch_size=batch_size,
        decode_workers=decode_workers,
        precision=precision,
        output_dir=Path(output_dir),
        fresh=fresh,
        keep_features=keep_features,
        strict=strict,
        output=output,
    )


def make_plan(
    dataset: Dataset,
    *,
    metrics: Sequence[str],
    categories: Sequence[str],
    extent: Extent,
    weights: WeightsMode,
    weights_dir: Path | None,
    offline: bool,
    models: Mapping[str, Path],
    options: Settings,
    output: Output,
) -> Plan:
    """Resolve metrics, options and networks, and refuse what cannot work.

    Raises:
        UsageError: An unknown name, a wrong value, or no references where all metrics need them.
        WeightsError: ``standard`` weights are wanted for a metric that this version lacks.
    """
    found = registry()
    for warning in found.warnings:
        output.warn(warning)
    _check_extent(extent)
    for name in models:
        if name not in network_cards():
            raise unknown_name("network", name, network_cards())
    planned = plan_metrics(
        found,
        wanted_names(found, metrics, categories),
        mode=weights,
        settings=options,
        extent=extent,
    )
    needing = [p.requested for p in planned if "reference" in p.metric.card.needs]
    if len(needing) == len(planned) and not dataset.references:
        raise UsageError(
            f"There are no reference videos for {', '.join(needing)} to compare with.",
            hint="Give --reference-dir, or name generated files like their reference with "
            "_synthetic behind (a.mp4, a_synthetic.mp4).",
        )
    policy = weights_policy(
        mode=weights,
        weights_dir=weights_dir,
        offline=offline,
        custom=models,
        announce=output.note,
    )
    return Plan(dataset, planned, found, extent, policy)


def run_plan(
    plan: Plan,
    *,
    device: str,
    batch_size: int | None,
    decode_workers: int | None,
    precision: Precision,
    output_dir: Path,
    fresh: bool,
    keep_features: bool,
    strict: bool,
    output: Output,
) -> Results:
    """Do what a plan says, and write its results."""
    for line in plan.dataset.describe():
        output.note(line)
    warnings = _announce(plan, output)
    located = {name: locate_weights(network_card(name), plan.policy) for name in plan.networks}
    device = resolve_device(device)
    # What feature and score keys do not tell, and what would change the last digits.
    settings = {
        "aigve": __version__,
        "device": device,
        "precision": precision,
        "torch": records.package_version("torch"),
        "ffmpeg": ffmpeg_version(),
    }
    about = {
        "extent": asdict(plan.extent),
        "metrics": {planned.requested: planned.name for planned in plan.metrics},
        "networks": {name: here.sha256 for name, here in located.items()},
    }
    journal = Journal(output_dir, settings, fresh=fresh, about=about)
    try:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        workers = decode_workers or max(2, min(8, processors // 2))
        run = Run(
            samples=plan.dataset.samples,
            planned=plan.metrics,
            weights={name: here.sha256 for name, here in located.items()},
            journal=journal,
            load=_loader(plan, located, device, precision, batch_size),
            workers=workers,
            threads=max(1, processors // workers),
        )
        if journal.replaced:
            output.warn(f"Kept features of another run are replaced: {journal.replaced}.")
        if journal.resumed:
            output.note(f"Going on with {output_dir / 'journal.jsonl'}.")
        with output.progress("compute", total=len(run.work())) as progress:
            run.score_samples(progress)
        document = _document(plan, run, located, device, precision, warnings)
        _write(plan, document, output_dir)
        exit_code = _exit_code(document, strict=strict)
        keep = keep_features or bool(document["counts"]["failed"])
        size = journal.feature_bytes()
        journal.finish(keep_features=keep)
    finally:
        journal.close()
    _report(document, output)
    if keep and not keep_features:
        output.note(
            f"{output_dir / FEATURES} ({size / 1e6:.0f} MB) is kept: run again once the failed "
            "videos are replaced, and only they are decoded."
        )
    return Results(document, output_dir, exit_code)


# --- steps ------------------------------------------------------------------------------------


def _names(value: str | Sequence[str]) -> list[str]:
    return value.split(",") if isinstance(value, str) else list(value)


def _path(value: Path | str | None) -> Path | None:
    return None if value is None else Path(value)


def _check_extent(extent: Extent) -> None:
    for name, value in (
        ("--max-len", extent.max_frames),
        ("--max-seconds", extent.max_seconds),
        ("--fps", extent.fps),
    ):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name} {value:g}: must be above 0.")


def _announce(plan: Plan, output: Output) -> list[str]:
    warnings = []
    if substituted := [planned for planned in plan.metrics if planned.substituted]:
        asked = ", ".join(planned.requested for planned in substituted)
        given = ", ".join(planned.name for planned in substituted)
        warnings.append(
            f"This version has no published networks for {asked}: {given} on weights that install "
            "with the package are computed instead. Values are not comparable with published ones."
        )
    if plan.extent.pad:
        warnings.append(
            "--pad counts black frames behind the end of short videos: values are comparable "
            "only with runs that pad the same way."
        )
    for warning in warnings:
        output.warn(warning)
    return [*plan.registry.warnings, *warnings]


def _loader(
    plan: Plan,
    located: Mapping[str, Located],
    device: str,
    precision: Precision,
    batch_size: int | None,
) -> Callable[[], Producers]:
    def load() -> Producers:
        set_arithmetic(precision)
        networks: dict[tuple[str, str], Any] = {}
        functions: dict[tuple[str, str], Any] = {}
        for name, variant in set().union(*map(request_producers, plan.requests)):
            card = network_card(name)
            if name in located:
                network = load_network(card, located[name], device=device, variant=variant)
                networks[name, variant] = network
            else:
                functions[name, variant] = load_function(card, variant)
        return Producers(networks, functions, device, precision, batch_size)

    return load


def _document(
    plan: Plan,
    run: Run,
    located: Mapping[str, Located],
    device: str,
    precision: Precision,
    warnings: Sequence[str],
) -> dict[str, Any]:
    dataset = plan.dataset
    entries = records.video_entries(run, dataset.video_dir)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for planned in plan.metrics:
        if planned.name not in by_name:
            made = records.metric_records(run, planned, located, plan.extent)
            by_name[planned.name] = made
    return {
        "schema_version": records.SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": records.environment(device, precision),
        "dataset": {
            "video_dir": str(dataset.video_dir),
            "prompt_dir": dataset.prompt_dir,
            "generated": len(dataset.generated),
            "references": len(dataset.references),
            "pairs": len(dataset.pairs),
            "left_out": [
                {"path": str(left.path), "reason": left.reason} for left in dataset.left_out
            ],
        },
        "counts": {**run.counts.__dict__, "failed": len(records.failures(entries))},
        "results": [
            {**record, "requested": planned.requested}
            for planned in plan.metrics
            for record in by_name[planned.name]
        ],
        "substitutions": [
            {
                "requested": planned.requested,
                "metric": planned.name,
                "why": "the published network is not part of this version",
            }
            for planned in plan.metrics
            if planned.substituted
        ],
        "videos": entries,
        "warnings": [*dataset.notes, *warnings],
    }


def _write(plan: Plan, document: Mapping[str, Any], folder: Path) -> None:
    for planned in plan.metrics:
        own = [r for r in document["results"] if r["metric"] == planned.name]
        files.write_historical(folder, planned, own, document["videos"])
    files.write_result(folder / files.RESULTS, document)


def _exit_code(document: Mapping[str, Any], *, strict: bool) -> int:
    numbers = [record["value"] for record in document["results"]]
    if all(value is None for value in numbers):
        return EXIT_FAILED
    complete = (
        None not in numbers
        and not document["counts"]["failed"]
        and not any(entry["excluded"] for entry in document["videos"])
    )
    if complete:
        return EXIT_DONE
    return EXIT_FAILED if strict else EXIT_PARTIAL


def _report(document: Mapping[str, Any], output: Output) -> None:
    failed = records.failures(document["videos"])
    if failed:
        output.warn(f"{len(failed)} video{'s' * (len(failed) > 1)} failed:")
        for path, reason in failed[:FAILURES_SHOWN]:
            output.warn(f"  {path}: {reason}")
        if len(failed) > FAILURES_SHOWN:
            output.warn(f"  and {len(failed) - FAILURES_SHOWN} more, all in results.json")
    short: dict[str, list[str]] = {}
    for entry in document["videos"]:
        for metric, why in entry["excluded"].items():
            if "too short" in why:
                short.setdefault(metric, []).append(entry["sample"])
    for metric, names in short.items():
        output.warn(
            f"{metric}: {len(names)} video{'s' * (len(names) > 1)} too short, first: {names[0]}"
        )
    for path in document["dataset"]["left_out"]:
        output.detail(f"left out: {path['path']}: {path['reason']}")


def with_dataset(plan: Plan, dataset: Dataset) -> Plan:
    """The same plan for other files."""
    return replace(plan, dataset=dataset)


def describe_plan(plan: Plan, output_dir: Path, output: Output) -> list[dict[str, Any]]:
    """What a run would do, a row a metric; the rest in words to ``output``."""
    for line in plan.dataset.describe():
        output.note(line)
    _announce(plan, output)
    for name in plan.networks:
        here = find_weights(network_card(name), plan.policy)
        output.note(f"{name}: {here.path} ({here.origin})" if here else f"{name}: not here yet")
    size = plan.disk_bytes()
    words = "an unknown size" if size is None else f"at most {size / 1e6:.0f} MB"
    output.note(
        f"1 pass; {words} of features in {output_dir}, "
        f"where {_free_disk(output_dir) / 1e9:.0f} GB are free"
    )
    rows = []
    for planned in plan.metrics:
        requests = list(planned.requests.values())
        rows.append(
            {
                "metric": planned.name,
                "requested": planned.requested,
                "producers": _lines(name for r in requests for name, _ in request_producers(r)),
                "view": _lines(view_to_text(request_frames(r)[0].view) for r in requests),
                "sampling": _lines(str(request_sampling(r)) for r in requests),
                "options": ", ".join(f"{k}={v}" for k, v in planned.options.items()),
            }
        )
    return rows


def _lines(texts: Iterable[str]) -> str:
    return ", ".join(sorted(set(texts)))


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
