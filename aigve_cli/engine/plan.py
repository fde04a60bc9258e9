"""From names on a command line to the union of what every metric needs. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from aigve_cli.contract import (
    SHOWN,
    AsPublished,
    Extent,
    Frames,
    Metric,
    Option,
    OptionValue,
    Prompt,
    Request,
    Sample,
    Sampling,
    Source,
    Text,
    VideoFacts,
    View,
)
from aigve_cli.errors import UsageError, unknown_name
from aigve_cli.judges.task import JudgeTask
from aigve_cli.registry import Registry, Settings
from aigve_cli.video.views import split_view
from aigve_cli.weights import JUDGE, network_card

ALL_METRICS = ("fid", "is", "fvd")
"""What ``all`` has always meant: the distances people publish."""


@dataclass(frozen=True)
class PlannedMetric:
    """A metric of a run, with everything that decides its numbers but the weights."""

    requested: str
    name: str
    metric: Metric
    options: Mapping[str, OptionValue]
    requests: Mapping[str, Request]
    why: str = ""
    """Why this metric is computed instead of the requested one."""
    missing: str = ""
    """Why it cannot be computed on this machine at all."""
    unused: tuple[str, ...] = ()
    """What was set for the requested metric and means nothing to this one."""

    @property
    def substituted(self) -> bool:
        """Whether another metric than the requested one is computed."""
        return self.requested != self.name

    @property
    def asks(self) -> bool:
        """Whether a judge is asked."""
        return any(is_judged(request) for request in self.requests.values())

    def roles(self) -> set[str]:
        """Which videos its requests look at."""
        return {frames.role for r in self.requests.values() for frames in request_frames(r)}

    @property
    def reads_stored_rows(self) -> bool:
        """Whether its rows must outlive their video: those of sets, and of pairs.

        A score of one video is made while its rows are in memory.
        """
        return self.metric.compares_sets() or self.roles() != {"generated"}

    def stored_requests(self, *, keep: bool = False) -> list[Request]:
        """The requests whose rows go to disk.

        Args:
            keep: The user wants to have the rows of single videos too; only those that belong to
                frames or clips are, since what a head makes of a video is its score.
        """
        if self.reads_stored_rows:
            return [request for request in self.requests.values() if request_frames(request)]
        if not keep:
            return []
        everything = [inner for request in self.requests.values() for inner in _with_inner(request)]
        return [
            request
            for request in dict.fromkeys(everything)
            if has_units(request) and not reads_prompts(request) and not gives_records(request)
        ]


class Producer(NamedTuple):
    """What is loaded for a run: a network with one of its checkpoints, or a function."""

    name: str
    weights: str = ""
    """The checkpoint's tag; empty is the card's default one."""
    variant: str = ""

    @property
    def checkpoint(self) -> str:
        """Its weights' name in a run: ``gstvqa``, or ``gstvqa:cvd14``."""
        return f"{self.name}:{self.weights}" if self.weights else self.name

    def __str__(self) -> str:
        return f"{self.checkpoint} {self.variant}".strip()


@dataclass(frozen=True)
class Leaf:
    """A producer that looks at frames through a view: it runs once a distinct frame or clip."""

    producer: Producer
    view: View
    texts: tuple[str, ...] = ()
    """What is read together with each frame or clip."""
    task: JudgeTask | None = None
    """What a judge is asked about each."""

    @property
    def takes_clips(self) -> bool:
        """Whether it sees the frames of a unit together, rather than one by one."""
        return takes_clips(self.producer.name)


@dataclass(frozen=True)
class Look:
    """One look at frames in a request: who looks, at what, and what is read of it."""

    leaf: Leaf
    frames: Frames
    output: str


def wanted_names(
    registry: Registry, metrics: Sequence[str], categories: Sequence[str]
) -> list[str]:
    """The requested metrics in order, those of groups among them, without doubles.

    Neither given means ``all``; a category alone runs only that category.

    Raises:
        UsageError: A name or category does not exist.
    """
    names: list[str] = []
    if not metrics and not categories:
        metrics = ["all"]
    for category in categories:
        names += registry.in_category(category)
    for name in metrics:
        if name.strip().lower() == "all":
            names += ALL_METRICS
        else:
            names += registry.members(name)
    return list(dict.fromkeys(names))


