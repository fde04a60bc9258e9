"""Judges behind an address that speaks OpenAI's protocol: OpenAI, vLLM, Ollama, LM Studio, SGLang.

Servers differ in what they take. What one refuses is found out by asking the same call with less,
and remembered once that has helped; tries after 429, 5xx and lost connections are the library's.
"""

from __future__ import annotations

import asyncio
import base64
import difflib
import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from aigve_cli.errors import AigveError, UsageError
from aigve_cli.judges.backend import (
    Call,
    Clip,
    Message,
    NoReplyError,
    Picture,
    Reply,
    UnreachableError,
)
from aigve_cli.judges.completions import (
    Fault,
    content_to_completion,
    content_to_fault,
    to_line,
)
from aigve_cli.judges.http_client import SilenceError, is_silence, open_client, proxy_variable
from aigve_cli.judges.manners import Feature, Manner, manners_with_less
from aigve_cli.judges.reading import without_surrogates
from aigve_cli.judges.show import clip_to_mp4, picture_to_jpeg

if TYPE_CHECKING:
    from openai import APIConnectionError, AsyncOpenAI

OPENAI = "https://api.openai.com/v1"
_MOST_TRIES = 10
_LOST_IN_A_ROW = 3
_FAILED_FROM_THE_START = 8
_FAILED_IN_A_ROW = 40
"""So many requests without a reply end everything, where nothing or something was answered."""
_LONGEST_TEXT = 200_000
"""Characters of an answer: a judge that does not stop would fill results and disk."""
_SHORTEST_SECRET = 8
"""A shorter key is a local server's placeholder, and may be a word of an answer."""
_ABOUT_PARAMETERS = (400, 422, 501)
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")
_NO_CONTENT = ("content_filter", "content_policy_violation")
"""Codes with which a server refuses what is shown or asked, whatever the status."""
_OF_ONE_REQUEST = (402, 403, 404)
"""Of a server that has answered before, these need not be about all requests."""
_NO_VIDEO = (415, 500)
"""Beside those about parameters: how servers that know no videos answer one."""
_OTHER_MODEL = (
    r"pinned to .*requested|model not (found|exist)|(invalid|unknown|no such) model\W+{name}"
    r"|{name}\W+is not a valid model"
    r"|models?\W+{name}\W+((is|was|does|has) )?not (found|exist|loaded|available|served)"
)
"""How servers say with another status than 404 that they do not have the model."""


def endpoint_key(url: str | None, variable: str = "AIGVE_JUDGE_KEY") -> str | None:
    """The key in the environment that belongs to an address; None where there is none.

    OpenAI's key is never for an address that was given: it would be sent to a stranger.
    """
    key = os.environ.get(_key_variable(url, variable), "").strip()
    return key or None


def is_loopback(url: str | None) -> bool:
    """Whether an address is one of this machine's own."""
    host = urlsplit(url).hostname if url else None
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key_variable(url: str | None, variable: str) -> str:
    return "OPENAI_API_KEY" if url is None else variable


class _RefusalError(Exception):
    """The server refuses a call as it was put, not the client and not for a while."""

    def __init__(self, status: int, fault: Fault) -> None:
        super().__init__(fault.words)
        self.status = status
        self.fault = fault


