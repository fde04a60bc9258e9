"""Prompts for videos: from a file, one for all, or from the files' names."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from aigve_cli.contract import Sample
from aigve_cli.dataset.annotations import document_to_records, value_to_prompt
from aigve_cli.dataset.pairing import Suffixes, path_to_base, without_extension
from aigve_cli.dataset.textfiles import read_text, text_to_json, text_to_rows
from aigve_cli.errors import UsageError

_KIND = "Prompt file"
_VIDEO_KEYS = ("video", "video_path_pd", "name", "file")
_PROMPT_KEYS = ("prompt", "prompt_gt", "caption", "text")
# Video generators number the samples of one prompt: `a red car-0.mp4`. Four digits may be a year.
_SAMPLE_INDEX = re.compile(r"-[0-9]{1,3}\Z")


@dataclass(frozen=True)
class PromptOptions:
    """Where prompts come from: at most one of the three."""

    file: Path | None = None
    text: str | None = None
    from_name: bool = False

    def __post_init__(self) -> None:
        given = [
            option
            for option, present in (
                ("--prompts", self.file is not None),
                ("--prompt", self.text is not None),
                ("--prompt-from-name", self.from_name),
            )
            if present
        ]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other.", hint="Give one of them.")
        if self.text is not None and not self.text.strip():
            raise UsageError("--prompt is empty.")


class Prompted(NamedTuple):
    """Samples with prompts; ``origin`` says where they come from, None if nothing was asked."""

    samples: tuple[Sample, ...]
    origin: str | None
    notes: tuple[str, ...]


class NamedPrompt(NamedTuple):
    """A line of a prompt file."""

    video: str
    prompt: str | None


def samples_to_prompted(
    samples: Sequence[Sample], options: PromptOptions, suffixes: Suffixes
) -> Prompted:
    """Give the generated samples their prompts; these go before prompts of an annotation file.

    Raises:
        UsageError: The prompt file is missing, malformed, contradicts itself, or is a list of
            plain lines of another length than the list of videos.
    """
    names = [sample.name for sample in samples if sample.generated is not None]
    notes: list[str] = []
    if options.file is not None:
        origin = str(options.file.resolve())
        prompts = _file_to_prompts(options.file, names, suffixes, notes)
    elif options.text is not None:
        origin, prompts = "--prompt", dict.fromkeys(names, options.text.strip())
    elif options.from_name:
        origin = "file names (--prompt-from-name)"
        found = {name: name_to_prompt(name, suffixes) for name in names}
        prompts = {name: prompt for name, prompt in found.items() if prompt}
    else:
        return Prompted(tuple(samples), None, ())

    replaced = sum(
        sample.prompt is not None and prompts.get(sample.name, sample.prompt) != sample.prompt
        for sample in samples
    )
    if replaced:
        notes.append(f"{replaced} prompts of the annotations give way to those of {origin}.")
    prompted = tuple(
        replace(sample, prompt=prompts[sample.name]) if sample.name in prompts else sample
        for sample in samples
    )
    without = [s.name for s in prompted if s.generated is not None and s.prompt is None]
    if without:
        notes.append(f"{len(without)} videos have no prompt, such as '{without[0]}'.")
    return Prompted(prompted, origin, tuple(notes))


def name_to_prompt(name: str, suffixes: Suffixes) -> str | None:
    """The prompt in a file's name, without suffix token and sample index.

    Underscores become spaces if the name has no space of its own.
    """
    stem = without_extension(name.rpartition("/")[2])
    base = suffixes.base(stem)
    text = _SAMPLE_INDEX.sub("", stem if base is None else base)
    return value_to_prompt(text if " " in text else text.replace("_", " "))


def match_prompts(
    named: Sequence[NamedPrompt], names: Iterable[str], suffixes: Suffixes
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Prompts by sample name, and the videos of the prompt file that fit no sample.

    A video fits by its relative path, its file name, its stem, or its stem without suffix, in this
    order. A written path may start further up (``videos/a.mp4`` for ``a.mp4``); a name written
    without a folder fits in any. Where several prompts fit equally well, none is taken.
    """
    index: dict[str, dict[str, str | None]] = defaultdict(dict)
    for video, prompt in named:
        written = _composed(video)
        for form in dict.fromkeys((written, without_extension(written))):
            parts = form.split("/")
            for start in range(len(parts)):
                index["/".join(parts[start:])][video] = prompt
            if len(parts) == 1:
                index[f"*/{form}"][video] = prompt
    prompts: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        path = _composed(name)
        base = path_to_base(path, suffixes)
        for form in dict.fromkeys((path, without_extension(path), base or path)):
            fits = index.get(form) or index.get(f"*/{form.rpartition('/')[2]}")
            if fits:
                used.update(fits)
                texts = set(fits.values())
                text = texts.pop() if len(texts) == 1 else None
                if text is not None:
                    prompts[name] = text
                break
    return prompts, tuple(dict.fromkeys(video for video, _ in named if video not in used))


