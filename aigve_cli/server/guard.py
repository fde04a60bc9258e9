"""What callers may not: read or write elsewhere, load a stranger's code, spend another's money."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aigve_cli.config import texts_to_models, texts_to_settings
from aigve_cli.contract import Option
from aigve_cli.errors import UsageError
from aigve_cli.judges.settings import judge_settings
from aigve_cli.server.commandline import Declaration, Parsed, declarations

MOST = {"whole": 1_000_000, "number": 1_000_000.0}
MOST_OF = {
    "max_len": 100_000,
    "judge_concurrency": 64,
    "decode_workers": 64,
    "batch_size": 4096,
    "fps": 1_000_000.0,
}
"""Of options by name: frames of a video that a request may have looked at, and what is done at a
time."""
MOST_TEXT_BYTES = 16_000_000
"""Of a file of prompts, annotations or the like: it takes thirty times as much of memory."""
MOST_ENTRIES = 10_000
"""Of a model's folder."""
OPENAI = "https://api.openai.com/v1"
_WRITTEN_INTO = ("stage_dataset", "output_dir", "judge_cache")
"""Options that name a folder whose entries are written."""
_ENDINGS = {"out_json": ".json", "save_stats": ".npz", "reference_stats": ".npz"}
"""Options that name a file, and what it must be called: what is written never replaces a video,
and what was uploaded as one is never read as anything else."""
_TEXTS = ("annotations", "prompts", "vbench_info")
_MODEL_FOLDERS = ("weights_dir", "fvd_model")


class ForbiddenError(UsageError):
    """A path, a checkpoint or a judge that this caller may not use: 403."""


