"""What every judge is asked with, and what it gives back, whoever runs the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aigve_cli.errors import AigveError, SetupError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]


LOCAL_THREAD = "aigve-judge"
"""Name of the thread in which a model of this process writes."""


class UnreachableError(SetupError):
    """There is no judge at the address, it does not know the model, or it refuses the key."""


class NoReplyError(AigveError):
    """One request got no reply that could be used: that costs one video at most."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture: RGB uint8 [h, w, 3]."""

    pixels: Pixels


@dataclass(frozen=True, eq=False)
class Clip:
    """Pictures of one size in order of time, shown as a video."""

    frames: tuple[Pixels, ...]
    fps: float


Part = str | Picture | Clip


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Call:
    """One request: the most likely answer is wanted, never a random one."""

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer; a judge that cannot be held to it answers in its own way."""
    first_token: bool = False
    """Whether the log-probabilities of the answer's first token are wanted."""
    max_tokens: int = 1024


@dataclass(frozen=True)
class Reply:
    """What a judge said."""

    text: str
    finish: str = "stop"
    """``stop``, ``length`` (cut off at max_tokens), ``refusal``, or what the judge calls it."""
    first_token: Mapping[str, float] | None = None
    """Natural log-probabilities of the likeliest first tokens; None where it does not tell."""
    tokens_read: int = 0
    tokens_written: int = 0
    asked: Mapping[str, Any] = field(default_factory=dict)
    """How it was asked in the end: ``format`` (``schema``, ``object`` or ``text``), ``without``
    (parameters that the endpoint refuses), ``cut_to`` (characters that are left of a text that was
    too long)."""
    model: str = ""
    """As it calls itself, which may say more than the name that was asked for."""


class Backend(Protocol):
    """A judge. Its methods are called in one event loop, several calls at a time."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which model it is, for results and for the key of a cached answer; never a secret."""
        ...

    async def reply(self, call: Call) -> Reply:
        """Ask once; whatever the transport can do again by itself, it has done.

        Raises:
            UnreachableError: No request can succeed.
            NoReplyError: This one has failed.
        """
        ...

    async def close(self) -> None:
        """Give back connections and memory."""
        ...
