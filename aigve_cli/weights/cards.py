"""The cards of the zoo: one TOML file beside each network, read without importing the network."""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from aigve_cli.errors import SetupError, UsageError, unknown_name

Kind = Literal["network", "function", "judge"]
Unit = Literal["frame", "clip"]
Layout = Literal["file", "folder"]
Numbers = Literal["", "float32", "bfloat16", "auto"]
"""``auto``: as they are saved."""
PACKAGE = "aigve_models"
UNKNOWN_SHA256 = "unknown"
LOCAL_JUDGE = "chat-vlm"
"""The network of judges that run in this process."""
NO_LICENCE = "unknown"
"""Of weights that no card describes."""


@dataclass(frozen=True)
class WeightsEntry:
    """One published checkpoint of a network: a ``[weights.TAG]`` table of its card."""

    tag: str
    file: str
    """The file's name in a weights folder and in the cache."""
    licence: str
    sha256: str = UNKNOWN_SHA256
    """64 lower-case hex digits, the first 8 or more of them, or ``unknown``."""
    bytes: int | None = None
    about_bytes: int | None = None
    """The size in round numbers, where nobody states it exactly: only for words."""
    urls: tuple[str, ...] = ()
    """The same bytes at several places, in the order in which they are tried."""
    page: str = ""
    """An address for browsers, where nothing else can fetch it."""
    hub_id: str = ""
    """``owner/name`` on the Hugging Face Hub; of a whole folder if that is the layout."""
    hub_revision: str = ""
    """The commit that is taken; empty is ``main``, as the cache has it or else the Hub."""
    processor_hub_id: str = ""
    """Where the tokenizer and the image processor are, if they are not beside the weights."""
    processor_hub_revision: str = ""
    folder: str = ""
    """A folder on this machine that was named instead of a published one."""
    package: str = ""
    """Name of the installed distribution that ships the file."""
    package_file: str = ""
    """The file's path as that distribution lists it."""

    @property
    def size_text(self) -> str:
        """``95.6 MB``, ``about 95 MB``, or that nobody says."""
        size = self.bytes or self.about_bytes
        if size is None:
            return "size unknown"
        about = "" if self.bytes else "about "
        digits = 1 if self.bytes else 0
        return about + (f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.{digits}f} MB")

    @property
    def fetchable(self) -> bool:
        """True if there is somewhere to fetch it from."""
        return bool(self.urls or self.hub_id)

    @property
    def embedded(self) -> bool:
        """True if the file installs with a package."""
        return bool(self.package)


@dataclass(frozen=True)
class NetworkCard:
    """What is known of a network, a pixel function or a judge, without building it."""

    name: str
    title: str
    kind: Kind
    outputs: Mapping[str, int]
    """What ``forward`` gives: numbers a unit has in each output; 0 where the input decides."""
    head: Mapping[str, int] = field(default_factory=dict)
    """What ``head`` gives of the rows of a whole video: numbers a row has, alike."""
    by_unit: tuple[str, ...] = ()
    """Outputs of ``head`` that have a row for each unit of its first source."""
    text: Mapping[str, int] = field(default_factory=dict)
    """What ``text`` gives of each of several texts, alike."""
    with_text: Mapping[str, int] = field(default_factory=dict)
    """What ``with_text`` gives of a unit that is seen together with a text."""
    records: tuple[str, ...] = ()
    """Outputs of ``with_text`` that are JSON records instead of numbers, such as answers."""
    unit: Unit = "frame"
    """What a row of its outputs belongs to: a frame, or the frames of a whole unit together."""
    input: str = ""
    paper: str = ""
    source: str = ""
    licence: str = ""
    layout: Layout = "file"
    """What its weights are: one file, or a folder as transformers saves a model, with its
    configuration, tokenizer and image processor."""
    image_processor: bool = True
    """Whether such a folder needs one: chat models may read texts only."""
    numbers: Numbers = ""
    """Of a model of billions of weights: the type of numbers that they have on a GPU unless the
    user says otherwise. Its memory is counted before it is loaded, and it may be loaded in parts.
    Empty is float32, and a model that fits anywhere."""
    settled_by_weights: bool = False
    """Whether only a checkpoint tells how the network is built, if it can be built at all."""
    default_weights: str = ""
    """A tag of ``weights``; empty for a function."""
    weights: Mapping[str, WeightsEntry] = field(default_factory=dict)

    @property
    def all_outputs(self) -> dict[str, int]:
        """Every named output, whatever it is made of."""
        return {**self.outputs, **self.head, **self.text, **self.with_text}

    @property
    def module(self) -> str:
        """The importable module that builds it."""
        return f"{PACKAGE}.{self.name.replace('-', '_')}"

    @property
    def model_words(self) -> str:
        """What a folder of it is named as, for people."""
        return "a judge" if self.name == LOCAL_JUDGE else f"a model of {self.name}"

    def canonical_tag(self, tag: str) -> str:
        """One spelling for one checkpoint: empty for the default one, a folder's full path."""
        if tag in ("", self.default_weights):
            return ""
        if self.layout == "file" or tag in self.weights:
            return tag
        published = [known for known, entry in self.weights.items() if entry.hub_id == tag]
        if published:
            return self.canonical_tag(published[0])
        return _full_path(tag) or tag

    def entry(self, tag: str | None = None) -> WeightsEntry:
        """The checkpoint of a tag, or the default one.

        Of a network whose layout is a folder, also any folder on this machine, or any model on the
        Hugging Face Hub by its id, with ``@REVISION`` behind it if not ``main`` is wanted.

        Raises:
            UsageError: A function, which has no weights, or a tag that the card does not have.
        """
        if not self.weights:
            raise UsageError(f"'{self.name}' is a function of the pixels: it has no weights.")
        tag = self.canonical_tag(tag or "") or self.default_weights
        if tag in self.weights:
            return self.weights[tag]
        if self.layout == "folder":
            return _any_folder(tag, self)
        raise unknown_name(f"weights of {self.name}", tag, self.weights)


