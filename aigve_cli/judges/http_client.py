"""The connection to a judge: what may be sent, when to give up, and which way it goes."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from aigve_cli.judges.backend import UnreachableError

_SENT_ANYWHERE = re.compile(
    "accept|accept-encoding|authorization|connection|content-length|content-type|host"
    "|idempotency-key|transfer-encoding|user-agent|x-stainless-.*"
)


class SilenceError(BaseException):
    """A server was silent a second time. No Exception: the library tries again after every one."""


def open_client(url: str, key: str, *, given: bool, loopback: bool, vain: Sequence[str]) -> Any:
    """A client for the library.

    Args:
        url: Where it will ask.
        key: What it is sent as a key.
        given: Whether the address was given: what the environment holds for OpenAI is not for it.
        loopback: Whether it is on this machine: no proxy is the way to it.
        vain: Codes after which another try would be in vain.

    Raises:
        UnreachableError: The environment names a proxy that cannot be one.
    """
    from openai import DefaultAsyncHttpxClient

    class Client(DefaultAsyncHttpxClient):
        async def send(self, request: Any, **facts: Any) -> Any:
            try:
                return await super().send(request, **facts)
            except Exception as error:
                # The library would wait as long again for each of its tries.
                again = request.headers.get("x-stainless-retry-count", "0") != "0"
                if again and is_silence(error):
                    raise SilenceError from None
                raise

    async def send_only_our_headers(request: Any) -> None:
        # The library adds what the environment holds for OpenAI: names of an organisation and a
        # project, and any header. None of it is for another host.
        for name in list(request.headers):
            if not _SENT_ANYWHERE.fullmatch(name.lower()):
                del request.headers[name]
        if "authorization" in request.headers:
            request.headers["authorization"] = f"Bearer {key}"

    async def spare_vain_tries(response: Any) -> None:
        # The library would try again for long: it sees the status alone.
        if response.status_code == 501:
            response.headers["x-should-retry"] = "false"
        elif response.status_code == 429:
            await response.aread()
            if any(code.encode() in response.content for code in vain):
                response.headers["x-should-retry"] = "false"

    hooks: dict[str, list[Any]] = {"response": [spare_vain_tries]}
    if given:
        hooks["request"] = [send_only_our_headers]
    facts: dict[str, Any] = {}
    if loopback:
        # Beside proxies the environment names who signs certificates: OpenSSL reads that itself.
        facts["trust_env"] = False
        if urlsplit(url).scheme == "https":
            facts["verify"] = ssl.create_default_context()
    try:
        # What is shown to a server is not for the one that it points to.
        return Client(event_hooks=hooks, follow_redirects=False, **facts)
    except (ImportError, ValueError) as error:
        names = list(_variables("http", "https", "all"))
        if not names:
            raise
        # The proxy's address is not said: it may hold a password.
        reason = error if isinstance(error, ImportError) else "no address of a proxy."
        raise UnreachableError(
            f"The proxy of {' or '.join(names)} cannot be used: {reason}",
            hint="Its address is like http://HOST:PORT; without the variable no proxy is used.",
        ) from None


def is_silence(error: BaseException) -> bool:
    """Whether a server has taken a request and then said nothing."""
    # By the name: the library's versions stand on different packages.
    return type(error).__name__ in ("ReadTimeout", "WriteTimeout")


def proxy_variable(url: str) -> str | None:
    """Name of the environment's variable whose proxy is asked for an address; None without one."""
    from urllib.request import proxy_bypass

    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return next(_variables(parts.scheme, "all"), None)


def _variables(*schemes: str) -> Iterator[str]:
    for scheme in schemes:
        for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()):
            if os.environ.get(name):
                yield name
