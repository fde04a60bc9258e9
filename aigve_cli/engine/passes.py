"""The passes of a run: metrics whose models fit into memory together look at videos together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aigve_cli.engine.journal import Journal, VideoRecord
from aigve_cli.engine.judging import open_run_judges
from aigve_cli.engine.kept import KeptKey, KeptNetworks, kinds_of
from aigve_cli.engine.look import Counts, Looker
from aigve_cli.engine.memory import Fit
from aigve_cli.engine.networks import is_module, load_function, load_network
from aigve_cli.engine.plan import PlannedMetric, Producer, request_producers
from aigve_cli.engine.producers import Precision, Producers, set_arithmetic
from aigve_cli.engine.run import Run
from aigve_cli.judges.settings import Judges
from aigve_cli.output import Output, Progress
from aigve_cli.weights import JUDGE, Located, network_card


@dataclass(frozen=True)
class Machine:
    """What a run computes with."""

    device: str
    precision: Precision
    batch_size: int | None
    workers: int
    """Videos decoded at the same time."""
    threads: int
    """Of each decoder."""


class Passes:
    """Looks at all videos for all metrics, in as many passes as memory needs.

    Args:
        fit: The plan, and what is loaded at the same time.
        located: Weights by checkpoint.
        weights: What each checkpoint is called in the keys of scores; judges are added.
        journal: What was done before, and where to write.
        machine: What to compute with.
        keep_features: Store the rows of single videos too.
        kept: Networks of earlier runs of this process, and where this run's stay.
    """

    def __init__(
        self,
        fit: Fit,
        *,
        located: Mapping[str, Located],
        weights: dict[str, str],
        journal: Journal,
        machine: Machine,
        keep_features: bool,
        kept: KeptNetworks | None = None,
    ) -> None:
        self.judges: Judges | None = None
        """Who was asked, once they were."""
        self._fit = fit
        self._located = located
        self._weights = weights
        self._journal = journal
        self._machine = machine
        self._keep_features = keep_features
        self._kept = kept
        self._counts = Counts(passes=len(fit.passes))

    def run(self, output: Output) -> Run:
        """Every sample scored; what it gives knows all metrics and all videos."""
        whole = self._over(self._fit.plan.computed, self._nothing_to_load)
        passes = self._fit.passes
        total = sum(len(self._over(group, self._nothing_to_load).work()) for group in passes)
        with output.progress("compute", total=total) as progress:
            for number, group in enumerate(passes, 1):
                if len(passes) > 1:
                    names = ", ".join(planned.name for planned in group)
                    output.note(f"pass {number} of {len(passes)}: {names}")
                found = self._look(group, progress)
                whole.records.update(found)
                _give_back_memory(self._machine.device)
        # A later look at the same content may have stored more of it.
        videos = self._journal.videos
        for path, record in whole.records.items():
            whole.records[path] = videos.get(record.content, record)
        return whole

    def _look(
        self, group: Sequence[PlannedMetric], progress: Progress
    ) -> Mapping[Path, VideoRecord]:
        plan = self._fit.plan
        if self._kept is not None and self._fit.places:
            # What large models need was counted without those of other passes and runs.
            needed = {n.checkpoint for n in set().union(*map(plan.networks_of, group))}
            places, device = self._fit.places, self._machine.device
            self._kept.make_room(kinds_of(needed, self._located, places, device))
        with contextlib.ExitStack() as opened:
            judges = None
            if plan.judge is not None and any(planned.asks for planned in group):
                judges = opened.enter_context(
                    open_run_judges(
                        plan.judge,
                        self._located,
                        self._machine.device,
                        self._fit.places,
                        self._kept,
                    )
                )
                self.judges = judges
                self._weights[JUDGE.name] = judges.digest
            run = self._over(group, lambda: self._load(group, judges))
            run.score_samples(progress)
            return run.records

    def _over(self, group: Sequence[PlannedMetric], load: Callable[[], Producers]) -> Run:
        plan = self._fit.plan
        looker = Looker(
            planned=group,
            weights=self._weights,
            journal=self._journal,
            load=load,
            workers=self._machine.workers,
            threads=self._machine.threads,
            keep_features=self._keep_features,
            counts=self._counts,
        )
        return Run(
            samples=plan.dataset.samples,
            planned=group,
            weights=self._weights,
            journal=self._journal,
            looker=looker,
            statistics=plan.statistics,
        )

    def _load(self, group: Sequence[PlannedMetric], judges: Judges | None) -> Producers:
        machine = self._machine
        networks: dict[Producer, Any] = {}
        functions: dict[Producer, Any] = {}
        if self._fit.plan.computes:
            set_arithmetic(machine.precision)
        requests = {request for planned in group for request in planned.requests.values()}
        for producer in set().union(*map(request_producers, requests)):
            if producer.name == JUDGE.name:
                continue
            card, variant = network_card(producer.name), producer.variant
            if here := self._located.get(producer.checkpoint):
                place = self._fit.places.get(producer.checkpoint)
                load = partial(
                    load_network, card, here, device=machine.device, variant=variant, place=place
                )
                key = KeptKey(producer, here.sha256, machine.device, place)
                networks[producer] = self._kept.get(key, load) if self._kept else load()
                continue
            function = load_function(card, variant, device=machine.device)
            (networks if is_module(function) else functions)[producer] = function
        desk = judges.desk if judges else None
        return Producers(
            networks, functions, machine.device, machine.precision, machine.batch_size, desk
        )

    @staticmethod
    def _nothing_to_load() -> Producers:
        raise AssertionError("every video was looked at by now")


def _give_back_memory(device: str) -> None:
    """Nothing of a pass's models is left: runs and what they load hold one another in circles."""
    import gc

    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.empty_cache()
