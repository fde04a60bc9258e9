"""Which metric is computed for a requested one, by the weights that can be had.

Decided once, before the first video is decoded: a run never begins with the published network and
ends with another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aigve_cli.engine.plan import PlannedMetric, plan_metric, request_producers
from aigve_cli.engine.setup import Plan
from aigve_cli.errors import MissingWeightsError
from aigve_cli.weights import Located, find_weights, locate_weights, network_card

KEPT = "an unfinished run in this folder began with it."


@dataclass(frozen=True)
class Resolved:
    """A plan whose weights are settled."""

    plan: Plan
    located: Mapping[str, Located]
    """By network; without those that a dry run would have to fetch."""


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
        raise search.problems[0]
    used = {name for planned in metrics for name in _networks(planned) if not planned.missing}
    located = {name: here for name, here in search.found.items() if here and name in used}
    return Resolved(replace(plan, metrics=metrics), located)


def _resolve(
    plan: Plan, planned: PlannedMetric, earlier: Mapping[str, str], search: _Search
) -> PlannedMetric:
    sibling = plan.registry.substitutes.get(planned.name, "")
    named = plan.policy.custom.keys() & set(_networks(planned))
    # A file that is named outright is meant, whatever an earlier run did without it.
    kept = plan.policy.mode == "auto" and not named
    choice = earlier.get(planned.requested) if kept else None
    if sibling and choice == sibling:
        return _instead(plan, planned, sibling, KEPT, search)
    problem = search.first_problem(planned)
    if problem is None:
        return planned
    # A run that began with the published network cannot go on with another.
    if sibling and choice == planned.name:
        raise MissingWeightsError(
            f"An unfinished run in this folder began with {planned.name}. {problem.message}",
            hint=f"{problem.hint or ''} Or start again with --fresh.".strip(),
        )
    if plan.policy.mode == "standard":
        raise problem
    if not sibling:
        return replace(planned, missing=problem.short)
    return _instead(plan, planned, sibling, problem.short, search)


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
    if problem := search.first_problem(other):
        raise problem
    return other


def _networks(planned: PlannedMetric) -> list[str]:
    names = {name for r in planned.requests.values() for name, _ in request_producers(r)}
    return sorted(name for name in names if network_card(name).weights)


class _Search:
    """Looks for the weights of each network once."""

    def __init__(self, plan: Plan, fetch: bool) -> None:
        self.found: dict[str, Located | None] = {}
        self.problems: list[MissingWeightsError] = []
        self._by_network: dict[str, MissingWeightsError] = {}
        self._plan = plan
        self._fetch = fetch

    def first_problem(self, planned: PlannedMetric) -> MissingWeightsError | None:
        """Why a metric's weights cannot be had, or None."""
        for name in _networks(planned):
            if name not in self.found and name not in self._by_network:
                self._look(name)
            if name in self._by_network:
                return self._by_network[name]
        return None

    def _look(self, name: str) -> None:
        card, policy = network_card(name), self._plan.policy
        fetchable = not policy.offline and policy.mode != "embedded" and bool(card.entry().urls)
        try:
            if fetchable and not self._fetch:
                self.found[name] = find_weights(card, policy, bad_cache_is_missing=True)
            else:
                self.found[name] = locate_weights(card, policy)
        except MissingWeightsError as error:
            self._by_network[name] = error
            self.problems.append(error)
