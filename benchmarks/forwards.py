"""Nothing but the networks' forwards over the frames and clips that a run looks at: CPU seconds.

python benchmarks/forwards.py CHECKPOINTS VIDEOS FRAMES

Prints the unit, how many there are, and the seconds, once the networks are loaded.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from aigve_cli.engine.networks import load_network
from aigve_cli.engine.producers import Producers
from aigve_cli.weights import Located, network_card

CLIP = 16
UNITS = {
    "frames": ("inception-v3-fid", "", (3, 299, 299)),
    "clips": ("i3d-kinetics400", "eps1e-3", (3, CLIP, 224, 224)),
}


def forwards(network: torch.nn.Module, counts: list[int], unit: tuple[int, ...]) -> float:
    """CPU seconds over videos of so many units each, in the batches of a run."""
    *length, height, width = unit[1:]
    most = Producers({}, {}, "cpu", "fp32").batch(height, width, *length)
    layout = torch.channels_last_3d if length else torch.channels_last
    sizes = [min(most, count - start) for count in counts for start in range(0, count, most)]
    batches = {size: torch.rand(size, *unit) * 2 - 1 for size in set(sizes)}
    start = time.process_time()
    with torch.inference_mode():
        for size in sizes:
            network(batches[size].contiguous(memory_format=layout))
    return time.process_time() - start


def main() -> None:
    folder, videos, frames = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    loaded = {}
    for unit, (name, variant, _) in UNITS.items():
        card = network_card(name)
        located = Located(folder / card.entry().file, "0" * 64, "standard", False, "", "none")
        loaded[unit] = load_network(card, located, device="cpu", variant=variant)
    for unit, (*_, shape) in UNITS.items():
        count = frames if unit == "frames" else frames // CLIP
        seconds = forwards(loaded[unit], [count] * videos, shape)
        print(f"{unit}\t{videos * count}\t{seconds:.1f}")


if __name__ == "__main__":
    main()
