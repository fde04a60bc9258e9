"""What a server takes of what is wanted: parameters that it refuses are found out one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Literal

from aigve_cli.judges.backend import Call
from aigve_cli.judges.completions import Fault

FORMATS = ("schema", "object", "text")
"""How an answer can be held to a form, the strictest first."""
_TOPS = (20, 5, 0)
"""How many likely tokens are asked for: all that OpenAI gives, what many servers allow, none."""
_MARKS: Mapping[str, tuple[str, ...]] = {
    "format": ("response_format", "json", "schema", "structured", "guided", "grammar"),
    "logprobs": ("logprob", "n_probs"),
    "temperature": ("temperature",),
    "seed": ("seed",),
    "limit": ("max_tokens", "max_completion_tokens"),
}
"""Words by which a server's complaint names what it does not take."""
_NUMBER_IS_WRONG = re.compile(r"too large|context|at most")
_NO_PARAMETER = re.compile(r"image|video|context")

Feature = tuple[str, Any]
"""One of :data:`_MARKS`, and how it is put."""


@dataclass(frozen=True)
class Manner:
    """How a call is put: what is left of all that is wanted."""

    level: int = 0
    """Place in :data:`FORMATS`."""
    top: int = _TOPS[0]
    without: frozenset[str] = frozenset()
    """Of ``temperature`` and ``seed``."""
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    def parameters(self, call: Call) -> dict[str, Any]:
        """What is sent beside the model's name and the messages."""
        wanted = {"temperature": 0, "seed": 0}
        parameters: dict[str, Any] = {k: v for k, v in wanted.items() if k not in self.without}
        parameters[self.limit] = call.max_tokens
        if call.first_token and self.top:
            parameters |= {"logprobs": True, "top_logprobs": self.top}
        if call.schema is not None and FORMATS[self.level] == "schema":
            schema = {"name": "answer", "strict": True, "schema": dict(call.schema)}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif call.schema is not None and FORMATS[self.level] == "object":
            parameters["response_format"] = {"type": "json_object"}
        return parameters

    def facts(self, call: Call) -> dict[str, Any]:
        """How a call was asked, for :attr:`Reply.asked`."""
        without = set(self.without)
        if call.first_token and not self.top:
            without.add("logprobs")
        form = FORMATS[self.level] if call.schema is not None else "text"
        return {"format": form, "without": sorted(without)}

    def features(self, call: Call) -> list[Feature]:
        """What of a call a server may refuse, as it is put."""
        features: list[Feature] = []
        if call.schema is not None and FORMATS[self.level] != "text":
            features.append(("format", self.level))
        if call.first_token and self.top:
            features.append(("logprobs", self.top))
        features += [(name, True) for name in ("temperature", "seed") if name not in self.without]
        return [*features, ("limit", self.limit)]

    def at_most(self, other: Manner) -> Manner:
        """The same without what ``other`` does without."""
        return replace(
            self,
            level=max(self.level, other.level),
            top=min(self.top, other.top),
            without=self.without | other.without,
        )

    def with_less(self, name: str) -> list[Manner]:
        """The same with less of one thing, step by step."""
        match name:
            case "format":
                levels = range(self.level + 1, len(FORMATS))
                return [replace(self, level=level) for level in levels]
            case "logprobs":
                return [replace(self, top=top) for top in _TOPS if top < self.top]
            case "limit":
                other = self.limit == "max_tokens"
                return [replace(self, limit="max_completion_tokens" if other else "max_tokens")]
        return [replace(self, without=self.without | {name})]


def manners_with_less(
    call: Call, manner: Manner, fault: Fault, proven: AbstractSet[Feature]
) -> list[Manner]:
    """What to try after a refusal, the likeliest first, the least demanding last.

    Args:
        call: What was refused.
        manner: How it was put.
        fault: What the server says of it.
        proven: What it has taken before: a complaint that names nothing is not about that.
    """
    features = manner.features(call)
    said = fault.parameter or fault.complaint
    suspects = [name for name, _ in features if any(mark in said for mark in _MARKS[name])]
    if "limit" in suspects and _NUMBER_IS_WRONG.search(fault.complaint):
        # Under another name the number would be no better.
        suspects.remove("limit")
    elif not suspects and not fault.parameter and not _NO_PARAMETER.search(fault.complaint):
        unproven = [feature[0] for feature in features if feature not in proven]
        suspects = [name for name in unproven if name != "limit"]
    alone = [less for name in suspects for less in manner.with_less(name)]
    together = manner
    for name in suspects:
        together = together.with_less(name)[-1]
    return [*alone, together]
