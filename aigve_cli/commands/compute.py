"""``aigve compute``: scores for a folder of videos."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from aigve_cli.commands.computing import run_compute
from aigve_cli.commands.inputs import (
    DEFAULT_SUFFIXES,
    AlsoOutJson,
    AnnotationFile,
    DryRun,
    GeneratedSuffixes,
    InputDir,
    Link,
    PromptFile,
    PromptFromName,
    PromptText,
    Quiet,
    Recursive,
    ReferenceDir,
    StageDataset,
    VBenchInfo,
    Verbose,
    VideoDir,
)
from aigve_cli.commands.judges import (
    Judge,
    JudgeCache,
    JudgeConcurrency,
    JudgeText,
    JudgeTextUrl,
    JudgeUrl,
    MaxRequests,
)
from aigve_cli.config import CONFIG, Config
from aigve_cli.errors import EXIT_INTERRUPTED
from aigve_cli.output import Output


def _complete_metrics(incomplete: str) -> list[str]:
    from aigve_cli.registry import registry

    return _complete_last(incomplete, ["all", *registry().names])


def _complete_categories(incomplete: str) -> list[str]:
    from aigve_cli.contract import CATEGORIES

    return _complete_last(incomplete, CATEGORIES)


def _complete_last(incomplete: str, names: Iterable[str]) -> list[str]:
    """Completions of the last name of a comma-separated list."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="M,…",
        autocompletion=_complete_metrics,
        envvar="AIGVE_METRICS",
        help="Metrics to compute; all is fid, is and fvd, vbench its dimensions. Default: all, "
        "or only --categories where they are given.",
    ),
]
Categories = Annotated[
    str | None,
    typer.Option(
        "--categories",
        metavar="C,…",
        autocompletion=_complete_categories,
        envvar="AIGVE_CATEGORIES",
        help="Every metric of these.",
    ),
]
MaxLen = Annotated[
    int | None,
    typer.Option(
        "--max-len",
        metavar="FRAMES",
        envvar="AIGVE_MAX_LEN",
        help="Frames of each video. Default: 64 for distribution metrics, "
        "each other metric's own sampling.",
    ),
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(
        "--max-seconds",
        metavar="S",
        envvar="AIGVE_MAX_SECONDS",
        help="Seconds of each video, counted with --fps; wins over --max-len.",
    ),
]
Fps = Annotated[
    str,
    typer.Option(
        "--fps",
        metavar="FPS",
        envvar="AIGVE_FPS",
        help="Frames a second for --max-seconds, or native: each video's own.",
    ),
]
Pad = Annotated[
    bool,
    typer.Option(
        "--pad",
        envvar="AIGVE_PAD",
        help="Count black frames behind the end of short videos (distribution metrics only).",
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", envvar="AIGVE_DEVICE", help="Where networks run."),
]
UseCpu = Annotated[
    bool, typer.Option("--use-cpu", envvar="AIGVE_USE_CPU", help="The same as --device cpu.")
]
BatchSize = Annotated[
    str,
    typer.Option(
        "--batch-size",
        metavar="N",
        envvar="AIGVE_BATCH_SIZE",
        help="Pictures in a batch; auto counts pixels.",
    ),
]
DecodeWorkers = Annotated[
    str,
    typer.Option(
        "--decode-workers",
        metavar="N",
        envvar="AIGVE_DECODE_WORKERS",
        help="Videos decoded at the same time; auto counts processors.",
    ),
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "tf32", "bf16"],
    typer.Option(
        "--precision",
        envvar="AIGVE_PRECISION",
        help="Arithmetic of networks; recorded with every number. auto is fp32, and on a GPU bf16 "
        "for models of billions of weights.",
    ),
]
Weights = Annotated[
    Literal["auto", "standard", "embedded"],
    typer.Option(
        "--weights",
        envvar="AIGVE_WEIGHTS",
        help="standard: published checkpoints or an error. embedded: those that install with "
        "the package. auto: standard where they can be had, else embedded, with a warning.",
    ),
]
WeightsDir = Annotated[
    Path | None,
    typer.Option(
        "--weights-dir",
        metavar="FOLDER",
        envvar="AIGVE_WEIGHTS_DIR",
        help="Folder of published checkpoints.",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", envvar="AIGVE_OFFLINE", help="Never use the network.")
]
Model = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NETWORK=PATH",
        help="A checkpoint file or folder for a network; may be repeated. "
        f"In AIGVE_MODEL several stand with '{os.pathsep}' between.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="METRIC.OPTION=VALUE",
        help="An option of a metric; may be repeated. `aigve config` lists them. "
        "In AIGVE_SET several stand with ';' between.",
    ),
]
ReferenceStats = Annotated[
    Path | None,
    typer.Option(
        "--reference-stats",
        metavar="FILE",
        envvar="AIGVE_REFERENCE_STATS",
        help="Compare with saved statistics (of --save-stats, or pytorch-fid's .npz) instead of "
        "reference videos.",
    ),
]
SaveStats = Annotated[
    Path | None,
    typer.Option(
        "--save-stats",
        metavar="FILE",
        envvar="AIGVE_SAVE_STATS",
        help="Write the statistics of the reference videos, or of the only ones, to this .npz.",
    ),
]
OutputDir = Annotated[
    Path,
    typer.Option(
        "--output-dir", metavar="FOLDER", envvar="AIGVE_OUTPUT_DIR", help="Where results go."
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--fresh",
        envvar="AIGVE_RESUME",
        help="Go on where an earlier run stopped, or start again.",
    ),
]
KeepFeatures = Annotated[
    bool,
    typer.Option(
        "--keep-features",
        envvar="AIGVE_KEEP_FEATURES",
        help="Keep what networks saw, so that a later run need not decode again.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", envvar="AIGVE_STRICT", help="Exit with 1, not 3, if any video fails."),
]
FormatOption = Annotated[
    Literal["auto", "table", "json", "jsonl", "csv", "tsv"],
    typer.Option(
        "--format",
        envvar="AIGVE_FORMAT",
        help="Results on stdout; auto is a table on a terminal and tsv in a pipe.",
    ),
]
HistoricalModel = Annotated[Path | None, typer.Option(metavar="PATH", hidden=True)]


