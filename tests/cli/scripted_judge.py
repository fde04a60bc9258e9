"""A judge on loopback whose opinion of each LaVie clip is a small table: values by hand.

It tells prompts by the JSON string in the question, and videos by their first picture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.judges.scripted_endpoint import Said, pictures_of, question_of

_PROMPT = re.compile(r'prompt of the video, as a JSON string: (".*")$', re.MULTILINE)


@dataclass
class ScriptedJudge:
    """Clip ``i`` has prompt ``i``; what is said of it follows from ``i`` alone."""

    prompts: Sequence[str]
    first_frames: Sequence[np.ndarray]
    """RGB uint8, as large as the judge sees them."""
    tells_probabilities: bool = True
    kinds: list[str] = field(default_factory=list)
    """What was asked, in the order of arrival."""

    def answer(self, request: dict[str, Any]) -> str | Said:
        question = question_of(request)
        fields = self._schema_fields(request)
        prompt = _PROMPT.search(question)
        i = self.prompts.index(json.loads(prompt[1])) if prompt else None
        shown = pictures_of(request)
        j = self._video(shown[0]) if shown else None
        kind, said = self._said(question, fields, i, j)
        self.kinds.append(kind)
        return said

    @staticmethod
    def _schema_fields(request: dict[str, Any]) -> set[str]:
        form = request.get("response_format")
        return set(form["json_schema"]["schema"]["properties"]) if form else set()

    def _video(self, picture: np.ndarray) -> int:
        distances = [np.abs(picture - frame.astype(float)).mean() for frame in self.first_frames]
        assert min(distances) < 4, "no clip begins with this picture, in its own colours"
        return int(np.argmin(distances))

    def _said(
        self, question: str, fields: set[str], i: int | None, j: int | None
    ) -> tuple[str, str | Said]:
        if fields == {"score", "reasoning"} and i is not None:
            assert i == j, "the prompt of another video"
            return "semantic", json.dumps({"score": [i], "reasoning": f"prompt {i} | fine"})
        if fields == {"score", "reasoning"}:
            assert j is not None
            return "quality", json.dumps({"score": [j, 10 - j], "reasoning": 'so "so"'})
        if fields == {"elements"}:
            return "tifa-questions", json.dumps(self._elements(i))
        if fields == {"answer"} and j is None:
            said = "yes" if '"yes"' in question else "2"
            return "tifa-filter", json.dumps({"answer": said})
        if fields == {"answer"}:
            many = "2" if j is not None and j % 2 == 0 else "3"
            return "tifa-answer", json.dumps({"answer": "yes" if '"yes"' in question else many})
        if fields:
            return f"dsg-{fields}", self._dsg_lists(fields, i)
        assert j is not None
        number = int(re.findall(r"thing (\d)", question)[0])
        yes = {1: j % 3 != 0, 2: True, 3: j % 2 == 0}[number]
        return "dsg-answer", self._yes_or_no(yes)

    def _elements(self, i: int | None) -> dict[str, Any]:
        ask = [
            {"question": f"is there a beach {i}?", "choices": ["yes", "no"], "answer": "yes"},
        ]
        count = {"question": f"how many waves {i}?", "choices": ["1", "2", "3"], "answer": "2"}
        return {
            "elements": [
                {"element": "beach", "type": "location", "questions": ask},
                {"element": "two", "type": "counting", "questions": [count]},
            ]
        }

    @staticmethod
    def _dsg_lists(fields: set[str], i: int | None) -> str:
        (name,) = fields
        rows: dict[str, list[dict[str, Any]]] = {
            "tuples": [{"id": n, "tuple": f"entity - whole (thing {n} of {i})"} for n in (1, 2, 3)],
            "questions": [{"id": n, "question": f"Is there thing {n}, {i}?"} for n in (1, 2, 3)],
            "dependencies": [{"id": n, "parents": [] if n == 1 else [1]} for n in (1, 2, 3)],
        }
        return json.dumps({name: rows[name]})

    def _yes_or_no(self, yes: bool) -> Said:
        if not self.tells_probabilities:
            return Said("Yes." if yes else "No.")
        likely, other = ("Yes", " no") if yes else ("No", " yes")
        # exp(-0.25) : exp(-1.75): the probability of the likelier is 1 / (1 + exp(-1.5)).
        return Said(likely, first=[(likely, {likely: -0.25, other: -1.75})])


def by_hand(i: int) -> dict[str, float]:
    """The values of clip ``i``, from the table above."""
    quality = min(i, 10 - i)
    parent, even = i % 3 != 0, i % 2 == 0
    return {
        "viescore": (i * quality) ** 0.5,
        "viescore-semantic": i,
        "viescore-quality": quality,
        "tifa": 1.0 if even else 0.5,
        "dsg": (1 + 1 + even) / 3 if parent else 0.0,
        "dsg-without-dependencies": (parent + 1 + even) / 3,
    }
