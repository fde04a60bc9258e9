"""What is loaded for a run, and how batches go through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from aigve_cli.contract import Request, Text, View
from aigve_cli.engine.plan import Leaf, Producer, request_producer
from aigve_cli.errors import AigveError, SetupError, WeightsError
from aigve_cli.lazy import np
from aigve_cli.video.views import frames_to_view
from aigve_cli.weights import network_card

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats
    from aigve_cli.judges.desk import Desk

CPU = "--use-cpu"
TEXTS_KEPT = 10_000
"""Distinct texts whose rows stay in memory, a few kilobytes each."""
Precision = Literal["fp32", "tf32", "bf16"]
Function = Callable[[Any], Mapping[str, Any]]
Outputs = Mapping[str, Any]
"""By name: float32 arrays with a row a unit, or a list with a JSON record a unit."""

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
                rows = _outputs(lambda: network.text(texts.constants), "texts", self.smaller)
            except ValueError as error:
                raise AigveError(f"{producer.name}: {error}") from error
            _check_finite(rows, network)
            _count(self.read, producer, len(texts.constants))
            self._texts[key] = rows
            if len(self._texts) > TEXTS_KEPT:
                del self._texts[next(iter(self._texts))]
        return self._texts[key][request.output_name]

    def head_rows(self, producer: Producer, rows: list[Floats]) -> Mapping[str, Floats]:
        """All outputs of a network's head over the rows of a whole video."""
        import torch

        network = self.networks[producer]
        tensors = [torch.from_numpy(np.array(part)).to(self.device) for part in rows]
        # What is not finite here may be the video's doing: its metric says so.
        return _outputs(lambda: network.head(*tensors), "a video's rows", self.smaller)

    @property
    def smaller(self) -> str:
        """What needs less of a GPU's memory than this run does."""
        return "a smaller --batch-size" if self.batch_size != 1 else CPU

    def batch(self, height: int, width: int, length: int = 1) -> int:
        """Units in a batch, each of ``length`` pictures of this size."""
        return self.batch_size or max(1, BATCH_PIXELS[self.device] // (height * width * length))


def _count(counts: dict[str, int], producer: Producer, number: int) -> None:
    counts[producer.checkpoint] = counts.get(producer.checkpoint, 0) + number


class QueueKey(NamedTuple):
    """What can be in one batch: units of any video that one network sees in one way."""

    leaf: Leaf
    """Without texts, of which each unit has its own."""
    with_text: bool


class Owner(Protocol):
    """Who waits for the rows of its units."""

    texts: tuple[str, ...]
    """What is read together with each of them."""
    problem: AigveError | None
    """Why there will be no rows."""

    def receive(self, outputs: Outputs) -> None:
        """The next row or record of each output, in the order in which units were added."""


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
        self._waiting: list[tuple[torch.Tensor, Owner]] = []

    def add(self, unit: torch.Tensor, owner: Owner) -> None:
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
        # In halves, what is beside a video in a batch moves its third digit: a large model, which
        # fills a GPU with one video, sees them one by one.
        if network_card(self._producer.name).numbers:
            return 1
        _, *length, height, width = self._waiting[0][0].shape
        return self._producers.batch(height, width, *length)

    def _run(self, size: int) -> None:
        waiting, self._waiting = self._waiting[:size], self._waiting[size:]
        batch = [(unit, owner) for unit, owner in waiting if owner.problem is None]
        try:
            self._run_batch(batch)
        except (ValueError, IndexError) as error:
            # Frames that this network cannot take, such as tiny ones: others may.
            owners = list(dict.fromkeys(owner for _, owner in batch))
            if len(owners) == 1:
                owners[0].problem = AigveError(f"{self._producer.name}: {error}")
                return
            for alone in owners:
                self._waiting = [pair for pair in batch if pair[1] is alone] + self._waiting
                self._run(sum(owner is alone for _, owner in batch))

    def _run_batch(self, batch: list[tuple[torch.Tensor, Owner]]) -> None:
        if not batch:
            return
        units, owners = zip(*batch, strict=True)
        texts = tuple(text for owner in owners for text in owner.texts) if self._with_text else ()
        outputs = _run_network(self._producers, self._producer, list(units), texts)
        _count(self._producers.looked, self._producer, len(units))
        for row, owner in enumerate(owners):
            owner.receive({name: values[row] for name, values in outputs.items()})


def frame_to_pixels(producers: Producers, frame: NDArray[Any]) -> torch.Tensor:
    """[H, W, C] on 0..255 → the same as float32 on the device."""
    import torch

    with torch.inference_mode(), _reporting_memory("a frame of this size", producers.smaller):
        return torch.from_numpy(frame).to(producers.device).to(torch.float32)


def pixels_to_input(producers: Producers, pixels: torch.Tensor, steps: View) -> torch.Tensor:
    """float32 [H, W, C] on 0..255 → float32 [tiles, C, h, w]; mostly one tile."""
    import torch

    # At once, not in a batch: frames at native size would wait in memory, and a batch would count
    # their pixels rather than those that the network sees.
    with torch.inference_mode(), _reporting_memory("a frame of this size", producers.smaller):
        return frames_to_view(pixels[None], steps)


def _run_network(
    producers: Producers, producer: Producer, units: list[torch.Tensor], texts: tuple[str, ...]
) -> Outputs:

    network = producers.networks[producer]

    def forward() -> Outputs:
        with _arithmetic(producers, producer):
            batch = _to_batch(units)
            outputs: Outputs = network.with_text(batch, texts) if texts else network(batch)
            return outputs

    smaller, what = producers.smaller, f"a batch of {len(units)}"
    if network_card(producer.name).numbers:
        smaller = f"fewer frames of each video (--max-len, or an option of the metric), or {CPU}"
        what = f"a video of {units[0].shape[1]} frames in {producer.name}"
    rows = _outputs(forward, what, smaller)
    _check_finite(rows, network)
    return rows


def _to_batch(units: list[torch.Tensor]) -> torch.Tensor:
    """Units [C, …] to [B, C, …], in memory with the channels last, as convolutions like it."""
    import torch

    if len(units) == 1:
        batch = units[0][None]
    else:
        # Stacked as they lie in memory; turned round, each would be copied pixel by pixel.
        batch = torch.stack([unit.movedim(0, -1) for unit in units]).movedim(-1, 1)
    layout = torch.channels_last if batch.ndim == 4 else torch.channels_last_3d
    return batch.contiguous(memory_format=layout)


def _outputs(compute: Callable[[], Outputs], what: str, smaller: str) -> Outputs:
    import torch

    with torch.inference_mode(), _reporting_memory(what, smaller):
        return {
            name: output.float().cpu().numpy() if isinstance(output, torch.Tensor) else output
            for name, output in compute().items()
        }


def _check_finite(outputs: Outputs, network: Any) -> None:
    rows = [values for values in outputs.values() if isinstance(values, np.ndarray)]
    if not all(np.isfinite(values).all() for values in rows):
        raise WeightsError(
            f"{type(network).__name__} gives numbers that are not finite.",
            hint="Its checkpoint is damaged, or --precision is too low for it.",
        )


@contextmanager
def _reporting_memory(what: str, smaller: str) -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SetupError(
            f"The GPU's memory is too small for {what}.",
            hint=f"Run again with {smaller}; what is done is kept.",
        ) from error


def _arithmetic(producers: Producers, producer: Producer) -> AbstractContextManager[Any]:
    import torch

    # A large model computes in the type that its weights have.
    if producers.precision == "bf16" and not network_card(producer.name).numbers:
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
