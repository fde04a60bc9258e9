"""From options to a plan: everything that can be refused is refused before work begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aigve_cli.contract import Extent, Request, Sample, VideoFacts
from aigve_cli.dataset.samples import Dataset
from aigve_cli.engine.plan import (
    PlannedMetric,
    Producer,
    plan_metric,
    plan_metrics,
    request_frames,
    request_producers,
    wanted_names,
    why_unscored,
)
from aigve_cli.engine.saved_statistics import (
    SavedStatistics,
    check_target,
    read_statistics_file,
)
from aigve_cli.errors import UsageError, unknown_name
from aigve_cli.judges.settings import EXAMPLES, JudgeSettings, JudgeSpec
from aigve_cli.output import Output
from aigve_cli.registry import Registry, Settings, registry
from aigve_cli.weights import (
    JUDGE,
    LOCAL_JUDGE,
    WeightsMode,
    WeightsPolicy,
    network_card,
    network_cards,
    weights_policy,
)


@dataclass(frozen=True)
class Instead:
    """Another metric than the requested one, and why."""

    metric: str
    why: str


@dataclass(frozen=True)
class Plan:
    """Everything a run would do, before it does it."""

    dataset: Dataset
    metrics: Sequence[PlannedMetric]
    registry: Registry
    extent: Extent
    policy: WeightsPolicy
    settings: Settings
    statistics: SavedStatistics | None = None
    """What is known of a reference set whose videos need not be here."""
    save_statistics: Path | None = None
    """Where to write those of this run's reference set."""
    judge: JudgeSettings | None = None
    """Who is asked, where any metric asks."""

    @property
    def computed(self) -> list[PlannedMetric]:
        """The metrics that can be computed on this machine."""
        return [planned for planned in self.metrics if not planned.missing]

    @property
    def networks(self) -> list[Producer]:
        """Networks with weights that the metrics need, each checkpoint once."""
        return sorted(set().union(*map(self.networks_of, self.computed)))

    def networks_of(self, planned: PlannedMetric) -> set[Producer]:
        """Networks with weights that a metric needs, local judges included."""
        producers = set().union(*map(request_producers, planned.requests.values()))
        found = {p._replace(variant="") for p in producers if network_card(p.name).weights}
        return found | (set(self.local_judges.values()) if planned.asks else set())

    @property
    def local_judges(self) -> dict[JudgeSpec, Producer]:
        """The judges that run in this process."""
        return local_judges(self.judge) if self.judge else {}

    @property
    def computes(self) -> bool:
        """Whether anything runs in this process but decoding."""
        producers = set().union(*map(request_producers, self.requests))
        return any(p.name != JUDGE.name for p in producers) or bool(self.local_judges)

    @property
    def asks(self) -> bool:
        """Whether any metric asks a judge."""
        return any(planned.asks for planned in self.computed)

    @property
    def requests(self) -> set[Request]:
        """The distinct requests of all metrics."""
        return {request for planned in self.computed for request in planned.requests.values()}

    def disk_bytes(self, *, keep: bool = False) -> int | None:
        """At most so much disk for rows until the run ends; None if lengths must be read first."""
        total = 0
        for request in {r for p in self.computed for r in p.stored_requests(keep=keep)}:
            frames = request_frames(request)[0]
            if frames.sampling.limit is None:
                return None
            facts = VideoFacts(0, 0, 0.0, frames.sampling.limit)
            videos = len(self.dataset.generated) if frames.role in ("generated", "each") else 0
            if frames.role in ("reference", "each"):
                videos += len(self.dataset.references)
            width = network_card(request.producer).all_outputs[request.output_name] or 4096
            total += videos * len(frames.sampling.units(facts)) * width * 4
        return total


def local_judges(settings: JudgeSettings) -> dict[JudgeSpec, Producer]:
    """The networks of the judges that run in this process."""
    card = network_card(LOCAL_JUDGE)
    return {
        spec: Producer(card.name, card.canonical_tag(spec.model))
        for spec in settings.specs
        if spec.kind == "local"
    }


