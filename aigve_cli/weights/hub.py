"""Models on the Hugging Face Hub: where its cache has one, and how one gets there.

`huggingface_hub` does the transfer: the cache's layout, resuming, locks and Xet storage are its
own. What it leaves to us is here: to say what will be fetched before it is, which files those are,
to be silent otherwise, and to say in one sentence why it failed. The cache is read without it,
since listing metrics may not wait for its import.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aigve_cli.errors import UsageError
from aigve_cli.weights.download import ProgressHook, announced_progress
from aigve_cli.weights.policy import WeightsPolicy

PUBLIC_ENDPOINT = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"(?!/)(?!.*\.\.)[\w./-]*")


class HubError(Exception):
    """Why a model could not be had from the Hub, in one sentence without its full stop."""


@dataclass(frozen=True)
class Repository:
    """A model on the Hub, at a commit, a branch or a tag; empty is ``main``."""

    hub_id: str
    revision: str = ""

    def __post_init__(self) -> None:
        if not _REVISION.fullmatch(self.revision):
            raise UsageError(
                f"'{self.revision}' is no revision of {self.hub_id}: a commit, a branch or a tag."
            )

    def __str__(self) -> str:
        return f"{self.hub_id} at revision {self.revision}" if self.revision else self.hub_id

    @property
    def cache_name(self) -> str:
        """Its folder's name in the Hub's cache."""
        return f"models--{self.hub_id.replace('/', '--')}"

    def snapshot(self, cache: Path) -> Path | None:
        """Its folder in a cache, whole or not; None if there is none."""
        return snapshot_of(cache / self.cache_name, self.revision)

    def interrupted(self, cache: Path) -> bool:
        """Whether a download of it did not come to its end."""
        blobs = cache / self.cache_name / "blobs"
        return blobs.is_dir() and any(blobs.glob("*.incomplete"))


def snapshot_of(base: Path, revision: str) -> Path | None:
    """A revision's folder in one model's folder of a cache; None if it is not there."""
    commit = revision
    if not COMMIT.fullmatch(commit):
        try:
            commit = (base / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
    folder = base / "snapshots" / commit
    return folder if COMMIT.fullmatch(commit) and folder.is_dir() else None


def hub_cache(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of huggingface_hub's cache, as its documentation says without importing it."""
    env = os.environ if environ is None else environ
    named = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
    if not named:
        caches = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        named = os.path.join(env.get("HF_HOME") or os.path.join(caches, "huggingface"), "hub")
    return Path(os.path.expandvars(os.path.expanduser(named)))


def hub_endpoint() -> str:
    """The Hub's address, or that of a mirror."""
    return (os.environ.get("HF_ENDPOINT") or PUBLIC_ENDPOINT).rstrip("/")


def published_as(folder: Path) -> str:
    """``owner/name@commit`` of a folder in the layout of the Hub's cache; empty of any other."""
    base = folder.parent.parent
    if folder.parent.name != "snapshots" or not base.name.startswith("models--"):
        return ""
    return f"{base.name.removeprefix('models--').replace('--', '/', 1)}@{folder.name}"


def fetch(
    repository: Repository,
    choose: Callable[[Collection[str]], list[str]],
    policy: WeightsPolicy,
    *,
    what: str,
    licence: str,
) -> None:
    """Bring a model's files into the Hub's cache; announced before the first of them.

    Args:
        repository: The model.
        choose: From the names of all its files those that are wanted; may raise HubError.
        policy: Whom to tell, and how long to wait.
        what: What is missing, for the announcement: ``The weights of clip (tag)``.
        licence: Said if the Hub does not say.

    Raises:
        HubError: The Hub cannot be reached, or does not give the files.
        OSError: The disk is full or the cache cannot be written.
    """
    cache = hub_cache()
    # Read at import. Release 2 would ask the Hub for more than the model, once a day.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with _quiet():
        try:
            _fetch(repository, choose, policy, cache=cache, what=what, licence=licence)
        except HubError:
            raise
        except Exception as error:
            # A dozen types, of two HTTP libraries: huggingface_hub 1 has httpx and 2 has httpx2.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise HubError(_reason(error, repository, policy)) from error


