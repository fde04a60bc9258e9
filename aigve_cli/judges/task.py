"""What a metric that asks a judge is written with: what to ask, and how answers are read.

A task is a conversation without input or output: a generator that yields questions, is sent their
answers, and returns a JSON record. Which model answers, whether an answer was asked for before,
and what is done about one that cannot be read is the engine's business. So a task can be tested
with answers written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Ask:
    """One question to a judge, answered without knowledge of the others.

    Questions that are yielded together are asked at the same time.
    """

    about: str
    """What it is about, in a few words for people: ``perceptual quality``."""
    text: str
    """The question. It follows the frames, where frames are shown."""
    read: Callable[[str], Any]
    """From the answer's text to its value; a ValueError says why it cannot be read."""
    system: str = ""
    shown: bool = True
    """Whether the frames are shown. What is about texts alone goes to the text judge."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer, for judges that can be held to one. The text asks for it too."""
    words: tuple[str, ...] = ()
    """Words of which the answer's first one should be; their probabilities are wanted."""
    max_tokens: int = 1024
    whole: bool = False
    """Whether an answer that was cut off is of no use, though its beginning can be read: a list."""


@dataclass(frozen=True)
class Answer:
    """What came of a question."""

    value: Any = None
    """What :attr:`Ask.read` gave; None where there is a problem."""
    text: str = ""
    """The judge's last words, read or not."""
    problem: str = ""
    """Why there is no value: nothing could be read however often it was asked, or no answer."""
    unanswered: bool = False
    """Nobody answered: asked again in another run, it may have a value."""
    probabilities: Mapping[str, float] | None = None
    """Of :attr:`Ask.words`, adding up to 1; None where the judge does not tell."""


Record = Mapping[str, Any]
"""JSON facts that a task has found out."""
Talk = Generator[Sequence[Ask], Sequence[Answer], Record]


@dataclass(frozen=True)
class Expected:
    """What a task will ask about one video, as far as that is known beforehand."""

    text_requests: int
    """Questions that are put to the text judge."""
    shown_requests: int
    """Questions with frames."""
    text_tokens: int
    """Of all questions to the text judge, with their answers; about."""
    shown_tokens: int
    """Of all questions with frames, with their answers and without the frames; about."""
    exact: bool = True
    """False where the number of questions is not known yet."""


@dataclass(frozen=True)
class JudgeTask:
    """Source of a request to a judge: a frozen dataclass whose fields decide what is asked."""

    prompt_version: ClassVar[str]
    """Raised when a word of what is asked changes: answers of an older version are not reused."""

    def talk(self, prompt: str | None) -> Talk:
        """Ask about one video, or one of its frames.

        Args:
            prompt: The video's prompt; None where the metric does not need it.
        """
        raise NotImplementedError

    def expected(self, prompt: str | None) -> Expected:
        """What :meth:`talk` will ask."""
        raise NotImplementedError
