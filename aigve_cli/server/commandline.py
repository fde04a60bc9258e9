"""A request is the words of a command line: made from fields, and read by the command's own parser.

So a field of the server is an option of the command, with its name, its default and its help, and
nothing has to be declared twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import typer

from aigve_cli.commands.origins import option_ranks, outranked
from aigve_cli.config import CONFIG, CONFIG_PROBLEM, Config
from aigve_cli.dataset.prompts import is_text
from aigve_cli.errors import UsageError

Command = Literal["compute", "prepare", "stage"]
_FOR_PEOPLE = {"quiet", "verbose"}
"""Options that only say how much is said."""


@dataclass(frozen=True)
class Declaration:
    """One option of a command, as its parser knows it."""

    name: str
    """Of the field: that of the flag, with underscores."""
    parameter: str
    """Of the parser's parameter, which may not be called as a builtin is."""
    flag: str
    off: str
    """The flag that says no, where there is one."""
    kind: Literal["flag", "path", "text", "whole", "number"]
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False
    hidden: bool = False
    """One of the tools before aigve, which help texts do not show."""


@dataclass(frozen=True)
class Parsed:
    """The words of a command as its parser understands them."""

    command: Command
    arguments: tuple[str, ...]
    options: Mapping[str, Any]
    """By parameter name: the request's, else those of environment and ``aigve.toml``."""
    given: frozenset[str]
    """The parameters that the words themselves name."""
    config: Config


@cache
def declarations(command: Command = "compute") -> tuple[Declaration, ...]:
    """The options of a command, in its own order."""
    kinds: dict[str, Any] = {
        "boolean": "flag",
        "path": "path",
        "int": "whole",
        "int range": "whole",
        "float": "number",
    }
    found = []
    for option in _root_command().commands[command].params:
        if option.name in _FOR_PEOPLE:
            continue
        flag = max(option.opts, key=len)
        found.append(
            Declaration(
                name=flag.removeprefix("--").replace("-", "_"),
                parameter=option.name,
                flag=flag,
                off=next(iter(option.secondary_opts), ""),
                kind=kinds.get(option.type.name, "text"),
                default=None if option.default is None else _plain(option.default),
                help=option.help or "",
                choices=tuple(getattr(option.type, "choices", ())),
                many=option.multiple,
                hidden=option.hidden,
            )
        )
    return tuple(found)


def fields_to_arguments(fields: Mapping[str, Any], command: Command) -> list[str]:
    """The words of a command, in its own order; fields that it does not have are left out.

    ``FLAG=VALUE`` in one word, so that no value is ever taken for a flag.
    """
    arguments = []
    for option in declarations(command):
        value = fields.get(option.name)
        if value is None:
            continue
        if option.kind == "flag":
            if value and not (option.off and option.default):
                arguments.append(option.flag)
            elif option.off and not value:
                arguments.append(option.off)
        else:
            values = value if option.many else [value]
            arguments += [f"{option.flag}={one}" for one in values]
    return arguments


def parse_command(command: Command, arguments: Sequence[str]) -> Parsed:
    """Read the words as the command line would, with the server's own environment and file.

    Raises:
        UsageError: A flag that does not exist, or a value that cannot be read; its ``option`` is
            the field.
    """
    from aigve_cli.main import configure

    if not all(map(is_text, arguments)) or any("\0" in word for word in arguments):
        raise UsageError("A value holds a character that no name of a file can have.")
    if help_flag := next((word for word in arguments if word in ("--help", "-h")), None):
        raise UsageError(
            f"{help_flag} is not an option of a run.", hint="GET /help shows the options."
        )
    root_command = _root_command()
    try:
        root: Any = root_command.make_context("aigve", [command, *arguments])
        configure(root, config_file=root.params["config_file"])
        subcommand = root_command.commands[command]
        context: Any = subcommand.make_context(command, list(arguments), parent=root)
    except typer.TyperException as error:
        raise _unreadable(error) from error
    except typer.Exit:
        raise UsageError("A flag asks for help, which is no run.") from None
    except OSError as error:
        raise UsageError(f"A path cannot be read: {error.strerror}.") from error
    if CONFIG_PROBLEM in root.meta:
        raise root.meta[CONFIG_PROBLEM]
    options = dict(context.params)
    for name in outranked(option_ranks(context)):
        options[name] = next(p.default for p in subcommand.params if p.name == name)
    given = frozenset(
        name for name in options if context.get_parameter_source(name).name == "COMMANDLINE"
    )
    return Parsed(command, tuple(arguments), options, given, root.meta.get(CONFIG, Config()))


def with_options(parsed: Parsed, **options: Any) -> Parsed:
    """The same with other values: what the server decides, not the caller."""
    return replace(parsed, options={**parsed.options, **options})


def server_config() -> Config:
    """What the server's own ``aigve.toml`` says.

    Raises:
        UsageError: It cannot be read.
    """
    return parse_command("compute", []).config


def help_text() -> str:
    """What ``aigve compute --help`` prints."""
    command = _root_command()
    with command.make_context("aigve", ["compute"], resilient_parsing=True) as root:
        compute = command.commands["compute"]
        with compute.make_context("compute", [], parent=root, resilient_parsing=True) as context:
            text: str = context.get_help()
            return text + "\n"


@cache
def _root_command() -> Any:
    from aigve_cli.main import app

    return typer.main.get_command(app)


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _unreadable(error: typer.TyperException) -> UsageError:
    """What the parser says, and of which field."""
    flag = getattr(error, "option_name", None)
    parameter = getattr(error, "param", None)
    if flag is None and parameter is not None and getattr(parameter, "opts", None):
        flag = max(parameter.opts, key=len)
    message = str(getattr(error, "message", error)) or "it is missing."
    if parameter is not None and flag is not None:
        message = f"{flag}: {message}"
    return UsageError(message, option=flag.lstrip("-").replace("-", "_") if flag else "")