def plan_metrics(
    registry: Registry,
    names: Iterable[str],
    *,
    settings: Settings,
    extent: Extent,
) -> list[PlannedMetric]:
    """Read every metric's options, and ask it what it needs to see.

    Args:
        registry: The metrics that are installed.
        names: Requested names, as from :func:`wanted_names`.
        settings: Option values by metric, as :meth:`Registry.settings_by_metric` gives them.
        extent: How much of each video was asked for.

    Raises:
        UsageError: A setting names a metric or option that does not exist, or a value is wrong.
    """
    for name, values in settings.items():
        known = registry.canonical(name)
        read_options(known, registry.metrics[known].card.options, values)
    return [plan_metric(registry, name, name, settings=settings, extent=extent) for name in names]


def plan_metric(
    registry: Registry,
    requested: str,
    name: str,
    *,
    settings: Settings,
    extent: Extent,
    why: str = "",
) -> PlannedMetric:
    """Plan the metric ``name`` for the requested one, which may be another.

    What was set for the requested metric holds for the other one too, as far as it has the option.

    Raises:
        UsageError: A value is wrong, or less of each video was asked for than the metric needs.
    """
    metric = registry.metrics[name]()
    known = {option.name: option for option in metric.card.options}
    given: dict[str, str | OptionValue] = {}
    unused = []
    for source in dict.fromkeys((requested, name)):
        for written, values in settings.items():
            if registry.canonical(written) != source:
                continue
            for option, value in values.items():
                if source == name or _holds_for(known.get(option), value):
                    given[option] = value
                else:
                    unused.append(f"{requested}.{option}={value}")
    options = read_options(name, metric.card.options, given)
    asked_for = metric.requests(options, extent)
    # What is a folder now stays one, wherever the process goes meanwhile.
    requests = {key: _with_full_paths(request) for key, request in asked_for.items()}
    for asked in requests.values():
        for request in _with_inner(asked):
            _check_sources(metric, request)
        for frames in request_frames(asked):
            _check_length(requested, frames.sampling)
    planned = PlannedMetric(requested, name, metric, options, requests, why, unused=tuple(unused))
    for request in requests.values():
        if planned.reads_stored_rows:
            _check_can_be_stored(metric, request)
    return planned


def _with_full_paths(request: Request) -> Request:
    """The request with one spelling for each checkpoint."""
    sources = tuple(
        _with_full_paths(source) if isinstance(source, Request) else source
        for source in request.sources
    )
    tag = network_card(request.producer).canonical_tag(request.weights)
    return replace(request, sources=sources, weights=tag)


def _holds_for(option: Option | None, value: str | OptionValue) -> bool:
    """Whether a value that was set for another metric means something here."""
    return option is not None and (not option.choices or value in option.choices)


def _check_sources(metric: Metric, request: Request) -> None:
    """Refuse what no producer could be given, before anything is decoded."""
    card = network_card(request.producer)
    if card.weights:
        card.entry(request.weights)
    kinds = [
        JudgeTask if isinstance(source, JudgeTask) else type(source) for source in request.sources
    ]
    problem = ""
    if is_judged(request):
        problem = _judge_problem(metric, request, kinds)
    elif request.output_name in card.with_text:
        if kinds not in ([Frames, Prompt], [Frames, Text]):
            problem = "it takes frames and then a prompt or a text"
    elif request.output_name in card.text:
        if kinds not in ([Prompt], [Text]):
            problem = "it takes a prompt, or constant texts"
    elif is_head(request):
        if set(kinds) != {Request}:
            problem = "a head reads the rows of other requests"
    elif kinds != [Frames] and (card.weights or set(kinds) != {Request}):
        problem = "it takes one look at frames"
    views = [source.view for source in request.sources if isinstance(source, Frames)]
    if any(isinstance(step, AsPublished) for view in views for step in view) and (
        card.layout == "file" or any(len(view) > 1 for view in views)
    ):
        problem = "only a model's folder says how pictures are prepared, and it says all of it"
    if request.enough and not (kinds == [Frames] and takes_clips(request.producer)):
        problem = "only a network over clips can be told when to look no further"
    if any(isinstance(source, Request) and gives_records(source) for source in request.sources):
        problem = "records, such as a judge's, are read by metrics, not by producers"
    prompts = [source for source in request.sources if source == Prompt()]
    if prompts and "prompt" not in metric.card.needs:
        problem = "it reads prompts, which the metric's card does not say that it needs"
    if len({look.role for look in request_frames(request)}) > 1:
        problem = "the generated and the reference video cannot be looked at in one request"
    if problem:
        raise UsageError(f"The metric '{metric.card.name}' asks for {request.output}: {problem}.")