class OpenAIEndpoint:
    """One model at one address.

    Args:
        model: Its name there.
        url: The address, usually ending in ``/v1``. None takes ``OPENAI_BASE_URL`` from the
            environment, else OpenAI's own.
        key: As :func:`endpoint_key` gives it; None sends a placeholder, except to OpenAI.
        variable: Of the environment, with the key for an address that was given.
        max_retries: How often the library asks again after 429, 5xx and lost connections.
        connect_seconds: To connect.
        read_seconds: Without a byte of a reply; after that it is asked once more at most.

    Raises:
        UsageError: The address cannot be one, or holds a password.
    """

    def __init__(
        self,
        model: str,
        url: str | None = None,
        key: str | None = None,
        *,
        variable: str = "AIGVE_JUDGE_KEY",
        max_retries: int = 4,
        connect_seconds: float = 5.0,
        read_seconds: float = 300.0,
    ) -> None:
        self._model = model
        self._given = url is not None
        self._variable = _key_variable(url, variable)
        if url is None:
            url = os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI
        self._url = url
        self._host = url_to_host(url)
        self._openai = urlsplit(url).hostname == urlsplit(OPENAI).hostname
        self._key = key
        self._max_retries = max_retries
        self._seconds = (connect_seconds, read_seconds)
        self._client: AsyncOpenAI | None = None
        self._manner = Manner(limit="max_completion_tokens" if self._openai else "max_tokens")
        self._proven: set[Feature] = set()
        self._reached = False
        self._lost = 0
        self._answered = False
        self._failed = 0
        # Encoded once for all questions about a picture, and forgotten with it.
        self._encoded: WeakKeyDictionary[Picture | Clip, str] = WeakKeyDictionary()
        self._encoding = asyncio.Lock()

    @property
    def identity(self) -> Mapping[str, Any]:
        """Model and host; the key has no part in it."""
        facts = {"backend": "openai", "model": self._model, "host": self._host}
        # Gateways tell models apart by it.
        path = urlsplit(self._url).path.rstrip("/")
        return facts if path in ("", "/v1") else {**facts, "path": path}

    def __repr__(self) -> str:
        return f"OpenAIEndpoint({self._model!r}, {self._url!r})"

    async def reply(self, call: Call) -> Reply:
        """Ask once, with as much of what is wanted as the server takes.

        Raises:
            UnreachableError: Nobody there, a refused key, an unknown model, no credit, or nothing
                but failures.
            NoReplyError: This request has failed; the message has the server's own words.
            SetupError: A clip could not be encoded.
        """
        try:
            reply = await self._reply(call)
        except NoReplyError as error:
            raise self._failure(error) from None
        self._answered, self._failed = True, 0
        return reply

    async def _reply(self, call: Call) -> Reply:
        client = self._connect()
        if not self._reached and is_loopback(self._url):
            await self._knock()
        messages = [await self._message(message) for message in call.messages]
        # Depth first: what is reduced stays so while the server complains of something new.
        waiting: list[tuple[Manner, str]] = [(self._manner, "")]
        tried: set[tuple[Feature, ...]] = set()
        heard: _RefusalError | None = None
        while waiting and len(tried) < _MOST_TRIES:
            manner, parents_words = waiting.pop()
            features = tuple(manner.features(call))
            if features in tried:
                continue
            tried.add(features)
            try:
                reply = await self._ask(client, call, messages, manner)
            except _RefusalError as refusal:
                words = refusal.fault.words
                if words == parents_words:
                    continue  # that was not what it complains of
                heard = refusal
                known = manner.at_most(self._manner)
                if tuple(known.features(call)) not in tried:
                    waiting.append((known, ""))  # another call has found out in the meantime
                    continue
                less = manners_with_less(call, manner, refusal.fault, self._proven)
                waiting += [(other, words) for other in reversed(less)]
            else:
                self._proven |= set(features)
                self._manner = replace(manner.at_most(self._manner), limit=manner.limit)
                return reply
        assert heard is not None
        words = f"{heard.fault.words}{_advice(call, heard.fault)}"
        raise NoReplyError(f"{self._host} refuses ({heard.status}): {words}")

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connect(self) -> AsyncOpenAI:
        if self._client is not None:
            return self._client
        if self._openai and self._key is None:
            raise UnreachableError(
                f"{self._variable} is not set, and {self._host} needs a key.",
                hint=f"Put your key into the environment as {self._variable}."
                if not self._given
                else f"Put your key into the environment as {self._variable}; without an address "
                "of its own, OPENAI_API_KEY is taken.",
            )
        if self._key is not None and not (self._key.isascii() and self._key.isprintable()):
            raise UnreachableError(
                f"{self._variable} holds characters that no key has.",
                hint="Was something else copied with it?",
            )
        from openai import AsyncOpenAI, Timeout

        connect, read = self._seconds
        client = AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._url,
            max_retries=self._max_retries,
            timeout=Timeout(read, connect=connect),
            http_client=open_client(
                self._url,
                self._key or "none",
                given=self._given,
                loopback=is_loopback(self._url),
                vain=_NO_CREDIT,
            ),
        )
        self._client = client
        return client

    async def _knock(self) -> None:
        # The library would try a closed port for seven seconds, and a server on this machine that
        # was not started is what is wrong most often.
        host, _, port = self._host.rpartition(":")
        try:
            async with asyncio.timeout(self._seconds[0]):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError as error:
            raise self._nobody(error.strerror or type(error).__name__) from None
        writer.close()

    # --- what is sent ---------------------------------------------------------------------------

    async def _message(self, message: Message) -> dict[str, Any]:
        if all(isinstance(part, str) for part in message.parts):
            # Servers of text models often take no lists.
            text = "\n\n".join(str(part) for part in message.parts)
            return {"role": message.role, "content": without_surrogates(text)}
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": without_surrogates(part)})
            else:
                kind = "image_url" if isinstance(part, Picture) else "video_url"
                content.append({"type": kind, kind: {"url": await self._data_url(part)}})
        return {"role": message.role, "content": content}

    async def _data_url(self, part: Picture | Clip) -> str:
        async with self._encoding:
            if part not in self._encoded:
                self._encoded[part] = await asyncio.to_thread(_part_to_data_url, part)
            return self._encoded[part]

    # --- one request ----------------------------------------------------------------------------

    async def _ask(
        self, client: AsyncOpenAI, call: Call, messages: Sequence[Any], manner: Manner
    ) -> Reply:
        from openai import APIConnectionError, APIStatusError, OpenAIError

        parameters = manner.parameters(call)
        try:
            # As an extra the messages are sent as they are: the library would walk through them
            # value by value, 5 ms for eight pictures.
            raw = await client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[],
                extra_body={"messages": list(messages)},
                **parameters,
            )
            content = raw.http_response.content
        # Nothing is raised from the library's errors: they hold the request, and the key in it.
        except APIStatusError as error:
            self._found()
            fault = content_to_fault(error.response.content, self._key)
            if any(code in _NO_CONTENT for code in fault.codes):
                return Reply(fault.words, "content_filter", asked=manner.facts(call))
            raise await self._status_error(client, call, error.status_code, fault) from None
        except SilenceError:
            raise self._silence() from None
        except APIConnectionError as error:
            raise self._connection_error(error) from None
        except OpenAIError as error:
            raise NoReplyError(f"No reply from {self._host}: {self._line(str(error))}") from None
        self._found()
        return self._content_to_reply(content, call, manner)

    async def _status_error(
        self, client: AsyncOpenAI, call: Call, status: int, fault: Fault
    ) -> Exception:
        said = f"{self._host} answers {status}: {fault.words}"
        no_credit = any(code in _NO_CREDIT for code in fault.codes)
        other_model = "model_not_found" in fault.codes or self._is_other(status, fault)
        if self._answered and status in _OF_ONE_REQUEST and not (no_credit or other_model):
            # Gateways say so of one input: too dear, moderated, of no use to any of their models.
            return NoReplyError(said)
        if no_credit or status == 402:
            return UnreachableError(
                f"No credit is left: {said}",
                hint="All answers so far are kept: run the same command again to go on.",
            )
        if status == 404 or other_model:
            return UnreachableError(
                f"There is no model '{self._model}' for us: {said}",
                hint=await self._nearest_models(client),
            )
        if status in (401, 403):
            name = self._variable
            hint = (
                f"Its value in the environment is the key that {self._host} is sent."
                if self._key
                else f"Put its key into the environment as {name}."
            )
            return UnreachableError(
                f"{name} is {'refused' if self._key else 'not set'}: {said}",
                hint=f"{hint}{self._proxy_hint()}",
            )
        if status in _ABOUT_PARAMETERS:
            return _RefusalError(status, fault)
        return NoReplyError(f"{said}{_advice(call, fault) if status in _NO_VIDEO else ''}")

    def _is_other(self, status: int, fault: Fault) -> bool:
        named = _OTHER_MODEL.replace("{name}", re.escape(self._model.lower()))
        return status in _ABOUT_PARAMETERS and re.search(named, fault.complaint) is not None

    def _failure(self, error: NoReplyError) -> AigveError:
        """The error of one request, or that of all."""
        self._failed += 1
        if self._failed < (_FAILED_IN_A_ROW if self._answered else _FAILED_FROM_THE_START):
            return error
        in_a_row = f"{self._failed} requests in a row have failed, the last: {error.message}"
        if self._answered:
            return UnreachableError(
                f"Something has gone wrong with the judge at {self._url}: {in_a_row}",
                hint="Its own log may say more. All answers so far are kept: run the same command "
                "again to go on.",
            )
        return UnreachableError(
            f"The judge at {self._url} answers nothing: {in_a_row}",
            hint="Its own log may say more. Does the model take pictures, so many and so large? "
            f"--judge-concurrency 1 asks one thing at a time.{self._proxy_hint()}",
        )

    def _silence(self) -> AigveError:
        said = f"{self._host} has not answered within {self._seconds[1]:g} s"
        if self._reached:
            return NoReplyError(said)
        return UnreachableError(
            said,
            hint="Is the model still being loaded, or is it too slow for so much? "
            f"--judge-concurrency 1 asks one thing at a time.{self._proxy_hint()}",
        )

    def _connection_error(self, error: APIConnectionError) -> Exception:
        cause = error.__cause__
        if cause is not None and is_silence(cause):
            return self._silence()
        reason = self._line(str(cause or error) or type(cause).__name__)
        if not self._reached:
            return self._nobody(reason)
        self._lost += 1
        if self._lost >= _LOST_IN_A_ROW:
            return UnreachableError(
                f"The judge at {self._url} is gone: {reason}",
                hint="All answers so far are kept: run the same command again to go on.",
            )
        return NoReplyError(f"The connection to {self._host} failed: {reason}")

    def _nobody(self, reason: str) -> UnreachableError:
        hint = (
            "Is the server running? --judge-url names its address, which usually ends in /v1."
            if self._given
            else "Is this machine online? --judge-url names the address of another server."
        )
        return UnreachableError(
            f"No judge answers at {self._url}: {reason}", hint=f"{hint}{self._proxy_hint()}"
        )

    def _proxy_hint(self) -> str:
        name = None if is_loopback(self._url) else proxy_variable(self._url)
        return f" It is asked through the proxy that {name} names." if name else ""

    def _found(self) -> None:
        self._reached, self._lost = True, 0

    async def _nearest_models(self, client: AsyncOpenAI) -> str:
        names: list[str] = []
        with suppress(Exception):
            options = client.with_options(max_retries=0, timeout=self._seconds[0])
            raw = await options.models.with_raw_response.list()
            listed = json.loads(raw.http_response.content)["data"]
            names = [self._line(model["id"]) for model in listed]
        if not names:
            return "Is the model's name right, and does the address end as it should (in /v1)?"
        known = {name.lower(): name for name in names}
        near = difflib.get_close_matches(self._model.lower(), known, n=3, cutoff=0.4)
        if near:
            return f"Did you mean {' or '.join(known[name] for name in near)}?"
        return f"It offers {', '.join(names[:12])}{', …' if len(names) > 12 else ''}."

    def _content_to_reply(self, content: bytes, call: Call, manner: Manner) -> Reply:
        try:
            said = content_to_completion(content)
        except ValueError as error:
            words = content_to_fault(content, self._key).words
            raise NoReplyError(f"{self._host} sends {error}: {words}") from None
        asked = manner.facts(call)
        text = self._without_key(said.text)
        if len(text) > _LONGEST_TEXT:
            text, asked = text[:_LONGEST_TEXT], {**asked, "cut_to": _LONGEST_TEXT}
        return Reply(
            text,
            self._without_key(said.finish),
            said.first_token if call.first_token else None,
            said.tokens_read,
            said.tokens_written,
            asked,
            self._without_key(said.model),
        )

    def _line(self, words: str) -> str:
        return to_line(words, self._key)

    def _without_key(self, text: str) -> str:
        if self._key is None or len(self._key) < _SHORTEST_SECRET:
            return text
        return text.replace(self._key, "***")


