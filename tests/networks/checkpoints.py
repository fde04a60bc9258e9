"""Checkpoints in the published layout, with weights that are a function of their names."""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aigve_cli.weights import network_card
from tests.networks.det_weights import det_array, det_state

INCEPTION, I3D, R3D = "inception-v3-fid", "i3d-kinetics400", "r3d-18"
VGG, GSTVQA, SIMPLEVQA, SLOWFAST = "vgg16", "gstvqa", "simplevqa", "slowfast-r50"
LIGHTVQA, LIGHTVQA_PLUS, CLIP = "lightvqa", "lightvqa-plus", "clip-vit-b-32"
# The goldens know some networks under other names.
_TAGS = {INCEPTION: "fid_inception", I3D: "i3d", CLIP: "clip_vit_b32"}
_KEYS = Path(__file__).parents[1] / "goldens" / "vqa"


def write_checkpoint(folder: Path, name: str) -> Path:
    """The checkpoint of a network under its published name, in its published container."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / network_card(name).entry().file
    if name == CLIP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated, and what OpenAI has published
            torch.jit.save(torch.jit.script(_state_to_modules(published_state(name))), path)
    else:
        torch.save(published_checkpoint(name), path)
    return path


def published_checkpoint(name: str) -> dict[str, Any]:
    """What the file of a network holds."""
    state = published_state(name)
    if name == SIMPLEVQA:
        return {f"module.{key}": tensor for key, tensor in state.items()}
    if name == SLOWFAST:
        return {"model_state": state}
    return state


def published_state(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a network's checkpoint by their published names."""
    if name == LIGHTVQA_PLUS:
        return _light_vqa_plus_state()
    tag = _TAGS.get(name, name.replace("-", "_"))
    keys = _KEYS / f"keys_{tag}.json"
    build = importlib.import_module(network_card(name).module).build
    if not keys.exists():
        return det_state(tag, build())
    shapes = json.loads(keys.read_text(encoding="utf-8"))
    whole = {key for key, shape in shapes.items() if isinstance(shape, dict)}
    own = build().state_dict() if any(not key.endswith("_tracked") for key in whole) else {}
    return {
        key: own.get(key, torch.tensor(0)) if key in whole else _floats(tag, key, tuple(shape))
        for key, shape in shapes.items()
    }


def _floats(tag: str, key: str, shape: tuple[int, ...]) -> torch.Tensor:
    if tag == VGG and key.startswith("classifier."):
        # 494 MB that nothing reads: one number in the file, and the right shape.
        return torch.zeros(()).expand(shape)
    return torch.from_numpy(det_array(tag, key, shape))


def _light_vqa_plus_state() -> dict[str, torch.Tensor]:
    """Light-VQA's trunk with a wider head: the only one that a checkpoint's shapes can tell."""
    state = published_state(LIGHTVQA)
    state["head.weight"] = torch.from_numpy(det_array("lightvqa_plus", "head.weight", (1024, 4440)))
    return state


def _state_to_modules(state: dict[str, torch.Tensor]) -> nn.Module:
    """Modules whose state dict this is."""
    root = nn.Module()
    for key, tensor in state.items():
        *path, name = key.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
    return root
