"""Checkpoints of VBench's networks under their published names, with VBench's golden weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from aigve_models import clip_vit_b_32, clip_vit_l_14, dino_vit_b_16, raft_large
from torch import Tensor
from transformers import CLIPModel

from aigve_cli.weights import network_card
from tests.networks.vbench_weights import (
    GOLDENS,
    golden_shapes,
    vbench_state,
    vbench_tensor,
)

NETWORKS = (
    "dino-vit-b-16",
    "clip-vit-b-32",
    "clip-vit-l-14",
    "laion-aesthetic",
    "musiq",
    "amt-s",
    "raft-large",
)
AMT_GAINS = {
    "decoder4.convblock.2.weight": 0.3,
    "decoder3.convblock.2.weight": 0.3,
    "decoder2.convblock.2.weight": 0.3,
    "decoder1.convblock.2.weight": 0.1,
    "flow_head.2.weight": 0.1,
    "feat_head.2.weight": 0.3,
    "comb_block.2.weight": 0.1,
}


def write_vbench_checkpoint(folder: Path, name: str) -> Path:
    """The file of one of ``NETWORKS`` in a folder for ``--weights-dir``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / network_card(name).entry().file
    torch.save(vbench_checkpoint(name), path)
    return path


def vbench_checkpoint(name: str) -> dict[str, Any]:
    """The published tensors of one of ``NETWORKS``."""
    match name:
        case "dino-vit-b-16":
            # Not on meta, where the oldest timm that we take builds none.
            own = dino_vit_b_16.build().state_dict()
            return vbench_state((key, tuple(tensor.shape)) for key, tensor in own.items())
        case "clip-vit-b-32":
            return _pictures_of(openai_shapes(clip_vit_b_32))
        case "clip-vit-l-14":
            return _pictures_of(openai_shapes(clip_vit_l_14))
        case "laion-aesthetic":
            weight = 8 * vbench_tensor("aesthetic_head.weight", (1, 768))
            return {"weight": weight, "bias": torch.full((1,), 5.0)}
        case "musiq":
            state = vbench_state(golden_shapes("musiq_state_dict_shapes").items())
            state["head.weight"] *= 5
            state["head.bias"][:] = 50
            return state
        case "amt-s":
            shapes = golden_shapes("amt_s_state_dict_shapes").items()
            return {"state_dict": vbench_state(shapes, vector=(0.25, 0.05), gains=AMT_GAINS)}
        case "raft-large":
            return _raft_c_t_v1()
    raise ValueError(name)


def _raft_c_t_v1() -> dict[str, Tensor]:
    """torchvision's names; the numbers are functions of the reference's."""
    keys = json.loads(
        (GOLDENS / "raft_things_to_torchvision_keys.json").read_text(encoding="utf-8")
    )
    with torch.device("meta"):
        own = raft_large.build().state_dict()
    gains = {"update_block.flow_head.conv2.weight": 0.05}
    return {
        ours: vbench_tensor(theirs, tuple(own[ours].shape), gains=gains)
        for theirs, ours in keys.items()
        if ours is not None
    }


def openai_shapes(module: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of OpenAI's file of one of our CLIP models."""
    with torch.device("meta"):
        theirs = CLIPModel(module.SIZES.config()).state_dict()
    names = module.published_names({"visual.": None})
    shapes: dict[str, tuple[int, ...]] = {}
    for key, tensor in theirs.items():
        published, shape = names[f"clip.{key}"], tuple(tensor.shape)
        if "in_proj" in published:
            shape = (3 * shape[0], *shape[1:])
        shapes[published] = shape[::-1] if published.endswith(("projection", ".proj")) else shape
    return shapes


def _pictures_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tower of pictures; that of texts, which goldens do not read, takes no room."""
    return {
        key: vbench_tensor(key, shape)
        if key.startswith("visual.")
        else torch.zeros(()).expand(shape)
        for key, shape in shapes.items()
    }
