"""The rows that networks and judges give of one video, once a distinct frame or clip."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aigve_cli.contract import Frames, Request, Text, View
from aigve_cli.engine.plan import Leaf, is_head, request_leaf, request_producer
from aigve_cli.engine.producers import (
    Outputs,
    Producers,
    Queue,
    QueueKey,
    frame_to_pixels,
    pixels_to_input,
)
from aigve_cli.errors import AigveError
from aigve_cli.judges.show import Shown, shown_to_parts
from aigve_cli.lazy import np
from aigve_cli.video.prefetch import Chunk, HostView
from aigve_cli.video.views import split_view

if TYPE_CHECKING:
    from concurrent.futures import Future

    import torch
    from numpy.typing import NDArray

    from aigve_cli.contract import Floats, Indices
    from aigve_cli.judges.backend import Part
    from aigve_cli.judges.desk import Desk
    from aigve_cli.judges.task import Record


@dataclass
class Wish:
    """What is wanted of a producer over frames."""

    outputs: set[str] = field(default_factory=set)
    units: set[tuple[int, ...]] = field(default_factory=set)
    """The frames of clips, or single frames as units of one."""
    enough: Callable[[Mapping[str, Floats]], bool] | None = None
    """Whether the first rows of these outputs are all that anyone wants."""

    def add(
        self,
        output: str,
        units: Iterable[tuple[int, ...]],
        enough: Callable[[Floats], bool] | None = None,
    ) -> None:
        """Another who looks, at an output for some units."""
        # Two who would be content at different times are content with everything.
        alone = not self.outputs and enough is not None
        self.enough = (lambda rows: enough(rows[output])) if alone and enough else None
        self.outputs.add(output)
        self.units.update(units)


def host_views(wishes: Mapping[Leaf, Wish]) -> tuple[HostView, ...]:
    """The distinct CPU parts of views: each picture is made once for all who share it."""
    frames: dict[View, set[int]] = {}
    for leaf, wish in wishes.items():
        steps, _ = split_view(leaf.view)
        frames.setdefault(steps, set()).update(index for unit in wish.units for index in unit)
    return tuple(HostView(steps, wanted) for steps, wanted in frames.items())


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
            self._leaves[leaf] = _LeafRows(leaf, wish, queue, at_once=not producers.spans_videos)
        self._heads: dict[Request, Mapping[str, Floats]] = {}

    def feed(self, chunk: Chunk) -> None:
        """Take the next frames, in the order of :func:`host_views`."""
        for number, pictures in enumerate(chunk.pictures):
            leaves = [rows for leaf, rows in self._leaves.items() if self._view_of[leaf] == number]
            for index, picture in pictures.items():
                self._take(index, picture, [rows for rows in leaves if rows.wants(index)])
        for view, frames in self._shown.items():
            for index, picture in chunk.pictures[self._views.index(view)].items():
                frames.take(index, picture)

    def _take(self, index: int, picture: NDArray[Any], leaves: Sequence[_LeafRows]) -> None:
        # What several networks see alike is made once.
        seen: dict[View, torch.Tensor | AigveError] = {}
        pixels: torch.Tensor | None = None
        for rows in leaves:
            steps = rows.device_steps
            if steps not in seen:
                if pixels is None:
                    pixels = frame_to_pixels(self._producers, picture)
                try:
                    seen[steps] = pixels_to_input(self._producers, pixels, steps)
                except ValueError as error:
                    # A picture that a step cannot be done on: other networks see it otherwise.
                    seen[steps] = AigveError(str(error))
            rows.take(index, seen[steps])

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
        """What a judge has found out of each unit, or a network has written about it.

        Waits for a judge's last answer.

        Raises:
            SetupError: No judge can be reached.
        """
        source, leaf = request.sources[0], request_leaf(request)
        assert isinstance(source, Frames)
        if leaf in self._judged:
            return self._judged[leaf].records(units_of(source))
        return self._leaves[leaf].records(request.output_name, units_of(source))

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
        # All outputs of a head come out of one run: a score, and the curve behind it.
        key = replace(request, output=f"{request.producer}:")
        if key not in self._heads:
            try:
                self._heads[key] = self._producers.head_rows(request_producer(request), rows)
            except ValueError as error:
                raise AigveError(f"{request.producer}: {error}") from error
        return self._heads[key][request.output_name]


class _LeafRows:
    """One network's rows: views of frames wait until a unit is whole, units until a batch is."""

    def __init__(self, leaf: Leaf, wish: Wish, queue: Queue, *, at_once: bool) -> None:
        self.queue = queue
        self.texts = leaf.texts
        self.problem: AigveError | None = None
        """Why there are no rows."""
        self.device_steps = split_view(leaf.view)[1]
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
        self._records: dict[str, list[Record]] = {}
        self._filled = 0
        self._enough = wish.enough
        self._at_once = at_once
        self._cut = False
        """Whether the last units are not looked at, because nobody needs them."""

    @property
    def complete(self) -> bool:
        return self.problem is not None or self._filled == len(self._position) * self._tiles

    def wants(self, index: int) -> bool:
        """Whether a frame is part of a unit, and no reason is known why there will be no rows."""
        if self.problem is not None:
            self._look_no_further()
        return index in self._needed

    def take(self, index: int, seen: torch.Tensor | AigveError) -> None:
        """A wanted frame as the network sees it, float32 [tiles, C, h, w]; they come in order."""
        if isinstance(seen, AigveError):
            self.problem = seen
            return
        self._seen[index] = seen
        while self._pending and max(self._pending[0]) <= index:
            self._add(self._pending.popleft())
        if self._enough and self._at_once:
            # What comes next may not be needed, and a batch of its own saves nothing here.
            self.queue.flush()
        else:
            self.queue.run_full()

    def _add(self, unit: tuple[int, ...]) -> None:
        import torch

        self._position[unit] = len(self._position)
        frames = [self._seen[index] for index in unit]
        # [C, h, w], or [C, L, h, w] for a clip; one for each tile of a frame. In memory channels
        # are last, as they are in frames: stacked otherwise, each clip would be turned twice.
        if self._leaf.takes_clips:
            rows = torch.stack([frame.movedim(1, 3) for frame in frames], dim=1)
            clips = rows.movedim(4, 1)
        else:
            clips = frames[0]
        self._tiles = len(clips)
        for clip in clips:
            self.queue.add(clip, self)
        for index in set(unit):
            self._needed[index] -= 1
            if not self._needed[index]:
                del self._seen[index]

    def receive(self, outputs: Outputs) -> None:
        """The next row or record of each output, in the order in which units were added."""
        for name in self._outputs:
            if isinstance(outputs[name], Mapping):
                self._records.setdefault(name, []).append(outputs[name])
            else:
                self._room(name, outputs[name])[self._filled] = outputs[name]
        self._filled += 1
        if self._enough and self._enough(
            {n: rows[: self._filled] for n, rows in self._rows.items()}
        ):
            self._look_no_further()

    def _look_no_further(self) -> None:
        self._enough, self._cut = None, True
        self._pending.clear()
        self._needed.clear()
        self._seen.clear()

    def _room(self, name: str, row: Floats) -> Floats:
        """All rows of an output, of which the first are filled.

        Taken at once: small rows that stay would break up the memory of large pictures that go, and
        the process would grow by a picture a frame.
        """
        if name not in self._rows:
            units = len(self._position) + len(self._pending)
            self._rows[name] = np.empty((units * self._tiles, *row.shape), np.float32)
        return self._rows[name]

    def records(self, output: str, units: Indices) -> tuple[Record, ...]:
        self._settle()
        return tuple(self._records[output][self._position[tuple(u)]] for u in units.tolist())

    def _settle(self) -> None:
        if not self.complete:
            self.queue.flush()
        if self.problem:
            raise self.problem

    def rows(self, output: str, units: Indices) -> Floats:
        self._settle()
        if output not in self._rows or len(units) == 0:
            known = self._rows.get(output)
            return np.zeros((0, 0 if known is None else known.shape[1]), np.float32)
        # Those of a frame's tiles one after another.
        stacked = self._rows[output][: self._filled].reshape(len(self._position), -1)
        if self._leaf.takes_clips:
            looked = [
                tuple(u) for u in units.tolist() if not self._cut or tuple(u) in self._position
            ]
            return stacked[[self._position[unit] for unit in looked]]
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
