"""What every command, a server and a notebook call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from aigve_cli import __version__
from aigve_cli.contract import Extent
from aigve_cli.dataset.samples import load_dataset
from aigve_cli.engine.journal import FEATURES, Journal
from aigve_cli.engine.kept import KeptNetworks
from aigve_cli.engine.memory import PrecisionChoice, base_precision, fit_models, key_of
from aigve_cli.engine.passes import Machine, Passes
from aigve_cli.engine.producers import Precision, resolve_device
from aigve_cli.engine.resolve import Resolved, resolve_plan
from aigve_cli.engine.run import reference_statistics, without_statistics
from aigve_cli.engine.saved_statistics import (
    SavedStatistics,
    check_statistics,
    write_statistics_file,
)
from aigve_cli.engine.setup import Plan, announce_plan, make_plan
from aigve_cli.errors import EXIT_FAILED, EXIT_PARTIAL, UsageError
from aigve_cli.judges.settings import counts_to_text, judge_settings, unread_to_text
from aigve_cli.output import Output
from aigve_cli.registry import Settings
from aigve_cli.results import records, vbench
from aigve_cli.results.document import (
    document_to_exit_code,
    report_failures,
    run_to_document,
    write_document,
)
from aigve_cli.results.files import RESULTS
from aigve_cli.video.ffmpeg import ffmpeg_version
from aigve_cli.weights import WeightsMode

Device = Literal["auto", "cpu", "cuda"]


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
            KeyError: No metric of the run gives such a value: ``fid`` is never that of another
                network, under whose name it stands.
        """
        for record in self.document["results"]:
            if name == record["value_name"]:
                value: float | None = record["value"]
                return value
        known = ", ".join(record["value_name"] for record in self.document["results"])
        raise KeyError(f"{name}; this run has {known}")


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
    vbench_info: Path | str | None = None,
    metrics: str | Sequence[str] = (),
    categories: str | Sequence[str] = (),
    max_len: int | None = None,
    max_seconds: float | None = None,
    fps: float | None = 25.0,
    pad: bool = False,
    device: Device = "auto",
    batch_size: int | None = None,
    decode_workers: int | None = None,
    precision: PrecisionChoice = "auto",
    weights: WeightsMode = "auto",
    weights_dir: Path | str | None = None,
    offline: bool = False,
    models: Mapping[str, Path | str] | None = None,
    options: Settings | None = None,
    reference_stats: Path | str | None = None,
    save_stats: Path | str | None = None,
    judge: str | None = None,
    judge_url: str | None = None,
    judge_text: str | None = None,
    judge_text_url: str | None = None,
    judge_concurrency: int | None = None,
    judge_cache: Path | str | None = None,
    max_requests: int | None = None,
    output_dir: Path | str = ".",
    fresh: bool = False,
    keep_features: bool = False,
    strict: bool = False,
    output: Output | None = None,
    kept: KeptNetworks | None = None,
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
        vbench_info: VBench's suite, which says what each video counts for.
        metrics: Names, or one text with commas; ``all`` is fid, is and fvd.
        categories: Names of categories, alike.
        max_len: Frames of each video; None is each metric's own default.
        max_seconds: Seconds of each video, counted with ``fps``.
        fps: Frames a second for ``max_seconds``; None takes each video's own.
        pad: Count black frames behind the end of short videos (distribution metrics).
        device: ``auto`` takes the GPU where there is one.
        batch_size: Pictures in a batch; None counts pixels.
        decode_workers: Videos decoded at the same time; None counts processors.
        precision: ``fp32``, ``tf32`` or ``bf16``; recorded with the result. ``auto`` is ``fp32``,
            and on a GPU ``bf16`` for models of billions of weights.
        weights: ``auto``, ``standard`` or ``embedded``.
        weights_dir: Folder of published checkpoints.
        offline: Never use the network.
        models: Checkpoint files or folders by network.
        options: Values by metric and option, as ``--set`` gives them.
        reference_stats: Saved statistics of a reference set, instead of its videos.
        save_stats: Write the statistics of the reference videos to this file.
        judge: Who is asked about videos: ``openai:MODEL`` or ``local:ID_OR_FOLDER``.
        judge_url: Address of an OpenAI-compatible server; None is OpenAI's own. Keys are read from
            the environment.
        judge_text: Who is asked about texts alone; None is the same.
        judge_text_url: Its address; None is the same.
        judge_concurrency: Requests at a time; None is 8.
        judge_cache: Folder of the answers that were ever given; None is in the cache folder.
        max_requests: After so many requests nothing more is asked.
        output_dir: Where results, journal and features go.
        fresh: Do not go on with what an earlier run left.
        keep_features: Keep what networks gave for frames and clips, instead of scores only.
        strict: A video that fails makes the exit code 1.
        output: Where words for people go; None is silent.
        kept: Networks that stay loaded between runs of this process; None loads them anew.

    Returns:
        The results, as written to ``output_dir``.

    Raises:
        AigveError: Input, weights or the machine are not as needed; its message says what to do.
    """
    output = output or Output(silent=True)
    for option, value, choices in (
        ("device", device, get_args(Device)),
        ("precision", precision, get_args(PrecisionChoice)),
        ("weights", weights, get_args(WeightsMode)),
    ):
        if value not in choices:
            raise UsageError(f"{option} '{value}': must be one of {', '.join(choices)}.")
    for option, number in (("batch_size", batch_size), ("decode_workers", decode_workers)):
        if number is not None and number < 1:
            raise UsageError(f"{option} {number}: must be at least 1.")
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
        vbench_info=_path(vbench_info),
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
        reference_stats=_path(reference_stats),
        save_stats=_path(save_stats),
        judge=judge_settings(
            judge=judge,
            url=judge_url,
            text=judge_text,
            text_url=judge_text_url,
            concurrency=judge_concurrency,
            max_requests=max_requests,
            cache=_path(judge_cache),
            offline=offline,
        ),
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
        kept=kept,
    )


def run_plan(
    plan: Plan,
    *,
    device: str,
    batch_size: int | None,
    decode_workers: int | None,
    precision: PrecisionChoice,
    output_dir: Path,
    fresh: bool,
    keep_features: bool,
    strict: bool,
    output: Output,
    kept: KeptNetworks | None = None,
    resumable: bool = True,
) -> Results:
    """Do what a plan says, and write its results.

    What is decoded of a run in which videos have failed is kept for the next one, unless none can
    come (``resumable``).
    """
    for line in plan.dataset.describe():
        output.note(line)
    # Before anything is fetched that could not be loaded.
    plan = fit_models(Resolved(plan, {}), device=device, precision=precision, kept=kept).plan
    # Only auto asks what an earlier run in the folder has chosen: the others need not touch it.
    resolved = resolve_plan(plan) if plan.policy.mode != "auto" else None
    # A run that only asks a server need not wait for torch.
    device = resolve_device(device) if plan.computes or device != "auto" else "cpu"
    # What feature and score keys do not tell, and what would change the last digits.
    settings = {
        "aigve": __version__,
        "device": device,
        "precision": base_precision(precision),
        "torch": records.package_version("torch"),
        "transformers": records.package_version("transformers"),
        "tokenizers": records.package_version("tokenizers"),
        "pillow": records.package_version("pillow"),
        "ffmpeg": ffmpeg_version(),
    }
    journal = Journal(output_dir, settings, fresh=fresh)
    try:
        resolved = resolved or resolve_plan(plan, earlier=journal.choices)
        located = resolved.located
        fit = fit_models(resolved, device=device, precision=precision, kept=kept)
        plan, base = fit.plan, base_precision(precision)
        weights = {name: key_of(here, fit.places.get(name)) for name, here in located.items()}
        warnings = announce_plan(plan, output, base)
        for note in fit.notes:
            output.note(note)
        if plan.statistics:
            more = _check_statistics(plan, plan.statistics, weights, base)
            for warning in more:
                output.warn(warning)
            warnings += more
        journal.begin(
            {
                "extent": asdict(plan.extent),
                "metrics": {planned.requested: planned.name for planned in plan.computed},
                "networks": weights,
            }
        )
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        workers = decode_workers or max(2, min(8, processors // 2))
        passes = Passes(
            fit,
            located=located,
            weights=weights,
            journal=journal,
            machine=Machine(device, base, batch_size, workers, max(1, processors // workers)),
            keep_features=keep_features,
            kept=kept,
        )
        if not journal.resumed and (output_dir / RESULTS).exists():
            output.note(f"{output_dir / RESULTS} of an earlier run will be replaced.")
        if journal.replaced:
            output.warn(f"Kept features of another run are replaced: {journal.replaced}.")
        if journal.resumed:
            output.note(f"Going on with {output_dir / 'journal.jsonl'}.")
        run = passes.run(output)
        judges = passes.judges
        if judges:
            output.note(counts_to_text(judges.desk.counts))
            if warning := unread_to_text(judges.desk.unread):
                output.warn(warning)
                warnings.append(warning)
        document = run_to_document(fit, run, located, judges, device, base, warnings)
        write_document(plan, document, output_dir)
        for line in vbench.document_to_lines(document, whole=plan.dataset.suite is not None):
            output.note(line)
        exit_code = document_to_exit_code(document, strict=strict)
        if plan.save_statistics:
            saved, problems = reference_statistics(run)
            for problem in problems:
                output.warn(f"--save-stats: {problem}")
            if others := without_statistics(run):
                output.note(f"No statistics are saved of {', '.join(others)}: they need all rows.")
            if saved:
                target = plan.save_statistics
                write_statistics_file(target, saved, weights=weights, precision=base)
                output.note(f"Statistics of {', '.join(saved)}: {target}")
            if problems:
                exit_code = max(exit_code, EXIT_PARTIAL if saved else EXIT_FAILED)
        keep = keep_features or (resumable and bool(document["counts"]["failed"]))
        size = journal.feature_bytes()
        journal.finish(keep_features=keep)
    finally:
        journal.close()
    report_failures(document, output)
    if keep and not keep_features and size:
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


def _check_statistics(
    plan: Plan, statistics: SavedStatistics, weights: Mapping[str, str], precision: Precision
) -> list[str]:
    """Refuse a file of statistics that is of no use, before anything is decoded or replaced."""
    useful = [planned for planned in plan.computed if statistics.of(planned) is not None]
    if not useful:
        names = ", ".join(planned.name for planned in plan.computed)
        have = ", ".join(filter(None, statistics.arrays)) or "a mean and a covariance"
        raise UsageError(f"{statistics.path} holds {have}: of no use to {names}.")
    settings = plan.settings
    notes = [
        check_statistics(
            statistics, planned, weights=weights, precision=precision, settings=settings
        )
        for planned in useful
    ]
    return list(dict.fromkeys(note for notes_of_one in notes for note in notes_of_one))
