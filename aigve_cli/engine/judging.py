"""From the judges that were named to judges that answer, those of this process included."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import version

from aigve_cli.engine.kept import KeptKey, KeptNetworks
from aigve_cli.engine.memory import Place
from aigve_cli.engine.networks import load_network
from aigve_cli.engine.setup import local_judges
from aigve_cli.judges.settings import Judges, JudgeSettings, LocalWeights, open_judges
from aigve_cli.weights import Located, network_card


def open_run_judges(
    settings: JudgeSettings,
    located: Mapping[str, Located],
    device: str,
    places: Mapping[str, Place],
    kept: KeptNetworks | None = None,
) -> AbstractContextManager[Judges]:
    """The judges of a run; those of this process are loaded when they are first asked.

    Args:
        settings: Who they are.
        located: Weights by checkpoint, of those that run here.
        device: Where these run.
        places: How they are loaded, by checkpoint; without one as saved.
        kept: Networks of earlier runs of this process, and where these stay.
    """
    local = {}
    for spec, producer in local_judges(settings).items():
        card, here = network_card(producer.name), located[producer.checkpoint]
        # By default the folder's own type of numbers: a card's memory is what such models lack.
        place = places.get(producer.checkpoint)
        variant = "" if place is None or place.numbers == "auto" else place.numbers
        facts = {
            "model": here.published or here.path.name,
            "sha256": here.sha256,
            "numbers": variant or "as saved",
            # How pictures and videos are prepared is its business.
            "transformers": version("transformers"),
        }
        load = partial(load_network, card, here, device=device, variant=variant, place=place)
        if kept is not None:
            key = KeptKey(producer._replace(variant=variant), here.sha256, device, place)
            load = partial(kept.get, key, load)
        local[spec] = LocalWeights(load, facts)
    return open_judges(settings, local=local, device=device)
