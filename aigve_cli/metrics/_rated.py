"""Ratings of 1 to 5 that a model has written in words: which, and how sure it was.

An answer is a record of a network: its ``text``, how it ended (``finish``), and for each digit from
1 to 5 in the text its place (``at``) and the ``probabilities`` of 1 to 5 there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from aigve_cli.contract import Metric, SampleFeatures, Score
from aigve_cli.judges.task import Record
from aigve_cli.statistics.summaries import scores_to_mean

LOWEST, HIGHEST = 1, 5
WORDS_SHOWN = 80
"""Of an answer, in a reason; the whole is among the details."""
UNREADABLE = "unreadable"
"""A detail: of which values no rating could be read, and why."""
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER_WORD = rf"\b(?:{'|'.join(_WORDS)})\b"
_THOUGHTS_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_THOUGHTS = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
# Bounded, so that no text takes longer than its length allows.
_S, _SS = r"\s{0,8}", r"\s{1,8}"
_SCALE = re.compile(
    rf"\(?{_S}(?:\bon{_SS}a{_SS})?(?:\bscale{_SS})?(?:\b(?:of|from|between){_SS})?"
    rf"\b1{_S}(?:-|–|to|and){_S}5\b{_S}\)?"
    rf"|\(?{_S}(?:/|\bout{_SS}of\b){_S}(?:5(?:\.0{{1,8}})?|five)(?![\w]|[.,]\d){_S}\)?"
    rf"|(?<=\d){_SS}of{_SS}5\b",
    re.IGNORECASE | re.ASCII,
)
"""What says how ratings go, and is none: ``on a scale from 1 to 5``, ``/5``, ``(out of 5)``."""
_NUMBERS = re.compile(rf"[-−+]?(?<!\w)\d[\w.,]*|{_NUMBER_WORD}|\bhalf\b", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"(\d{1,9})(?:\.0*)?[.,]*", re.ASCII)
_NUMERAL = (
    rf"(?<![\w.,])(?P<number>\d{{1,9}}|{_NUMBER_WORD})(?:\.0{{1,8}})?(?![\w½]|[.,]\d|\.\.)"
    # Another number beside it makes it none: 4, 3 and 3-4 and 4 or five.
    rf"(?!{_S}(?:,|&|/|-|–|to\b|or\b|and\b){_S}(?:\d|{_NUMBER_WORD}|a{_SS}half))"
)
_BEHIND_A_LABEL = tuple(
    re.compile(pattern + _NUMERAL, re.IGNORECASE | re.ASCII)
    for pattern in (
        # ``: 3``, `` – clarity, artifacts: 3``, ``:** 3``.
        r"[^\d:=\n]{0,120}[:=][^\w\n]{0,8}",
        # The same with the number on one of the next lines, which is no item of a list.
        rf"[^\d:=\n]{{0,120}}[:=][^\w\n]{{0,8}}\n[^\w]{{0,8}}(?!\d{{1,9}}[ \t]{{0,8}}[.)]{_S}\w)",
    )
)
_IN_WORDS = tuple(
    re.compile(pattern + _NUMERAL, re.IGNORECASE | re.ASCII)
    for pattern in (
        # `` 3``, `` is 3``, `` gets a score of 3``, `` is moderate (3)``.
        r"[^\w\n]{1,8}",
        rf"[^\d\n]{{0,80}}\b(?:is|be|score|rating)(?:{_SS}(?:of|a|an|at|is)){{0,3}}{_SS}",
        r"[^\d\n(]{0,160}\((?:score[\s:]{1,8})?",
    )
)
_NEXT_ITEM = re.compile(
    rf"\(?{_S}\d{{1,4}}\)[ \t*_`]{{0,8}}\Z|\n[\s\-*•#]{{0,8}}\d{{1,4}}\.[ \t*_`]{{0,8}}\Z", re.ASCII
)
"""The mark of a list's item, before the name of another aspect: ``(2) ``."""


class Rating(NamedTuple):
    """A rating of 1 to 5."""

    value: int
    at: int | None
    """Where its digit stands in the text; None if it is a word."""


def spoken_from(text: str) -> int:
    """Where an answer begins behind its thoughts; its end if they never end."""
    ends = [match.end() for match in _THOUGHTS_END.finditer(text)]
    opened = [match.start() for match in _THOUGHTS.finditer(text)]
    if opened and (not ends or opened[-1] >= ends[-1]):
        return len(text)
    return ends[-1] if ends else 0


def text_to_rating(text: str) -> Rating:
    """The one number of an answer: ``4``, ``4/5``, ``Rating: 4.0``, ``**four**``.

    Raises:
        ValueError: There is none, more than one, or one that is not a whole number from 1 to 5.
    """
    spoken = _without_scales(text)
    numbers = [(_number_to_value(found[0]), found) for found in _NUMBERS.finditer(spoken)]
    others = any(not sign.isascii() and sign.isnumeric() for sign in spoken)
    if not numbers and not others:
        raise ValueError("it holds no whole number" if spoken.strip() else "it is empty")
    values = {value for value, _ in numbers}
    digits = [found for _, found in numbers if not found[0].isalpha()]
    # ``four (4)`` is one number, of which the digit has the model's probabilities; ``4 4`` is two.
    twice = len(digits) > 1 or len(numbers) - len(digits) > 1
    if len(values) != 1 or None in values or others or twice:
        raise ValueError("it is not one whole number from 1 to 5")
    at = digits[0].start() + len(_digits_of(digits[0][0])) - 1 if digits else None
    return Rating(_in_range(values.pop() or 0), at)


