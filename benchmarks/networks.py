"""Networks as the engine loads them beside their plain form: CPU milliseconds a unit, one thread.

python benchmarks/networks.py [NAME ...]

Variants run interleaved, each round in the other order; the median over the rounds is shown.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import torch
from measure import ROOT, table
from torch import Tensor, nn

from aigve_cli.engine.folding import fold_batch_norms
from aigve_cli.engine.networks import load_network
from aigve_cli.weights import Located, network_card

ROUNDS = 7
Forward = Callable[[Tensor], object]


def inception_v3_fid() -> str:
    """Pictures of 299 x 299, by batch size."""
    plain, loaded = plain_and_loaded("inception-v3-fid")
    folded, last = copy.deepcopy(plain), copy.deepcopy(plain)
    fold_batch_norms(folded)
    last.to(memory_format=torch.channels_last)
    variants: dict[str, Forward] = {
        "plain": plain,
        "folded": folded,
        "channels last": lambda x: last(x.contiguous(memory_format=torch.channels_last)),
        "as loaded": lambda x: loaded(x.contiguous(memory_format=torch.channels_last)),
    }
    return costs_to_table(variants, unit=(3, 299, 299), sizes=(1, 2, 4, 8, 16))


def i3d_kinetics400() -> str:
    """Clips of 16 x 224 x 224, by batch size."""
    sys.path.insert(0, str(ROOT / "tests" / "networks"))
    from plain_i3d import plain_layers

    unfolded, loaded = plain_and_loaded("i3d-kinetics400")

    def plain(clips: Tensor) -> object:
        with plain_layers():
            return unfolded(clips)

    variants: dict[str, Forward] = {"plain": plain, "unfolded": unfolded, "as loaded": loaded}
    return costs_to_table(variants, unit=(3, 16, 224, 224), sizes=(1, 4))


NETWORKS: dict[str, Callable[[], str]] = {
    "inception-v3-fid": inception_v3_fid,
    "i3d-kinetics400": i3d_kinetics400,
}


def plain_and_loaded(name: str, variant: str = "") -> tuple[nn.Module, nn.Module]:
    """A network as its module builds it and as the engine loads it, with the same weights."""
    card = network_card(name)
    torch.manual_seed(0)
    plain: nn.Module = import_module(card.module).build(variant)
    for parameter in plain.parameters():
        if parameter.dim() > 3:
            # With PyTorch's own start, activations fade to where arithmetic is slow.
            nn.init.kaiming_normal_(parameter)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(plain.state_dict(), path)
        located = Located(path, "0" * 64, "standard", False, "random", "none")
        loaded = load_network(card, located, device="cpu", variant=variant)
    return plain.eval().requires_grad_(False), loaded


def costs_to_table(
    variants: Mapping[str, Forward], *, unit: Sequence[int], sizes: Sequence[int]
) -> str:
    """CPU milliseconds a unit of each variant by batch size, and how much faster than the first."""
    costs: dict[tuple[str, int], list[float]] = {}
    runs = [(name, torch.rand(size, *unit) * 2 - 1) for name in variants for size in sizes]
    with torch.inference_mode():
        for number in range(ROUNDS + 1):
            for name, batch in runs[:: 1 if number % 2 else -1]:
                start = time.process_time()
                variants[name](batch)
                if number:  # the first round warms up
                    cost = 1000 * (time.process_time() - start) / len(batch)
                    costs.setdefault((name, len(batch)), []).append(cost)
    first = next(iter(variants))
    rows = []
    for name in variants:
        row = [name]
        for size in sizes:
            ours, plain = (statistics.median(costs[which, size]) for which in (name, first))
            row.append(f"{ours:.0f} ({plain / ours:.2f} ×)")
        rows.append(row)
    return table(["CPU ms a unit, batch of", *map(str, sizes)], rows)


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or NETWORKS:
        print(f"## {name}\n\n{NETWORKS[name]()}")


if __name__ == "__main__":
    main()
