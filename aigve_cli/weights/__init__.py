"""From a network's card to a checked local file. The only part of aigve that uses the network."""

from aigve_cli.weights.cards import (
    NetworkCard,
    WeightsEntry,
    cards_to_markdown,
    network_card,
    network_cards,
)
from aigve_cli.weights.locate import (
    Located,
    WeightsMode,
    WeightsPolicy,
    find_weights,
    locate_weights,
    weights_policy,
    weights_status,
)

__all__ = [
    "Located",
    "NetworkCard",
    "WeightsEntry",
    "WeightsMode",
    "WeightsPolicy",
    "cards_to_markdown",
    "find_weights",
    "locate_weights",
    "network_card",
    "network_cards",
    "weights_policy",
    "weights_status",
]
