"""The embedded network by batch size: CPU and wall milliseconds a frame, and whether bits change.

python benchmarks/forward.py [ROUNDS]
"""

from __future__ import annotations

import resource
import statistics
import sys
import time

import torch

from aigve_cli.engine.networks import load_network
from aigve_cli.weights import locate_weights, network_card, weights_policy

SIZES = (1, 4, 8, 16)
FRAMES = 48


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    policy = weights_policy(
        mode="auto", weights_dir=None, offline=True, custom={}, announce=lambda _: None
    )
    card = network_card("efficientnet-lite0")
    network = load_network(card, locate_weights(card, policy), device="cpu")
    torch.manual_seed(0)
    frames = (torch.randint(0, 256, (FRAMES, 3, 224, 224)).float() - 127) / 128
    costs: dict[int, list[tuple[float, float, float]]] = {size: [] for size in SIZES}
    features = {}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for size in SIZES[:: 1 if number % 2 else -1]:
                before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
                batches = [network(batch)["features"] for batch in frames.split(size)]
                after, end = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
                features[size] = torch.cat(batches)
                user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
                if number:  # the first round warms up
                    costs[size].append((user, system, end - start))
    for size in SIZES:
        middle = [
            1000 * statistics.median(column) / FRAMES for column in zip(*costs[size], strict=True)
        ]
        same = "same bits" if torch.equal(features[size], features[16]) else "round-off"
        print(size, *(f"{value:.1f}" for value in middle), same, sep="\t")


if __name__ == "__main__":
    main()
