"""What a run would do, in words, before it does it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aigve_cli.engine.estimate import describe_requests
from aigve_cli.engine.memory import Fit, numbers_to_text
from aigve_cli.engine.plan import request_frames, request_producers
from aigve_cli.engine.setup import announce_plan
from aigve_cli.output import Output
from aigve_cli.video.views import view_to_text
from aigve_cli.weights import find_weights, network_card


def describe_plan(
    fit: Fit, output_dir: Path, output: Output, *, keep_features: bool = False
) -> list[dict[str, Any]]:
    """What a run would do, a row a metric; the rest in words to ``output``."""
    plan = fit.plan
    for line in plan.dataset.describe():
        output.note(line)
    announce_plan(plan, output)
    for network in plan.networks:
        card, tag, name = network_card(network.name), network.weights or None, network.checkpoint
        here = find_weights(card, plan.policy, tag=tag, bad_cache_is_missing=True)
        entry = card.entry(tag)
        absent = f"not here: {entry.file} is fetched when the run begins, {entry.size_text}"
        place = fit.places.get(name)
        loaded = (
            f", {place.bytes / 1e9:.1f} GB in {numbers_to_text(place.numbers)}" if place else ""
        )
        found = f"{name}: {here.path} ({here.origin}){loaded}" if here else f"{name}: {absent}"
        output.note(found)
    size = plan.disk_bytes(keep=keep_features)
    words = "features of an unknown size" if size is None else f"{size / 1e6:.0f} MB of features"
    stored = words if size != 0 else "scores only"
    free = f"{_free_disk(output_dir) / 1e9:.0f} GB are free"
    number = len(fit.passes)
    passes = "1 pass" if number == 1 else f"{number} passes"
    output.note(f"{passes}; at most {stored} in {output_dir}, where {free}")
    for line in fit.notes:
        output.note(line)
    for line in describe_requests(plan.judge, plan.computed, plan.dataset.generated):
        output.note(line)
    rows = []
    for planned in plan.computed:
        requests = list(planned.requests.values())
        rows.append(
            {
                "metric": planned.name,
                "requested": planned.requested,
                "producers": _lines(p.checkpoint for r in requests for p in request_producers(r)),
                "view": _lines(view_to_text(f.view) for r in requests for f in request_frames(r)),
                "sampling": _lines(str(f.sampling) for r in requests for f in request_frames(r)),
                "options": ", ".join(f"{k}={v}" for k, v in planned.options.items()),
            }
        )
    return rows


def _lines(texts: Iterable[str]) -> str:
    return " | ".join(sorted(set(texts)))


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
