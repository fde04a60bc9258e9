"""Readers of what judges say: as tolerant as can be without guessing.

Each takes the text of an answer and gives a value, or a ValueError in words that the judge itself
may read when it is asked again. None of them takes longer than a text's length allows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from aigve_cli.judges.relaxed_json import refuse_constant, relaxed_value

_THINKING = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
# Each try may read to the end of the text: their number bounds the time that hostile text costs.
_TRIES = 64
_SCORE = re.compile(
    r"(?:(?:(?:the|my)\s+)?(?:(?:final|overall)\s+)?(?:score|rating)[\s:=*_]*(?:is[\s:*_]*)?)?"
    r"([0-9]+(?:\.[0-9]+)?)\s*(?:(?:/|(?:out\s+)?of\b)\s*10(?:\.0)?)?",
    re.IGNORECASE | re.ASCII,
)
_TEN = 10
_LABEL = re.compile(r"[*_\s]*(?:\(([a-h])\)|([a-h])(?:[).:]|[*_]*\Z))", re.IGNORECASE | re.ASCII)
_NEGATION = re.compile(
    r"\b(?:no(?!\s+(?:more|less|fewer)\b)|not|never|neither|nor|none|cannot|without|but)\b|n['’]t\b",
    re.IGNORECASE,
)
_YES_OR_NO = re.compile(
    r"[\W_]*(?:(?:the\s+|my\s+)?(?:final\s+)?answer(?:\s+is)?[\W_]*)?(yes|no)(?![^\W_])"
    r"(?!\s*/|\s+or\b|[\s,*_]*(?:and\b|&)[\s*_]*(?:yes|no)\b)",
    re.IGNORECASE,
)
# "No image was shown" says nothing of what was asked, and "no doubt" the contrary of no.
_BEHIND_NO = re.compile(
    r"[\s*_]*(?:\Z|[^\w\s]|(?:there|it|its|it['’]s|the|this|that|these|those|they|he|she|i|we|none|"
    r"not|neither|because|since|as|only)\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
# What makes more than one number, or another one, of the number that stands beside it.
_BEFORE_A_NUMBER = (
    r"(?:\b(?:more|less|fewer|greater|higher|lower|larger|smaller|other)\sthan"
    r"|\bat\s(?:least|most)|\bup\sto"
    r"|\b(?:over|under|above|below|about|around|almost|nearly|approximately|roughly|between)"
    r"|\bbetween\s\S+\sand|[0-9]\s?(?:-|–|to)|[<>≤≥~≈])\s?(?:the\s)?"
)
_BEHIND_A_NUMBER = (
    r"(?:\s?\+|\s(?:or|and)\s(?:more|less|fewer|so|above|below|over|under|up)\b"
    r"|\s?(?:-|–|to)\s?[0-9])"
)
_LINE = re.compile(r"[\s\-*]*(\|\s*)?(?:output\s*:\s*)?([0-9]{1,4})\s*\|\s*(\S.*)", re.IGNORECASE)


class Scores(NamedTuple):
    """Scores from 0 to 10, and the judge's reasons for them."""

    scores: tuple[float, ...]
    reasoning: str


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which no file and no request can hold."""
    return "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in text)


def without_thinking(text: str) -> str:
    """What is said aloud: not what stands in ``<think>`` tags, of which either may be missing."""
    kept: list[str] = []
    last, inside = 0, False
    for tag in _THINKING.finditer(text):
        if tag[1]:
            # A server's template may have opened the thoughts: then all before this is thinking.
            if not inside:
                kept.clear()
            inside, last = False, tag.end()
        elif not inside:
            kept.append(text[last : tag.start()])
            inside = True
    if not inside:
        kept.append(text[last:])
    return "".join(kept).strip()


def json_in_text(text: str) -> Any:
    """The JSON value of an answer: the whole of it, what a fence holds, or its first object.

    An object may have single quotes, keys and words without quotes, and commas at the end. One
    that is cut off or that closes a string too early is not mended.

    Raises:
        ValueError: There is none.
    """
    spoken = without_thinking(text)
    fenced = list(_fenced(spoken))
    for whole in (text, spoken, *fenced):
        with suppress(ValueError, RecursionError):
            return _clean(json.loads(whole, strict=False, parse_constant=refuse_constant))
    for part in (*fenced, spoken):
        for start in islice(re.finditer(r"\{", part), _TRIES):
            with suppress(ValueError, RecursionError):
                return _clean(relaxed_value(part, start.start()))
    raise ValueError("no complete JSON object was found" if spoken else "the answer is empty")


def scores_in_text(text: str, count: int) -> Scores:
    """``count`` scores from 0 to 10, of ``{"score": [...], "reasoning": ...}`` or alone.

    An object of so many scores, in their order, is taken for their list.

    Raises:
        ValueError: They cannot be read, are too many or too few, or out of range.
    """
    try:
        found = json_in_text(text)
    except ValueError:
        found = without_thinking(text)
        if "{" in found or not found:
            raise
    reasoning: Any = ""
    if isinstance(found, Mapping):
        fields = {str(key).strip().casefold(): value for key, value in found.items()}
        if "score" not in fields:
            raise ValueError('the JSON object has no "score"')
        found, reasoning = fields["score"], fields.get("reasoning") or ""
    if isinstance(found, Mapping):
        found = list(found.values())
    numbers = found if isinstance(found, list) else [found]
    if len(numbers) != count:
        many = f"{count} number" if count == 1 else f"{count} numbers"
        raise ValueError(f'"score" must hold {many} and holds {len(numbers)}')
    if not isinstance(reasoning, str):
        reasoning = json.dumps(reasoning, ensure_ascii=False)
    return Scores(tuple(_to_score(number) for number in numbers), reasoning)


def answer_in_text(text: str) -> str:
    """The answer itself: that of ``{"answer": ...}``, be it a list of one, or all that is said.

    Raises:
        ValueError: There is nothing, or a JSON object without an answer.
    """
    try:
        found = json_in_text(text)
    except ValueError:
        found = None
    if isinstance(found, Mapping):
        fields = {str(key).strip().casefold(): value for key, value in found.items()}
        found = fields.get("answer", fields.get("choice"))
        if isinstance(found, list) and len(found) == 1:
            (found,) = found
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            raise ValueError('the JSON object has no "answer" that is a text')
    spoken = str(found) if isinstance(found, str | int | float) else without_thinking(text)
    if not spoken.strip():
        raise ValueError("the answer is empty")
    return spoken.strip()


def yes_or_no(text: str) -> str:
    """``yes`` or ``no``: the answer's first word.

    Raises:
        ValueError: It is another word.
    """
    spoken = answer_in_text(text)
    if found := _YES_OR_NO.match(spoken):
        word = found[1].lower()
        if word == "yes" or _BEHIND_NO.match(spoken, found.end()):
            return word
    raise ValueError(f"{_short(spoken)} does not begin with yes or no")


def choice_in_text(text: str, choices: Sequence[str]) -> str:
    """The one choice that is meant: word by word, by its letter, or the only one that is named.

    Args:
        text: The answer.
        choices: Of which no two have the same :func:`choice_keys`.

    Raises:
        ValueError: None is named, or several are, or a number is named only to compare with it:
            ``more than 3``.
    """
    if text in choices:
        return text
    spoken = answer_in_text(text)
    keys = choice_keys(choices)
    by_words = dict(zip(keys, choices, strict=True))
    own = without_punctuation(spoken)
    own = own if own in by_words else plain(spoken)
    if choice := by_words.get(own):
        if spoken.casefold() != choice.strip().casefold():
            _refuse_comparison(spoken, choice)
        return choice
    if set(by_words) == {"yes", "no"}:
        return by_words[yes_or_no(spoken)]
    letters = {word for key in keys for word in key.split() if len(word) == 1}
    label = _LABEL.match(spoken)
    if label and (label[1] or label[2]).lower() not in letters:
        return _labelled_choice(spoken, label, choices, by_words)
    named = _named_choices(spoken, by_words)
    if len(named) == 1 and not _NEGATION.search(spoken):
        _refuse_comparison(spoken, named[0])
        return named[0]
    number = words_to_number(spoken) if _says_a_number_alone(spoken) else None
    if str(number) in by_words:
        return by_words[str(number)]
    problem = "names several of the choices" if len(named) > 1 else "is not one of the choices"
    raise ValueError(f"{_short(spoken)} {problem}: {json.dumps(list(choices), ensure_ascii=False)}")


def numbered_lines(text: str) -> dict[int, str]:
    """The lines ``id | value`` of an answer, by id; what else it says is passed over.

    Raises:
        ValueError: There are two different ones of one id.
    """
    lines: dict[int, str] = {}
    for line in without_thinking(text).splitlines():
        if found := _LINE.fullmatch(line):
            value = found[3].strip()
            if found[1]:  # a row of a table has a bar at its end, too
                value = value.removesuffix("|").strip()
            if lines.setdefault(int(found[2]), value) != value:
                raise ValueError(f"id {found[2]} has two lines")
    return lines


def choice_keys(choices: Sequence[str]) -> list[str]:
    """What choices are compared by: plain words, or all their signs where words are alike.

    ``C`` and ``C++``, or ``5`` and ``-5``, differ by what :func:`plain` takes away.
    """
    words = list(map(plain, choices))
    return words if len(set(words)) == len(words) else list(map(without_punctuation, choices))


def without_punctuation(text: str) -> str:
    """As :func:`plain`, with the signs around it that are no punctuation: ``C++``, ``-5``."""
    return " ".join(text.casefold().split()).strip(_PUNCTUATION)


def plain(text: str) -> str:
    """A text for comparison: small letters, single spaces, no punctuation around it."""
    first, last = 0, len(text)
    while first < last and not text[first].isalnum():
        first += 1
    while last > first and not text[last - 1].isalnum():
        last -= 1
    return " ".join((text[first:last] or text).casefold().split())


_PUNCTUATION = " .,;:!?\"'`()[]*_"
_NUMBERS = dict(
    zero=0, one=1, two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10,
    eleven=11, twelve=12, thirteen=13, fourteen=14, fifteen=15, sixteen=16, seventeen=17,
    eighteen=18, nineteen=19, twenty=20, thirty=30, forty=40, fifty=50, sixty=60, seventy=70,
    eighty=80, ninety=90,
)  # fmt: skip
_POWERS = {"thousand": 1_000, "million": 1_000_000}
_NUMBER_WORD = f"(?:{'|'.join((*_NUMBERS, 'hundred', *_POWERS))})"
_NUMBER_RUN = re.compile(rf"\b{_NUMBER_WORD}(?:(?:[\s-]+|\s+and\s+){_NUMBER_WORD})*\b")


def words_to_number(text: str) -> int | None:
    """The number that a text says in English words: ``twenty-two cats`` is 22.

    None without any, and of several: ``one or two``.
    """
    runs = _NUMBER_RUN.findall(text.casefold())
    if len(runs) != 1:
        return None
    total = current = 0
    found = False
    for word in re.findall(r"[a-z]+", runs[0]):
        if word in _NUMBERS:
            current += _NUMBERS[word]
        elif word == "hundred":
            current = 100 * max(current, 1)
        elif word in _POWERS:
            total, current = total + _POWERS[word] * max(current, 1), 0
        else:
            continue
        found = True
    return total + current if found else None


def _says_a_number_alone(text: str) -> bool:
    words = re.findall(r"\w+", text.casefold())
    return all(word in _NUMBERS or word == "hundred" or word in _POWERS for word in words)


def _fenced(text: str) -> Iterator[str]:
    """What stands between fences, without a language's name."""
    if "{" in text.partition("```")[0]:
        return  # the first object is not in a fence; one may even be in it, as a text
    for inner in text.split("```")[1:_TRIES:2]:
        yield re.sub(r"\A[a-zA-Z]*\s*\n", "", inner)


