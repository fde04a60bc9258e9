"""The places where a model's folder may be, and the words for a user who should put one there.

A model is two things, which are mostly in one folder: configuration and weights, and the tokenizer
with the image processor. Some models are published without the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aigve_cli.weights.cards import LOCAL_JUDGE, NetworkCard, WeightsEntry
from aigve_cli.weights.folder_check import CONFIG, folder_lacks, processor_lacks
from aigve_cli.weights.hub import Repository, hub_cache, snapshot_of
from aigve_cli.weights.policy import WeightsPolicy

Part = Literal["weights", "processor"]


@dataclass(frozen=True)
class Named:
    """A folder that the user named as the model."""

    folder: Path
    how: str
    tag: str


@dataclass(frozen=True)
class Search:
    """One checkpoint of one network: where its parts may be, and what to say of them."""

    card: NetworkCard
    entry: WeightsEntry
    policy: WeightsPolicy

    @property
    def named(self) -> Named | None:
        """What takes the place of anything published."""
        entry, name = self.entry, self.card.name
        if entry.folder:
            return Named(Path(entry.folder), f"It was named as {self.card.model_words}.", entry.tag)
        # A checkpoint that was asked for by its own name is not exchanged for another.
        if entry.tag == self.card.default_weights and name in self.policy.custom:
            folder = self.policy.custom[name]
            how = f"It was named with --model {name}={folder}."
            folder = folder.expanduser().resolve()
            return Named(folder, how, str(folder))
        return None

    def repository(self, part: Part) -> Repository | None:
        """Where a part is published; None of a folder that the user named."""
        if part == "weights":
            published = self.entry.hub_id and self.named is None
            return Repository(self.entry.hub_id, self.entry.hub_revision) if published else None
        # What the card says of its default holds for models that were made from it.
        for entry in (self.entry, self.card.entry()):
            if entry.processor_hub_id:
                return Repository(entry.processor_hub_id, entry.processor_hub_revision)
        return None

    @property
    def may_fetch(self) -> bool:
        """Whether the network may be used."""
        return not self.policy.offline and self.policy.mode != "embedded"

    def looked_at(self, part: Part) -> list[Path]:
        """Every place where a published part may be, in the order in which they are looked at."""
        repository = self.repository(part)
        if repository is None:
            return []
        return [*self._given(repository, part), hub_cache() / repository.cache_name]

    def _given(self, repository: Repository, part: Part) -> dict[Path, Path | None]:
        """The user's places for a part, each with the folder that is there, whole or not."""
        top = self.policy.weights_dir
        if top is None:
            return {}
        plain = (top / self.file(part), top / repository.hub_id)
        found: dict[Path, Path | None] = {path: path if path.is_dir() else None for path in plain}
        return {**found, top / repository.cache_name: repository.snapshot(top)}

    def file(self, part: Part) -> str:
        """A part's path in the weights folder: with the owner, unless a card vouches for it."""
        if part == "processor":
            repository = self.repository(part)
            return repository.hub_id.rpartition("/")[2] if repository else ""
        return self.entry.file if self.known else self.entry.hub_id

    @property
    def known(self) -> bool:
        """Whether the card has this checkpoint."""
        return self.entry.tag in self.card.weights

    def given(self, part: Part) -> Path | None:
        """The folder that the user keeps for a part, whole or not."""
        repository = self.repository(part)
        places = {} if repository is None else self._given(repository, part)
        return next((folder for folder in places.values() if folder is not None), None)

    def cached(self, part: Part) -> Path | None:
        """The folder in the Hub's cache, whole or not."""
        repository = self.repository(part)
        return None if repository is None else repository.snapshot(hub_cache())

    def lacks(self, folder: Path) -> str | None:
        """What a folder of the Hub's cache lacks of what should come from its repository."""
        lack = folder_lacks(folder)
        if lack is None and self.repository("processor") is None:
            lack = self.lacks_processor(folder)
        return lack

    def lacks_processor(self, folder: Path) -> str | None:
        """What a folder lacks of a tokenizer, and of an image processor if one is needed."""
        return processor_lacks(folder, images=self.card.image_processor)

    @property
    def how_to_name(self) -> str:
        """The options that name a folder in its place."""
        setting = "--set METRIC.model=FOLDER"
        if self.card.name == LOCAL_JUDGE:
            return "--judge local:FOLDER"
        if self.entry.tag != self.card.default_weights:
            return setting
        return f"--model {self.card.name}=FOLDER or {setting}"

    @property
    def kind(self) -> str:
        """What the network reads, in a sentence."""
        example = self.card.entry().hub_id
        return f"{self.card.name} reads a folder as transformers saves one, such as {example}."

    def where_from(self, part: Part) -> str:
        """Where a part is published, in a sentence."""
        repository = self.repository(part)
        if repository is None:
            return self.kind
        return f"It is published on the Hugging Face Hub as {repository}."

    def put_it(self, part: Part) -> str:
        """Where to get a part, and where to put it, in two sentences."""
        top, name = self.policy.weights_dir, self.file(part)
        place = f"as {top / name}" if top else f"as {name} into a folder for --weights-dir"
        return f"{self.where_from(part)} Put it {place}, or name a folder: {self.how_to_name}."


def opened(folder: Path, revision: str) -> Path:
    """A folder as it is, or, of a model's folder in the Hub's cache, the snapshot in it."""
    snapshots = folder / "snapshots"
    if (folder / CONFIG).exists() or not snapshots.is_dir():
        return folder
    if snapshot := snapshot_of(folder, revision) or snapshot_of(folder, ""):
        return snapshot
    alone = [path for path in snapshots.iterdir() if path.is_dir()]
    return alone[0] if len(alone) == 1 else folder