def make_plan(
    dataset: Dataset,
    *,
    metrics: Sequence[str],
    categories: Sequence[str],
    extent: Extent,
    weights: WeightsMode,
    weights_dir: Path | None,
    offline: bool,
    models: Mapping[str, Path],
    options: Settings,
    output: Output,
    instead: Mapping[str, Instead] | None = None,
    reference_stats: Path | None = None,
    save_stats: Path | None = None,
    judge: JudgeSettings | None = None,
) -> Plan:
    """Resolve metrics and options, and refuse what cannot work. Looks for no weights yet.

    ``instead`` has, by requested name, another metric that the user's own checkpoint is for.

    Raises:
        UsageError: An unknown name, a wrong value, or no references where all metrics need them.
    """
    found = registry()
    for warning in found.warnings:
        output.warn(warning)
    _check_extent(extent)
    for name in models:
        if name not in network_cards():
            raise unknown_name("network", name, network_cards())
    options = found.settings_by_metric(options)
    planned = plan_metrics(
        found,
        wanted_names(found, metrics, categories),
        settings=options,
        extent=extent,
    )
    planned = _without_impossible(planned, found, metrics, dataset, output)
    for index, metric in enumerate(planned):
        if other := (instead or {}).get(metric.requested):
            planned[index] = plan_metric(
                found,
                metric.requested,
                other.metric,
                settings=options,
                extent=extent,
                why=other.why,
            )
    if save_stats is not None and not dataset.references:
        # They are the reference set themselves, and there is nothing to compare with it.
        own = tuple(Sample(s.name, None, s.generated) for s in dataset.samples)
        note = "There are no reference videos: --save-stats takes the input videos as such."
        dataset = replace(dataset, samples=own, notes=(*dataset.notes, note))
    if save_stats is not None:
        if not any(p.metric.saves_statistics() for p in planned):
            names = ", ".join(p.requested for p in planned)
            raise UsageError(f"--save-stats: there are no statistics to save of {names}.")
        check_target(save_stats)
    if reference_stats is not None and dataset.reference_dir is not None:
        raise UsageError("--reference-stats and --reference-dir exclude each other.")
    statistics = read_statistics_file(reference_stats) if reference_stats else None
    needing = [p.requested for p in planned if "reference" in p.metric.card.needs]
    if len(needing) == len(planned) and not dataset.references and statistics is None:
        raise UsageError(
            f"There are no reference videos for {', '.join(needing)} to compare with.",
            hint="Give --reference-dir, or name generated files like their reference with "
            "_synthetic behind (a.mp4, a_synthetic.mp4), or --reference-stats.",
        )
    prompting = [p.requested for p in planned if "prompt" in p.metric.card.needs]
    if len(prompting) == len(planned) and not any(s.prompt for s in dataset.generated):
        raise UsageError(
            "\n".join(
                (
                    f"There are no prompts for {', '.join(prompting)} to compare videos with.",
                    *dataset.notes,
                )
            ),
            hint="Give --prompts FILE (csv, json, jsonl or txt), --prompt TEXT for all videos, "
            "--prompt-from-name, or annotations with prompt_gt.",
        )
    planned = _with_judge(planned, judge)
    policy = weights_policy(
        mode=weights,
        weights_dir=weights_dir,
        offline=offline,
        custom=models,
        announce=output.note,
    )
    if policy.weights_dir is not None and not policy.weights_dir.is_dir():
        raise UsageError(f"--weights-dir {policy.weights_dir}: there is no such folder.")
    return Plan(dataset, planned, found, extent, policy, options, statistics, save_stats, judge)


def _without_impossible(
    planned: list[PlannedMetric],
    found: Registry,
    metrics: Sequence[str],
    dataset: Dataset,
    output: Output,
) -> list[PlannedMetric]:
    """The metrics, without those of a group that this input can give no number for.

    Who names a metric wants to know why it has none; who names a group wants what is possible.
    """
    written = {name.strip().lower() for name in metrics}
    asked_for = {found.aliases.get(name, name) for name in written}
    members = {name for group in written & found.groups.keys() for name in found.groups[group]}
    kept: list[PlannedMetric] = []
    idle: dict[str, list[str]] = {}
    for metric in planned:
        why = None
        if metric.name in members - asked_for:
            why = metric.metric.lacks(metric.options) or _nothing_to_score(metric, dataset)
        if why is None:
            kept.append(metric)
        else:
            idle.setdefault(why, []).append(metric.name)
    for why, names in idle.items():
        output.note(f"Left out of the group: {', '.join(names)} ({why}).")
    return kept


