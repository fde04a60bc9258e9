"""Networks that stay loaded between the runs of one process, within a bound of memory."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from aigve_cli.engine.plan import Producer

if TYPE_CHECKING:
    import torch

    from aigve_cli.engine.memory import Place
    from aigve_cli.weights import Located


class Kind(NamedTuple):
    """What of a checkpoint decides whether a loaded network is of use, and what it takes."""

    checkpoint: str
    sha256: str
    device: str
    numbers: str | None
    """Of a large model: the type of its numbers."""


class KeptKey(NamedTuple):
    """What decides how a network is loaded: two runs that agree in it can share the module."""

    producer: Producer
    sha256: str
    device: str
    place: Place | None

    @property
    def kind(self) -> Kind:
        """The same without the variant, and without what was free when it was loaded."""
        numbers = self.place.numbers if self.place else None
        return Kind(self.producer.checkpoint, self.sha256, self.device, numbers)

    @property
    def may_be_kept(self) -> bool:
        """Whether it is whole: how a model is parted depends on what is free at the time."""
        return self.place is None or self.place.gpu_bytes is None


class KeptNetworks:
    """Loaded networks, of which those that were not used for longest are dropped first.

    A network that a run still uses is not freed by being dropped: only this collection's hold on
    it ends. Threads may load at the same time; each waits for the one before.

    Args:
        most_bytes: What the weights of all kept networks may take together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._networks: OrderedDict[KeptKey, tuple[torch.nn.Module, int]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Of the weights of what is kept."""
        return sum(size for _, size in self._networks.values())

    def get(self, key: KeptKey, load: Callable[[], torch.nn.Module]) -> torch.nn.Module:
        """The network of this key, loaded only if it is not kept."""
        with self._lock:
            if key in self._networks:
                self._networks.move_to_end(key)
                return self._networks[key][0]
            network = load()
            size = _module_bytes(network)
            if key.may_be_kept and size <= self._most_bytes:
                while self.bytes + size > self._most_bytes:
                    self._networks.popitem(last=False)
                self._networks[key] = network, size
            return network

    def bytes_of(self, kinds: Collection[Kind]) -> int:
        """Of the weights of what is kept and is one of these."""
        return sum(size for key, (_, size) in self._networks.items() if key.kind in kinds)

    def make_room(self, kinds: Collection[Kind]) -> None:
        """Drop everything but these, and give the memory back."""
        with self._lock:
            for key in list(self._networks):
                if key.kind not in kinds:
                    del self._networks[key]
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def kinds_of(
    checkpoints: Collection[str],
    located: Mapping[str, Located],
    places: Mapping[str, Place],
    device: str,
) -> set[Kind]:
    """What a run would load of these checkpoints, as far as they are located."""
    return {
        Kind(name, located[name].sha256, device, places[name].numbers if name in places else None)
        for name in checkpoints
        if name in located
    }


def _module_bytes(network: torch.nn.Module) -> int:
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
