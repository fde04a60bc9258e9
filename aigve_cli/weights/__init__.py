"""From a network's card to a checked file or folder. The only part of aigve that goes online."""

from aigve_cli.weights.cards import (
    JUDGE,
    LOCAL_JUDGE,
    NetworkCard,
    WeightsEntry,
    cards_to_markdown,
    network_card,
    network_cards,
)
from aigve_cli.weights.locate import (
    find_weights,
    locate_weights,
    located_bytes,
    weights_status,
)
from aigve_cli.weights.policy import Located, WeightsMode, WeightsPolicy, weights_policy

__all__ = [
    "JUDGE",
    "LOCAL_JUDGE",
    "Located",
    "NetworkCard",
    "WeightsEntry",
    "WeightsMode",
    "WeightsPolicy",
    "cards_to_markdown",
    "find_weights",
    "locate_weights",
    "located_bytes",
    "network_card",
    "network_cards",
    "weights_policy",
    "weights_status",
]
