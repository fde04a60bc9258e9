"""Runs networks on one video, once a distinct frame or clip, and gathers their rows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aigve_cli.contract import Frames, Request, View
from aigve_cli.engine.plan import Leaf
from aigve_cli.errors import SetupError, WeightsError
from aigve_cli.lazy import np
from aigve_cli.video.prefetch import Chunk
from aigve_cli.video.views import frames_to_view, split_view

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats, Indices

Precision = Literal["fp32", "tf32", "bf16"]
Function = Callable[[Any], Mapping[str, Any]]

BATCH_PIXELS = {"cpu": 6 * 224 * 224, "cuda": 64 * 224 * 224}
"""Pixels of an automatic batch. A constant, so that a batch never depends on what else runs.

On the CPU larger batches are slower: their activations pass the size up to which the allocator
keeps memory, and every layer pays for fresh pages. Measured, two threads, CPU ms a picture:
EfficientNet-Lite0 9.4 in fours, 9.0 in sixes, 10.6 in eights; Inception 70.7 in twos, 64.2 in
threes.
"""


@dataclass(frozen=True)
class Producers:
    """What is loaded for a run: networks on their device, and weightless functions."""

    networks: Mapping[tuple[str, str], Any]
    """By name and variant: torch modules, float32 [B, 3, h, w], or [B, 3, L, h, w] for those that
    take clips → named outputs [B, D]."""
    functions: Mapping[tuple[str, str], Function]
    """By name and variant: float32 [U, L, D] → named outputs [U, D']."""
    device: str
    precision: Precision
    batch_size: int | None = None

    def batch(self, height: int, width: int, length: int = 1) -> int:
        """Units in a batch, each of ``length`` pictures of this size."""
        return self.batch_size or max(1, BATCH_PIXELS[self.device] // (height * width * length))


def host_views(leaves: Iterable[Leaf]) -> tuple[View, ...]:
    """The distinct CPU parts of views: each picture is resized once for all who share it."""
    return tuple(dict.fromkeys(split_view(leaf.view)[0] for leaf in leaves))


class VideoRows:
    """The rows that networks give for the wanted frames and clips of one video.

    Args:
        producers: What is loaded.
        leaves: Networks over views, with the outputs that are kept of each.
        units: What each runs on: the frames of clips, or single frames as units of one.
    """

    def __init__(
        self,
        producers: Producers,
        leaves: Mapping[Leaf, set[str]],
        units: Mapping[Leaf, set[tuple[int, ...]]],
    ) -> None:
        self._producers = producers
        views = host_views(leaves)
        self._view_of = {leaf: views.index(split_view(leaf.view)[0]) for leaf in leaves}
        self._leaves = {
            leaf: _LeafRows(producers, leaf, outputs, units[leaf])
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

        A network over frames gives [U, L, D] ([U, D] for single frames), one over clips and a
        function [U, D].
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
    """One network's rows: views of frames wait until a unit is whole, units until a batch is."""

    def __init__(
        self, producers: Producers, leaf: Leaf, outputs: set[str], units: set[tuple[int, ...]]
    ) -> None:
        self._producers = producers
        self._leaf = leaf
        self._outputs = sorted(outputs)
        # By last frame, then in order: what is whole first comes first.
        self._pending = deque(sorted(units, key=lambda unit: (max(unit), unit)))
        self._needed = Counter(index for unit in units for index in set(unit))
        self._seen: dict[int, torch.Tensor] = {}
        self._position: dict[tuple[int, ...], int] = {}
        self._batch: list[torch.Tensor] = []
        self._batch_length = 0
        self._rows: dict[str, list[Floats]] = {output: [] for output in self._outputs}
        self._device_steps = split_view(leaf.view)[1]

    def take(self, index: int, frame: NDArray[Any]) -> None:
        if index not in self._needed:
            return
        self._seen[index] = _frame_to_input(self._producers, frame, self._device_steps)
        while self._pending and max(self._pending[0]) <= index:
            self._add(self._pending.popleft())

    def _add(self, unit: tuple[int, ...]) -> None:
        import torch

        self._position[unit] = len(self._position)
        if self._batch and self._batch_length != len(unit):
            self.flush()  # clips of another length are another batch
        self._batch_length = len(unit)
        frames = [self._seen[index] for index in unit]
        # [3, h, w], or [3, L, h, w] for a clip.
        self._batch.append(torch.stack(frames, dim=1) if self._leaf.takes_clips else frames[0])
        for index in set(unit):
            self._needed[index] -= 1
            if not self._needed[index]:
                del self._seen[index]
        height, width = frames[0].shape[1:]
        if len(self._batch) >= self._producers.batch(height, width, len(unit)):
            self.flush()

    def flush(self) -> None:
        if not self._batch:
            return
        network = self._producers.networks[self._leaf.producer, self._leaf.variant]
        batch, self._batch = self._batch, []
        outputs = _run_network(self._producers, network, batch)
        for name in self._outputs:
            self._rows[name].append(outputs[name])

    def rows(self, output: str, units: Indices) -> Floats:
        rows = self._rows[output]
        if not rows or len(units) == 0:
            return np.zeros((0, rows[0].shape[1] if rows else 0), np.float32)
        stacked = np.concatenate(rows)
        self._rows[output] = [stacked]
        if self._leaf.takes_clips:
            return stacked[[self._position[tuple(unit)] for unit in units.tolist()]]
        index = [[self._position[frame,] for frame in unit] for unit in units.tolist()]
        gathered: Floats = stacked[np.array(index)]
        return gathered[:, 0] if units.shape[1] == 1 else gathered


def _frame_to_input(producers: Producers, frame: NDArray[Any], steps: View) -> torch.Tensor:
    """[H, W, 3] on 0..255 → float32 [3, h, w] on the device."""
    import torch

    # At once, not in a batch: frames at native size would wait in memory, and a batch would count
    # their pixels rather than those that the network sees.
    with torch.inference_mode(), _reporting_memory(producers, "a frame of this size"):
        pixels = torch.from_numpy(frame).to(producers.device)
        return frames_to_view(pixels[None], steps)[0]


def _run_network(
    producers: Producers, network: Any, units: list[torch.Tensor]
) -> dict[str, Floats]:
    import torch

    what = f"a batch of {len(units)}"
    with torch.inference_mode(), _reporting_memory(producers, what), _arithmetic(producers):
        batch = torch.stack(units)
        layout = torch.channels_last if batch.ndim == 4 else torch.channels_last_3d
        outputs = network(batch.contiguous(memory_format=layout))
        rows = {name: output.float().cpu().numpy() for name, output in outputs.items()}
    if not all(np.isfinite(values).all() for values in rows.values()):
        raise WeightsError(
            f"{type(network).__name__} gives numbers that are not finite.",
            hint="Its checkpoint is damaged, or --precision is too low for it.",
        )
    return rows


@contextmanager
def _reporting_memory(producers: Producers, what: str) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = "a smaller --batch-size" if producers.batch_size != 1 else "--use-cpu"
        raise SetupError(
            f"The GPU's memory is too small for {what}.",
            hint=f"Run again with {smaller}; what is done is kept.",
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
