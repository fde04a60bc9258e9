"""What a run will ask its judges, before it does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigve_cli.contract import Frames, Request, ResizeWithin, Sample, VideoFacts, View
from aigve_cli.engine.plan import PlannedMetric, is_judged
from aigve_cli.judges.settings import JudgeSettings
from aigve_cli.judges.task import JudgeTask

if TYPE_CHECKING:
    from aigve_cli.judges.task import Expected

PIXELS_A_TOKEN = 28 * 28
"""Of a picture, as Qwen2.5-VL reads it; others are near enough for an estimate."""
FRAMES_A_TOKEN = {"video": 2}
"""Such models read two frames of a video at a time."""
_UNKNOWN_SIZE = 1024
_LONG = VideoFacts(width=0, height=0, fps=25.0, frames=1_000_000)


@dataclass(frozen=True)
class Estimate:
    """Requests of one metric over all videos of a run."""

    requests: int = 0
    images: int = 0
    tokens: int = 0
    exact: bool = True

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.requests + other.requests,
            self.images + other.images,
            self.tokens + other.tokens,
            self.exact and other.exact,
        )

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        return (
            f"{about}{self.requests:,} requests with {about}{self.images:,} images, "
            f"about {self.tokens:,} tokens"
        )


def describe_requests(
    settings: JudgeSettings | None, planned: Sequence[PlannedMetric], samples: Sequence[Sample]
) -> list[str]:
    """A line a metric that asks, and one for all; none where nothing is asked."""
    asking = [metric for metric in planned if metric.asks]
    if settings is None or not asking:
        return []
    estimates = {metric.name: estimate(metric, samples) for metric in asking}
    lines = [f"{name}: {found}" for name, found in estimates.items()]
    total = sum(estimates.values(), Estimate())
    judges = " and for texts ".join(map(str, settings.specs))
    lines.append(
        f"Judge {judges}: {total}, {settings.concurrency} at a time; "
        f"what was answered before is in {settings.cache} and not asked again."
    )
    most = settings.max_requests
    if most is not None and total.requests > most:
        lines.append(f"--max-requests {most}: after so many nothing more is asked.")
    return lines


def estimate(planned: PlannedMetric, samples: Iterable[Sample]) -> Estimate:
    """What a metric asks about samples, as far as its tasks know it beforehand."""
    needs_prompt = "prompt" in planned.metric.card.needs
    prompts = [
        sample.prompt for sample in samples if not needs_prompt or (sample.prompt or "").strip()
    ]
    judged = [request for request in planned.requests.values() if is_judged(request)]
    return sum((_of_request(request, prompts) for request in judged), Estimate())


def _image_tokens(view: View) -> int:
    """At most, of one frame: a square one."""
    side = next((step.size for step in view if isinstance(step, ResizeWithin)), _UNKNOWN_SIZE)
    return side * side // PIXELS_A_TOKEN


def _of_request(request: Request, prompts: Sequence[str | None]) -> Estimate:
    frames = next(source for source in request.sources if isinstance(source, Frames))
    task = next(source for source in request.sources if isinstance(source, JudgeTask))
    units, length = frames.sampling.units(_LONG).shape
    images = 1 if request.variant == "grid" else length
    image_tokens = length * _image_tokens(frames.view) // FRAMES_A_TOKEN.get(request.variant, 1)
    expected: dict[str | None, Expected] = {prompt: task.expected(prompt) for prompt in prompts}
    # Texts are asked about once a prompt, frames once a video or frame.
    total = Estimate(
        requests=sum(known.text_requests for known in expected.values()),
        tokens=sum(known.text_tokens for known in expected.values()),
    )
    for prompt in prompts:
        known = expected[prompt]
        shown = known.shown_requests * units
        total += Estimate(
            requests=shown,
            images=shown * images,
            tokens=known.shown_tokens * units + shown * image_tokens,
            exact=known.exact,
        )
    return total