def compute(
    ctx: typer.Context,
    input_dir: InputDir = None,
    reference_dir: ReferenceDir = None,
    annotations: AnnotationFile = None,
    video_dir: VideoDir = None,
    generated_suffixes: GeneratedSuffixes = DEFAULT_SUFFIXES,
    recursive: Recursive = False,
    prompts: PromptFile = None,
    prompt: PromptText = None,
    prompt_from_name: PromptFromName = False,
    vbench_info: VBenchInfo = None,
    stage_dataset: StageDataset = None,
    link: Link = False,
    out_json: AlsoOutJson = None,
    metrics: Metrics = None,
    categories: Categories = None,
    max_len: MaxLen = None,
    max_seconds: MaxSeconds = None,
    fps: Fps = "25",
    pad: Pad = False,
    device: Device = "auto",
    use_cpu: UseCpu = False,
    batch_size: BatchSize = "auto",
    decode_workers: DecodeWorkers = "auto",
    precision: PrecisionOption = "auto",
    weights: Weights = "auto",
    weights_dir: WeightsDir = None,
    offline: Offline = False,
    model: Model = None,
    set_: Set = None,
    reference_stats: ReferenceStats = None,
    save_stats: SaveStats = None,
    judge: Judge = None,
    judge_url: JudgeUrl = None,
    judge_text: JudgeText = None,
    judge_text_url: JudgeTextUrl = None,
    judge_concurrency: JudgeConcurrency = None,
    judge_cache: JudgeCache = None,
    max_requests: MaxRequests = None,
    output_dir: OutputDir = Path(),
    resume: Resume = True,
    keep_features: KeepFeatures = False,
    strict: Strict = False,
    dry_run: DryRun = False,
    format_: FormatOption = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
    fvd_model: HistoricalModel = None,
    gstvqa_model: HistoricalModel = None,
    simplevqa_model: HistoricalModel = None,
    lightvqa_plus_model: HistoricalModel = None,
    lightvqa_plus_swin: HistoricalModel = None,
) -> None:
    """Score videos: each is decoded once for all metrics.

    Results go to stdout and to results.json in --output-dir. Exit code 0: all done; 3: some videos
    failed, with their reasons; 1: nothing could be scored; 2: usage; 4: weights or machine.
    """
    config: Config = ctx.meta.get(CONFIG, Config())
    output: Output = ctx.obj
    exit_code = run_compute(ctx.params, config, output).exit_code
    if exit_code == EXIT_INTERRUPTED:
        output.warn("Interrupted. What is done is kept: the same command goes on from here.")
    raise typer.Exit(exit_code)
