"""Runs networks on one video, once a distinct frame or clip, and their heads on the rows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aigve_cli.contract import Frames, Request, Text, View
from aigve_cli.engine.plan import (
    Leaf,
    Producer,
    is_head,
    request_leaf,
    request_producer,
)
from aigve_cli.errors import AigveError, SetupError, WeightsError
from aigve_cli.judges.show import Shown, shown_to_parts
from aigve_cli.lazy import np
from aigve_cli.video.prefetch import Chunk, HostView
from aigve_cli.video.views import frames_to_view, split_view

if TYPE_CHECKING:
    from concurrent.futures import Future

    import torch
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats, Indices
    from aigve_cli.judges.backend import Part
    from aigve_cli.judges.desk import Desk
    from aigve_cli.judges.task import Record

TEXTS_KEPT = 10_000
"""Distinct texts whose rows stay in memory, a few kilobytes each."""
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
    """What is loaded for a run: networks on their device, weightless functions, and a judge."""

    networks: Mapping[Producer, Any]
    """Torch modules: float32 [B, C, h, w], or [B, C, L, h, w] for those that take clips → named
    outputs [B, D]. Some have a ``head``, rows [U, D] of a video → named outputs, a ``text``, N
    texts → named outputs [N, D], or a ``with_text``, pictures and B texts → named outputs."""
    functions: Mapping[Producer, Function]
    """float32 [U, L, D] → named outputs [U, D']."""
    device: str
    precision: Precision
    batch_size: int | None = None
    desk: Desk | None = None
    """Where judges are asked, if the run has any."""
    looked: dict[str, int] = field(default_factory=dict)
    """How many frames, clips or tiles each network has looked at."""
    read: dict[str, int] = field(default_factory=dict)
    """How many texts each network has read by themselves."""
    queues: dict[QueueKey, Queue] = field(default_factory=dict, repr=False)
    """What waits for a batch, where batches span videos."""
    _texts: dict[tuple[Producer, Text], Mapping[str, Floats]] = field(
        default_factory=dict, repr=False
    )

    @property
    def spans_videos(self) -> bool:
        """Whether a batch may hold frames of several videos.

        On a GPU a batch of one clip takes as long as one of many. On a CPU it does not, and with
        batches of its own a video has the same last digits in a run that was interrupted.
        """
        return self.device != "cpu" or self.batch_size is not None

    def text_rows(self, request: Request) -> Floats:
        """What a network gives of texts, float32 [texts, D]; each is read once a run."""
        (texts,) = request.sources
        assert isinstance(texts, Text)
        producer = request_producer(request)
        key = producer, texts
        if key not in self._texts:
            network = self.networks[producer]
            try:
                rows = _outputs(self, lambda: network.text(texts.constants), "texts")
            except ValueError as error:
                raise AigveError(f"{producer.name}: {error}") from error
            _check_finite(rows, network)
            _count(self.read, producer, len(texts.constants))
            self._texts[key] = rows
            if len(self._texts) > TEXTS_KEPT:
                del self._texts[next(iter(self._texts))]
        return self._texts[key][request.output_name]

    def batch(self, height: int, width: int, length: int = 1) -> int:
        """Units in a batch, each of ``length`` pictures of this size."""
        return self.batch_size or max(1, BATCH_PIXELS[self.device] // (height * width * length))


def _count(counts: dict[str, int], producer: Producer, number: int) -> None:
    counts[producer.checkpoint] = counts.get(producer.checkpoint, 0) + number


@dataclass
class Wish:
    """What is wanted of a producer over frames."""

    outputs: set[str] = field(default_factory=set)
    units: set[tuple[int, ...]] = field(default_factory=set)
    """The frames of clips, or single frames as units of one."""


def host_views(wishes: Mapping[Leaf, Wish]) -> tuple[HostView, ...]:
    """The distinct CPU parts of views: each picture is made once for all who share it."""
    frames: dict[View, set[int]] = {}
    for leaf, wish in wishes.items():
        steps, _ = split_view(leaf.view)
        frames.setdefault(steps, set()).update(index for unit in wish.units for index in unit)
    return tuple(HostView(steps, wanted) for steps, wanted in frames.items())


class QueueKey(NamedTuple):
    """What can be in one batch: units of any video that one network sees in one way."""

    leaf: Leaf
    """Without texts, of which each unit has its own."""
    with_text: bool


class Queue:
    """Units that wait for a batch of one network: pictures of one shape, clips of one length.

    Args:
        producers: What is loaded.
        key: Which network, and whether each unit is seen together with a text.
    """

    def __init__(self, producers: Producers, key: QueueKey) -> None:
        self._producers = producers
        self._producer = key.leaf.producer
        self._with_text = key.with_text
        self._waiting: list[tuple[torch.Tensor, _LeafRows]] = []

    def add(self, unit: torch.Tensor, owner: _LeafRows) -> None:
        """Take a unit [C, h, w] or [C, L, h, w] whose rows ``owner`` waits for."""
        if self._waiting and self._waiting[0][0].shape != unit.shape:
            self.flush()
        self._waiting.append((unit, owner))

    def run_full(self) -> None:
        """Run every batch that is full."""
        while self._waiting and len(self._waiting) >= self._size():
            self._run(self._size())

    def flush(self) -> None:
        """Run everything that waits."""
        while self._waiting:
            self._run(self._size())

    def _size(self) -> int:
        _, *length, height, width = self._waiting[0][0].shape
        return self._producers.batch(height, width, *length)

    def _run(self, size: int) -> None:
        waiting, self._waiting = self._waiting[:size], self._waiting[size:]
        batch = [(unit, owner) for unit, owner in waiting if owner.problem is None]
        try:
            self._run_batch(batch)
        except ValueError as error:
            # Frames that this network cannot take, such as tiny ones: others may.
            owners = list(dict.fromkeys(owner for _, owner in batch))
            if len(owners) == 1:
                owners[0].problem = AigveError(f"{self._producer.name}: {error}")
                return
            for alone in owners:
                self._waiting = [pair for pair in batch if pair[1] is alone] + self._waiting
                self._run(sum(owner is alone for _, owner in batch))

    def _run_batch(self, batch: list[tuple[torch.Tensor, _LeafRows]]) -> None:
        if not batch:
            return
        units, owners = zip(*batch, strict=True)
        texts = tuple(text for owner in owners for text in owner.texts) if self._with_text else ()
        network = self._producers.networks[self._producer]
        outputs = _run_network(self._producers, network, list(units), texts)
        _count(self._producers.looked, self._producer, len(units))
        for row, owner in enumerate(owners):
            owner.receive({name: values[row] for name, values in outputs.items()})


class VideoRows:
    """The rows that networks give for the wanted frames and clips of one video.

    Args:
        producers: What is loaded.
        wishes: What is wanted of each producer over frames.
    """

    def __init__(self, producers: Producers, wishes: Mapping[Leaf, Wish]) -> None:
        self._producers = producers
        self._views = [view.steps for view in host_views(wishes)]
        self._view_of = {leaf: self._views.index(split_view(leaf.view)[0]) for leaf in wishes}
        queues = producers.queues if producers.spans_videos else {}
        self._leaves: dict[Leaf, _LeafRows] = {}
        self._judged: dict[Leaf, _JudgedUnits] = {}
        self._shown: dict[View, _JudgedFrames] = {}
        for leaf, wish in wishes.items():
            if leaf.task is not None:
                assert producers.desk is not None
                frames = self._shown.setdefault(leaf.view, _JudgedFrames())
                self._judged[leaf] = _JudgedUnits(producers.desk, leaf, wish, frames)
                continue
            key = QueueKey(replace(leaf, texts=()), bool(leaf.texts))
            queue = queues.setdefault(key, Queue(producers, key))
            self._leaves[leaf] = _LeafRows(producers, leaf, wish, queue)
        self._heads: dict[Request, Mapping[str, Floats]] = {}

    def feed(self, chunk: Chunk) -> None:
        """Take the next frames, in the order of :func:`host_views`."""
        for leaf, rows in self._leaves.items():
            for index, picture in chunk.pictures[self._view_of[leaf]].items():
                rows.take(index, picture)
        for view, frames in self._shown.items():
            for index, picture in chunk.pictures[self._views.index(view)].items():
                frames.take(index, picture)

    def finish(self) -> None:
        """There are no more frames: run what waits, unless it may wait for other videos."""
        if not self._producers.spans_videos:
            for leaf in self._leaves.values():
                leaf.queue.flush()

    def ask(self, fps: float) -> None:
        """Put to the judges what they are asked; their answers come in time.

        Args:
            fps: The video's frame rate, by which frames have their times.
        """
        for units in self._judged.values():
            units.ask(fps)
        for frames in self._shown.values():
            frames.clear()

    @property
    def waiting_bytes(self) -> int:
        """Of pictures that are kept until judges have answered about them."""
        if all(units.complete for units in self._judged.values()):
            return 0
        return sum(frames.bytes for frames in self._shown.values())

    @property
    def complete(self) -> bool:
        """Whether rows can be gathered without a batch that is not full."""
        return all(leaf.complete for leaf in self._leaves.values()) and all(
            units.complete for units in self._judged.values()
        )

    def records(
        self, request: Request, units_of: Callable[[Frames], Indices]
    ) -> tuple[Record, ...]:
        """What a judge has found out of each unit; waits for its last answer.

        Raises:
            SetupError: No judge can be reached.
        """
        source = request.sources[0]
        assert isinstance(source, Frames)
        return self._judged[request_leaf(request)].records(units_of(source))

    def gather(self, request: Request, units_of: Callable[[Frames], Indices]) -> Floats:
        """The rows of a request, float32.

        A network over frames gives [U, L, D] ([U, D] for single frames), one over clips and a
        function [U, D]; a head what its network's card says.

        Args:
            request: Of what was wished.
            units_of: The units int64 [U, L] of a look at frames.
        """
        source = request.sources[0]
        if isinstance(source, Frames):
            leaf = self._leaves[request_leaf(request)]
            return leaf.rows(request.output_name, units_of(source))
        if isinstance(source, Text):
            return self._producers.text_rows(request)
        rows = [self._gather_source(request, source, units_of) for source in request.sources]
        if is_head(request):
            return self._head(request, rows)
        if len(rows[0]) == 0:
            return np.zeros((0, 0), np.float32)
        outputs = self._producers.functions[request_producer(request)](*rows)
        return np.asarray(outputs[request.output_name], dtype=np.float32)

    def _gather_source(
        self, request: Request, source: Any, units_of: Callable[[Frames], Indices]
    ) -> Floats:
        if not isinstance(source, Request):
            raise TypeError(f"'{request.output}' reads {type(source).__name__}: not supported")
        return self.gather(source, units_of)

    def _head(self, request: Request, rows: list[Floats]) -> Floats:
        import torch

        # All outputs of a head come out of one run: a score, and the curve behind it.
        key = replace(request, output=f"{request.producer}:")
        if key not in self._heads:
            producers = self._producers
            network = producers.networks[request_producer(request)]
            tensors = [torch.from_numpy(np.array(part)).to(producers.device) for part in rows]
            try:
                # What is not finite here may be the video's doing: its metric says so.
                outputs = _outputs(producers, lambda: network.head(*tensors), "a video's rows")
            except ValueError as error:
                raise AigveError(f"{request.producer}: {error}") from error
            self._heads[key] = outputs
        return self._heads[key][request.output_name]


class _LeafRows:
    """One network's rows: views of frames wait until a unit is whole, units until a batch is."""

    def __init__(self, producers: Producers, leaf: Leaf, wish: Wish, queue: Queue) -> None:
        self.queue = queue
        self.texts = leaf.texts
        self.problem: AigveError | None = None
        """Why there are no rows."""
        self._producers = producers
        self._leaf = leaf
        self._outputs = sorted(wish.outputs)
        units = wish.units
        # By last frame, then in order: what is whole first comes first.
        self._pending = deque(sorted(units, key=lambda unit: (max(unit), unit)))
        self._needed = Counter(index for unit in units for index in set(unit))
        self._seen: dict[int, torch.Tensor] = {}
        self._position: dict[tuple[int, ...], int] = {}
        self._tiles = 1
        self._rows: dict[str, Floats] = {}
        self._filled = 0
        self._device_steps = split_view(leaf.view)[1]

    @property
    def complete(self) -> bool:
        return self.problem is not None or self._filled == len(self._position) * self._tiles

    def take(self, index: int, frame: NDArray[Any]) -> None:
        if index not in self._needed or self.problem:
            return
        self._seen[index] = _frame_to_input(self._producers, frame, self._device_steps)
        while self._pending and max(self._pending[0]) <= index:
            self._add(self._pending.popleft())
        self.queue.run_full()

    def _add(self, unit: tuple[int, ...]) -> None:
        import torch

        self._position[unit] = len(self._position)
        frames = [self._seen[index] for index in unit]
        # [C, h, w], or [C, L, h, w] for a clip; one for each tile of a frame.
        clips = torch.stack(frames, dim=2) if self._leaf.takes_clips else frames[0]
        self._tiles = len(clips)
        for clip in clips:
            self.queue.add(clip, self)
        for index in set(unit):
            self._needed[index] -= 1
            if not self._needed[index]:
                del self._seen[index]

    def receive(self, outputs: Mapping[str, Floats]) -> None:
        """The next row of each output, in the order in which units were added."""
        for name in self._outputs:
            self._room(name, outputs[name])[self._filled] = outputs[name]
        self._filled += 1

    def _room(self, name: str, row: Floats) -> Floats:
        """All rows of an output, of which the first are filled.

        Taken at once: small rows that stay would break up the memory of large pictures that go, and
        the process would grow by a picture a frame.
        """
        if name not in self._rows:
            units = len(self._position) + len(self._pending)
            self._rows[name] = np.empty((units * self._tiles, *row.shape), np.float32)
        return self._rows[name]

    def rows(self, output: str, units: Indices) -> Floats:
        if not self.complete:
            self.queue.flush()
        if self.problem:
            raise self.problem
        if output not in self._rows or len(units) == 0:
            known = self._rows.get(output)
            return np.zeros((0, 0 if known is None else known.shape[1]), np.float32)
        # Those of a frame's tiles one after another.
        stacked = self._rows[output][: self._filled].reshape(len(self._position), -1)
        if self._leaf.takes_clips:
            return stacked[[self._position[tuple(unit)] for unit in units.tolist()]]
        index = [[self._position[frame,] for frame in unit] for unit in units.tolist()]
        gathered: Floats = stacked[np.array(index)]
        return gathered[:, 0] if units.shape[1] == 1 else gathered


class _JudgedFrames:
    """The frames of one view that judges are shown: once for all that is asked about them."""

    def __init__(self) -> None:
        self.wanted: set[int] = set()
        self.bytes = 0
        self._seen: dict[int, NDArray[Any]] = {}
        self._parts: dict[tuple[tuple[int, ...], str], tuple[Part, ...]] = {}

    def take(self, index: int, frame: NDArray[Any]) -> None:
        if index in self.wanted:
            # A copy: a frame that was not resized is a part of the decoder's memory.
            self._seen[index] = frame.copy()
            self.bytes += frame.nbytes

    def parts(self, unit: tuple[int, ...], how: str, fps: float) -> tuple[Part, ...]:
        if (unit, how) not in self._parts:
            shown = Shown(tuple(self._seen[index] for index in unit), unit, fps)
            self._parts[unit, how] = shown_to_parts(shown, how)
        return self._parts[unit, how]

    def has(self, unit: tuple[int, ...]) -> bool:
        return self._seen.keys() >= set(unit)

    def clear(self) -> None:
        """Leave the pictures to those who were asked about them."""
        self._seen.clear()
        self._parts.clear()


class _JudgedUnits:
    """What one task has found out about the units of one video."""

    def __init__(self, desk: Desk, leaf: Leaf, wish: Wish, frames: _JudgedFrames) -> None:
        self._desk = desk
        self._leaf = leaf
        self._units = sorted(wish.units)
        self._frames = frames
        self._asked: dict[tuple[int, ...], Future[Record]] = {}
        frames.wanted.update(index for unit in wish.units for index in unit)

    @property
    def complete(self) -> bool:
        return all(future.done() for future in self._asked.values())

    def ask(self, fps: float) -> None:
        how, task = self._leaf.producer.variant, self._leaf.task
        assert task is not None
        prompt = "".join(self._leaf.texts) or None
        for unit in filter(self._frames.has, self._units):
            parts = self._frames.parts(unit, how, fps)
            self._asked[unit] = self._desk.start(task, prompt, parts)

    def records(self, units: Indices) -> tuple[Record, ...]:
        try:
            return tuple(self._asked[tuple(unit)].result() for unit in units.tolist())
        except AigveError:
            raise
        except Exception as error:  # a task, perhaps a plugin's, may fail in any way
            what = f"{type(self._leaf.task).__name__} failed: {type(error).__name__}: {error}"
            raise AigveError(what) from error


def _frame_to_input(producers: Producers, frame: NDArray[Any], steps: View) -> torch.Tensor:
    """[H, W, C] on 0..255 → float32 [tiles, C, h, w] on the device; mostly one tile."""
    import torch

    # At once, not in a batch: frames at native size would wait in memory, and a batch would count
    # their pixels rather than those that the network sees.
    with torch.inference_mode(), _reporting_memory(producers, "a frame of this size"):
        pixels = torch.from_numpy(frame).to(producers.device)
        return frames_to_view(pixels[None], steps)


def _run_network(
    producers: Producers, network: Any, units: list[torch.Tensor], texts: tuple[str, ...]
) -> Mapping[str, Floats]:
    import torch

    def forward() -> Mapping[str, torch.Tensor]:
        with _arithmetic(producers):
            batch = torch.stack(units)
            layout = torch.channels_last if batch.ndim == 4 else torch.channels_last_3d
            batch = batch.contiguous(memory_format=layout)
            outputs: Mapping[str, torch.Tensor] = (
                network.with_text(batch, texts) if texts else network(batch)
            )
            return outputs

    rows = _outputs(producers, forward, f"a batch of {len(units)}")
    _check_finite(rows, network)
    return rows


def _outputs(
    producers: Producers, compute: Callable[[], Mapping[str, torch.Tensor]], what: str
) -> Mapping[str, Floats]:
    import torch

    with torch.inference_mode(), _reporting_memory(producers, what):
        return {name: output.float().cpu().numpy() for name, output in compute().items()}


def _check_finite(rows: Mapping[str, Floats], network: Any) -> None:
    if not all(np.isfinite(values).all() for values in rows.values()):
        raise WeightsError(
            f"{type(network).__name__} gives numbers that are not finite.",
            hint="Its checkpoint is damaged, or --precision is too low for it.",
        )


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
