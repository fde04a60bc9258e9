"""Input options to the samples of a run: the one entry that prepare, stage and compute call."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aigve_cli.contract import Sample
from aigve_cli.dataset.annotations import Annotations, path_to_relative, read_annotations
from aigve_cli.dataset.listing import LeftOut, Opens, list_videos
from aigve_cli.dataset.pairing import (
    DEFAULT_SUFFIXES,
    Suffixes,
    files_to_pairs,
    folders_to_pairs,
)
from aigve_cli.dataset.prompts import (
    PromptOptions,
    broken_prompts_note,
    is_text,
    samples_to_prompted,
)
from aigve_cli.dataset.vbench_suite import missing_videos, read_suite, samples_to_suite
from aigve_cli.errors import UsageError

__all__ = ["Dataset", "LeftOut", "load_dataset"]

_SHOWN = 5


@dataclass(frozen=True)
class Dataset:
    """The videos of a run, with their roles.

    Attributes:
        samples: Sorted by name: generated videos, and unpaired references (``generated`` None).
        video_dir: The folder that annotation paths are relative to.
        prompt_dir: Where prompts come from: a file's path, or words.
        left_out: Files that take no part, and why.
        notes: Sentences that the user should see.
        reference_dir: The folder of references, where one was given.
        suite: VBench's file of prompts, where one was given.
    """

    samples: tuple[Sample, ...]
    video_dir: Path
    prompt_dir: str
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    reference_dir: Path | None = None
    suite: Path | None = None

    @property
    def generated(self) -> tuple[Sample, ...]:
        """The samples with a generated video."""
        return tuple(sample for sample in self.samples if sample.generated is not None)

    @property
    def pairs(self) -> tuple[Sample, ...]:
        """The generated samples that have a reference."""
        return tuple(sample for sample in self.generated if sample.reference is not None)

    @property
    def references(self) -> tuple[Path, ...]:
        """The reference set: distinct paths, sorted."""
        return tuple(
            sorted({sample.reference for sample in self.samples if sample.reference is not None})
        )

    @property
    def prompted(self) -> tuple[Sample, ...]:
        """The generated samples that have a prompt."""
        return tuple(sample for sample in self.generated if sample.prompt is not None)

    def describe(self) -> list[str]:
        """The lines about the data set that a command shows to people."""
        pairs = self.pairs
        paired_with = len({sample.reference for sample in pairs})
        counts = (
            f"{len(self.generated)} generated, {len(pairs)} paired with "
            f"{_count(paired_with, 'reference')}, "
            f"{len(self.generated) - len(pairs)} unpaired, {len(self.prompted)} with a prompt"
        )
        unpaired = len(self.references) - paired_with
        if unpaired:
            counts += f"; {_count(unpaired, 'more reference')} without a pair"
        lines = [counts]
        if self.left_out:
            lines.append(f"Left out: {_count(len(self.left_out), 'file')}")
            lines += [
                f"  {self._shown(item.path)}: {item.reason}" for item in self.left_out[:_SHOWN]
            ]
            if len(self.left_out) > _SHOWN:
                lines.append(f"  and {len(self.left_out) - _SHOWN} more")
        lines += self.notes
        return [*lines, f"video_dir: {self.video_dir}", f"prompt_dir: {self.prompt_dir}"]

    def _shown(self, path: Path) -> str:
        inside = path.is_relative_to(self.video_dir)
        return str(path.relative_to(self.video_dir) if inside else path)


def load_dataset(
    *,
    input_dir: Path | None = None,
    reference_dir: Path | None = None,
    annotations: Path | None = None,
    video_dir: Path | None = None,
    suffixes: str | Sequence[str] = DEFAULT_SUFFIXES,
    recursive: bool = False,
    prompts: Path | None = None,
    prompt: str | None = None,
    prompt_from_name: bool = False,
    vbench_info: Path | None = None,
    opens: Opens | None = None,
) -> Dataset:
    """Find the videos, their references and their prompts.

    Args:
        input_dir: Folder of generated videos, or of generated and reference videos.
        reference_dir: Folder of references; then all of ``input_dir`` is generated.
        annotations: Annotation JSON or CSV, instead of ``input_dir``. With neither, the staged
            or prepared files of the current folder are used.
        video_dir: Folder that the annotations' paths are relative to; else it is looked for
            beside the annotation file.
        suffixes: Tokens that mark a generated file in a mixed folder.
        recursive: Look into subfolders.
        prompts: File with prompts: csv, json, jsonl or txt.
        prompt: One prompt for every video.
        prompt_from_name: Take each prompt from the file's name.
        vbench_info: VBench's suite of prompts: only its videos are taken, each for its dimensions.
        opens: Refuses paths that may not be looked at, before anything tells whether they exist.

    Raises:
        UsageError: Options that contradict each other, a missing folder or file, a folder without
            videos, or a malformed file.
    """
    _check_options(input_dir, reference_dir, annotations, video_dir)
    options = PromptOptions(prompts, prompt, prompt_from_name)
    tokens = Suffixes(suffixes)
    if input_dir is not None:
        dataset = _folders_to_dataset(
            input_dir, reference_dir, tokens, recursive=recursive, opens=opens
        )
    else:
        dataset = _annotations_to_dataset(annotations, video_dir, opens)
        if recursive:
            note = "--recursive is not used: the annotation file names the videos."
            dataset = replace(dataset, notes=(*dataset.notes, note))
    prompted = samples_to_prompted(dataset.samples, options, tokens)
    samples, broken = _without_broken_prompts(prompted.samples)
    dataset = replace(
        dataset,
        samples=samples,
        prompt_dir=prompted.origin or dataset.prompt_dir,
        notes=(*dataset.notes, *prompted.notes, *broken),
    )
    if vbench_info is None:
        return dataset
    if prompted.origin is not None:
        raise UsageError(
            "--vbench-info has the prompts of its videos: leave the other options of prompts out."
        )
    return _of_suite(dataset, vbench_info)


def _of_suite(dataset: Dataset, path: Path) -> Dataset:
    """The videos that VBench's suite asks for, and notes on those that are missing."""
    suite = read_suite(path)
    inside, outside = samples_to_suite(dataset.samples, suite)
    if not any(sample.generated for sample in inside):
        raise UsageError(
            f"None of the {_count(len(dataset.generated), 'video')} is of the suite in '{path}'.",
            hint="Its videos are called PROMPT-0.mp4 to PROMPT-4.mp4, by the prompts of that file.",
        )
    left_out = tuple(
        LeftOut(sample.generated, outside[sample.name])
        for sample in dataset.samples
        if sample.generated is not None and sample.name in outside
    )
    missing = missing_videos(inside, suite)
    return replace(
        dataset,
        samples=inside,
        prompt_dir=str(path.resolve()),
        left_out=(*dataset.left_out, *left_out),
        notes=(*dataset.notes, *(f"VBench's suite, {line}" for line in missing)),
        suite=path.resolve(),
    )