def _advice(call: Call, fault: Fault) -> str:
    shown = [part for message in call.messages for part in message.parts]
    if any(isinstance(part, Clip) for part in shown):
        return " (a server that takes no videos is shown pictures with show=multi)"
    several = sum(isinstance(part, Picture) for part in shown) > 1
    if several and "image" in fault.complaint:
        return " (a server that takes one picture only is shown one with show=grid)"
    return ""


def url_to_host(url: str) -> str:
    """Host and port of an address.

    Raises:
        UsageError: It cannot be one, or holds a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        good = bool(parts.hostname) and url.isprintable() and " " not in url
    except (ValueError, KeyError):
        good = False
    if not good or "@" in parts.netloc or parts.query or parts.fragment:
        # The address itself is not said where it may hold a password.
        shown = f" '{url}'" if not {"@", "?", "#"} & set(url) else ""
        raise UsageError(
            f"The judge's address{shown} must be like http://127.0.0.1:8000/v1, without a "
            "password, '?' or '#'.",
            hint="A key is given in the environment: AIGVE_JUDGE_KEY.",
        )
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return f"{host}:{port}"


def _part_to_data_url(part: Picture | Clip) -> str:
    if isinstance(part, Picture):
        kind, content = "image/jpeg", picture_to_jpeg(part.pixels)
    else:
        kind, content = "video/mp4", clip_to_mp4(part)
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
