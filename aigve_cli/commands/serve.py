"""``aigve serve``: the REST server."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from aigve_cli.errors import SetupError, UsageError
from aigve_cli.output import Output


def serve(
    ctx: typer.Context,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            envvar="AIGVE_SERVER_HOST",
            help="Address to listen at. Another than this machine's own needs AIGVE_API_TOKEN or "
            "--insecure.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65535, envvar="AIGVE_SERVER_PORT", help="Port."
        ),
    ] = 2200,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=64,
            help="Processes that answer. Queue and computing process are one all the same.",
        ),
    ] = 1,
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug"],
        typer.Option("--log-level", envvar="AIGVE_SERVER_LOG_LEVEL", help="Lines on stderr."),
    ] = "info",
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(
            "--allow-root",
            metavar="FOLDER",
            help="Folder that callers may name paths in; may be repeated. Default: the current "
            f"one. In AIGVE_SERVER_ALLOW_ROOT several stand with '{os.pathsep}' between.",
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            metavar="FOLDER",
            envvar="AIGVE_SERVER_STATE_DIR",
            help="Where jobs and their results are. Default: server-PORT in the cache folder.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            envvar="AIGVE_SERVER_INSECURE",
            help="Serve other machines without a token: everybody there can use it.",
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Without a token: another name than localhost that callers on this machine, such "
            "as a proxy, know it by; may be repeated. In AIGVE_SERVER_ALLOW_HOST several stand "
            "with a space between.",
        ),
    ] = None,
    allow_judge_url: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-judge-url",
            metavar="URL",
            help="A judge's address that callers may have asked, with this server's keys; may be "
            "repeated. https://api.openai.com/v1 is OpenAI's. In AIGVE_SERVER_ALLOW_JUDGE_URL "
            "several stand with a space between.",
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option("--device", envvar="AIGVE_SERVER_DEVICE", help="Where networks run."),
    ] = "auto",
    queue_size: Annotated[
        int,
        typer.Option(
            "--queue-size",
            metavar="N",
            min=1,
            envvar="AIGVE_SERVER_QUEUE_SIZE",
            help="Jobs that may wait; more are told to come again.",
        ),
    ] = 8,
    keep_hours: Annotated[
        float,
        typer.Option(
            "--keep-hours",
            metavar="H",
            envvar="AIGVE_SERVER_KEEP_HOURS",
            help="How long results are kept.",
        ),
    ] = 24.0,
    max_upload: Annotated[
        float,
        typer.Option(
            "--max-upload",
            metavar="GB",
            envvar="AIGVE_SERVER_MAX_UPLOAD",
            help="Of one request, in gigabytes.",
        ),
    ] = 2.0,
    quota: Annotated[
        float,
        typer.Option(
            "--quota",
            metavar="GB",
            envvar="AIGVE_SERVER_QUOTA",
            help="Disk for uploads and results of all jobs, where callers name no folder of "
            "their own.",
        ),
    ] = 50.0,
    max_hours: Annotated[
        float,
        typer.Option(
            "--max-hours",
            metavar="H",
            envvar="AIGVE_SERVER_MAX_HOURS",
            help="How long one job may run at a time.",
        ),
    ] = 24.0,
    keep_networks: Annotated[
        float,
        typer.Option(
            "--keep-networks",
            metavar="GB",
            envvar="AIGVE_SERVER_KEEP_NETWORKS",
            help="Networks that stay loaded between jobs; 0 is half of the device's memory.",
        ),
    ] = 0.0,
) -> None:
    """Serve the metrics to other programs, by HTTP.

    The interface is described at /docs. A token in AIGVE_API_TOKEN is asked of every caller.
    Needs the extra: pip install 'aigve-cli[server]'.
    """
    output: Output = ctx.obj
    try:
        import fastapi_offline  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise SetupError(
            f"The server cannot be started: {error}.",
            hint=f"{sys.executable} -m pip install 'aigve-cli[server]'",
        ) from error
    from aigve_cli.server.settings import (
        TOKEN,
        default_state_dir,
        environment_to_settings,
        environment_to_token,
        is_loopback,
        make_settings,
        variable,
    )

    token = environment_to_token(os.environ)
    if not is_loopback(host) and not token and not insecure:
        raise UsageError(
            f"--host {host} lets other machines in, and {TOKEN} is not set.",
            hint=f"{TOKEN}=$(openssl rand -hex 32) aigve serve …, or --insecure where everybody "
            "who can reach this machine may use it.",
        )
    roots = allow_root
    if not roots and os.environ.get(variable("allow_root")):
        roots = list(environment_to_settings().allow_root)
    settings = make_settings(
        state_dir=state_dir or default_state_dir(port),
        allow_root=roots or (),
        allow_host=tuple(allow_host or os.environ.get(variable("allow_host"), "").split()),
        allow_judge_url=tuple(
            allow_judge_url or os.environ.get(variable("allow_judge_url"), "").split()
        ),
        token=token,
        insecure=insecure,
        device=device,
        queue_size=queue_size,
        keep_hours=keep_hours,
        max_upload=max_upload,
        quota=quota,
        max_hours=max_hours,
        keep_networks=keep_networks,
        log_level=log_level,
    )
    _refuse_taken_port(host, port)
    # Processes of the server are started anew, and read this.
    os.environ.update(settings.to_environment())
    output.note(f"aigve serves {', '.join(map(str, settings.allow_root))}")
    output.note(f"Jobs and their results: {settings.state_dir}")
    if port:
        output.note(f"Documentation: http://{host}:{port}/docs")
    uvicorn.run(
        "aigve_cli.server.app:create_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_level=log_level,
        # The server's own lines have no ids and no queries.
        access_log=False,
        # Whoever waits is told at once; this is for those who do not listen.
        timeout_graceful_shutdown=5,
        server_header=False,
    )


def _refuse_taken_port(host: str, port: int) -> None:
    """Before a worker is started for nothing.

    Raises:
        SetupError: Somebody else listens there, or nobody may.
    """
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(address)
                except OSError as error:
                    # A name may have an address of IPv6 on a machine without it.
                    if error.errno != errno.EADDRNOTAVAIL:
                        raise
    except OSError as error:
        raise SetupError(
            f"Nobody can listen at {host}:{port}: {error.strerror or error}.",
            hint="Another port: --port.",
        ) from error
