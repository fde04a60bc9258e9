"""VBench's suite of prompts: which videos it asks for, and what each of them counts for.

The file is VBench's own, ``VBench_full_info.json``: a list of prompts, each with its dimensions and
what they need to know (``auxiliary_info``). Videos are called PROMPT-0.mp4 to PROMPT-4.mp4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aigve_cli.contract import Sample
from aigve_cli.dataset.pairing import without_extension
from aigve_cli.dataset.textfiles import read_text, text_to_json
from aigve_cli.errors import UsageError
from aigve_cli.results.vbench import DIMENSIONS

SAMPLES = 5
"""Videos of each prompt."""
DIMENSIONS_KEY = "vbench_dimensions"
"""In a sample's ``extra``: VBench's names of the dimensions that its prompt was written for."""
_INDEX = re.compile(r"-(0|[1-9][0-9]*)\Z")
_SHOWN = 3
NOT_ASKED_FOR = "not one of VBench's suite: PROMPT-0 to PROMPT-4 of each of its prompts"


@dataclass(frozen=True)
class SuitePrompt:
    """A prompt of the suite."""

    text: str
    dimensions: tuple[str, ...]
    """VBench's names, such as ``subject_consistency``."""
    extra: Mapping[str, Any]
    """What a dimension needs to know, by its name: a label, a style, or a relation of two."""


@dataclass(frozen=True)
class Missing:
    """Videos that the suite asks for and that are not there, of one dimension."""

    dimension: str
    wanted: int
    names: tuple[str, ...]
    """PROMPT-INDEX, sorted."""

    def __str__(self) -> str:
        shown = ", ".join(f"'{name}'" for name in self.names[:_SHOWN])
        more = len(self.names) - _SHOWN
        rest = f" and {more} more" if more > 0 else ""
        return f"{self.dimension}: {len(self.names)} of {self.wanted} videos missing: {shown}{rest}"


def read_suite(path: Path) -> dict[str, SuitePrompt]:
    """The prompts of a suite by their text; one that is there twice has the dimensions of both.

    Raises:
        UsageError: There is no such file, or it is of another kind.
    """
    content = text_to_json(read_text(path, "VBench info file"), path, "VBench info file")
    if not isinstance(content, list) or not content:
        raise UsageError(f"VBench info file '{path}': a list of prompts is expected.")
    suite: dict[str, SuitePrompt] = {}
    for number, entry in enumerate(content):
        prompt = _entry_to_prompt(entry)
        if prompt is None:
            raise UsageError(
                f"VBench info file '{path}': entry {number} has no 'prompt_en' with a list of "
                "'dimension', or its 'auxiliary_info' is no object."
            )
        if unknown := [name for name in prompt.dimensions if name not in DIMENSIONS]:
            raise UsageError(
                f"VBench info file '{path}': entry {number} is for '{unknown[0]}', which VBench "
                "does not have.",
                hint=f"Its dimensions: {', '.join(DIMENSIONS)}.",
            )
        if earlier := suite.get(prompt.text):
            both = dict.fromkeys((*earlier.dimensions, *prompt.dimensions))
            prompt = replace(
                prompt, dimensions=tuple(both), extra={**earlier.extra, **prompt.extra}
            )
        suite[prompt.text] = prompt
    return suite


def _entry_to_prompt(entry: Any) -> SuitePrompt | None:
    if not isinstance(entry, dict):
        return None
    text, dimensions = entry.get("prompt_en"), entry.get("dimension")
    told = entry.get("auxiliary_info") or {}
    if not isinstance(text, str) or not isinstance(dimensions, list) or not isinstance(told, dict):
        return None
    if not all(isinstance(name, str) for name in dimensions):
        return None
    extra = {dimension: _unwrapped(info) for dimension, info in told.items()}
    return SuitePrompt(text, tuple(dimensions), extra)


def _unwrapped(info: Any) -> Any:
    """What is inside objects of one name: ``{"scene": {"scene": "alley"}}`` is ``alley``."""
    while isinstance(info, dict) and len(info) == 1:
        (info,) = info.values()
    return info


def samples_to_suite(
    samples: Sequence[Sample], suite: Mapping[str, SuitePrompt]
) -> tuple[tuple[Sample, ...], dict[str, str]]:
    """The samples that the suite asks for, with prompt and dimensions, and why others are not.

    References without a pair belong to no prompt, and stay as they are.
    """
    inside: list[Sample] = []
    outside: dict[str, str] = {}
    taken: dict[tuple[str, int | None], str] = {}
    for sample in samples:
        if sample.generated is None:
            inside.append(sample)
            continue
        found = _prompt_of(sample.name, suite)
        if found is None:
            outside[sample.name] = NOT_ASKED_FOR
            continue
        other = taken.setdefault(split_name(sample.name), sample.name)
        if other != sample.name:
            outside[sample.name] = f"the same video of VBench's suite as '{other}'"
            continue
        extra = {**sample.extra, **found.extra, DIMENSIONS_KEY: list(found.dimensions)}
        inside.append(replace(sample, prompt=found.text, extra=extra))
    return tuple(inside), outside


def _prompt_of(name: str, suite: Mapping[str, SuitePrompt]) -> SuitePrompt | None:
    prompt, index = split_name(name)
    return suite.get(prompt) if index is not None and index < SAMPLES else None


def split_name(name: str) -> tuple[str, int | None]:
    """The prompt in a file's name and the number of the sample, None if it has none."""
    stem = without_extension(name.rpartition("/")[2])
    found = _INDEX.search(stem)
    return (stem[: found.start()], int(found[1])) if found else (stem, None)


def missing_videos(samples: Iterable[Sample], suite: Mapping[str, SuitePrompt]) -> list[Missing]:
    """What the suite asks for and is not among samples, by dimension, sorted."""
    have = {split_name(sample.name) for sample in samples}
    wanted: dict[str, list[tuple[str, int]]] = {}
    for prompt in suite.values():
        for dimension in prompt.dimensions:
            names = ((prompt.text, index) for index in range(SAMPLES))
            wanted.setdefault(dimension, []).extend(names)
    found = []
    for dimension, all_names in sorted(wanted.items()):
        lacking = [f"{text}-{i}" for text, i in all_names if (text, i) not in have]
        if lacking:
            found.append(Missing(dimension, len(all_names), tuple(sorted(lacking))))
    return found
