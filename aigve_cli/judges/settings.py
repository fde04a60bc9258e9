"""Which judges a run has: from words on the command line to models that answer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from aigve_cli.errors import UsageError
from aigve_cli.judges.backend import Backend, Call, Reply, UnreachableError
from aigve_cli.judges.openai_endpoint import (
    OpenAIEndpoint,
    endpoint_key,
    is_loopback,
    url_to_host,
)
from aigve_cli.weights.policy import is_set

if TYPE_CHECKING:
    from aigve_cli.judges.desk import Counts, Desk

Kind = Literal["openai", "local"]
JUDGE_KEY, TEXT_KEY = "AIGVE_JUDGE_KEY", "AIGVE_JUDGE_TEXT_KEY"
CONCURRENCY = 8
EXAMPLES = (
    "--judge openai:MODEL asks an OpenAI-compatible server (OpenAI, or any other with "
    "--judge-url), --judge local:ID_OR_FOLDER a model on this machine."
)


@dataclass(frozen=True)
class JudgeSpec:
    """One judge as it is named: where it runs, which model, and of a server its address."""

    kind: Kind
    model: str
    url: str | None = None
    key_variable: str = JUDGE_KEY
    """Of the environment, with the key for an address that was given."""

    def __str__(self) -> str:
        at = f" at {self.url}" if self.url else ""
        return f"{self.kind}:{self.model}{at}"


@dataclass(frozen=True)
class JudgeSettings:
    """The judges of a run, and how they may be asked."""

    shown: JudgeSpec | None
    """Who sees frames; None where only texts are asked about."""
    text: JudgeSpec
    """Who is asked about texts alone."""
    cache: Path
    """Folder of the answers that were ever given."""
    concurrency: int = CONCURRENCY
    max_requests: int | None = None
    offline: bool = False
    """Only judges on this machine may be asked."""

    @property
    def specs(self) -> tuple[JudgeSpec, ...]:
        """The distinct judges."""
        return tuple(dict.fromkeys(spec for spec in (self.shown, self.text) if spec))


def judge_settings(
    *,
    judge: str | None,
    url: str | None = None,
    text: str | None = None,
    text_url: str | None = None,
    concurrency: int | None = None,
    max_requests: int | None = None,
    cache: Path | None = None,
    offline: bool = False,
) -> JudgeSettings | None:
    """Read what was given on the command line; None where no judge was named.

    Args:
        judge: ``openai:MODEL`` or ``local:ID_OR_FOLDER``.
        url: Address of an OpenAI-compatible server; None is OpenAI's own.
        text: Another judge for texts alone; None takes the same.
        text_url: Its address; None is the same server.
        concurrency: Requests at a time; None is 8.
        max_requests: After so many nothing is asked any more in this run.
        cache: Folder for answers; None is beside the cache of weights.
        offline: Ask no judge on another machine; so does ``AIGVE_OFFLINE``.

    Raises:
        UsageError: A judge or an address that cannot be read, or too small a number.
    """
    # An address without a judge, or beside a local one, may come from a file or the environment
    # and be meant for other runs.
    url, text_url = url or None, text_url or None
    if not judge and not text:
        return None
    # A key is for one address: the other one might be a stranger's.
    text_key = TEXT_KEY if text_url is not None else JUDGE_KEY
    text_url = text_url or url
    shown = _read_spec("--judge", judge, url) if judge else None
    texts = _read_spec("--judge-text", text, text_url, text_key) if text else shown
    assert texts is not None
    for flag, number, least in (
        ("--judge-concurrency", concurrency, 1),
        ("--max-requests", max_requests, 0),
    ):
        if number is not None and number < least:
            raise UsageError(f"{flag} {number}: must be at least {least}.")
    return JudgeSettings(
        shown,
        texts,
        (cache or default_cache()).expanduser().absolute(),
        concurrency or CONCURRENCY,
        max_requests,
        offline or is_set(os.environ, "AIGVE_OFFLINE"),
    )


def default_cache() -> Path:
    """The folder of answers: ``judge`` in the cache folder of aigve."""
    from aigve_cli.weights import weights_policy

    return weights_policy().cache_dir.parent / "judge"


def _read_spec(flag: str, text: str, url: str | None, variable: str = JUDGE_KEY) -> JudgeSpec:
    kind, colon, model = text.partition(":")
    model = model.strip()
    if not colon or kind not in get_args(Kind) or not model:
        raise UsageError(
            f"{flag} {text}: expected openai:MODEL or local:ID_OR_FOLDER.", hint=EXAMPLES
        )
    if kind == "local":
        return JudgeSpec("local", model)
    if url is not None:
        url_to_host(url)
    return JudgeSpec("openai", model, url.rstrip("/") if url else None, variable)


@dataclass(frozen=True)
class LocalWeights:
    """A model that runs in this process: how to load it, and what it is."""

    load: Callable[[], Any]
    facts: Mapping[str, Any]
    """``model`` (its id or its folder's name), ``sha256``, and what else decides its answers."""


@dataclass(frozen=True)
class Judges:
    """The judges of a run, and where they are asked."""

    desk: Desk
    shown: Mapping[str, Any] | None
    """Which model sees frames."""
    text: Mapping[str, Any]
    """Which model is asked about texts alone."""

    @property
    def answered(self) -> list[dict[str, Any]]:
        """Which models have answered by their own name, how they were asked, and how often."""
        return [
            {"model": model, "asked": how, "answers": count}
            for (model, how), count in sorted(self.desk.heard.items())
        ]

    @property
    def digest(self) -> str:
        """One sha256 for who answers: scores of other judges are no scores of these."""
        facts = json.dumps([self.shown, self.text], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()


def counts_to_text(counts: Counts) -> str:
    """What a run has asked, in one line."""
    return (
        f"Judge: {counts.requests:,} requests with {counts.images:,} pictures, "
        f"{counts.cached:,} answers known, {counts.tokens_read:,} tokens read and "
        f"{counts.tokens_written:,} written, {counts.unreadable} answers without a reading."
    )


def unread_to_text(files: Sequence[Path]) -> str:
    """How to ask again what nobody could read; empty where all was read."""
    if not files:
        return ""
    many, more = f"{len(files)} questions have", " and the like"
    if len(files) == 1:
        many, more = "1 question has", ""
    return (
        f"{many} no answer that could be read. What was said is kept, and not asked for again: for "
        f"that delete {files[0]}{more}, or give another --judge-cache."
    )


@contextmanager
def open_judges(
    settings: JudgeSettings, *, local: Mapping[JudgeSpec, LocalWeights], device: str
) -> Iterator[Judges]:
    """The judges, until the end of the ``with`` statement; nothing is asked or loaded yet."""
    from aigve_cli.judges.cache import AnswerCache
    from aigve_cli.judges.desk import Desk

    backends: dict[JudgeSpec, Backend] = {}
    for spec in settings.specs:
        if spec.kind == "local":
            from aigve_cli.judges.local_model import LocalModel

            identity = {"backend": "local", **local[spec].facts}
            backends[spec] = LocalModel(local[spec].load, identity, device)
        else:
            backends[spec] = _open_endpoint(spec, offline=settings.offline)
    shown, text = settings.shown and backends[settings.shown], backends[settings.text]
    desk = Desk(
        shown=shown or text,
        text=text,
        cache=AnswerCache(settings.cache),
        concurrency=settings.concurrency,
        max_requests=settings.max_requests,
    )
    try:
        yield Judges(desk, dict(shown.identity) if shown else None, dict(text.identity))
    finally:
        desk.close()


def _open_endpoint(spec: JudgeSpec, *, offline: bool) -> Backend:
    key = endpoint_key(spec.url, spec.key_variable)
    endpoint = OpenAIEndpoint(spec.model, spec.url, key, variable=spec.key_variable)
    if offline and not is_loopback(spec.url or os.environ.get("OPENAI_BASE_URL")):
        return _Offline(endpoint.identity)
    return endpoint


class _Offline:
    """A judge on another machine, under ``--offline``: only what it has said before is known."""

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self.identity = identity

    async def reply(self, call: Call) -> Reply:
        raise UnreachableError(
            f"The judge {self.identity['model']} at {self.identity['host']} would have to be "
            "asked, and --offline never uses the network.",
            hint="Leave --offline (or AIGVE_OFFLINE) out, or name a judge on this machine.",
        )

    async def close(self) -> None:
        pass
