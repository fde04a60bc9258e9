"""Weights that are a function of a network's tag and a state-dict key, so none have to be shipped.

The goldens of tests/goldens/inception, i3d and vqa were made by the reference
implementations with these weights. For each key, uniform numbers of variance 1 come from a Philox
stream whose 128-bit key is the first 16 bytes, little endian, of sha256("TAG/KEY"); the rules in
``det_array`` scale them so that activations keep their size from layer to layer.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def det_array(net: str, key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The float32 weights of one key of the network with the tag ``net``."""
    digest = hashlib.sha256(f"{net}/{key}".encode()).digest()
    stream = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    # random() is the upper 53 bits of each draw as a fraction of 1: float64 in 0..1.
    z = math.sqrt(3) * (2 * stream.random(shape) - 1)
    fan_in = math.prod(shape[1:])
    if key.endswith("logit_scale"):
        values = np.full(shape, math.log(100))
    # GSTVQA divides by its attention: these keep it away from 0.
    elif key == "q_att.0.bias":
        values = 0.5 + 0.05 * z
    elif key == "q_att.2.weight":
        values = np.abs(z) * 0.25 / math.sqrt(fan_in)
    elif key.endswith("running_mean"):
        values = 0.1 * z
    elif key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
        values = 1 + 0.1 * z
    elif len(shape) < 2:
        values = 0.05 * z
    elif key.endswith(("conv3.weight", "conv_c.weight")):
        # The last convolution of a residual branch.
        values = z * 0.5 / math.sqrt(fan_in)
    elif len(shape) == 2:
        values = z / math.sqrt(fan_in)
    else:
        values = z * math.sqrt(2 / fan_in)
    return values.astype(np.float32)


def det_state(net: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict for a module: floats are ``det_array``'s, whole numbers the module's own."""
    return {
        key: torch.from_numpy(det_array(net, key, tuple(tensor.shape)))
        if tensor.is_floating_point()
        else tensor
        for key, tensor in module.state_dict().items()
    }


def fill(net: str, module: nn.Module) -> None:
    """Give a module its deterministic weights, in place."""
    module.load_state_dict(det_state(net, module))
