"""What the metrics share that ask a judge about a video."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from aigve_cli.contract import (
    SHOWN,
    Extent,
    Frames,
    Metric,
    Option,
    OptionValue,
    Prompt,
    Request,
    ResizeWithin,
    Sample,
    SampleFeatures,
    Score,
)
from aigve_cli.judges.questions import Questions, questions_of, questions_with_hash
from aigve_cli.judges.task import JudgeTask, Record
from aigve_cli.statistics.summaries import scores_to_mean
from aigve_cli.video.sampling import Centres, within

ANSWERS = "answers"
UNANSWERED = "unanswered"
PER_FRAME = "per-frame"
SHOW = Option(
    "show",
    "multi",
    "How the judge is shown a video. multi: its frames in one request, each with its time. "
    "per-frame: each frame on its own; the score is the mean. grid: one picture of all frames. "
    "video: one video of them, for judges that take videos.",
    choices=("multi", PER_FRAME, *(shown for shown in SHOWN if shown != "multi")),
)
FRAMES = Option(
    "frames", 8, "So many frames, from the middle of equal parts of the video.", minimum=1
)
SIZE = Option(
    "size", 512, "Frames are shrunk until their longer side has so many pixels.", minimum=32
)
OPTIONS = (SHOW, FRAMES, SIZE)
ANSWERS_READ, BY_WORDS = "answers read", "answers without a probability"
"""Counts in the details of scores by probability."""
_ASKED, _UNANSWERED = "questions asked", "questions without an answer"
_COUNTS = (_ASKED, _UNANSWERED, ANSWERS_READ, BY_WORDS)
_LEFT_OUT = "left out: "
_NOT_TOLD = "the judge does not tell their probability"
_TOLD_ELSEWHERE = ("caption", "notes", "problem")


def questions_option(metric: str) -> Option:
    """The option that names a file of questions."""
    return Option(
        "questions",
        "",
        f"A file of questions: of `aigve questions --metric {metric}`, or as published. "
        "Empty: the judge writes them.",
        names="file",
    )


def questions_file(options: Mapping[str, OptionValue], metric: str) -> tuple[str, str]:
    """Path and sha256 of the file that the option ``questions`` names; empty without one.

    Raises:
        UsageError: The file cannot be read, or is no question file of this metric.
    """
    if not options["questions"]:
        return "", ""
    # What is a file now stays one, wherever the process goes meanwhile.
    path = str(Path(str(options["questions"])).expanduser().absolute())
    return path, questions_of(path, metric).sha256


def set_of_file(path: str, sha256: str, metric: str, prompt: str) -> dict[str, Any]:
    """A record of the questions that a file has about a prompt, like that of a task.

    Raises:
        AigveError: The file was changed since the run was planned, or is gone.
    """
    found: Questions = questions_with_hash(path, sha256, metric)
    facts: dict[str, Any] = {"file": path, "sha256": sha256}
    if found.prompt_version:
        facts |= {"judge": dict(found.judge), "prompt_version": found.prompt_version}
    record: dict[str, Any] = {"questions": [], "questions_from": facts}
    mine = found.of(prompt)
    if mine is None:
        return record | {"problem": f"'{path}' has no questions about this prompt"}
    questions = [question.to_json() for question in mine.questions]
    return record | {"questions": questions, "notes": list(mine.notes)}


def record_details(record: Record) -> dict[str, Any]:
    """What a record tells beside the number and the notes."""
    return {key: value for key, value in record.items() if key not in _TOLD_ELSEWHERE}


class Missing(NamedTuple):
    """What has no answer of all that was to be asked about a video or a frame."""

    counts: dict[str, int]
    """For the details: of questions, and of those without an answer."""
    problem: str
    """Why the first of them has none; empty if all have one."""
    reason: str | None
    """Why there is no score."""


def missing_answers(record: Record) -> Missing:
    """Questions without an answer that can be read are left out, never counted as wrong.

    Those that could not be checked are among them. Where they are more than half of all questions,
    there is no score; nor where nobody answered, since another run may have the answer.
    """
    lost = _without_answer(record)
    # What was dropped for its own faults was never to be asked.
    unchecked = sum("unchecked" in entry for entry in lost)
    counts = {_ASKED: len(record["questions"]) + unchecked, _UNANSWERED: len(lost)}
    problem = _first_problem(lost)
    reason = record.get("problem")
    unanswered = [entry for entry in lost if UNANSWERED in entry]
    if reason is None and (unanswered or 2 * len(lost) > counts[_ASKED]):
        reason = _questions_lost(counts, _first_problem(unanswered) or problem)
    return Missing(counts, problem, reason)


def counted_notes(counts: Mapping[str, Any], problem: str = "") -> tuple[str, ...]:
    """The notes on counts: those of a run are made anew from sums, since notes do not add up.

    Args:
        counts: Of a video or a run; also a score's details.
        problem: Why the first question without an answer has none.
    """
    notes: tuple[str, ...] = ()
    if counts.get(_UNANSWERED):
        notes += (f"{_LEFT_OUT}{_questions_lost(counts, problem)}",)
    if counts.get(BY_WORDS):
        answers = f"{counts[BY_WORDS]} of {counts[ANSWERS_READ]} answers"
        notes += (f"{answers} count 0 or 1: {_NOT_TOLD}",)
    return notes


def frame_scores_to_score(scores: Sequence[Score], curve: str) -> Score:
    """The mean of the scores of single frames; no score if more than half of them are missing.

    Args:
        scores: One a frame, in order of time.
        curve: The value whose numbers by frame are the curve.
    """
    read = [score for score in scores if score.reason is None]
    counts = _summed_counts(scores)
    details = {"frames": [_frame_details(score) for score in scores], **counts}
    reasons = [score.reason for score in scores if score.reason is not None]
    lost = [entry for score in scores for entry in _without_answer(score.details)]
    notes = (*counted_notes(counts, _first_problem(lost)), *_frame_notes(scores))
    if reasons:
        unanswered = [score.reason for score in scores if _nobody_answered(score.details)]
        what = f"{_frames_lost(len(reasons), len(scores))}: {(*unanswered, *reasons)[0]}"
        if unanswered or 2 * len(reasons) > len(scores):
            return Score(details=details, reason=what)
        notes = (f"{_LEFT_OUT}{what}", *notes)
    values = {
        name: math.fsum(score.values[name] for score in read) / len(read) for name in read[0].values
    }
    # A curve with gaps would lie about the time of what follows.
    line = {} if reasons else {"frame": [score.values[curve] for score in read]}
    return Score(values=values, curve=line, details=details, notes=notes)


def _without_answer(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The questions without an answer or a check, of a record or of a score's details."""
    unchecked = [entry for entry in facts.get("dropped", ()) if "unchecked" in entry]
    return unchecked + [entry for entry in facts.get("questions", ()) if "problem" in entry]


