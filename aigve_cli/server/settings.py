"""How a server is set up: by variables, so that every process of it reads the same."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from aigve_cli.errors import UsageError
from aigve_cli.weights.policy import is_set

PREFIX = "AIGVE_SERVER_"
TOKEN = "AIGVE_API_TOKEN"
DEFAULT_PORT = 2200
DEVICES = ("auto", "cpu", "cuda")
LOG_LEVELS = ("critical", "error", "warning", "info", "debug")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")


@dataclass(frozen=True)
class ServerSettings:
    """What callers may do, and what is kept for how long.

    Attributes:
        state_dir: Where jobs, their results and the queue are.
        allow_root: Folders that callers may name paths in.
        allow_judge_url: Addresses of judges that callers may have asked, with the server's keys.
        allow_host: Names by which callers reach a server that asks for no token.
        token: What callers must send; empty asks for none.
        insecure: Serve other machines without a token.
        device: Where networks run: ``auto``, ``cpu`` or ``cuda``.
        queue_size: Jobs that may wait.
        keep_hours: How long results can be fetched.
        max_upload: Gigabytes of one request.
        quota: Gigabytes of all jobs together.
        max_hours: How long a job may run.
        keep_networks: Gigabytes of networks that stay loaded between jobs; 0 is half of the
            device's memory.
        log_level: Of the server's own lines.
    """

    state_dir: Path
    allow_root: tuple[Path, ...]
    allow_judge_url: tuple[str, ...] = ()
    allow_host: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    insecure: bool = False
    device: str = "auto"
    queue_size: int = 8
    keep_hours: float = 24.0
    max_upload: float = 2.0
    quota: float = 50.0
    max_hours: float = 24.0
    keep_networks: float = 0.0
    log_level: str = "info"

    @property
    def incoming_dir(self) -> Path:
        """Where uploads are until their job has a folder."""
        return self.state_dir / "incoming"

    @property
    def max_upload_bytes(self) -> int:
        """Of one request's body."""
        return int(self.max_upload * 1e9)

    @property
    def quota_bytes(self) -> int:
        """Of all jobs' folders together."""
        return int(self.quota * 1e9)

    def to_environment(self) -> dict[str, str]:
        """The variables that say the same; without the token, which has one of its own."""
        values: dict[str, str] = {}
        for one in fields(self):
            value: Any = getattr(self, one.name)
            if one.name == "token":
                continue
            if isinstance(value, tuple):
                text = (
                    os.pathsep.join(map(str, value))
                    if one.name == "allow_root"
                    else " ".join(value)
                )
            else:
                text = str(int(value)) if isinstance(value, bool) else str(value)
            values[variable(one.name)] = text
        return values


def variable(name: str) -> str:
    """``queue_size`` → ``AIGVE_SERVER_QUEUE_SIZE``."""
    return PREFIX + name.upper()


def environment_to_settings(environ: Mapping[str, str] | None = None) -> ServerSettings:
    """Settings as the environment has them, with defaults for the rest.

    Raises:
        UsageError: A value that cannot be read.
    """
    env = os.environ if environ is None else environ
    values: dict[str, Any] = {"token": environment_to_token(env)}
    for one in fields(ServerSettings):
        text = env.get(variable(one.name), "")
        if one.name == "token" or not text:
            continue
        values[one.name] = _read(one.name, str(one.type), text)
    roots = values.get("allow_root") or (Path(),)
    return make_settings(**{**values, "allow_root": roots})


def environment_to_token(environ: Mapping[str, str]) -> str:
    """The token that callers must send; empty if there is none.

    Raises:
        UsageError: It holds what a header cannot.
    """
    token = environ.get(TOKEN, "").strip()
    if not all("!" <= sign <= "~" for sign in token):
        raise UsageError(f"{TOKEN} holds other signs than visible ASCII: no header can have them.")
    return token


def make_settings(
    *, state_dir: Path | None = None, allow_root: Sequence[Path] = (), **values: Any
) -> ServerSettings:
    """Settings with absolute folders, made if they are the server's own.

    Raises:
        UsageError: A root is no folder, or a number makes no sense.
    """
    roots = []
    for root in allow_root or [Path()]:
        if not root.expanduser().is_dir():
            raise UsageError(f"--allow-root {root}: there is no such folder.")
        roots.append(root.expanduser().resolve())
    settings = ServerSettings(
        state_dir=(state_dir or default_state_dir()).expanduser().resolve(),
        allow_root=tuple(dict.fromkeys(roots)),
        **values,
    )
    for name in ("queue_size", "keep_hours", "max_upload", "quota", "max_hours"):
        if not 0 < getattr(settings, name) < float("inf"):
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} {getattr(settings, name):g}: must be above 0.")
    if not 0 <= settings.keep_networks < float("inf"):
        raise UsageError(f"--keep-networks {settings.keep_networks:g}: must be 0 or more.")
    for name, allowed in (("device", DEVICES), ("log_level", LOG_LEVELS)):
        if getattr(settings, name) not in allowed:
            raise UsageError(
                f"{variable(name)}={getattr(settings, name)}: must be one of {', '.join(allowed)}."
            )
    return settings


def default_state_dir(port: int = DEFAULT_PORT) -> Path:
    """``server-PORT`` in the cache folder of aigve: servers on two ports share nothing."""
    from aigve_cli.weights import weights_policy

    return weights_policy().cache_dir.parent / f"server-{port}"


def is_loopback(host: str) -> bool:
    """Whether an address or a name reaches this machine only."""
    name = host.strip("[]")
    if name.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _read(name: str, kind: str, text: str) -> Any:
    try:
        if name == "allow_root":
            return tuple(Path(part) for part in text.split(os.pathsep) if part)
        if kind.startswith("tuple"):
            return tuple(text.split())
        if kind == "Path":
            return Path(text)
        if kind == "bool":
            return is_set({"value": text}, "value")
        return {"int": int, "float": float}.get(kind, str)(text)
    except ValueError:
        raise UsageError(f"{variable(name)}={text}: not a number.") from None
