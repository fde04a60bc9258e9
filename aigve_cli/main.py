"""The Typer application, its global options, and the one place where errors become messages."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aigve_cli import __version__
from aigve_cli.commands.compute import compute
from aigve_cli.commands.config import config, run_parameters
from aigve_cli.commands.demo import demo
from aigve_cli.commands.doctor import doctor
from aigve_cli.commands.list_metrics import list_metrics
from aigve_cli.commands.models import models
from aigve_cli.commands.origins import RunCommand
from aigve_cli.commands.prepare import prepare
from aigve_cli.commands.questions import questions
from aigve_cli.commands.serve import serve
from aigve_cli.commands.stage import stage
from aigve_cli.commands.vbench import vbench
from aigve_cli.config import CONFIG, CONFIG_PROBLEM, DEFAULT_FILE, read_config
from aigve_cli.errors import EXIT_ENVIRONMENT, EXIT_FAILED, EXIT_INTERRUPTED, AigveError, UsageError
from aigve_cli.judges.backend import LOCAL_THREAD
from aigve_cli.output import Output

# What a person needs to repair a file must work while it is broken.
WITHOUT_FILE = {"config", "doctor", "list-metrics"}

app = typer.Typer(
    name="aigve",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn a folder of AI-generated videos into numbers that people can trust.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        Output().text(f"aigve {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only results, warnings and errors.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More about the run.")] = False,
    color: Annotated[
        Literal["auto", "always", "never"],
        typer.Option("--color", help="Colours; auto follows the terminal and NO_COLOR."),
    ] = "auto",
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            envvar="AIGVE_CONFIG",
            help="Options of the run. Default: aigve.toml in the current folder, if it is there.",
        ),
    ] = None,
) -> None:
    """Global options."""
    ctx.obj = Output(quiet=quiet, verbose=verbose, color=color)
    if config_file is not None or DEFAULT_FILE.is_file():
        try:
            _read_config(ctx, config_file)
        except UsageError as error:
            if ctx.invoked_subcommand not in WITHOUT_FILE:
                raise
            ctx.meta[CONFIG_PROBLEM] = error


def _read_config(ctx: typer.Context, path: Path | None) -> None:
    from aigve_cli.registry import registry

    found = registry()
    known = {parameter.name.rstrip("_"): parameter for parameter in run_parameters(ctx)}
    read = read_config(path, known, {*found.metrics, *found.groups})
    # Numbers go to the parser as text, as a flag's do: it takes 7.5 frames for 7 otherwise.
    options = {
        known[name].name: value if known[name].is_flag and isinstance(value, bool) else str(value)
        for name, value in read.options.items()
    }
    ctx.meta[CONFIG] = read
    places = {name: options[name] for name in ("weights_dir", "offline") if name in options}
    ctx.default_map = {
        **dict.fromkeys(("compute", "prepare", "stage", "demo", "questions"), options),
        "models": dict.fromkeys(("list", "fetch", "verify", "path"), places),
        "doctor": places,
    }


app.command(cls=RunCommand)(prepare)
app.command(cls=RunCommand)(stage)
app.command(cls=RunCommand)(compute)
app.command("list-metrics")(list_metrics)
app.command(cls=RunCommand)(questions)
app.command()(vbench)
app.add_typer(models, name="models")
app.command(cls=RunCommand)(demo)
app.command()(serve)
app.command()(doctor)
app.command()(config)


def run() -> None:
    """Run the command line: the console script's entry."""
    # A file name need not be valid text: show its bytes rather than fail.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)
    let_waiting_threads_sleep()
    code = main()
    _leave_generating_judges(code)
    sys.exit(code)


def _leave_generating_judges(code: int) -> None:
    """End at once where a model on this machine still writes an answer that nobody waits for.

    The interpreter would take torch away from under its thread, and abort.
    """
    if any(thread.name == LOCAL_THREAD for thread in threading.enumerate()):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def let_waiting_threads_sleep() -> None:
    """Before torch is imported: OpenMP reads its variables only then.

    Torch's waiting threads spin while our own ffmpeg processes need the cores. Measured on two
    busy cores: a forward pass of 4 pictures falls from 50-120 to 10-17 ms a frame; on idle ones
    it is unchanged.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        result: Any = app(args=arguments, standalone_mode=True)
    except AigveError as error:
        Output().error(error.message, error.hint)
        if os.environ.get("AIGVE_DEBUG"):
            traceback.print_exc()
        return error.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has left, as `head` does: Python's own flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _internal_error(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        Output().error(f"The results cannot be written to the output: {error.strerror}.")
        return EXIT_ENVIRONMENT
    except Exception as error:
        return _internal_error(error)
    return result if isinstance(result, int) else 0


def _internal_error(error: Exception) -> int:
    Output().error(
        f"Internal error: {type(error).__name__}: {error}",
        "This is a defect of aigve; AIGVE_DEBUG=1 shows where. Results so far are kept.",
    )
    if os.environ.get("AIGVE_DEBUG"):
        traceback.print_exc()
    return EXIT_FAILED
