"""``aigve.toml``: the run's options, a table a metric, and ``[model]`` paths.

Order: file < ``AIGVE_*`` < flags. The file's options become the parser's defaults, so a flag given
on the command line and a variable of the environment win over them.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aigve_cli.contract import OptionValue
from aigve_cli.errors import UsageError, unknown_name

DEFAULT_FILE = Path("aigve.toml")
MODEL_TABLE = "model"
CONFIG, CONFIG_PROBLEM = "aigve.config", "aigve.config.problem"
"""Keys of the parser context's ``meta``: what the file says, or why it cannot be read."""


@dataclass(frozen=True)
class Config:
    """What a configuration file says.

    Attributes:
        path: The file, None where there is none.
        options: The run's options by parameter name (``max_len``).
        metrics: Values by metric and option.
        models: Checkpoint paths by network, relative to the file's folder.
    """

    path: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, OptionValue]] = field(default_factory=dict)
    models: Mapping[str, Path] = field(default_factory=dict)


def read_config(path: Path | None, known: Iterable[str], metrics: Iterable[str]) -> Config:
    """Read a file; without a name, ``aigve.toml`` of the current folder if it is there.

    Args:
        path: The file that was named, or None.
        known: Names of the run's options.
        metrics: Names of metrics that may have a table.

    Raises:
        UsageError: The file is missing or malformed, or a key does not exist.
    """
    if path is None:
        if not DEFAULT_FILE.is_file():
            return Config()
        path = DEFAULT_FILE
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    options: dict[str, Any] = {}
    tables: dict[str, dict[str, OptionValue]] = {}
    models: dict[str, Path] = {}
    known, metrics = set(known), set(metrics)
    for key, value in content.items():
        if key == MODEL_TABLE and isinstance(value, dict):
            models = {name: _model_path(path, name, place) for name, place in value.items()}
        elif isinstance(value, dict):
            if key not in metrics:
                raise unknown_name(f"table in {path}", key, {*metrics, MODEL_TABLE})
            tables[key] = dict(value)
        else:
            name = key.replace("-", "_")
            if name not in known:
                raise unknown_name(f"option in {path}", key, known)
            options[name] = ",".join(map(str, value)) if isinstance(value, list) else value
    return Config(path, options, tables, models)


def _model_path(config: Path, name: str, place: Any) -> Path:
    if not isinstance(place, str):
        raise UsageError(f"{config}: [model] {name} must be a path, is {place!r}.")
    return config.parent / Path(place).expanduser()


def texts_to_models(texts: Iterable[str], origin: str) -> dict[str, Path]:
    """``NETWORK=PATH`` to paths by network; ``origin`` names the option in errors."""
    models: dict[str, Path] = {}
    for text in texts:
        name, equals, place = text.partition("=")
        if not (name and equals and place):
            raise UsageError(f"{origin} {text}: expected NETWORK=PATH.")
        try:
            models[name] = Path(place).expanduser()
        except RuntimeError:
            raise UsageError(f"{origin} {text}: there is no such user.") from None
    return models


def texts_to_settings(texts: Iterable[str], origin: str) -> dict[str, dict[str, OptionValue]]:
    """``METRIC.OPTION=VALUE`` to values by metric; ``origin`` names the option in errors."""
    settings: dict[str, dict[str, OptionValue]] = {}
    for text in texts:
        left, equals, value = text.partition("=")
        metric, dot, option = left.partition(".")
        if not (metric and dot and option and equals):
            raise UsageError(f"{origin} {text}: expected METRIC.OPTION=VALUE.")
        settings.setdefault(metric, {})[option] = value
    return settings


def environment_models() -> dict[str, Path]:
    """``AIGVE_MODEL``, split as ``PATH`` is: the parser would split at spaces of file names."""
    return texts_to_models(_parts("AIGVE_MODEL", re.escape(os.pathsep)), "AIGVE_MODEL")


def environment_settings() -> dict[str, dict[str, OptionValue]]:
    """``AIGVE_SET``, one setting a line or with ``;`` between."""
    return texts_to_settings(_parts("AIGVE_SET", "[;\n]"), "AIGVE_SET")


def _parts(variable: str, separator: str) -> list[str]:
    parts = re.split(separator, os.environ.get(variable, ""))
    return [part.strip() for part in parts if part.strip()]


def merge_settings(
    *layers: Mapping[str, Mapping[str, OptionValue]],
) -> dict[str, dict[str, OptionValue]]:
    """Values by metric and option; a later layer wins, whichever of its names a metric goes by.

    What is set for a standard metric holds for its sibling on embedded weights too, so a later
    layer that sets it takes away what an earlier one has set for the sibling.

    Raises:
        UsageError: There is no such metric.
    """
    from aigve_cli.registry import registry

    found = registry()
    merged: dict[str, dict[str, OptionValue]] = {}
    for layer in layers:
        named = list(found.settings_by_metric(layer).items())
        for name, values in named:
            earlier = merged.get(found.substitutes.get(name, ""), {})
            for option in values.keys() & earlier.keys():
                del earlier[option]
        for name, values in named:
            merged.setdefault(name, {}).update(values)
    return merged


def config_text(
    options: Iterable[tuple[str, Any, str]],
    metrics: Iterable[tuple[str, Iterable[tuple[str, Any, str]]]],
    networks: Iterable[str],
) -> str:
    """A complete file in which every line that changes nothing is a comment.

    Args:
        options: Name, default and help of each of the run's options.
        metrics: Name of each metric, with name, default and help of its options.
        networks: Names that ``[model]`` may have.
    """
    lines = [
        "# aigve.toml: options of `aigve compute`, `prepare` and `stage`.",
        "# Order: this file < AIGVE_* variables < flags. Remove a '#' to set a value.",
        f"# Paths under [{MODEL_TABLE}] are relative to this file, every other path to the current "
        "folder.",
        "",
    ]
    for name, default, text in options:
        lines += [f"# {text}", f"#{name} = {_toml(default)}", ""]
    for metric, own in metrics:
        lines.append(f"[{metric}]")
        entries = list(own)
        lines += [] if entries else ["# no options"]
        for name, default, text in entries:
            lines += [f"# {text}", f"#{name} = {_toml(default)}"]
        lines.append("")
    lines += [f"[{MODEL_TABLE}]", "# a checkpoint file or folder for a network"]
    lines += [f'#{name} = "path"' for name in networks]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