def _without_broken_prompts(samples: Sequence[Sample]) -> tuple[tuple[Sample, ...], list[str]]:
    """Samples whose prompts are texts, and a note on those that were none."""
    broken = [sample.name for sample in samples if not is_text(sample.prompt or "")]
    if not broken:
        return tuple(samples), []
    whole = tuple(s if is_text(s.prompt or "") else replace(s, prompt=None) for s in samples)
    return whole, [broken_prompts_note(len(broken), f"that of '{broken[0]}'")]


def _check_options(
    input_dir: Path | None,
    reference_dir: Path | None,
    annotations: Path | None,
    video_dir: Path | None,
) -> None:
    if input_dir is not None and annotations is not None:
        raise UsageError(
            "--input-dir and --annotations exclude each other.",
            hint="Annotations name their videos: give the folder with --video-dir.",
        )
    if reference_dir is not None and input_dir is None:
        raise UsageError(
            "--reference-dir needs --input-dir.",
            hint="In annotations, references are 'video_path_gt' and 'reference_list'.",
        )
    if video_dir is not None and annotations is None:
        raise UsageError(
            "--video-dir needs --annotations.", hint="Without annotations, use --input-dir."
        )


def _folders_to_dataset(
    input_dir: Path,
    reference_dir: Path | None,
    suffixes: Suffixes,
    *,
    recursive: bool,
    opens: Opens | None,
) -> Dataset:
    found = list_videos(
        input_dir, recursive=recursive, option="--input-dir", excluding=reference_dir, opens=opens
    )
    video_dir = input_dir.resolve()
    left_out = found.left_out
    if reference_dir is None:
        pairing = files_to_pairs(found.videos, suffixes)
        references_from = video_dir
    else:
        references_from = reference_dir.resolve()
        if references_from == video_dir:
            raise UsageError(
                "--input-dir and --reference-dir are the same folder.",
                hint="For a folder that holds both roles, give only --input-dir.",
            )
        references = list_videos(
            reference_dir,
            recursive=recursive,
            option="--reference-dir",
            excluding=input_dir,
            opens=opens,
        )
        left_out += references.left_out
        pairing = folders_to_pairs(found.videos, references.videos, suffixes)
    samples = [
        Sample(
            pair.generated,
            video_dir / pair.generated,
            None if pair.reference is None else references_from / pair.reference,
        )
        for pair in pairing.pairs
    ]
    samples += [Sample(name, None, references_from / name) for name in pairing.references]
    left_out += tuple(
        LeftOut(video_dir / name, reason) for name, reason in pairing.left_out.items()
    )
    return Dataset(
        samples=_sorted(samples),
        video_dir=video_dir,
        prompt_dir="no prompts",
        left_out=left_out,
        notes=pairing.notes,
        reference_dir=None if reference_dir is None else references_from,
    )


