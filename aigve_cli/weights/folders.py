"""A model's folder: named by the user, in the weights folder, in the Hub's cache, or fetched."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from aigve_cli.errors import MissingWeightsError, WeightsError
from aigve_cli.weights.cards import NO_LICENCE, UNKNOWN_SHA256, NetworkCard, WeightsEntry
from aigve_cli.weights.check import hash_agrees
from aigve_cli.weights.download import one_process_a_file
from aigve_cli.weights.folder_check import (
    CONFIG,
    GENERATION,
    PROCESSOR_FILES,
    TO_COPY,
    folder_lacks,
    folder_problem,
    folder_to_sha256,
    names_lack_processor,
    published_weights,
)
from aigve_cli.weights.folder_search import Part, Search, opened
from aigve_cli.weights.hub import HubError, fetch, hub_cache, hub_endpoint, published_as
from aigve_cli.weights.policy import Located, Origin, WeightsPolicy, none_but_embedded

_REPLACE = "Replace the folder or move it away."
_PART_WORDS = {"weights": "weights", "processor": "tokenizer and image processor"}


def find_folder(
    card: NetworkCard,
    entry: WeightsEntry,
    policy: WeightsPolicy,
    *,
    bad_cache_is_missing: bool,
    rehash: bool,
) -> Located | None:
    """As ``find_weights``, of a network whose weights are a folder."""
    search = Search(card, entry, policy)
    with _readable():
        folder = _find_weights_folder(search, bad_cache_is_missing)
        if folder is None:
            return None
        processor = _find_processor_folder(search, folder, bad_cache_is_missing)
        if processor is None:
            return None
        return _located(search, folder, processor, rehash)


def locate_folder(card: NetworkCard, entry: WeightsEntry, policy: WeightsPolicy) -> Located:
    """As ``locate_weights``, of a network whose weights are a folder."""
    search = Search(card, entry, policy)
    again = not policy.offline
    with _readable():
        folder = _find_weights_folder(search, again)
        if folder is None:
            if policy.mode == "embedded":
                raise none_but_embedded(card, entry)
            folder = _fetch(search, "weights")
        processor = _find_processor_folder(search, folder, again)
        if processor is None:
            processor = _fetch(search, "processor")
        if processor != folder and not (search.known and search.named is None):
            lack = f"{folder} has no tokenizer and image processor of its own"
            policy.announce(f"{lack}: those of {search.repository('processor')} are taken.")
        return _located(search, folder, processor, rehash=False)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or "The folder"
        raise WeightsError(f"{place} cannot be read: {error.strerror or error}.") from error


def folder_status(
    card: NetworkCard, entry: WeightsEntry, policy: WeightsPolicy
) -> Literal["here", "to fetch", "missing"]:
    """As ``weights_status``, of a network whose weights are a folder."""
    search = Search(card, entry, policy)
    absent: Literal["to fetch", "missing"] = "to fetch" if search.may_fetch else "missing"
    try:
        folder = _whole_weights(search)
        if folder is None:
            return "missing" if search.named else absent
        other = search.given("processor") or search.cached("processor")
        if any(place and search.lacks_processor(place) is None for place in (folder, other)):
            return "here"
    except OSError:
        return "missing"
    return absent if search.repository("processor") else "missing"


def _whole_weights(search: Search) -> Path | None:
    """The folder that a run would take, if it is whole by the names of its files."""
    if search.named is not None:
        if not search.named.folder.is_dir():
            return None
        folder = opened(search.named.folder, search.entry.hub_revision)
        return folder if folder_lacks(folder) is None else None
    if search.policy.mode == "embedded":
        return None
    found = search.given("weights") or search.cached("weights")
    return None if found is None or search.lacks(found) else found


def _find_weights_folder(search: Search, bad_cache_is_missing: bool) -> Path | None:
    """The folder with configuration and weights; None if it is nowhere, or not all in the cache."""
    if search.named is not None:
        folder = search.named.folder
        if not folder.is_dir():
            there = "it is a file" if folder.exists() else "there is no such folder"
            raise WeightsError(f"{folder}: {there}. {search.named.how}", hint=search.kind)
        folder = opened(folder, search.entry.hub_revision)
        return _refuse_if_wrong(folder, f"{search.named.how} {search.kind}")
    if search.policy.mode == "embedded":
        return None
    if given := search.given("weights"):
        return _refuse_if_wrong(given, f"{search.where_from('weights')} {_REPLACE}")
    cached = search.cached("weights")
    if cached is None or search.lacks(cached):
        return None
    if problem := folder_problem(cached):
        _refuse_unless_fetched_again(search, cached, problem, "weights", bad_cache_is_missing)
        return None
    return cached


def _find_processor_folder(search: Search, folder: Path, bad_cache_is_missing: bool) -> Path | None:
    """The folder with tokenizer and image processor; None if it may be fetched.

    Raises:
        WeightsError: It is not with the weights, and nobody says where else it is.
    """
    lack = search.lacks_processor(folder)
    if lack is None:
        return folder
    if search.repository("processor") is None:
        raise WeightsError(
            f"{folder} is not a whole model of {search.card.name}: {lack}.",
            hint=f"Copy {TO_COPY} of the model that it was made from into that folder.",
        )
    if given := search.given("processor"):
        if problem := search.lacks_processor(given) or folder_problem(folder, given):
            raise WeightsError(
                f"{given} is not a tokenizer and image processor of {search.card.name}: {problem}.",
                hint=f"{search.where_from('processor')} {_REPLACE}",
            )
        return given
    cached = search.cached("processor")
    if cached is None or search.lacks_processor(cached):
        return None
    if problem := folder_problem(folder, cached):
        _refuse_unless_fetched_again(search, cached, problem, "processor", bad_cache_is_missing)
        return None
    return cached


def _refuse_if_wrong(folder: Path, hint: str) -> Path:
    if problem := folder_lacks(folder) or folder_problem(folder):
        raise WeightsError(f"{folder} is not a model that can be read: {problem}.", hint=hint)
    return folder


def _refuse_unless_fetched_again(
    search: Search, folder: Path, problem: str, part: Part, bad_cache_is_missing: bool
) -> None:
    words = f"{folder} is not a model that can be read: {problem}."
    if not bad_cache_is_missing or not search.may_fetch:
        raise WeightsError(words, hint=f"{search.where_from(part)} Delete the folder.")
    search.policy.announce(f"{words} Fetching it again.")


def _located(search: Search, folder: Path, processor: Path, rehash: bool) -> Located:
    entry, named = search.entry, search.named
    memo = None if rehash else search.policy.cache_dir
    apart = None if processor == folder else processor
    digest = folder_to_sha256(folder, apart, memo_dir=memo)
    agrees = entry.sha256 != UNKNOWN_SHA256 and hash_agrees(entry, digest)
    if named is None and not hash_agrees(entry, digest):
        raise WeightsError(
            f"{folder} is not the model it should be: the sha256 of its files is {digest}, "
            f"the card says {entry.sha256}.",
            hint=f"{search.where_from('weights')} {_REPLACE}",
        )
    origin: Origin = "standard" if search.known and named is None else "custom"
    licence = entry.licence if named is None or agrees else NO_LICENCE
    return Located(
        path=folder,
        sha256=digest,
        origin=origin,
        verified=agrees,
        tag=named.tag if named else entry.tag,
        licence=licence,
        published=published_as(folder),
        processor=apart,
        processor_published=published_as(apart) if apart else "",
    )


def _fetch(search: Search, part: Part) -> Path:
    """A part from the Hub, into its cache.

    Raises:
        MissingWeightsError: It may not or could not be fetched.
        WeightsError: The disk is full, or what came is no model.
    """
    policy, repository = search.policy, search.repository(part)
    if repository is None or not search.may_fetch:
        raise _missing(search, part)
    what = f"The {_PART_WORDS[part]} of {search.card.name} ({search.entry.tag})"
    target = policy.cache_dir / "hub" / repository.hub_id.replace("/", "--")
    try:
        with one_process_a_file(target, policy.announce):
            folder = _whole(search, part)
            if folder is None:
                fetch(
                    repository,
                    lambda names: list(_wanted(search, part, names)),
                    policy,
                    what=what,
                    licence=search.entry.licence if part == "weights" else NO_LICENCE,
                )
                folder = search.cached(part)
    except HubError as error:
        raise MissingWeightsError(
            f"{what} could not be fetched:\n  {hub_endpoint()}/{repository.hub_id}: {error}",
            short=f"{what} could not be fetched: {error} ({search.how_to_name}).",
            where=search.where_from(part) if search.known else "",
            hint=search.put_it(part)
            if search.known
            else f"Check the id and the revision, or name a folder: {search.how_to_name}.",
        ) from error
    except OSError as error:
        raise WeightsError(
            f"{error.filename or hub_cache()} cannot be written: {error.strerror or error}.",
            hint="HF_HUB_CACHE or HF_HOME names another folder for what comes from the Hub, "
            "AIGVE_CACHE_DIR for the rest.",
        ) from error
    lack = "it is not there" if folder is None else _part_problem(search, part, folder)
    if folder is None or lack:
        place = folder or hub_cache() / repository.cache_name
        raise WeightsError(
            f"{place} was fetched from {repository} and cannot be read: {lack}.",
            hint=search.put_it(part),
        )
    return folder


def _whole(search: Search, part: Part) -> Path | None:
    """What another process has fetched meanwhile."""
    folder = search.cached(part)
    return folder if folder is not None and not _part_problem(search, part, folder) else None


def _part_problem(search: Search, part: Part, folder: Path) -> str | None:
    if part == "weights":
        return search.lacks(folder) or folder_problem(folder)
    return search.lacks_processor(folder)


def _wanted(search: Search, part: Part, names: Collection[str]) -> Iterator[str]:
    """The published files to fetch; never a program, nor a format that is not read."""
    yield from (name for name in (CONFIG, GENERATION, *PROCESSOR_FILES) if name in names)
    own = part == "processor" or search.repository("processor") is None
    if own and (lack := names_lack_processor(names, images=search.card.image_processor)):
        raise HubError(f"it is no whole model: {lack}")
    if part == "weights":
        weights = published_weights(names)
        if CONFIG not in names or not weights:
            raise HubError(
                f"it is no model that transformers reads: it needs {CONFIG} and model.safetensors "
                "or pytorch_model.bin"
            )
        yield from weights


def _missing(search: Search, part: Part) -> MissingWeightsError:
    repository, entry, policy = search.repository(part), search.entry, search.policy
    where = ", ".join(map(str, search.looked_at(part)))
    remark = _remark(search, part)
    reason = " Offline: nothing is fetched." if policy.offline else ""
    what = f"The {_PART_WORDS[part]} of {search.card.name} ({entry.tag}) are missing"
    size = f", {entry.size_text}, licence {entry.licence}" if part == "weights" else ""
    return MissingWeightsError(
        f"{what}: {repository}{size}. Looked at: {where}{remark}.{reason}",
        short=f"{what}: {repository} ({search.how_to_name}).{reason}",
        where=search.where_from(part),
        hint=search.put_it(part),
    )


def _remark(search: Search, part: Part) -> str:
    """What a folder in the cache lacks, behind the places that were looked at."""
    folder, repository = search.cached(part), search.repository(part)
    if repository is None:
        return ""
    if folder is None:
        others = (hub_cache() / repository.cache_name / "snapshots").is_dir()
        return " (which has other revisions of it)" if others else ""
    lack = search.lacks(folder) if part == "weights" else search.lacks_processor(folder)
    broken = ", a download was interrupted" if repository.interrupted(hub_cache()) else ""
    return f" (in its snapshot {folder.name}, {lack}{broken})"