JUDGE = NetworkCard(
    name="judge",
    title="a language or vision-language model that is asked: --judge says which",
    kind="judge",
    outputs={},
    with_text={"answers": 0},
    unit="clip",
)
"""What stands in requests for the judge of a run: not of the zoo, and without weights of its own.
"""


def _full_path(text: str) -> str | None:
    """A text as a full path, if a folder is there or if it can be nothing else; else None."""
    path = Path(text).expanduser()
    if path.is_dir() or text.startswith(("/", "./", "../", "~")) or text in (".", ".."):
        return str(path.resolve())
    return None


def _any_folder(tag: str, card: NetworkCard) -> WeightsEntry:
    """A model that the card does not know: a folder, or an id on the Hub."""
    if path := _full_path(tag):
        if not Path(path).is_dir():
            raise UsageError(f"There is no folder {path}: it was named as {card.model_words}.")
        return WeightsEntry(tag=tag, file=Path(path).name, licence=NO_LICENCE, folder=path)
    hub_id, _, revision = tag.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        known = ", ".join(entry.hub_id for entry in card.weights.values())
        raise UsageError(
            f"'{tag}' is no model of {card.name}: there is no such folder, and ids on the Hugging "
            "Face Hub are OWNER/NAME.",
            hint=f"Known: {known}. Any other id, or a folder with a model of this kind, will do.",
        )
    return WeightsEntry(
        tag=tag,
        file=hub_id.rpartition("/")[2],
        licence=NO_LICENCE,
        hub_id=hub_id,
        hub_revision=revision,
    )


@cache
def network_cards() -> Mapping[str, NetworkCard]:
    """Every card of the package, by name, sorted.

    Raises:
        SetupError: A card is broken; the message names its file.
    """
    files = [f for f in importlib.resources.files(PACKAGE).iterdir() if f.name.endswith(".toml")]
    cards = [toml_to_card(f.read_text(encoding="utf-8"), f.name) for f in files]
    return {card.name: card for card in sorted(cards, key=lambda card: card.name)}


def network_card(name: str) -> NetworkCard:
    """The card of one network.

    Raises:
        UsageError: No network has this name; the nearest names are in the hint.
    """
    if name == JUDGE.name:
        return JUDGE
    cards = network_cards()
    if name not in cards:
        raise unknown_name("network", name, cards, hint="`aigve models list` shows all.")
    return cards[name]


def toml_to_card(text: str, file: str) -> NetworkCard:
    """Parse and check one card.

    Raises:
        SetupError: Not TOML, a key that is missing, unknown or of another type, or a name that is
            not the file's.
    """
    try:
        return _table_to_card(tomllib.loads(text), file)
    except (tomllib.TOMLDecodeError, _BrokenCardError) as error:
        raise SetupError(f"The network card {file} is broken: {error}") from error


def cards_to_markdown() -> str:
    """The zoo as a table: the text of ``models/README.md``."""
    lines = [
        "# The zoo",
        "",
        "One readable network file (`.py`) and one card (`.toml`) each, in `aigve_models/`.",
        "This table is made from the cards by `python -m aigve_cli.docs`; a test keeps it fresh.",
        "",
        "| name | what | outputs | input | weights | bytes | licence | sha256 |",
        "| --- | --- | --- | --- | --- | ---: | --- | --- |",
    ]
    for card in network_cards().values():
        sizes = card.all_outputs.items()
        outputs = ", ".join(f"`{name}` {size or '(varies)'}" for name, size in sizes)
        facts = [f"`{card.name}`", card.title, outputs, card.input]
        if not card.weights:
            lines.append(_markdown_row([*facts, "none", "", card.licence, ""]))
        for entry in card.weights.values():
            origin = f"{entry.tag}, in `{entry.package}`" if entry.embedded else entry.tag
            size = f"{entry.bytes:,}" if entry.bytes else entry.size_text
            digest = entry.sha256[:12] + ("…" if len(entry.sha256) > 12 else "")
            lines.append(_markdown_row([*facts, origin, size, entry.licence, digest]))
    return "\n".join(lines) + "\n"


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


