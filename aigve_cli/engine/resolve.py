"""Which metric is computed for a requested one, by the weights that can be had.

Decided once, before the first video is decoded: a run never begins with the published network and
ends with another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aigve_cli.contract import AsPublished, View
from aigve_cli.engine.networks import check_network, folder_to_picture_size
from aigve_cli.engine.plan import (
    PlannedMetric,
    Producer,
    plan_metric,
    request_producers,
    with_views,
)
from aigve_cli.engine.preprocessing import folder_to_view, view_size
from aigve_cli.engine.setup import Plan
from aigve_cli.errors import MissingWeightsError, WeightsError
from aigve_cli.weights import Located, find_weights, locate_weights, network_card

KEPT = "an unfinished run in this folder began with it."


@dataclass(frozen=True)
class Resolved:
    """A plan whose weights are settled."""

    plan: Plan
    located: Mapping[str, Located]
    """By checkpoint; without those that a dry run would have to fetch."""


def resolve_plan(
    plan: Plan, *, earlier: Mapping[str, str] | None = None, fetch: bool = True
) -> Resolved:
    """Find the weights of every metric, and another metric or a reason where they are missing.

    ``standard`` accepts no other metric. ``auto`` and ``embedded`` take the sibling on weights that
    install with the package; a metric without one stays without a number, and says why.

    Args:
        plan: As the user asked for it.
        earlier: What an unfinished run in this folder computes for each requested name: it stays.
        fetch: Fetch what is missing where that is allowed; else say what would be fetched.

    Raises:
        MissingWeightsError: Weights are nowhere, and ``standard`` is wanted or nothing is left.
        WeightsError: A file is there, and it is not the checkpoint that it should be.
    """
    search = _Search(plan, fetch)
    metrics = [_resolve(plan, planned, earlier or {}, search) for planned in plan.metrics]
    if all(planned.missing for planned in metrics):
        if search.missing:
            raise _merged(list(search.missing.values()))
        raise WeightsError("\n".join(dict.fromkeys(planned.missing for planned in metrics)))
    used = {n for planned in metrics for n in plan.networks_of(planned) if not planned.missing}
    located = {n.checkpoint: here for n, here in search.found.items() if here and n in used}
    return Resolved(replace(plan, metrics=metrics), located)


def _resolve(
    plan: Plan, planned: PlannedMetric, earlier: Mapping[str, str], search: _Search
) -> PlannedMetric:
    if planned.missing:
        return planned
    sibling = plan.registry.substitutes.get(planned.name, "")
    named = plan.policy.custom.keys() & {network.name for network in plan.networks_of(planned)}
    # A file that is named outright is meant, whatever an earlier run did without it.
    kept = plan.policy.mode == "auto" and not named
    choice = earlier.get(planned.requested) if kept else None
    if sibling and choice == sibling:
        return _instead(plan, planned, sibling, KEPT, search)
    problem = search.problem_of(planned)
    if problem is None:
        return _if_it_can_be_built(plan, planned, search)
    # A run that began with the published network cannot go on with another.
    if sibling and choice == planned.name:
        raise MissingWeightsError(
            f"An unfinished run in this folder began with {planned.name}. {problem.message}",
            hint=f"{problem.hint or ''} Or start again with --fresh.".strip(),
        )
    if plan.policy.mode == "standard":
        raise problem
    if not sibling:
        return replace(planned, missing=f"{problem.short} {problem.where}".strip())
    return _instead(plan, planned, sibling, problem.short, search)


def _if_it_can_be_built(plan: Plan, planned: PlannedMetric, search: _Search) -> PlannedMetric:
    """The metric, or why its checkpoint is of a network that nobody can build."""
    producers = set().union(*(request_producers(r) for r in planned.requests.values()))
    for producer in sorted(producers):
        here = search.found.get(producer._replace(variant=""))
        card = network_card(producer.name)
        if card.settled_by_weights and here is not None:
            try:
                check_network(card, here, producer.variant)
            except WeightsError as error:
                return _without(plan, planned, error)
    try:
        return _with_named_steps(planned, search)
    except WeightsError as error:
        return _without(plan, planned, error)


def _without(plan: Plan, planned: PlannedMetric, error: WeightsError) -> PlannedMetric:
    """The metric without a number, unless there is no other, or none may do without its own."""
    if plan.policy.mode == "standard" or len(plan.metrics) == 1:
        raise error
    return replace(planned, missing=error.message)


def _with_named_steps(planned: PlannedMetric, search: _Search) -> PlannedMetric:
    """The metric with the steps that its models' folders state, as far as they are here."""

    def view_of(producer: Producer, view: View) -> View:
        here = search.found.get(producer._replace(variant=""))
        match view:
            case (AsPublished(how),) if here is not None:
                return _named_steps(producer, here, how)
        return view

    requests = {name: with_views(asked, view_of) for name, asked in planned.requests.items()}
    return replace(planned, requests=requests)