def text_to_aspect(text: str, label: re.Pattern[str], others: re.Pattern[str]) -> Rating:
    """The rating that stands behind the name of an aspect; the last one, if there are several.

    Read are ``NAME: 3``, ``NAME – clarity, artifacts: 3/5``, ``**NAME:** 3``, a 3 on the next line,
    and where there is none of these ``NAME is 3`` and ``NAME is moderate (3/5)``. Nothing is read
    beyond the name of another aspect, a semicolon, or another number.

    Args:
        text: The answer.
        label: What the aspect is called, in all ways that are known.
        others: What all aspects are called.

    Raises:
        ValueError: There is no such name, or no number from 1 to 5 behind any of them.
    """
    spoken = _without_scales(text)
    named = list(label.finditer(spoken))
    if not named:
        raise ValueError("it is not named")
    starts = [match.start() for match in others.finditer(spoken)]
    for patterns in (_BEHIND_A_LABEL, _IN_WORDS):
        for found in reversed(named):
            following = next((start for start in starts if start >= found.end()), len(spoken))
            piece = spoken[found.end() : following]
            if following < len(spoken):
                piece = _NEXT_ITEM.sub("", piece)
            piece = piece.partition(";")[0]
            numeral = next(filter(None, (pattern.match(piece) for pattern in patterns)), None)
            if numeral is not None:
                written = numeral["number"]
                at = found.end() + numeral.end("number") - 1 if written.isdigit() else None
                return Rating(_in_range(_number_to_value(written) or 0), at)
    raise ValueError("no whole number stands behind it")


def rating_to_expectation(rating: Rating, answer: Record) -> float | None:
    """What the model expects where it wrote a rating: 1 to 5; None if that is not known.

    The mean of 1 to 5, each with its probability there, of which theirs are the whole.
    """
    likely = _likely(rating, answer)
    if likely is None:
        return None
    total = sum(likely)
    return sum(digit * share for digit, share in enumerate(likely, LOWEST)) / total


def rating_to_soft_score(rating: Rating, answer: Record) -> float | None:
    """What VideoScore2's program prints: the likeliest digit times its share of all five.

    No expectation: where the model is sure of 3 it is 3, and where it is not it is less.
    """
    likely = _likely(rating, answer)
    if likely is None:
        return None
    best = max(range(len(likely)), key=likely.__getitem__)
    return (best + LOWEST) * likely[best] / sum(likely)


def only_answer(features: SampleFeatures) -> Record | None:
    """What a model has written about a video, as a whole; None if it was shown nothing."""
    answers = features.records.get("answers", ())
    return answers[0] if answers else None


def nothing_shown() -> Score:
    """No score of a video without a frame to show."""
    return Score.missing("the model was shown nothing: the video has no frame to show")


def answer_details(answer: Record) -> dict[str, Any]:
    """What an answer tells beside its ratings."""
    return {"text": answer["text"], "finish": answer["finish"]}


def why_unreadable(answer: Record, problem: ValueError) -> str:
    """Why an answer has no rating, with its words."""
    cut = ", and it was cut off" if answer["finish"] == "length" else ""
    plain = "".join(sign if sign.isprintable() else " " for sign in answer["text"])
    plain = " ".join(plain.split())
    shown = plain if len(plain) <= WORDS_SHOWN else f"{plain[: WORDS_SHOWN - 2]} …"
    return f"{problem}{cut}: '{shown}'"


class RatingsMetric(Metric):
    """Base of the metrics whose values are ratings that a model has written."""

    def summarise(self, scores: Sequence[Score]) -> Score:
        """The mean of each value over the videos that have it, and of how many it is."""
        mean = scores_to_mean(scores)
        counts = {name: sum(name in score.values for score in scores) for name in mean.values}
        notes = (
            f"{name}: of {count} of {len(scores)} scored videos"
            for name, count in counts.items()
            if count < len(scores)
        )
        return replace(mean, notes=(*mean.notes, *notes))


def ratings_to_score(
    values: Mapping[str, float],
    unreadable: Mapping[str, str],
    details: Mapping[str, Any],
) -> Score:
    """The score of a video: what could be read, with notes; a reason if nothing could.

    Args:
        values: Numbers by name.
        unreadable: By name of a rating, why it has none.
        details: What else is told.
    """
    notes = tuple(f"no rating of {name}: {why}" for name, why in unreadable.items())
    details = {**details, **({UNREADABLE: dict(unreadable)} if unreadable else {})}
    if not values:
        # The same video has the same answer another time.
        return Score(details=details, reason="; ".join(notes), settled=True)
    return Score(values=values, details=details, notes=notes)


def _likely(rating: Rating, answer: Record) -> list[float] | None:
    for digit in answer["digits"]:
        if digit["at"] == rating.at and sum(digit["probabilities"]) > 0:
            likely: list[float] = digit["probabilities"]
            return likely
    return None


def _without_scales(text: str) -> str:
    """What is said aloud, the same length as the text: what is no rating is blank."""
    start = spoken_from(text)
    spoken = " " * start + text[start:].replace("\r", " ")
    return _SCALE.sub(lambda scale: " " * len(scale[0]), spoken)


def _number_to_value(number: str) -> int | None:
    """What a numeral or a word stands for; None of one that is not whole, or below 0."""
    if number.lower() in _WORDS:
        return _WORDS.index(number.lower())
    digits = _digits_of(number)
    return int(digits) if digits else None


def _digits_of(number: str) -> str:
    """The digits of a whole number: ``4`` of ``4.0,``; empty of any other."""
    whole = _WHOLE.fullmatch(number)
    return whole[1] if whole else ""


def _in_range(value: int) -> int:
    if not LOWEST <= value <= HIGHEST:
        raise ValueError(f"{value} is not from 1 to 5")
    return value