def _fetch(
    repository: Repository,
    choose: Callable[[Collection[str]], list[str]],
    policy: WeightsPolicy,
    *,
    cache: Path,
    what: str,
    licence: str,
) -> None:
    from huggingface_hub import HfApi, hf_hub_download

    endpoint = hub_endpoint()
    # httpx takes a time-out for each phase; huggingface_hub passes it on and states a float.
    connect, read = policy.timeouts.connect, policy.timeouts.read
    timeout: Any = (connect, read, read, connect)
    info = HfApi(endpoint=endpoint).model_info(
        repository.hub_id,
        revision=repository.revision or None,
        timeout=timeout,
        files_metadata=True,
    )
    commit = info.sha or ""
    if not COMMIT.fullmatch(commit):
        raise HubError(f"{endpoint} did not answer as the Hugging Face Hub does")
    sizes = {file.rfilename: file.size for file in info.siblings or []}
    folder = cache / repository.cache_name / "snapshots" / commit
    absent = [name for name in choose(list(sizes)) if not _is_here(folder / name, sizes[name])]
    total = sum(sizes[name] or 0 for name in absent)
    files = f"{len(absent)} file{'s' if len(absent) != 1 else ''}, {_size(total)}"
    policy.announce(
        f"{what} are not here: {repository.hub_id} at {commit}, {files}, "
        f"licence {_licence(info.card_data) or licence}."
    )
    _check_disk(cache, total)
    if absent:
        policy.announce(f"Fetching from {endpoint} into {cache}")
    counter = _counter(
        policy.progress or announced_progress(policy.announce, repository.hub_id), total
    )
    # The small files first: what is wrong with them is known before gigabytes are here.
    for name in sorted(absent, key=lambda name: sizes[name] or 0):
        # What has another size would be kept: the link by its name, and its bytes by theirs.
        wrong = (folder / name).is_file()
        if wrong:
            (folder / name).unlink()
        hf_hub_download(
            repository.hub_id,
            name,
            revision=commit,
            cache_dir=cache,
            endpoint=endpoint,
            etag_timeout=timeout,
            force_download=wrong,
            tqdm_class=counter,
        )
    if not COMMIT.fullmatch(repository.revision):
        _remember_commit(cache / repository.cache_name, repository.revision or "main", commit)


def _is_here(path: Path, size: int | None) -> bool:
    return path.is_file() and size in (None, path.stat().st_size)


def _remember_commit(base: Path, revision: str, commit: str) -> None:
    """Note what a name stands for as the cache's layout has it, once all its files are here."""
    ref = base / "refs" / revision
    with suppress(OSError):
        ref.parent.mkdir(parents=True, exist_ok=True)
        draft = ref.with_name(f"{ref.name}.{uuid.uuid4().hex}")
        draft.write_text(commit, encoding="utf-8")
        draft.replace(ref)


def _check_disk(cache: Path, needed: int) -> None:
    here = cache
    while not here.exists():
        here = here.parent
    free = shutil.disk_usage(here).free
    if free < needed:
        words = f"{_size(needed)} are needed and {_size(free)} are free"
        raise OSError(errno.ENOSPC, words, str(cache))


def _counter(progress: ProgressHook, total: int) -> Any:
    """A class in place of tqdm's that draws nothing and passes the bytes on."""
    here = 0

    class Counter:
        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            self.total, self.n = 0, 0
            self.update(initial)

        def update(self, n: float | None = 1) -> None:
            nonlocal here
            here += int(n or 0)
            if n:
                progress(min(here, total), total)

        # Of Xet, which counts what is written apart from what was transferred for it.
        def update_transfer(self, n: float | None = 1) -> None:
            pass

        def __enter__(self) -> Counter:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_, **__: None

    return Counter


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of huggingface_hub's own on the terminal: it warns of retries and addresses."""
    from logging import CRITICAL

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub.utils import logging

        before = logging.get_verbosity()
        logging.set_verbosity(CRITICAL)
        try:
            yield
        finally:
            logging.set_verbosity(before)


def _reason(error: Exception, repository: Repository, policy: WeightsPolicy) -> str:
    from huggingface_hub import errors

    host = urlsplit(hub_endpoint()).netloc
    status = getattr(getattr(error, "response", None), "status_code", None)
    code = f" (HTTP {status})" if status else ""
    log_in = "`hf auth login` or HF_TOKEN"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "huggingface_hub is told to stay offline (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE)"
    if isinstance(error, errors.HFValidationError):
        return f"'{repository.hub_id}' cannot be an id on the Hugging Face Hub"
    if isinstance(error, errors.GatedRepoError):
        page = f"{hub_endpoint()}/{repository.hub_id}"
        return f"it is gated{code}: accept its terms at {page}, then log in ({log_in})"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {repository.revision or 'main'}{code}"
    if status == 401:
        return f"it does not exist, or it is private and needs a valid token{code}: {log_in}"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return f"there is no such model or file at {host}{code}"
    if status == 403:
        return f"access is refused{code}: the token ({log_in}) may lack the right to read it"
    if status:
        return f"{host} answered HTTP {status}"
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _reason(error.__cause__, repository, policy)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ConnectTimeout" in kinds:
        return f"no connection to {host} within {policy.timeouts.connect:g} s"
    if "TimeoutException" in kinds:
        return f"{host} was silent for too long"
    if kinds & {"ConnectError", "ProxyError", "UnsupportedProtocol"}:
        return f"no connection to {host}"
    if "TransportError" in kinds or isinstance(error, OSError):
        return f"{host} closed the connection before the end"
    if isinstance(error, (ValueError, TypeError, KeyError)):
        return f"{host} did not answer as the Hugging Face Hub does"
    return f"the transfer failed ({type(error).__name__})"


def _licence(card_data: object) -> str:
    said = getattr(card_data, "license", None)
    if said == "other":
        said = getattr(card_data, "license_name", None) or said
    return ", ".join(map(str, said)) if isinstance(said, list) else str(said or "")


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