def _clean(value: Any) -> Any:
    """A JSON value that can be written again: an escape may have made half of a pair."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def _to_score(value: Any) -> float:
    number = value
    if isinstance(value, str) and (
        found := _SCORE.fullmatch(value.strip().strip("*_").rstrip("."))
    ):
        number = float(found[1])
    # Written so that NaN is refused as well.
    if isinstance(number, bool | str) or not isinstance(number, int | float):
        raise ValueError(f"{_short(value)} is not a number from 0 to 10")
    if not 0 <= number <= _TEN:
        raise ValueError(f"{_short(value)} is not from 0 to 10")
    return float(number) + 0.0  # a zero has no sign


def _labelled_choice(
    spoken: str, label: re.Match[str], choices: Sequence[str], by_words: Mapping[str, str]
) -> str:
    """The choice of a letter such as ``(B)``, if what follows does not say another."""
    index = ord((label[1] or label[2]).lower()) - ord("a")
    rest = spoken[label.end() :]
    if index >= len(choices):
        raise ValueError(f"{_short(spoken)} is a letter behind the last choice")
    named = _named_choices(rest, by_words)
    if any(choice != choices[index] for choice in named):
        raise ValueError(f"{_short(spoken)} names one choice by letter and another by words")
    _refuse_comparison(rest, choices[index])
    return choices[index]


def _named_choices(spoken: str, by_words: Mapping[str, str]) -> list[str]:
    """The choices whose words stand in a text; ``red`` is not named by ``dark red`` if both are."""
    longest_first = sorted(filter(None, by_words), key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    whole = re.compile(rf"(?<!\w)(?<!\d[.,])(?:{pattern})(?!\w)(?![.,]\d)")
    found = dict.fromkeys(whole.findall(" ".join(spoken.casefold().split())))
    return [by_words[words] for words in found]


def _refuse_comparison(spoken: str, choice: str) -> None:
    """Refuse an answer that says another number than the choice, which it only begins from."""
    words = plain(choice)
    if not (_NUMBER.fullmatch(words) or (words.isalpha() and _says_a_number_alone(words))):
        return
    number = re.escape(words)
    compared = re.compile(
        rf"{_BEFORE_A_NUMBER}{number}(?!\w)|(?<!\w){number}{_BEHIND_A_NUMBER}", re.ASCII
    )
    if found := compared.search(" ".join(spoken.casefold().split())):
        raise ValueError(f"'{found[0].strip()}' is not one number")


def _short(value: Any) -> str:
    """A value for a message, of bounded length."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else f"'{value}'"
    return text if len(text) <= 60 else f"{text[:57]}…'"
