"""Errors that a user reads. Each names what happened, to what, and what to do next.

``main.run`` is the one place that turns them into text and an exit code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_ENVIRONMENT = 4
EXIT_INTERRUPTED = 130


class AigveError(Exception):
    """A failure that the user can act on.

    Attributes:
        message: What went wrong, with the offending value.
        hint: What to do next, or None.
        exit_code: The process's exit status.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AigveError):
    """The command line, the configuration or the input folder is wrong: exit 2.

    Attributes:
        option: The option that is wrong, as a field of a request; empty where its flag is in the
            message, or it is not one option's fault.
    """

    exit_code = EXIT_USAGE

    def __init__(self, message: str, *, hint: str | None = None, option: str = "") -> None:
        super().__init__(message, hint=hint)
        self.option = option


class SetupError(AigveError):
    """Weights, ffmpeg, CUDA or disk are not as needed: exit 4."""

    exit_code = EXIT_ENVIRONMENT


class WeightsError(SetupError):
    """A checkpoint is missing, wrong, or could not be fetched: exit 4."""


class MissingWeightsError(WeightsError):
    """Weights that are nowhere to be had; a wrong file is a plain :class:`WeightsError`.

    Attributes:
        short: The message in one sentence, for where another metric is computed instead.
        where: Where they are published, in one sentence.
    """

    def __init__(
        self, message: str, *, short: str = "", where: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.short = short or message
        self.where = where


class VideoError(AigveError):
    """One video cannot be read. It is recorded against that video; the run goes on.

    Attributes:
        status: ``unreadable``, ``no_video``, ``partial`` or ``missing``.
    """

    def __init__(self, message: str, *, status: str = "unreadable") -> None:
        super().__init__(message)
        self.status = status


def unknown_name(kind: str, name: str, known: Iterable[str], *, hint: str = "") -> UsageError:
    """An error for a name that does not exist, with the nearest ones that do."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.55)
    if near:
        advice = f"Did you mean {' or '.join(near)}?"
    else:
        advice = f"Known: {', '.join(names)}." if len(names) <= 24 else ""
    return UsageError(
        f"Unknown {kind} '{name}'.",
        hint=" ".join(filter(None, [advice, hint])),
        option={"metric": "metrics", "category": "categories", "network": "model"}.get(kind, ""),
    )