def _judge_problem(metric: Metric, request: Request, kinds: Sequence[type]) -> str:
    """What is wrong with a request to a judge, or an empty text."""
    if kinds not in ([Frames, JudgeTask], [Frames, Prompt, JudgeTask]):
        return "it takes frames, the prompt if it is needed, and then a task"
    if any(split_view(look.view)[1] for look in request_frames(request)):
        return "a judge is shown pictures: its view has no step for a network's device"
    if request.variant not in SHOWN:
        return f"its variant is how frames are shown: {', '.join(SHOWN)}"
    if "judge" not in metric.card.needs:
        return "it asks a judge, which the metric's card does not say that it needs"
    return ""


def _check_can_be_stored(metric: Metric, request: Request) -> None:
    """Refuse rows of sets and pairs that cannot outlive their video."""
    problem = ""
    if not request_frames(request):
        if metric.compares_sets():
            problem = "sets have rows of frames and clips, not of texts"
    elif gives_records(request):
        problem = "records are not stored, and sets and pairs need rows that are"
    elif reads_prompts(request):
        problem = "rows that a prompt has a part in are not stored, as sets and pairs need them"
    elif not has_units(request):
        problem = "rows without a frame or clip of their own are not stored, as sets and pairs need"
    if problem:
        raise UsageError(f"The metric '{metric.card.name}' asks for {request.output}: {problem}.")


def _check_length(metric: str, sampling: Sampling) -> None:
    limit = sampling.limit
    if limit is not None and not len(sampling.units(VideoFacts(0, 0, 0.0, limit))):
        raise UsageError(
            f"'{metric}' looks at {unit_length(sampling)} frames at a time, "
            f"and only {limit} of each video are asked for.",
            hint="Raise --max-len or --max-seconds, or name the other metrics with --metrics.",
        )


def read_options(
    metric: str, known: Sequence[Option], given: Mapping[str, str | OptionValue]
) -> dict[str, OptionValue]:
    """Every option of a metric with its value, checked.

    Raises:
        UsageError: An unknown option, a value of the wrong type, or one that is not allowed.
    """
    by_name = {option.name: option for option in known}
    for name in given:
        if name not in by_name:
            if not by_name:
                raise UsageError(f"The metric '{metric}' has no options; '{name}' was given.")
            raise unknown_name(f"option of {metric}", name, by_name)
    return {
        name: _read_value(metric, option, given.get(name, option.default))
        for name, option in by_name.items()
    }


def _read_value(metric: str, option: Option, value: str | OptionValue) -> OptionValue:
    problem = f"{metric}.{option.name}={value}"
    kind = type(option.default)
    if kind is str and option.choices and isinstance(value, int | float):
        value = f"{value:g}"  # a choice such as 2.5, written in a file as the number that it is
    parsed = _parse(kind, value)
    if parsed is None:
        words = {bool: "true or false", int: "a whole number", float: "a finite number"}
        raise UsageError(f"{problem}: expected {words.get(kind, 'a text')}.")
    if parsed == "" and option.default != "":
        raise UsageError(f"{problem}: expected a text, and found none.")
    if option.choices and parsed not in option.choices:
        allowed = ", ".join(str(choice) for choice in option.choices)
        raise UsageError(f"{problem}: not allowed.", hint=f"Allowed: {allowed}.")
    if option.minimum is not None and isinstance(parsed, int | float) and parsed < option.minimum:
        raise UsageError(f"{problem}: must be at least {option.minimum:g}.")
    return parsed


