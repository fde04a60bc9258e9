"""Networks that stay loaded between the runs of one process, within a bound of memory."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from aigve_cli.engine.plan import Producer

if TYPE_CHECKING:
    import torch

    from aigve_cli.engine.memory import Place


class KeptKey(NamedTuple):
    """What decides how a network is loaded: two runs that agree in it can share the module."""

    producer: Producer
    sha256: str
    device: str
    place: Place | None


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
            while self._networks and self.bytes + size > self._most_bytes:
                self._networks.popitem(last=False)
            if size <= self._most_bytes:
                self._networks[key] = network, size
            return network

    def bytes_of(self, checkpoints: Collection[str]) -> int:
        """Of the weights of these checkpoints, as far as they are kept."""
        return sum(
            size
            for key, (_, size) in self._networks.items()
            if key.producer.checkpoint in checkpoints
        )

    def make_room(self, checkpoints: Collection[str]) -> None:
        """Drop everything but these checkpoints, and give the memory back."""
        with self._lock:
            for key in list(self._networks):
                if key.producer.checkpoint not in checkpoints:
                    del self._networks[key]
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _module_bytes(network: torch.nn.Module) -> int:
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
