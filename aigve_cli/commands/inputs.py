"""The input options, declared once for every command that takes videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aigve_cli.dataset import pairing

DEFAULT_SUFFIXES = ",".join(pairing.DEFAULT_SUFFIXES)

InputDir = Annotated[
    Path | None,
    typer.Option(
        "--input-dir",
        metavar="FOLDER",
        envvar="AIGVE_INPUT_DIR",
        help="Folder of videos: generated ones, alone or together with their references.",
    ),
]
ReferenceDir = Annotated[
    Path | None,
    typer.Option(
        "--reference-dir",
        metavar="FOLDER",
        envvar="AIGVE_REFERENCE_DIR",
        help="Folder of reference videos; all of --input-dir is then generated. "
        "Files of the same stem are pairs.",
    ),
]
AnnotationFile = Annotated[
    Path | None,
    typer.Option(
        "--annotations",
        metavar="FILE",
        envvar="AIGVE_ANNOTATIONS",
        help="Annotation JSON or CSV that names the videos, instead of --input-dir.",
    ),
]
VideoDir = Annotated[
    Path | None,
    typer.Option(
        "--video-dir",
        metavar="FOLDER",
        envvar="AIGVE_VIDEO_DIR",
        help="Folder that the paths of --annotations are relative to. "
        "Default: looked for beside the file.",
    ),
]
GeneratedSuffixes = Annotated[
    str,
    typer.Option(
        "--generated-suffixes",
        metavar="X,Y",
        envvar="AIGVE_GENERATED_SUFFIXES",
        help="Name endings that mark a generated video: x stands for _x and -x, in any case; "
        "an index may follow (_x_1, _x_seed3). Its reference has the same name without it.",
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive", envvar="AIGVE_RECURSIVE", help="Look for videos in subfolders too."
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        envvar="AIGVE_PROMPTS",
        help="Prompts by video: csv or json(l) with video and prompt, an annotation JSON, "
        "or txt with lines of NAME<TAB>PROMPT.",
    ),
]
PromptText = Annotated[
    str | None,
    typer.Option(
        "--prompt", metavar="TEXT", envvar="AIGVE_PROMPT", help="One prompt for all videos."
    ),
]
PromptFromName = Annotated[
    bool,
    typer.Option(
        "--prompt-from-name",
        envvar="AIGVE_PROMPT_FROM_NAME",
        help="Take prompts from file names: 'a red car-0.mp4' is 'a red car'.",
    ),
]
VBenchInfo = Annotated[
    Path | None,
    typer.Option(
        "--vbench-info",
        metavar="FILE",
        envvar="AIGVE_VBENCH_INFO",
        help="VBench's suite (VBench_full_info.json): of the videos PROMPT-0.mp4 to PROMPT-4.mp4, "
        "which count for which of its dimensions.",
    ),
]
AlsoOutJson = Annotated[
    Path | None,
    typer.Option(
        "--out-json",
        metavar="FILE",
        envvar="AIGVE_OUT_JSON",
        help="Also write the annotations to this file, as prepare does. Not used when staging.",
    ),
]
OutJson = Annotated[
    Path | None,
    typer.Option(
        "--out-json",
        metavar="FILE",
        envvar="AIGVE_OUT_JSON",
        help="Where to write the annotations. Default: annotations.json in --input-dir. "
        "Not used when staging.",
    ),
]
StageDataset = Annotated[
    Path | None,
    typer.Option(
        "--stage-dataset",
        metavar="FOLDER",
        envvar="AIGVE_STAGE_DATASET",
        help="Gather the videos in FOLDER/evaluate, with FOLDER/annotations/evaluate.json.",
    ),
]
Link = Annotated[
    bool,
    typer.Option("--link", envvar="AIGVE_LINK", help="Stage absolute links instead of copies."),
]


def _be_quiet(ctx: typer.Context, wanted: bool) -> bool:
    if wanted and not ctx.resilient_parsing:
        ctx.obj.quiet = True
    return wanted


def _be_verbose(ctx: typer.Context, wanted: bool) -> bool:
    if wanted and not ctx.resilient_parsing:
        ctx.obj.verbose = True
    return wanted


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", callback=_be_quiet, help="The same as `aigve --quiet` before the command."
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=_be_verbose,
        help="The same as `aigve --verbose` before the command.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", envvar="AIGVE_DRY_RUN", help="Say what would happen; do nothing."),
]
