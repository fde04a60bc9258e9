"""Our Fréchet distance against a matrix square root, side by side in one run.

    python benchmarks/frechet.py --sizes 16 256 2048 --dimensions 2048

Prints CPU seconds and errors relative to the sum of singular values of QR-reduced factors, which is
exact to round-off. `sqrtm` is what pytorch-fid 0.3.0 (b9c1811) computes: the trace of
`scipy.linalg.sqrtm(S1 @ S2).real`. Both sides start from features, so covariances count.
Set OMP_NUM_THREADS=1 for steady numbers; a square root of 2048 dimensions takes about a minute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

from aigve_cli.statistics.frechet import Frechet, gaussians_to_frechet
from aigve_cli.statistics.gaussian import rows_to_gaussian

Array = np.ndarray


def features(random: np.random.Generator, rows: int, dimensions: int, spread: float) -> Array:
    """float32 [rows, dimensions]: rectified, with a power-law spectrum, like a network's."""
    scales = np.arange(1, dimensions + 1) ** -0.6
    mix = np.random.default_rng(0).normal(size=(dimensions, dimensions)) / np.sqrt(dimensions)
    x = (random.normal(size=(rows, dimensions)) * scales * spread) @ mix
    x += 0.05 * random.normal(size=x.shape) + 0.1
    return np.maximum(x, 0).astype(np.float32)


def exact(x: Array, y: Array) -> float:
    """Sum of singular values of the product of triangular factors."""
    factors, means, traces = [], [], 0.0
    for rows in (x.astype(np.float64), y.astype(np.float64)):
        means.append(rows.mean(axis=0))
        factor = (rows - means[-1]) / np.sqrt(len(rows) - 1)
        traces += float(np.vdot(factor, factor))
        factors.append(factor if len(rows) <= rows.shape[1] else np.linalg.qr(factor, mode="r"))
    singular = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False)
    return float(np.sum((means[0] - means[1]) ** 2) + traces - 2 * singular.sum())


def ours(x: Array, y: Array) -> Frechet:
    return gaussians_to_frechet(rows_to_gaussian([x]), rows_to_gaussian([y]))


def square_root(x: Array, y: Array) -> float:
    means = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    covariances = [np.cov(rows.astype(np.float64), rowvar=False) for rows in (x, y)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    gap = means[0] - means[1]
    return float(gap @ gap + np.trace(covariances[0] + covariances[1]) - 2 * np.trace(root).real)


def timed(function: Callable[[Array, Array], Any], x: Array, y: Array) -> tuple[Any, float]:
    start = time.process_time()
    result = function(x, y)
    return result, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 256, 2048], help="rows a side")
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--full", action="store_true", help="10,000 rows a side as well")
    arguments = parser.parse_args()
    random = np.random.default_rng(1)
    print(f"D = {arguments.dimensions}; CPU seconds and relative errors of the distance\n")
    print("| N | way | ours, s | sqrtm, s | ratio | error of ours | error of sqrtm |")
    print("|---|---|---|---|---|---|---|")
    for rows in [*arguments.sizes, *([10_000] if arguments.full else [])]:
        x = features(random, rows, arguments.dimensions, 1.0)
        y = features(random, rows, arguments.dimensions, 1.2)
        truth = exact(x, y)
        fast, fast_seconds = timed(ours, x, y)
        slow, slow_seconds = timed(square_root, x, y)
        print(
            f"| {rows} | {fast.method} | {fast_seconds:.3g} | {slow_seconds:.3g} "
            f"| {slow_seconds / max(fast_seconds, 1e-6):.0f} | {abs(fast.value / truth - 1):.1e} "
            f"| {abs(slow / truth - 1):.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