def _parse(kind: type, value: str | OptionValue) -> OptionValue | None:
    """A value of ``kind`` from a flag's text or a file's typed value, None if it is not one."""
    if isinstance(value, bool) or kind is str:
        return value if type(value) is kind else None
    if kind is bool:
        return {"true": True, "false": False}.get(str(value).strip().lower())
    try:
        if kind is int and isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
            return int(value)  # to the last digit, of which a float has 16
        number = float(value)
    except ValueError:
        return None
    if kind is int:
        return int(number) if number.is_integer() else None
    return number if math.isfinite(number) else None


# --- requests ---------------------------------------------------------------------------------


def request_frames(request: Request) -> list[Frames]:
    """Every look at frames in a request, inner ones included."""
    frames: list[Frames] = []
    for source in request.sources:
        if isinstance(source, Frames):
            frames.append(source)
        elif isinstance(source, Request):
            frames += request_frames(source)
    return frames


def request_sampling(request: Request) -> Sampling:
    """The sampling that decides a request's units."""
    return request_frames(request)[0].sampling


def takes_clips(producer: str) -> bool:
    """Whether a producer sees the frames of a unit together, rather than one by one."""
    return network_card(producer).unit == "clip"


def unit_length(sampling: Sampling) -> int:
    """Frames in a unit."""
    return int(sampling.units(VideoFacts(0, 0, 0.0, 0)).shape[1])


def request_looks(request: Request) -> list[Look]:
    """Every look at frames in a request with its prompt put in, inner ones included."""
    looks: list[Look] = []
    for source in request.sources:
        if isinstance(source, Frames):
            looks.append(Look(request_leaf(request), source, request.output_name))
        elif isinstance(source, Request):
            looks += request_looks(source)
    return looks


def request_leaf(request: Request) -> Leaf:
    """Who looks at the frames that are a request's own first source, and what is read with them."""
    look, *others = request.sources
    assert isinstance(look, Frames)
    texts: tuple[str, ...] = ()
    task = None
    for source in others:
        if isinstance(source, JudgeTask):
            task = source
        else:
            assert isinstance(source, Text), "a prompt is put in before anything is looked at"
            texts += source.constants
    return Leaf(request_producer(request), look.view, texts, task)


def reads_prompts(request: Request) -> bool:
    """Whether a request's rows depend on a sample's prompt."""
    return any(
        isinstance(source, Prompt) for inner in _with_inner(request) for source in inner.sources
    )


def with_prompt(request: Request, sample: Sample) -> Request:
    """The request of one sample: its own texts in the place of :class:`Prompt`."""
    if not reads_prompts(request):
        return request

    def put_in(source: Source) -> Source:
        if isinstance(source, Prompt):
            text = sample_text(sample, source.field)
            return source if text is None else Text((text,))
        return with_prompt(source, sample) if isinstance(source, Request) else source

    return replace(request, sources=tuple(map(put_in, request.sources)))


def sample_text(sample: Sample, field: str = "") -> str | None:
    """A sample's prompt, or a text of its annotations; None if it has none."""
    text = sample.extra.get(field) if field else sample.prompt
    return text if isinstance(text, str) and text.strip() else None


def why_unscored(planned: PlannedMetric, sample: Sample) -> str | None:
    """The text that a metric needs and a sample does not have, for people; None if all are there.

    What is left out on purpose is not asked for here.
    """
    if "prompt" in planned.metric.card.needs and sample_text(sample) is None:
        return "no prompt"
    for request in planned.requests.values():
        for inner in _with_inner(request):
            for source in inner.sources:
                if isinstance(source, Prompt) and sample_text(sample, source.field) is None:
                    return f"no '{source.field}' among its annotations"
    return None


