"""``aigve questions``: what a metric will ask about prompts, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from aigve_cli.commands.compute import Device, Model, Offline, Set, UseCpu, WeightsDir
from aigve_cli.commands.inputs import DryRun, PromptText, Quiet, Verbose
from aigve_cli.commands.judges import (
    Judge,
    JudgeCache,
    JudgeConcurrency,
    JudgeText,
    JudgeTextUrl,
    JudgeUrl,
    MaxRequests,
)
from aigve_cli.config import (
    CONFIG,
    Config,
    environment_models,
    environment_settings,
    merge_settings,
    texts_to_models,
    texts_to_settings,
)
from aigve_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, UsageError
from aigve_cli.output import Output


def questions(
    ctx: typer.Context,
    metric: Annotated[
        Literal["tifa", "dsg"], typer.Option("--metric", help="Whose questions they are.")
    ],
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The JSON file to write.")
    ],
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations",
            metavar="FILE",
            help="Annotation JSON or CSV with prompts; its videos need not be here.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            envvar="AIGVE_PROMPTS",
            help="Prompts, with videos or without: csv or json(l) with prompt, a JSON list of "
            "texts, an annotation JSON, or txt with a prompt a line.",
        ),
    ] = None,
    prompt: PromptText = None,
    judge: Judge = None,
    judge_url: JudgeUrl = None,
    judge_text: JudgeText = None,
    judge_text_url: JudgeTextUrl = None,
    judge_concurrency: JudgeConcurrency = None,
    judge_cache: JudgeCache = None,
    max_requests: MaxRequests = None,
    device: Device = "auto",
    use_cpu: UseCpu = False,
    weights_dir: WeightsDir = None,
    offline: Offline = False,
    model: Model = None,
    set_: Set = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make the questions of tifa or dsg about prompts.

    The file can be read, mended and shared; compute takes it with --set tifa.questions=FILE or
    --set dsg.questions=FILE, and then asks no text judge. What the file has already is kept.

    Prints the path of the file. Exit code 3: some prompts have no questions.
    """
    config: Config = ctx.meta.get(CONFIG, Config())
    models = {
        **config.models,
        **environment_models(),
        **texts_to_models(model or [], "--model"),
    }
    settings = merge_settings(
        config.metrics, environment_settings(), texts_to_settings(set_ or [], "--set")
    )
    if use_cpu and device == "cuda":
        raise UsageError("--use-cpu and --device cuda contradict each other.")

    from aigve_cli.engine.questions import read_prompt_texts, write_questions_file
    from aigve_cli.judges.settings import EXAMPLES, judge_settings

    output: Output = ctx.obj
    judges = judge_settings(
        judge=judge,
        url=judge_url,
        text=judge_text,
        text_url=judge_text_url,
        concurrency=judge_concurrency,
        max_requests=max_requests,
        cache=judge_cache,
        offline=offline,
    )
    if judges is None:
        raise UsageError("There is no judge to write questions.", hint=EXAMPLES)
    found = read_prompt_texts(annotations=annotations, prompts=prompts, prompt=prompt)
    for note in found.notes:
        output.note(note)
    try:
        exit_code = write_questions_file(
            out,
            metric,
            found.texts,
            judges=judges,
            options=settings,
            device="cpu" if use_cpu else device,
            weights_dir=weights_dir,
            offline=offline,
            models=models,
            dry_run=dry_run,
            output=output,
        )
    except KeyboardInterrupt:
        output.warn("Interrupted. Answers so far are kept: the same command goes on from here.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not dry_run and exit_code != EXIT_FAILED:
        output.text(str(out))
    raise typer.Exit(exit_code)
