"""The options that name judges, declared once for every command that asks them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Judge = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="JUDGE",
        envvar="AIGVE_JUDGE",
        help="Who is asked about videos: openai:MODEL on an OpenAI-compatible server, or "
        "local:ID_OR_FOLDER, a vision-language model on this machine.",
    ),
]
JudgeUrl = Annotated[
    str | None,
    typer.Option(
        "--judge-url",
        metavar="URL",
        envvar="AIGVE_JUDGE_URL",
        help="Address of the server, such as http://127.0.0.1:8000/v1, with its key in "
        "AIGVE_JUDGE_KEY if it wants one. Default: OpenAI's, with OPENAI_API_KEY.",
    ),
]
JudgeText = Annotated[
    str | None,
    typer.Option(
        "--judge-text",
        metavar="JUDGE",
        envvar="AIGVE_JUDGE_TEXT",
        help="Who is asked about texts alone, such as for questions about a prompt. "
        "Default: the same.",
    ),
]
JudgeTextUrl = Annotated[
    str | None,
    typer.Option(
        "--judge-text-url",
        metavar="URL",
        envvar="AIGVE_JUDGE_TEXT_URL",
        help="Its address, with its key in AIGVE_JUDGE_TEXT_KEY. Default: that of --judge-url.",
    ),
]
JudgeConcurrency = Annotated[
    int | None,
    typer.Option(
        "--judge-concurrency",
        metavar="N",
        envvar="AIGVE_JUDGE_CONCURRENCY",
        min=1,
        help="Requests at a time. Default: 8.",
    ),
]
JudgeCache = Annotated[
    Path | None,
    typer.Option(
        "--judge-cache",
        metavar="FOLDER",
        envvar="AIGVE_JUDGE_CACHE",
        help="Where answers are kept, so that nothing is asked twice. Default: judge in the "
        "cache folder.",
    ),
]
MaxRequests = Annotated[
    int | None,
    typer.Option(
        "--max-requests",
        metavar="N",
        envvar="AIGVE_MAX_REQUESTS",
        min=0,
        help="After so many questions nothing more is asked in this run: what needs more has a "
        "reason, and the next run goes on.",
    ),
]