def is_text(prompt: str) -> bool:
    """Whether a prompt can be written and sent: half of a pair of surrogates cannot."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return False
    return True


def broken_prompts_note(count: int, such_as: str) -> str:
    """The note on prompts that are left out since they are no text."""
    one = "prompt is" if count == 1 else "prompts are"
    return f"{count} {one} not valid Unicode (half a character) and left out, such as {such_as}."


def read_prompts(path: Path) -> list[NamedPrompt] | list[str]:
    """The named prompts of a csv, json, jsonl or txt file, or the plain lines of a txt file.

    Raises:
        UsageError: The file is missing or malformed, or of another kind.
    """
    return _read_lines(path, _record_to_prompt)


def read_prompt_texts(path: Path) -> list[str]:
    """The prompts of such a file in their order; it may name videos or not.

    Without videos a table needs but a column of prompts, and JSON may be a list of texts.

    Raises:
        UsageError: The file is missing, malformed, of another kind, or has no prompt.
    """
    lines = _read_lines(path, _record_to_text)
    texts = [line.prompt if isinstance(line, NamedPrompt) else line for line in lines]
    prompts = [text for text in texts if text]
    if not prompts:
        raise UsageError(
            f"{_KIND} '{path}' has no prompt.",
            hint=f"A prompt stands in one of {', '.join(_PROMPT_KEYS)}; a csv begins with a "
            "header line that names the column.",
        )
    return prompts


def _read_lines(
    path: Path, record_to_prompt: Callable[[Any, str, Path], NamedPrompt]
) -> list[NamedPrompt] | list[str]:
    text = read_text(path, _KIND)
    match path.suffix.lower():
        case ".csv" | ".tsv":
            rows = text_to_rows(text, path, _KIND)
            return [record_to_prompt(cells, f"line {line}", path) for line, cells in rows]
        case ".json":
            document = text_to_json(text, path, _KIND)
            return _document_to_prompts(document, path, record_to_prompt)
        case ".jsonl":
            return [
                record_to_prompt(
                    text_to_json(line, path, _KIND, first_line=number), f"line {number}", path
                )
                for number, line in enumerate(text.split("\n"), start=1)
                if line.strip()
            ]
        case ".txt":
            return _lines_to_prompts(text, path)
        case other:
            raise UsageError(
                f"{_KIND} '{path}' has the extension '{other}'.",
                hint="Known: .csv .tsv .json .jsonl .txt.",
            )


def _file_to_prompts(
    path: Path, names: Sequence[str], suffixes: Suffixes, notes: list[str]
) -> dict[str, str]:
    content = read_prompts(path)
    if not content:
        raise UsageError(
            f"{_KIND} '{path}' holds no prompts.",
            hint="A csv begins with a header line that names the columns video and prompt.",
        )
    lines = [item for item in content if isinstance(item, str)]
    if lines:
        if len(lines) != len(names):
            raise UsageError(
                f"{_KIND} '{path}' has {len(lines)} plain lines for {len(names)} generated videos.",
                hint="Give one line a video, or lines of NAME<TAB>PROMPT.",
            )
        notes.append(
            f"The lines of '{path}' go to the videos in the order of their names sorted as text: "
            f"'{names[0]}' first, '{names[-1]}' last."
        )
        return {name: line for name, line in zip(names, lines, strict=True) if line}
    named = [item for item in content if isinstance(item, NamedPrompt)]
    if all(prompt is None for _, prompt in named):
        raise UsageError(
            f"{_KIND} '{path}' names {len(named)} videos and no prompt.",
            hint=f"A prompt stands in one of {', '.join(_PROMPT_KEYS)}.",
        )
    seen: dict[str, str | None] = {}
    for video, prompt in named:
        if seen.setdefault(video, prompt) != prompt:
            raise UsageError(
                f"{_KIND} '{path}' gives '{video}' two prompts: '{seen[video]}' and '{prompt}'."
            )
    prompts, unused = match_prompts(named, names, suffixes)
    if unused:
        notes.append(
            f"{len(unused)} prompts of '{path}' belong to no generated video, such as that of "
            f"'{unused[0]}'."
        )
    return prompts


def _document_to_prompts(
    document: Any, path: Path, record_to_prompt: Callable[[Any, str, Path], NamedPrompt]
) -> list[NamedPrompt]:
    records = document if isinstance(document, list) else document_to_records(document)
    if records is not None:
        return [
            record_to_prompt(record, f"entry {number}", path)
            for number, record in enumerate(records, start=1)
        ]
    if isinstance(document, dict) and all(
        value is None or isinstance(value, str) for value in document.values()
    ):
        return [NamedPrompt(video, value_to_prompt(text)) for video, text in document.items()]
    raise UsageError(
        f"{_KIND} '{path}' is neither a list of objects nor a mapping of files to prompts.",
        hint='Expected {"a.mp4": "a prompt"} or [{"video": "a.mp4", "prompt": "a prompt"}].',
    )


def _record_to_prompt(record: Any, place: str, path: Path) -> NamedPrompt:
    fields: Mapping[str, Any] = record if isinstance(record, dict) else {}
    video = next((fields[key] for key in _VIDEO_KEYS if fields.get(key)), None)
    if not isinstance(video, str):
        raise UsageError(
            f"{_KIND} '{path}', {place}: no video is named.",
            hint=f"Name it in one of {', '.join(_VIDEO_KEYS)}; "
            f"the prompt in one of {', '.join(_PROMPT_KEYS)}.",
        )
    return NamedPrompt(video, _fields_to_prompt(fields))


def _record_to_text(record: Any, place: str, path: Path) -> NamedPrompt:
    """The prompt of a record that need not name a video, or of a text alone."""
    if isinstance(record, str):
        return NamedPrompt("", value_to_prompt(record))
    if not isinstance(record, dict):
        raise UsageError(
            f"{_KIND} '{path}', {place}: neither a text nor an object.",
            hint='Expected ["a prompt"] or [{"prompt": "a prompt"}].',
        )
    return NamedPrompt("", _fields_to_prompt(record))


def _fields_to_prompt(fields: Mapping[str, Any]) -> str | None:
    return value_to_prompt(next((fields[key] for key in _PROMPT_KEYS if key in fields), None))


def _lines_to_prompts(text: str, path: Path) -> list[NamedPrompt] | list[str]:
    lines = text.rstrip("\n ").split("\n")
    tabbed = [line.partition("\t") for line in lines if "\t" in line]
    if not tabbed:
        return [line.strip() for line in lines] if text.strip() else []
    for number, line in enumerate(lines, start=1):
        if line.strip() and "\t" not in line:
            raise UsageError(
                f"{_KIND} '{path}', line {number}: no tab, but other lines are NAME<TAB>PROMPT."
            )
    return [NamedPrompt(video.strip(), value_to_prompt(prompt)) for video, _, prompt in tabbed]


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path.strip().removeprefix("./"))