@dataclass(frozen=True)
class Guard:
    """The bounds of one job.

    Attributes:
        roots: Resolved folders in which paths may be.
        closed: The server's own folder, which is closed even where it lies in a root.
        own: The job's folder, which is open although it lies in the closed one.
        judge_urls: Addresses of judges that callers may have asked.
    """

    roots: tuple[Path, ...]
    closed: Path
    own: Path | None = None
    judge_urls: tuple[str, ...] = ()

    def of_job(self, folder: Path) -> Guard:
        """The same with a folder that is the job's own."""
        return replace(self, own=folder.resolve())

    def check(self, parsed: Parsed) -> None:
        """Refuse words of a command that go too far. Looks at what the caller gave only.

        Raises:
            ForbiddenError: A path outside, an unknown checkpoint, a judge that is not allowed.
            UsageError: A value that no run has a use for.
        """
        for option in declarations(parsed.command):
            if option.parameter in parsed.given:
                self._check_option(option, parsed.options[option.parameter])
        if parsed.command == "prepare" and parsed.options["out_json"] is None:
            path = Path(parsed.options["input_dir"]) / "annotations.json"
            self.check_path(path, "input_dir")
        if parsed.command == "compute":
            self._check_judges(parsed)

    def check_path(self, path: str | Path, option: str) -> None:
        """Refuse a path that lies, or whose links lead, outside.

        Raises:
            ForbiddenError: It does. The same words whether there is such a file or not.
        """
        # Without a look at the path itself: what is outside is not to be told by how it fails.
        places = {os.path.realpath(path), os.path.realpath(os.path.expanduser(path))}
        if not all(self._is_open(Path(place)) for place in places):
            allowed = ", ".join(map(str, self.roots))
            raise ForbiddenError(
                f"{option}: '{path}' is not in a folder that this server opens "
                f"to callers ({allowed}).",
                option=option,
            )

    def opens(self, path: Path) -> None:
        """Refuse a folder or a file of a data set that lies, or is a link to what lies, outside.

        Raises:
            ForbiddenError: It does.
        """
        self.check_path(path, "input_dir")

    def _is_open(self, place: Path) -> bool:
        if place.is_relative_to(self.closed):
            return self.own is not None and place.is_relative_to(self.own)
        return any(place.is_relative_to(root) for root in self.roots)

    def _check_option(self, option: Declaration, value: Any) -> None:
        most = MOST.get(option.kind)
        # Also what is not a number at all.
        if most is not None and value is not None and not value <= most:
            raise UsageError(f"{option.flag} {value:g}: {most:g} at most.", option=option.name)
        bound, text = MOST_OF.get(option.name, float("inf")), str(value)
        # Not every text of digits is a number that Python reads.
        if option.name in MOST_OF and (len(text) > 24 or not _number(text) <= bound):
            raise UsageError(f"{option.flag}: {bound:g} at most.", option=option.name)
        if option.kind == "path" and value is not None:
            self.check_path(value, option.name)
            ending = _ENDINGS.get(option.name, "")
            if not str(value).endswith(ending):
                raise UsageError(
                    f"{option.flag} {value}: must end in {ending}.", option=option.name
                )
            if option.name in _TEXTS:
                _check_size(value, option.name)
            if option.name in _WRITTEN_INTO:
                self._check_entries(Path(value), option.name)
            if option.name in _MODEL_FOLDERS or option.hidden:
                self._check_links(Path(value), option.name)
        elif option.name == "model":
            for path in texts_to_models(value, option.flag).values():
                self.check_path(path, option.name)
                self._check_links(path, option.name)
        elif option.name == "set":
            self._check_settings(texts_to_settings(value, option.flag))

    def _check_entries(self, folder: Path, option: str) -> None:
        """What is there already might be a link to somewhere else."""
        for path in (folder, folder / "evaluate", folder / "annotations", folder / "features"):
            try:
                entries = list(os.scandir(path))
            except OSError:
                continue
            for entry in entries:
                # Videos that were staged as links lead to where they came from.
                if entry.is_symlink() and path.name != "evaluate":
                    self.check_path(entry.path, option)
            self.check_path(path, option)

    def _check_settings(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        from aigve_cli.registry import registry

        found = registry()
        for metric, values in found.settings_by_metric(settings).items():
            options = {option.name: option for option in found.metrics[metric].card.options}
            for name, value in values.items():
                if name in options and value:
                    self._check_setting(metric, options[name], str(value))

    def _check_setting(self, metric: str, option: Option, value: str) -> None:
        if option.names == "file":
            self.check_path(value, "set")
            _check_size(value, "set")
        elif option.names == "model":
            self.check_model(value, "set")
        elif len(value) > 12 and value.lstrip("+-").replace(".", "", 1).isdigit():
            raise UsageError(f"{metric}.{option.name} {value}: too large a number.", option="set")

    def check_model(self, value: str, option: str) -> None:
        """Refuse a model that is neither one of a card's nor in a folder of the roots.

        Raises:
            ForbiddenError: It would have to be fetched from an address that nobody has vouched for.
        """
        if value.lower() in _registered_models():
            return
        if not Path(value).is_absolute() and not os.path.lexists(value):
            raise ForbiddenError(
                f"{option}: the model '{value}' is none that this server knows.",
                hint="Name one of `aigve models list`, or a folder that the server opens.",
                option=option,
            )
        self.check_path(value, option)
        self._check_links(Path(value), option)

    def _check_links(self, folder: Path, option: str) -> None:
        """What is read of a model's folder must be in the roots too."""
        seen = 0
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                seen += 1
                if seen > MOST_ENTRIES:
                    raise ForbiddenError(
                        f"{option}: '{folder}' holds more than {MOST_ENTRIES} files.", option=option
                    )
                path = os.path.join(parent, name)
                if os.path.islink(path):
                    self.check_path(path, option)

    def _check_judges(self, parsed: Parsed) -> None:
        """Where a caller has a say, every address that would be asked must be an allowed one."""
        options = parsed.options
        for name in ("judge", "judge_text"):
            kind, _, model = (options[name] or "").partition(":")
            if name in parsed.given and kind == "local":
                self.check_model(model.strip(), name)
        given = sorted(parsed.given & {"judge", "judge_url", "judge_text", "judge_text_url"})
        settings = judge_settings(
            judge=options["judge"],
            url=options["judge_url"],
            text=options["judge_text"],
            text_url=options["judge_text_url"],
        )
        if not given or settings is None:
            return
        allowed = {address.rstrip("/") for address in self.judge_urls}
        for spec in settings.specs:
            asked = (spec.url or OPENAI).rstrip("/")
            if spec.kind == "openai" and asked not in allowed:
                raise ForbiddenError(
                    f"{given[0]}: this server asks no judge at {asked} for callers.",
                    hint="Whoever runs it may allow that: --allow-judge-url.",
                    option=given[0],
                )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # the command says what it expects


def _check_size(path: str | Path, option: str) -> None:
    """Refuse a file of text that would take the memory of those who only ask."""
    if os.path.isfile(path) and os.path.getsize(path) > MOST_TEXT_BYTES:
        raise UsageError(
            f"{option}: '{path}' is larger than {MOST_TEXT_BYTES} bytes.", option=option
        )


def _registered_models() -> set[str]:
    """Tags and published names of all checkpoints that cards know, in lower case."""
    from aigve_cli.weights import network_cards

    return {
        name.lower()
        for card in network_cards().values()
        for tag, entry in card.weights.items()
        for name in _names(tag, entry.hub_id)
    }


def _names(tag: str, hub_id: str) -> Iterable[str]:
    return [tag, hub_id] if hub_id else [tag]