def _named_steps(producer: Producer, here: Located, how: str) -> View:
    card, folder = network_card(producer.name), here.processor or here.path
    side = folder_to_picture_size(card, here)
    view = folder_to_view(folder, how)
    size = view_size(view)
    if side is not None and size != (side, side):
        made = "several sizes" if size is None else f"{size[0]}x{size[1]} pixels"
        raise WeightsError(
            f"The image processor in {folder} makes pictures of {made}, and the "
            f"model in {here.path} takes {side}x{side}: it is another model's.",
            hint="Take the model's own, which is published beside its weights.",
        )
    return view


def _instead(
    plan: Plan, planned: PlannedMetric, sibling: str, why: str, search: _Search
) -> PlannedMetric:
    if named := next((other for other in plan.metrics if other.requested == sibling), None):
        # It has one number a run, by the settings of its own name.
        other = replace(named, requested=planned.requested, why=why)
    else:
        other = plan_metric(
            plan.registry,
            planned.requested,
            sibling,
            settings=plan.settings,
            extent=plan.extent,
            why=why,
        )
    if problem := search.problem_of(other):
        raise problem
    return other


class _Search:
    """Looks for each checkpoint once."""

    def __init__(self, plan: Plan, fetch: bool) -> None:
        self.found: dict[Producer, Located | None] = {}
        self.missing: dict[Producer, MissingWeightsError] = {}
        self._plan = plan
        self._fetch = fetch

    def problem_of(self, planned: PlannedMetric) -> MissingWeightsError | None:
        """Why a metric's weights cannot be had, all of them in one, or None."""
        networks = sorted(self._plan.networks_of(planned))
        # What cannot be fetched first: nothing is fetched for a metric that stays without the rest.
        for network in sorted(networks, key=self._may_fetch):
            if self._may_fetch(network) and any(other in self.missing for other in networks):
                break
            if network not in self.found and network not in self.missing:
                self._look(network)
        problems = [self.missing[network] for network in networks if network in self.missing]
        return _merged(problems) if problems else None

    def _may_fetch(self, network: Producer) -> bool:
        policy = self._plan.policy
        card = network_card(network.name)
        entry = card.entry(network.weights or None)
        # To a folder of the user's own the tokenizer that the card names may be fetched.
        published = entry.fetchable or card.entry().processor_hub_id
        return bool(published) and not policy.offline and policy.mode != "embedded"

    def _look(self, network: Producer) -> None:
        card, tag, policy = network_card(network.name), network.weights or None, self._plan.policy
        try:
            if self._may_fetch(network) and not self._fetch:
                found = find_weights(card, policy, tag=tag, bad_cache_is_missing=True)
            else:
                found = locate_weights(card, policy, tag=tag)
            self.found[network] = found
        except MissingWeightsError as error:
            self.missing[network] = error


def _merged(problems: list[MissingWeightsError]) -> MissingWeightsError:
    if len(problems) == 1:
        return problems[0]
    return MissingWeightsError(
        "\n".join(f"{problem.message} {problem.where}".strip() for problem in problems),
        short=" ".join(f"{problem.short} {problem.where}".strip() for problem in problems),
        hint="Put each into a folder for --weights-dir under its published name (of a model on the "
        "Hub the part behind the slash), or name each with --model NETWORK=PATH. "
        "`aigve list-metrics` shows what is here.",
    )