class _BrokenCardError(Exception):
    """What is wrong with a card; its file is added by ``toml_to_card``."""


_ENTRY_KEYS: Mapping[str, type] = {
    "file": str,
    "licence": str,
    "sha256": str,
    "bytes": int,
    "about_bytes": int,
    "urls": list,
    "page": str,
    "hub_id": str,
    "hub_revision": str,
    "processor_hub_id": str,
    "processor_hub_revision": str,
    "package": str,
    "package_file": str,
}
_CARD_KEYS: Mapping[str, type] = {
    "name": str,
    "title": str,
    "kind": str,
    "outputs": dict,
    "head": dict,
    "by_unit": list,
    "text": dict,
    "with_text": dict,
    "records": list,
    "layout": str,
    "unit": str,
    "input": str,
    "paper": str,
    "source": str,
    "licence": str,
    "image_processor": bool,
    "numbers": str,
    "settled_by_weights": bool,
    "default_weights": str,
    "weights": dict,
}


def _table_to_card(table: dict[str, Any], file: str) -> NetworkCard:
    _check_keys(table, _CARD_KEYS, required=("name", "title", "kind"), where="")
    if file != f"{table['name'].replace('-', '_')}.toml":
        raise _BrokenCardError(f"name is '{table['name']}', which is not the file's.")
    if table["kind"] not in ("network", "function"):
        raise _BrokenCardError(f"kind is '{table['kind']}': 'network' or 'function'.")
    if table.get("unit", "frame") not in ("frame", "clip"):
        raise _BrokenCardError(f"unit is '{table['unit']}': 'frame' or 'clip'.")
    if table.get("layout", "file") not in ("file", "folder"):
        raise _BrokenCardError(f"layout is '{table['layout']}': 'file' or 'folder'.")
    outputs = {name: table.get(name, {}) for name in ("outputs", "head", "text", "with_text")}
    sizes = [size for group in outputs.values() for size in group.values()]
    if not sizes or not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise _BrokenCardError("[outputs] or [head] needs a name with a size of 0 or more.")
    if len({name for group in outputs.values() for name in group}) < len(sizes):
        raise _BrokenCardError("[outputs], [head], [text] and [with_text] have a name in common.")
    weights = {tag: _table_to_entry(tag, entry) for tag, entry in table.get("weights", {}).items()}
    if bool(weights) != (table["kind"] == "network"):
        raise _BrokenCardError("a network has [weights.TAG] tables and a function has none.")
    if weights and table.get("default_weights") not in weights:
        raise _BrokenCardError(f"default_weights must be one of: {', '.join(weights)}.")
    by_unit = tuple(table.get("by_unit", ()))
    if not set(by_unit) <= outputs["head"].keys():
        raise _BrokenCardError(f"by_unit has {', '.join(by_unit)}: names of [head].")
    records = tuple(table.get("records", ()))
    if not set(records) <= outputs["with_text"].keys():
        raise _BrokenCardError(f"records has {', '.join(records)}: names of [with_text].")
    if table.get("numbers", "") not in get_args(Numbers):
        raise _BrokenCardError(f"numbers is '{table['numbers']}': 'bfloat16', or leave it out.")
    facts = {**table, **outputs, "by_unit": by_unit, "records": records, "weights": weights}
    return NetworkCard(**facts)


def _table_to_entry(tag: str, table: Any) -> WeightsEntry:
    where = f"[weights.{tag}] "
    if not isinstance(table, dict):
        raise _BrokenCardError(f"{where}is not a table.")
    _check_keys(table, _ENTRY_KEYS, required=("file", "licence", "sha256"), where=where)
    if "/" in table["file"] or table["file"].startswith("."):
        raise _BrokenCardError(f"{where}file is '{table['file']}': a plain file name.")
    digest = table["sha256"]
    if digest != UNKNOWN_SHA256 and not re.fullmatch(r"[0-9a-f]{8,64}", digest):
        raise _BrokenCardError(f"{where}sha256 is '{digest}': 8 to 64 hex digits, or 'unknown'.")
    if table.get("bytes", 1) <= 0:
        raise _BrokenCardError(
            f"{where}bytes is {table['bytes']}: leave it out if it is not known."
        )
    urls = tuple(table.get("urls", ()))
    for url in urls:
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise _BrokenCardError(f"{where}urls has '{url}': http(s) addresses.")
    if bool(table.get("package")) != bool(table.get("package_file")):
        raise _BrokenCardError(f"{where}package and package_file go together.")
    return WeightsEntry(tag=tag, **{**table, "urls": urls})


def _check_keys(
    table: dict[str, Any], known: Mapping[str, type], *, required: tuple[str, ...], where: str
) -> None:
    for key, value in table.items():
        if key not in known:
            raise _BrokenCardError(f"{where}unknown key '{key}'. Known: {', '.join(known)}.")
        if type(value) is not known[key]:
            raise _BrokenCardError(f"{where}{key} is {value!r}: not a {known[key].__name__}.")
    for key in required:
        if key not in table:
            raise _BrokenCardError(f"{where}{key} is missing.")