def _nothing_to_score(metric: PlannedMetric, dataset: Dataset) -> str | None:
    """Why no sample can have a score, if it is the same for all of them."""
    reasons = {
        metric.metric.left_out(sample, metric.options) or why_unscored(metric, sample)
        for sample in dataset.generated
    }
    return reasons.pop() if len(reasons) == 1 else None


def _with_judge(planned: list[PlannedMetric], judge: JudgeSettings | None) -> list[PlannedMetric]:
    """The metrics, of which those that ask a judge have a reason where there is none.

    Raises:
        UsageError: There is no judge and every metric needs one, or it names no model.
    """
    asking = [p.requested for p in planned if p.asks]
    if asking and judge is not None:
        for spec in judge.specs:
            if spec.kind == "local":
                network_card(LOCAL_JUDGE).entry(spec.model)
    if not asking or (judge is not None and judge.shown is not None):
        return planned
    if len(asking) == len(planned):
        raise UsageError(f"There is no judge for {', '.join(asking)} to ask.", hint=EXAMPLES)
    why = "there is no judge to ask: name one with --judge"
    return [replace(p, missing=why) if p.asks else p for p in planned]


def announce_plan(plan: Plan, output: Output, precision: str = "fp32") -> list[str]:
    """Warn of what a reader of the results should know beforehand; the same lines for them."""
    warnings = []
    for why in dict.fromkeys(planned.why for planned in plan.metrics if planned.substituted):
        others = [planned for planned in plan.metrics if planned.why == why]
        given = ", ".join(f"{planned.name} for {planned.requested}" for planned in others)
        warnings.append(
            f"Computed instead: {given}. Values are not comparable with published ones. Why: {why}"
        )
    for planned in plan.metrics:
        if planned.unused:
            warnings.append(
                f"Not used for {planned.name}, which has no such option or value: "
                f"{', '.join(planned.unused)}."
            )
        if planned.missing:
            warnings.append(f"{planned.name} has no number: {planned.missing}")
    if plan.extent.pad and any(f.sampling.pads for r in plan.requests for f in request_frames(r)):
        warnings.append(
            "--pad counts black frames behind the end of short videos: values are comparable "
            "only with runs that pad the same way."
        )
    producers = set().union(*map(request_producers, plan.requests))
    if precision != "fp32" and not all(network_card(p.name).numbers for p in producers):
        warnings.append(
            f"--precision {precision} moves features a little (bf16: 0.4 %): values are not those "
            "of fp32, and not comparable with published ones to the last digits."
        )
    defaults = {network.name for network in plan.networks if not network.weights}
    for name in sorted({network.name for network in plan.networks} - defaults):
        if name in plan.policy.custom:
            output.note(f"--model {name}=PATH is not used: the metrics' model= names others.")
    names = {name for planned in plan.metrics for name in (planned.requested, planned.name)}
    if idle := sorted(set(_idle_settings(plan, names))):
        output.note(f"Settings of metrics that are not computed are not used: {', '.join(idle)}.")
    for warning in warnings:
        output.warn(warning)
    return [*plan.registry.warnings, *warnings]


def _idle_settings(plan: Plan, computed: set[str]) -> Iterator[str]:
    """The metrics whose settings nobody reads."""
    for written, values in plan.settings.items():
        name = plan.registry.canonical(written)
        group = plan.registry.metrics[name].card.group
        mates = set(plan.registry.groups.get(group, ())) & computed
        # What is set for a group is meant for those of its metrics that are computed.
        shared = [plan.settings.get(mate, {}).items() for mate in mates]
        if name not in computed and not any(values.items() <= theirs for theirs in shared):
            yield name


def with_dataset(plan: Plan, dataset: Dataset) -> Plan:
    """The same plan for other files."""
    return replace(plan, dataset=dataset)


def _check_extent(extent: Extent) -> None:
    for name, value in (
        ("--max-len", extent.max_frames),
        ("--max-seconds", extent.max_seconds),
        ("--fps", extent.fps),
    ):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name} {value:g}: must be above 0.")
