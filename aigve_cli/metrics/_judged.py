"""What the metrics share that ask a judge about a video."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
_LEFT_OUT = "left out: "
_TOLD_ELSEWHERE = ("caption", "notes", "problem")
_ASKED, _UNANSWERED = "questions asked", "questions without an answer"


def questions_option(metric: str) -> Option:
    """The option that names a file of questions."""
    return Option(
        "questions",
        "",
        f"A file of questions: of `aigve questions --metric {metric}`, or as published. "
        "Empty: the judge writes them.",
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


def missing_answers(
    asked: int, problems: Sequence[str]
) -> tuple[dict[str, int], tuple[str, ...], str | None]:
    """Details, notes and the reason, if there is one, of questions without an answer.

    They are left out, never counted as wrong; where they are more than half of all questions,
    there is no score.

    Args:
        asked: The number of all questions.
        problems: Why there is no answer, one a question that has none.
    """
    details = {_ASKED: asked, _UNANSWERED: len(problems)}
    if not problems:
        return details, (), None
    what = f"{len(problems)} of {asked} questions have no answer: {problems[0]}"
    if 2 * len(problems) > asked:
        return details, (), what
    return details, (f"{_LEFT_OUT}{what}",), None


def frame_scores_to_score(scores: Sequence[Score], curve: str) -> Score:
    """The mean of the scores of single frames; no score if more than half of them are missing.

    Args:
        scores: One a frame, in order of time.
        curve: The value whose numbers by frame are the curve.
    """
    read = [score for score in scores if score.reason is None]
    details: dict[str, Any] = {"frames": [_frame_details(score) for score in scores]}
    for name in (_ASKED, _UNANSWERED):
        if any(name in score.details for score in scores):
            details[name] = sum(score.details.get(name, 0) for score in scores)
    reasons = [score.reason for score in scores if score.reason is not None]
    notes = _frame_notes(scores)
    if reasons:
        what = f"{len(reasons)} of {len(scores)} frames have no score: {reasons[0]}"
        if 2 * len(reasons) > len(scores):
            return Score(details=details, reason=what)
        notes = (f"{_LEFT_OUT}{what}", *notes)
    values = {
        name: math.fsum(score.values[name] for score in read) / len(read) for name in read[0].values
    }
    # A curve with gaps would lie about the time of what follows.
    line = {} if reasons else {"frame": [score.values[curve] for score in read]}
    return Score(values=values, curve=line, details=details, notes=notes)


def _frame_details(score: Score) -> dict[str, Any]:
    reason = {"reason": score.reason} if score.reason else {}
    return {**score.values, **reason, **score.details}


def _frame_notes(scores: Sequence[Score]) -> tuple[str, ...]:
    """What was noted of all frames, and of how many what was not noted of all."""
    counts: dict[str, int] = {}
    for score in scores:
        for note in score.notes:
            counts[note] = counts.get(note, 0) + 1
    return tuple(
        note if count == len(scores) else f"{count} of {len(scores)} frames: {note}"
        for note, count in counts.items()
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
        """The mean over videos, and how many questions were left out."""
        mean = scores_to_mean(scores)
        asked, lost = (
            sum(score.details.get(name, 0) for score in scores) for name in (_ASKED, _UNANSWERED)
        )
        notes = tuple(note for note in mean.notes if not note.startswith(_LEFT_OUT))
        if lost:
            notes += (f"{_LEFT_OUT}{lost} of {asked} questions have no answer",)
        return replace(mean, notes=notes)
