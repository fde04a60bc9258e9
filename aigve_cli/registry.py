"""Finds metrics: every module in ``aigve_cli/metrics/``, and other packages' by entry point.

A package adds metrics with::

    [project.entry-points."aigve.metrics"]
    sharpness = "their_package.sharpness:Sharpness"

A plugin that cannot be loaded is a warning that names its distribution; it never stops the rest.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from aigve_cli.contract import CATEGORIES, Card, Metric, OptionValue
from aigve_cli.errors import UsageError, unknown_name

ENTRY_POINT_GROUP = "aigve.metrics"
Settings = Mapping[str, Mapping[str, str | OptionValue]]
"""Option values by metric name, as texts or as typed values."""


@dataclass(frozen=True)
class Registry:
    """Every metric that is installed.

    Attributes:
        metrics: Metric classes by name, sorted by category and name.
        sources: Where each came from: ``aigve`` or the distribution's name and version.
        warnings: Plugins that could not be loaded, in words.
    """

    metrics: Mapping[str, type[Metric]]
    sources: Mapping[str, str]
    warnings: tuple[str, ...]

    @property
    def aliases(self) -> dict[str, str]:
        """Other spellings of metric names."""
        return {alias: name for name, m in self.metrics.items() for alias in m.card.aliases}

    @property
    def substitutes(self) -> dict[str, str]:
        """Standard metric → its sibling on weights that install with the package."""
        return {
            metric.card.stands_in_for: name
            for name, metric in self.metrics.items()
            if metric.card.stands_in_for in self.metrics
        }

    @property
    def groups(self) -> dict[str, list[str]]:
        """Names for several metrics: the standard ones of each group, sorted."""
        found: dict[str, list[str]] = {}
        for name, metric in sorted(self.metrics.items()):
            group = metric.card.group
            if group and group not in self.metrics and not metric.card.only_by_name:
                found.setdefault(metric.card.group, []).append(name)
        return found

    @property
    def names(self) -> list[str]:
        """Every name that a user may write."""
        return sorted({*self.metrics, *self.aliases, *self.groups})

    def canonical(self, name: str) -> str:
        """The metric's own name.

        Raises:
            UsageError: There is no such metric, with the nearest names.
        """
        lowered = name.strip().lower()
        lowered = self.aliases.get(lowered, lowered)
        if lowered in self.metrics:
            return lowered
        raise unknown_name(
            "metric", name, self.names, hint="`aigve list-metrics` shows every metric."
        )

    def members(self, name: str) -> list[str]:
        """The metrics of a group, or the one metric of this name.

        Raises:
            UsageError: There is neither such a group nor such a metric, with the nearest names.
        """
        return self.groups.get(name.strip().lower()) or [self.canonical(name)]

    def settings_by_metric(self, settings: Settings) -> dict[str, dict[str, str | OptionValue]]:
        """Settings of metrics and groups as those of metrics, by their own names.

        What is set for a group holds for those of its metrics that have the option, unless it is
        set for them by name.

        Raises:
            UsageError: A name does not exist, or no metric of a group has an option.
        """
        groups = self.groups
        found: dict[str, dict[str, str | OptionValue]] = {}
        for written, values in settings.items():
            if members := groups.get(written.strip().lower()):
                for member, option in self._group_options(written, members, values):
                    found.setdefault(member, {})[option] = values[option]
        for written, values in settings.items():
            if written.strip().lower() not in groups:
                found.setdefault(self.canonical(written), {}).update(values)
        return found

    def _group_options(
        self, group: str, members: Iterable[str], wanted: Iterable[str]
    ) -> Iterable[tuple[str, str]]:
        """Metric and option, for every metric of a group that has one of the wanted options."""
        options = {name: {o.name for o in self.metrics[name].card.options} for name in members}
        for option in wanted:
            having = [name for name, own in options.items() if option in own]
            if not having:
                raise unknown_name(f"option of {group}", option, set().union(*options.values()))
            yield from ((name, option) for name in having)

    def in_category(self, category: str) -> list[str]:
        """The standard metrics of a category, without siblings on embedded weights and variants.

        Raises:
            UsageError: There is no such category, or it has no metric yet.
        """
        lowered = category.strip().lower()
        if lowered not in CATEGORIES:
            raise unknown_name("category", category, CATEGORIES)
        cards = [m.card for m in self.metrics.values() if m.card.category == lowered]
        names = [c.name for c in cards if not (c.only_by_name or c.stands_in_for)]
        if not names:
            have = sorted({m.card.category for m in self.metrics.values()})
            raise UsageError(
                f"No metric of the category '{lowered}' is installed.",
                hint=f"Categories with metrics: {', '.join(have)}.",
            )
        return sorted(names)


@cache
def registry() -> Registry:
    """The metrics of this installation, found once a process."""
    found: dict[str, type[Metric]] = {}
    sources: dict[str, str] = {}
    warnings: list[str] = []
    package = importlib.import_module("aigve_cli.metrics")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            loaded = importlib.import_module(f"aigve_cli.metrics.{module.name}")
            for metric in _metrics_of(loaded):
                found[metric.card.name] = metric
                sources[metric.card.name] = "aigve"
    for name, source, metric in _plugins(warnings):
        standing = {m.card.stands_in_for: other for other, m in found.items()}
        taken = sources.get(name) or sources.get(standing.get(metric.card.stands_in_for or "-", ""))
        if taken:
            warnings.append(
                f"{source} brings a metric '{name}' that {taken} has already: left out."
            )
            continue
        found[name] = metric
        sources[name] = source
    order = list(CATEGORIES)
    names = sorted(found, key=lambda name: (order.index(found[name].card.category), name))
    return Registry({name: found[name] for name in names}, sources, tuple(warnings))


def _metrics_of(module: Any) -> list[type[Metric]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Metric)
        and value.__module__ == module.__name__
        and hasattr(value, "card")
    ]


def _plugins(warnings: list[str]) -> Iterable[tuple[str, str, type[Metric]]]:
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        source = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        try:
            metric = point.load()
            problem = _problem(metric)
        except Exception as error:  # a plugin may fail in any way; it must not stop the others
            problem = f"{type(error).__name__}: {error}"
        if problem:
            warnings.append(
                f"The metric plugin '{point.name}' of {source} cannot be used: {problem}"
            )
        else:
            yield metric.card.name, source, metric


def _problem(metric: Any) -> str | None:
    if not (isinstance(metric, type) and issubclass(metric, Metric)):
        return "its entry point is not a subclass of aigve_cli.contract.Metric"
    if not isinstance(getattr(metric, "card", None), Card):
        return "it has no Card"
    if not re.fullmatch(r"[a-z0-9-]+", metric.card.name):
        return f"its name '{metric.card.name}' has other signs than a-z, 0-9 and -"
    if metric.card.category not in CATEGORIES:
        return f"its category '{metric.card.category}' is not one of {', '.join(CATEGORIES)}"
    if not (metric.scores_videos() or metric.compares_sets()):
        return "it implements neither score nor compare"
    return None
