"""From the options of ``compute`` to results: what the command does, and the server's worker.

Options are as the parser gives them: plain values by parameter name, none of them left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigve_cli.commands.prepare import options_to_dataset, save_annotations
from aigve_cli.commands.stage import note_unused_out_json
from aigve_cli.config import (
    Config,
    environment_models,
    environment_settings,
    merge_settings,
    texts_to_models,
    texts_to_settings,
)
from aigve_cli.errors import EXIT_DONE, EXIT_INTERRUPTED, UsageError
from aigve_cli.output import Output

if TYPE_CHECKING:
    from aigve_cli.api import Results
    from aigve_cli.dataset.listing import Opens
    from aigve_cli.dataset.samples import Dataset
    from aigve_cli.engine.kept import KeptNetworks
    from aigve_cli.engine.setup import Instead, Plan

Options = Mapping[str, Any]
HISTORICAL_MODELS = {
    "fvd_model": "i3d-kinetics400",
    "gstvqa_model": "gstvqa",
    "simplevqa_model": "simplevqa",
    "lightvqa_plus_model": "lightvqa-plus",
}
"""Options of the tools before aigve, and the network whose checkpoint each names."""


@dataclass(frozen=True)
class Outcome:
    """What became of a command."""

    exit_code: int
    results: Results | None = None
    """None where nothing was to be computed, or the run was interrupted."""


def run_compute(
    options: Options,
    config: Config,
    output: Output,
    *,
    kept: KeptNetworks | None = None,
    opens: Opens | None = None,
    resumable: bool = True,
) -> Outcome:
    """Score videos and print the results.

    Args:
        options: Of the command.
        config: What ``aigve.toml`` says of metrics and models.
        output: Where results and words go.
        kept: Networks that stay loaded between runs.
        opens: Refuses videos that may not be read.
        resumable: Whether another run may go on in the folder of results.

    Raises:
        AigveError: Input, weights or the machine are not as needed; its message says what to do.
    """
    plan = plan_compute(options, config, output, opens=opens)

    from aigve_cli import api
    from aigve_cli.results.tables import RESULT_COLUMNS, records_to_rows

    stage, out_json = options["stage_dataset"], options["out_json"]
    if options["dry_run"]:
        return _describe(plan, options, output)
    if stage is not None:
        from aigve_cli.engine import setup

        note_unused_out_json(output, out_json, stage)
        plan = setup.with_dataset(plan, _stage(plan.dataset, options, output))
    elif out_json is not None:
        save_annotations(plan.dataset, Path(out_json))
        output.note(f"Annotations: {out_json}")
    try:
        results = api.run_plan(
            plan,
            device=_device(options),
            batch_size=_count("--batch-size", options["batch_size"]),
            decode_workers=_count("--decode-workers", options["decode_workers"]),
            precision=options["precision"],
            output_dir=Path(options["output_dir"]),
            fresh=not options["resume"],
            keep_features=options["keep_features"],
            strict=options["strict"],
            output=output,
            kept=kept,
            resumable=resumable,
        )
    except KeyboardInterrupt:
        return Outcome(EXIT_INTERRUPTED)
    if options["format_"] in ("json", "jsonl"):
        output.rows(results.records, (), options["format_"])
    else:
        output.rows(records_to_rows(results.records), RESULT_COLUMNS, options["format_"])
    return Outcome(results.exit_code, results)


def plan_compute(
    options: Options,
    config: Config,
    output: Output,
    *,
    opens: Opens | None = None,
) -> Plan:
    """What a run would do. All that can be refused without torch is refused here.

    Raises:
        UsageError: An unknown name, a wrong value, options that contradict each other, or input
            that no metric can score.
    """
    given = {name: _path(options[name]) for name in HISTORICAL_MODELS}
    models = {
        **config.models,
        **environment_models(),
        **{HISTORICAL_MODELS[name]: path for name, path in given.items() if path is not None},
        **texts_to_models(options["model"] or [], "--model"),
    }
    settings = merge_settings(
        config.metrics, environment_settings(), texts_to_settings(options["set_"] or [], "--set")
    )
    _device(options)
    fvd_model = given["fvd_model"]
    if fvd_model is not None and models[HISTORICAL_MODELS["fvd_model"]] != fvd_model:
        raise UsageError(
            f"--fvd-model and --model {HISTORICAL_MODELS['fvd_model']} name different files."
        )
    instead = _other_fvd(models) if fvd_model is not None else None
    for flag in ("--batch-size", "--decode-workers"):
        _count(flag, options[flag.removeprefix("--").replace("-", "_")])
    rate = None if options["fps"] == "native" else _rate(options["fps"])

    from aigve_cli.contract import Extent
    from aigve_cli.engine import setup
    from aigve_cli.judges.settings import judge_settings

    if options["lightvqa_plus_swin"] is not None:
        output.note(
            "--lightvqa-plus-swin is not used: the checkpoint of lightvqa-plus has the trunk's "
            "weights too."
        )
    judges = judge_settings(
        judge=options["judge"],
        url=options["judge_url"],
        text=options["judge_text"],
        text_url=options["judge_text_url"],
        concurrency=options["judge_concurrency"],
        max_requests=options["max_requests"],
        cache=_path(options["judge_cache"]),
        offline=options["offline"],
    )
    dataset = options_to_dataset(options, opens)
    return setup.make_plan(
        dataset,
        metrics=_names("--metrics", options["metrics"]),
        categories=_names("--categories", options["categories"]),
        extent=Extent(options["max_len"], options["max_seconds"], rate, options["pad"]),
        weights=options["weights"],
        weights_dir=_path(options["weights_dir"]),
        offline=options["offline"],
        models=models,
        options=settings,
        output=output,
        instead=instead,
        reference_stats=_path(options["reference_stats"]),
        save_stats=_path(options["save_stats"]),
        judge=judges,
    )


def _describe(plan: Plan, options: Options, output: Output) -> Outcome:
    """Say what would happen."""
    from aigve_cli.engine.describe import describe_plan
    from aigve_cli.engine.memory import fit_models
    from aigve_cli.engine.resolve import resolve_plan
    from aigve_cli.results.tables import PLAN_COLUMNS

    out_json = options["out_json"]
    if options["stage_dataset"] is not None:
        note_unused_out_json(output, out_json, options["stage_dataset"])
        _stage(plan.dataset, options, output)
    elif out_json is not None:
        output.note(f"The annotations would be written to '{out_json}'.")
    resolved = resolve_plan(plan, fetch=False)
    fit = fit_models(resolved, device=_device(options), precision=options["precision"])
    folder, keep = Path(options["output_dir"]), options["keep_features"]
    rows = describe_plan(fit, folder, output, keep_features=keep)
    output.rows(rows, PLAN_COLUMNS, options["format_"])
    return Outcome(EXIT_DONE)


def _stage(dataset: Dataset, options: Options, output: Output) -> Dataset:
    from aigve_cli.dataset import staging

    staged = staging.stage_dataset(
        dataset,
        Path(options["stage_dataset"]),
        link=options["link"],
        dry_run=options["dry_run"],
        suffixes=options["generated_suffixes"],
    )
    for line in staged.describe():
        output.note(line)
    return staged.dataset


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


def _device(options: Options) -> str:
    device: str = options["device"]
    if options["use_cpu"] and device == "cuda":
        raise UsageError("--use-cpu and --device cuda contradict each other.")
    return "cpu" if options["use_cpu"] else device


def _names(flag: str, text: str | None) -> list[str]:
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise UsageError(f"{flag} '{text}' names nothing.", hint="Leave it out for the default.")
    return names


def _count(flag: str, text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{flag} {text}: expected a whole number above 0, or auto.")
    return int(text)


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--fps {text}: expected a number, or native.") from None


def _other_fvd(models: dict[str, Path]) -> dict[str, Instead]:
    """What ``fvd`` becomes where --fvd-model names an R3D-18, as tools before aigve took one."""
    from aigve_cli.engine.networks import checkpoint_network
    from aigve_cli.engine.setup import Instead

    published, other = HISTORICAL_MODELS["fvd_model"], "r3d-18"
    path = models[published]
    if not path.is_file() or checkpoint_network(path, (published, other)) != other:
        return {}
    models[other] = models.pop(published)
    why = f"{path}, given with --fvd-model, is a checkpoint of {other}."
    return {"fvd": Instead("fvd-r3d18", why)}