def _nobody_answered(details: Mapping[str, Any]) -> bool:
    """Whether a question was not answered at all, of a record or of a score's details."""
    parts = [part for part in details.values() if isinstance(part, Mapping)]
    return any(UNANSWERED in entry for entry in (details, *parts, *_without_answer(details)))


def _first_problem(lost: Sequence[Mapping[str, Any]]) -> str:
    return str(lost[0].get("problem") or lost[0]["why"]) if lost else ""


def _questions_lost(counts: Mapping[str, Any], problem: str) -> str:
    what = f"{counts[_UNANSWERED]} of {counts[_ASKED]} questions have no answer"
    return f"{what}: {problem}" if problem else what


def _frames_lost(lost: int, frames: int) -> str:
    return f"{lost} of {frames} frames have no score"


def _summed_counts(scores: Sequence[Score]) -> dict[str, int]:
    return {
        name: sum(score.details.get(name, 0) for score in scores)
        for name in _COUNTS
        if any(name in score.details for score in scores)
    }


def _is_counted(note: str) -> bool:
    return note.startswith(_LEFT_OUT) or note.endswith(_NOT_TOLD)


def _frame_details(score: Score) -> dict[str, Any]:
    reason = {"reason": score.reason} if score.reason else {}
    return {**score.values, **reason, **score.details}


def _frame_notes(scores: Sequence[Score]) -> tuple[str, ...]:
    """What was noted of all frames, and of how many what was not noted of all."""
    noted = Counter(note for score in scores for note in score.notes if not _is_counted(note))
    return tuple(
        note if count == len(scores) else f"{count} of {len(scores)} frames: {note}"
        for note, count in noted.items()
    )


class JudgedMetric(Metric):
    """Base of the metrics that turn what a judge says about a video into a score."""

    def task(self, options: Mapping[str, OptionValue]) -> JudgeTask:
        """What the judge is asked."""
        raise NotImplementedError

    def record_to_score(self, record: Record, options: Mapping[str, OptionValue]) -> Score:
        """The score of what the task has found out, of a video or of one of its frames."""
        raise NotImplementedError

    def requests(self, options: Mapping[str, OptionValue], extent: Extent) -> Mapping[str, Request]:
        """The judge's answers about some frames and the prompt."""
        single = options["show"] == PER_FRAME
        sampling = within(extent, Centres(int(options["frames"]), together=not single))
        frames = Frames((ResizeWithin(int(options["size"])),), sampling)
        shown = "multi" if single else str(options["show"])
        sources = (frames, Prompt(), self.task(options))
        return {ANSWERS: Request("judge:answers", sources, variant=shown)}

    def score(
        self, features: SampleFeatures, sample: Sample, options: Mapping[str, OptionValue]
    ) -> Score:
        """Of the one record of a video, or of the records of its frames."""
        records = features.records.get(ANSWERS, ())
        scores = [self.record_to_score(record, options) for record in records]
        if not scores:
            return Score.missing("the judge was asked nothing: the video has no frame to show")
        if options["show"] != PER_FRAME:
            return scores[0]
        return frame_scores_to_score(scores, self.card.values[0].name)

    def summarise(self, scores: Sequence[Score]) -> Score:
        """The mean over videos, and how many frames and questions were left out."""
        mean = scores_to_mean(scores)
        notes = tuple(note for note in mean.notes if not _is_counted(note))
        frames = [frame for score in scores for frame in score.details.get("frames", ())]
        if lost := sum("reason" in frame for frame in frames):
            notes += (f"{_LEFT_OUT}{_frames_lost(lost, len(frames))}",)
        return replace(mean, notes=(*notes, *counted_notes(_summed_counts(scores))))
