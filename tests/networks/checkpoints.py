"""Checkpoints in the published layout, with weights that are a function of their names."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from aigve_cli.weights import network_card
from tests.networks.det_weights import det_state

INCEPTION, I3D, R3D = "inception-v3-fid", "i3d-kinetics400", "r3d-18"
# The goldens know the first two under these names.
_TAGS = {INCEPTION: "fid_inception", I3D: "i3d", R3D: "r3d_18"}


def write_checkpoint(folder: Path, name: str) -> Path:
    """The checkpoint of a network under its published name."""
    card = network_card(name)
    network = importlib.import_module(card.module).build()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / card.entry().file
    torch.save(det_state(_TAGS[name], network), path)
    return path