def with_views(request: Request, view_of: Callable[[Producer, View], View]) -> Request:
    """The request with other views, such as named steps for what a model's folder says."""

    def seen(source: Source) -> Source:
        if isinstance(source, Frames):
            return replace(source, view=view_of(request_producer(request), source.view))
        return with_views(source, view_of) if isinstance(source, Request) else source

    return replace(request, sources=tuple(map(seen, request.sources)))


def _with_inner(request: Request) -> Iterator[Request]:
    yield request
    for source in request.sources:
        if isinstance(source, Request):
            yield from _with_inner(source)


def request_producer(request: Request) -> Producer:
    """The outermost producer of a request."""
    tag = network_card(request.producer).canonical_tag(request.weights)
    return Producer(request.producer, tag, request.variant)


def request_producers(request: Request) -> set[Producer]:
    """Every producer in a request."""
    inner = [request_producers(source) for source in request.sources if isinstance(source, Request)]
    return {request_producer(request)}.union(*inner)


def is_judged(request: Request) -> bool:
    """Whether a judge is asked, who gives JSON records instead of rows."""
    return request.producer == JUDGE.name


def gives_records(request: Request) -> bool:
    """Whether a request gives JSON records instead of rows: a judge's, or what a network writes."""
    return is_judged(request) or request.output_name in network_card(request.producer).records


def is_head(request: Request) -> bool:
    """Whether a request is made of the rows of a whole video."""
    return request.output_name in network_card(request.producer).head


def has_units(request: Request) -> bool:
    """Whether each of a request's rows belongs to a frame or a clip."""
    by_unit = request.output_name in network_card(request.producer).by_unit
    return bool(request_frames(request)) and (by_unit or not is_head(request))


def for_role(request: Request, role: str) -> bool:
    """Whether a request looks at videos of ``role`` (``generated`` or ``reference``)."""
    return any(frames.role in (role, "each") for frames in request_frames(request))


def request_key(request: Request, weights: Mapping[str, str]) -> str:
    """The name under which a request's rows are kept: everything that decides them.

    Which frames were looked at is not part of it: rows are labelled by their units.

    Args:
        request: What was asked for.
        weights: sha256 of each checkpoint.
    """
    text = json.dumps(_describe(request, weights), sort_keys=True)
    producer = request.output.replace(":", "-")
    return f"{producer}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _describe(source: Source, weights: Mapping[str, str]) -> object:
    if isinstance(source, Frames):
        # In full: the text of a view rounds its numbers.
        return {"view": repr(source.view)}
    if isinstance(source, Request):
        single = isinstance(source.sources[0], Frames) and not takes_clips(source.producer)
        return {
            "output": source.output,
            "variant": source.variant,
            "weights": weights.get(request_producer(source).checkpoint, ""),
            "sources": [_describe(inner, weights) for inner in source.sources],
            # Rows of whole units: those of 16 frames are no rows of 32.
            "unit": 1 if single or not request_frames(source) else _longest_unit(source),
            # What is made of a whole video depends on what was looked at of it.
            "whole": [str(f.sampling) for f in request_frames(source)] if is_head(source) else None,
        }
    if isinstance(source, JudgeTask):
        return {"task": repr(source), "prompt_version": source.prompt_version}
    return repr(source)


def _longest_unit(request: Request) -> int:
    return max(unit_length(frames.sampling) for frames in request_frames(request))


def score_key(
    planned: PlannedMetric,
    weights: Mapping[str, str],
    content: Mapping[str, str | None],
    sample: Sample,
) -> str:
    """What a stored score depends on: the metric as planned, contents, prompt and extra."""
    text = json.dumps(
        {
            "metric": planned.name,
            "version": planned.metric.card.version,
            "options": dict(planned.options),
            "requests": {
                name: [
                    request_key(request, weights),
                    *(str(frames.sampling) for frames in request_frames(request)),
                ]
                for name, request in planned.requests.items()
            },
            # A video's own score does not change with the reference that lies beside it.
            "content": content["generated"] if planned.roles() == {"generated"} else dict(content),
            "prompt": sample.prompt if "prompt" in planned.metric.card.needs else None,
            "extra": dict(sample.extra),
        },
        sort_keys=True,
        default=repr,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]