def _annotations_to_dataset(
    path: Path | None, video_dir: Path | None, opens: Opens | None
) -> Dataset:
    notes = []
    if path is None:
        path, video_dir = _of_current_folder()
        notes.append(f"No input was named: using '{path}' of the current folder.")
    content = read_annotations(path)
    if not content.entries:
        detail = f" ({content.problems[0]})" if content.problems else ""
        raise UsageError(f"Annotation file '{path}' names no video{detail}.")
    folder = (video_dir or _likely_video_dir(path, content, opens)).resolve()
    if opens is not None:
        written = (w for e in content.entries for w in (e.generated, e.reference) if w is not None)
        for name in (*written, *content.references):
            opens(folder / name)
    if not folder.is_dir():
        raise UsageError(f"The folder '{folder}' does not exist.", hint="Check --video-dir.")

    samples: list[Sample] = []
    left_out = [LeftOut(path, problem) for problem in content.problems]
    uses: Counter[str] = Counter()
    seen: set[tuple[str, str | None, str | None]] = set()
    for entry in content.entries:
        name = path_to_relative(folder / entry.generated, folder)
        key = (name, entry.reference, entry.prompt)
        if key in seen:
            left_out.append(LeftOut(folder / name, "named twice in the annotations"))
            continue
        seen.add(key)
        reference = None if entry.reference is None else folder / entry.reference
        uses[name] += 1
        samples.append(
            Sample(
                name if uses[name] == 1 else f"{name}#{uses[name]}",
                folder / entry.generated,
                reference,
                entry.prompt,
                entry.extra,
            )
        )
    paired = {sample.reference for sample in samples}
    for reference_path in dict.fromkeys(folder / written for written in content.references):
        if reference_path not in paired:
            name = path_to_relative(reference_path, folder)
            uses[name] += 1
            samples.append(
                Sample(name if uses[name] == 1 else f"{name}#{uses[name]}", None, reference_path)
            )
    notes += _missing_files(samples, path, folder)
    return Dataset(_sorted(samples), folder, str(path.resolve()), tuple(left_out), tuple(notes))


def _of_current_folder() -> tuple[Path, Path]:
    staged, evaluate = Path("annotations/evaluate.json"), Path("evaluate")
    if staged.is_file() and evaluate.is_dir():
        return staged, evaluate
    prepared = Path("annotations.json")
    if prepared.is_file():
        return prepared, Path()
    raise UsageError(
        "No input: neither --input-dir nor --annotations was given, and the current folder has "
        "no 'evaluate/' with 'annotations/evaluate.json', and no 'annotations.json'.",
        hint="aigve compute --input-dir FOLDER",
    )


def _likely_video_dir(path: Path, content: Annotations, opens: Opens | None) -> Path:
    """The first of the usual places where one of the named videos is."""
    places = [path.parent]
    if path.absolute().parent.name == "annotations":
        places.insert(0, path.absolute().parent.parent / path.stem)
    if content.source and Path(content.source).is_absolute():
        places.append(Path(content.source))
    for place in places:
        if not _all_open(place, content, opens):
            continue
        if any(os.path.exists(place / entry.generated) for entry in content.entries):
            return place
    return path.parent


def _all_open(place: Path, content: Annotations, opens: Opens | None) -> bool:
    """Whether it may be told which of the videos are in a folder."""
    if opens is not None:
        try:
            for entry in content.entries:
                opens(place / entry.generated)
        except UsageError:
            return False
    return True


def _missing_files(samples: Sequence[Sample], path: Path, video_dir: Path) -> list[str]:
    """Notes on named files that do not exist; each fails later as that video's own reason."""
    generated = [sample.generated for sample in samples if sample.generated is not None]
    missing = [file for file in generated if not os.path.exists(file)]
    if len(missing) == len(generated):
        raise UsageError(
            f"None of the {_count(len(generated), 'video')} named in '{path}' exists in "
            f"video_dir '{video_dir}' (such as '{missing[0].name}').",
            hint="Give the folder that the paths are relative to with --video-dir.",
        )
    references = {sample.reference for sample in samples if sample.reference is not None}
    gone = sorted(file for file in references if not os.path.exists(file))
    return [
        f"{_count(len(files), what)} named in '{path}' "
        f"{'does' if len(files) == 1 else 'do'} not exist, such as '{files[0]}'."
        for files, what in ((missing, "video"), (gone, "reference"))
        if files
    ]


def _sorted(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: sample.name))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
