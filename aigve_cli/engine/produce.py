"""Runs networks on the frames of one video, once a distinct frame, and gathers their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aigve_cli.contract import Frames, Request, View
from aigve_cli.engine.plan import Leaf
from aigve_cli.errors import SetupError
from aigve_cli.lazy import np
from aigve_cli.video.prefetch import Chunk
from aigve_cli.video.views import frames_to_view, split_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats, Indices

Precision = Literal["fp32", "tf32", "bf16"]
Function = Callable[[Any], Mapping[str, Any]]

BATCH_PIXELS = {"cpu": 4 * 224 * 224, "cuda": 64 * 224 * 224}
"""Pixels of an automatic batch. A constant, so that a batch never depends on what else runs.

On the CPU larger batches are slower: their activations pass the size up to which the allocator
keeps memory, and every layer pays for fresh pages (measured: 16 pictures 23.7, 4 pictures 11.1
CPU ms a frame).
"""


@dataclass(frozen=True)
class Producers:
    """What is loaded for a run: networks on their device, and weightless functions."""

    networks: Mapping[tuple[str, str], Any]
    """By name and variant: torch modules, float32 [B, 3, h, w] → named outputs [B, D]."""
    functions: Mapping[tuple[str, str], Function]
    """By name and variant: float32 [U, L, D] → named outputs [U, D']."""
    device: str
    precision: Precision
    batch_size: int | None = None

    def batch(self, height: int, width: int) -> int:
        """Frames in a batch of this size of picture."""
        return self.batch_size or max(1, BATCH_PIXELS[self.device] // (height * width))


def host_views(leaves: Iterable[Leaf]) -> tuple[View, ...]:
    """The distinct CPU parts of views: each picture is resized once for all who share it."""
    return tuple(dict.fromkeys(split_view(leaf.view)[0] for leaf in leaves))


class VideoRows:
    """The rows that networks give for the wanted frames of one video.

    Args:
        producers: What is loaded.
        leaves: Networks over views, with the outputs that are kept of each.
        frames: Wanted frame indices of each.
    """

    def __init__(
        self,
        producers: Producers,
        leaves: Mapping[Leaf, set[str]],
        frames: Mapping[Leaf, set[int]],
    ) -> None:
        self._producers = producers
        views = host_views(leaves)
        self._view_of = {leaf: views.index(split_view(leaf.view)[0]) for leaf in leaves}
        self._leaves = {
            leaf: _LeafRows(producers, leaf, outputs, frames[leaf])
            for leaf, outputs in leaves.items()
        }

    def feed(self, chunk: Chunk) -> None:
        """Take the next frames, in the order of :func:`host_views`."""
        for leaf, rows in self._leaves.items():
            for index, frame in enumerate(chunk.frames[self._view_of[leaf]], start=chunk.first):
                rows.take(index, frame)

    def finish(self) -> None:
        """Run what is left in the batches."""
        for leaf in self._leaves.values():
            leaf.flush()

    def gather(self, request: Request, units: Indices) -> Floats:
        """The rows of a request for units int64 [U, L]; float32.

        A network over frames gives [U, L, D] ([U, D] for single frames); a function [U, D'].
        """
        source = request.sources[0]
        if isinstance(source, Frames):
            leaf = self._leaves[Leaf(request.producer, request.variant, source.view)]
            return leaf.rows(request.output_name, units)
        if not isinstance(source, Request):
            raise TypeError(f"'{request.output}' reads {type(source).__name__}: not supported")
        if len(units) == 0:
            return np.zeros((0, 0), np.float32)
        function = self._producers.functions[request.producer, request.variant]
        outputs = function(self.gather(source, units))
        return np.asarray(outputs[request.output_name], dtype=np.float32)


class _LeafRows:
    def __init__(
        self, producers: Producers, leaf: Leaf, outputs: set[str], wanted: set[int]
    ) -> None:
        self._producers = producers
        self._leaf = leaf
        self._outputs = sorted(outputs)
        self._wanted = wanted
        self._position: dict[int, int] = {}
        self._batch: list[NDArray[np.uint8]] = []
        self._rows: dict[str, list[Floats]] = {output: [] for output in self._outputs}
        self._device_steps = split_view(leaf.view)[1]

    def take(self, index: int, frame: NDArray[np.uint8]) -> None:
        if index not in self._wanted:
            return
        self._position[index] = len(self._position)
        self._batch.append(frame)
        if len(self._batch) >= self._producers.batch(*frame.shape[:2]):
            self.flush()

    def flush(self) -> None:
        if not self._batch:
            return
        network = self._producers.networks[self._leaf.producer, self._leaf.variant]
        frames = np.stack(self._batch)
        self._batch = []
        outputs = _run_network(self._producers, network, frames, self._device_steps)
        for name in self._outputs:
            self._rows[name].append(outputs[name])

    def rows(self, output: str, units: Indices) -> Floats:
        rows = self._rows[output]
        if not rows or len(units) == 0:
            return np.zeros((0, rows[0].shape[1] if rows else 0), np.float32)
        stacked = np.concatenate(rows)
        self._rows[output] = [stacked]
        index = np.vectorize(self._position.__getitem__, otypes=[np.int64])(units)
        gathered: Floats = stacked[index]
        return gathered[:, 0] if units.shape[1] == 1 else gathered


def _run_network(
    producers: Producers, network: Any, frames: NDArray[np.uint8], steps: Any
) -> dict[str, Floats]:
    import torch

    try:
        with torch.inference_mode(), _arithmetic(producers):
            batch = frames_to_view(torch.from_numpy(frames).to(producers.device), steps)
            outputs = network(batch)
            return {name: rows.float().cpu().numpy() for name, rows in outputs.items()}
    except torch.OutOfMemoryError as error:
        raise SetupError(
            f"The GPU's memory is too small for a batch of {len(frames)} pictures.",
            hint=f"Run again with --batch-size {max(1, len(frames) // 2)}; what is done is kept.",
        ) from error


def _arithmetic(producers: Producers) -> AbstractContextManager[Any]:
    import torch

    if producers.precision == "bf16":
        return torch.autocast(producers.device, dtype=torch.bfloat16)
    return nullcontext()


def resolve_device(wanted: str) -> str:
    """``auto`` → ``cuda`` where torch sees a GPU, else ``cpu``.

    Raises:
        SetupError: CUDA was asked for and torch sees none.
    """
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise SetupError(
            "No CUDA device: torch sees none.",
            hint="Run `aigve doctor`, or compute on the CPU with --use-cpu.",
        )
    return "cpu"


def set_arithmetic(precision: Precision) -> None:
    """Float32 by the book unless TF32 was asked for; the same kernels on every run."""
    import torch

    mode = "tf32" if precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
