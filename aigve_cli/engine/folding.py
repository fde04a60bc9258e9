"""Batch norms that go into the convolutions before them: the same numbers, fewer passes.

In eval mode a batch norm scales and shifts each channel by constants. After a convolution whose
output nothing else reads, the scale belongs into the weights and the shift into the bias (Jacob et
al., arXiv:1712.05877, section 3.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor, fx, nn
    from torch.nn.modules.batchnorm import _BatchNorm

    Conv: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d

ROUND_OFF = 1e-3
"""A fold that changes a layer's output by more is wrong: float32 accounts for about 1e-6."""


def fold_batch_norms(network: nn.Module) -> int:
    """Fold every batch norm that directly follows a convolution, in place.

    The batch norm becomes what is left of it: ``nn.Identity``, or the activation inside timm's.
    Left alone are layers that are in train mode, have hooks, or are used or registered more than
    once; convolutions that compute with other weights than their own, such as standardised ones;
    and everything in a network that ``torch.fx`` cannot trace.

    Args:
        network: Any module in eval mode; afterwards it is good for inference only.

    Returns:
        How many batch norms were folded.
    """
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return 0
    graph = _network_to_graph(network)
    if graph is None:
        return 0
    layers = _layers_used_once(network, graph)
    folded = 0
    for conv_name, norm_name in _neighbours(graph):
        conv, norm = layers.get(conv_name), layers.get(norm_name)
        if isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d) and isinstance(norm, _BatchNorm):
            rest = _fold(conv, norm)
            if rest is not None:
                network.set_submodule(norm_name, rest)
                folded += 1
    return folded


def _network_to_graph(network: nn.Module) -> fx.Graph | None:
    """What reads what, or None for a network whose path depends on its input."""
    from torch import fx, nn
    from torch.nn.modules.batchnorm import _BatchNorm

    class LayerTracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            # torch.nn's own are leaves anyway; subclasses in timm and elsewhere are not.
            layer = isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d | _BatchNorm)
            return layer or super().is_leaf_module(m, module_qualified_name)

    try:
        return LayerTracer().trace(network)
    except Exception:
        # A forward that meets symbols in place of tensors may raise anything. Unfolded, the network
        # gives the same numbers, only later.
        return None


def _layers_used_once(network: nn.Module, graph: fx.Graph) -> dict[str, nn.Module]:
    """Layers that are called once, have one name, and whose weights nothing else reads."""
    uses: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op == "call_module":
            uses[node.target] += 1
        elif node.op == "get_attr":
            uses[node.target.rpartition(".")[0]] += 1
    names = Counter(module for _, module in network.named_modules(remove_duplicate=False))
    return {
        name: module
        for name, module in network.named_modules()
        if uses[name] == 1 and names[module] == 1
    }


def _neighbours(graph: fx.Graph) -> Iterator[tuple[str, str]]:
    """Names of two layers of one argument each: the second, and nothing else, reads the first."""
    calls = [n for n in graph.nodes if n.op == "call_module" and len(n.args) == 1 and not n.kwargs]
    for reader in calls:
        (read,) = reader.args
        if read in calls and list(read.users) == [reader]:
            yield read.target, reader.target


def _fold(conv: Conv, norm: _BatchNorm) -> nn.Module | None:
    """Put ``norm`` into ``conv``; returns what is left of ``norm``, None if it cannot be done."""
    import torch
    from torch import nn

    affine = _norm_to_affine(norm)
    if affine is None or not (_is_constant(conv) and _is_constant(norm)):
        return None
    act = getattr(norm, "act", None)
    rest = act if isinstance(act, nn.Module) else nn.Identity()
    sides = [(k - 1) * d + 1 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    probe = torch.rand(1, conv.in_channels, *sides, generator=torch.Generator().manual_seed(0))
    probe = probe.to(conv.weight)
    own = conv.weight, conv.bias
    with torch.no_grad():
        expected = norm(conv(probe))
        conv.weight, conv.bias = _folded_weights(conv, *affine)
        # A subclass may do anything with its weights: what counts is what comes out.
        if (rest(conv(probe)) - expected).norm() <= ROUND_OFF * expected.norm():
            return rest
    conv.weight, conv.bias = own
    return None


def _is_constant(layer: nn.Module) -> bool:
    """Whether a layer is the same function at each call, as far as its state tells."""
    from torch import nn

    hooked = layer._forward_hooks or layer._forward_pre_hooks
    # A parametrised weight is no parameter: it is computed at each access.
    owned = isinstance(getattr(layer, "weight", None), nn.Parameter | None)
    return owned and not (layer.training or hooked)


def _norm_to_affine(norm: _BatchNorm) -> tuple[Tensor, Tensor] | None:
    """Scale and shift of each channel, float64 [C]; None if they depend on the input."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return None
    scale = (variance.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -mean.double() * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    return scale, shift


def _folded_weights(conv: Conv, scale: Tensor, shift: Tensor) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias that scale and shift what a convolution gives, rounded once from float64."""
    from torch import nn

    weight = conv.weight.double() * scale.view(-1, *[1] * (conv.weight.dim() - 1))
    bias = shift if conv.bias is None else conv.bias.double() * scale + shift
    # New parameters: another layer may share the old ones.
    trained = conv.weight.requires_grad
    return (
        nn.Parameter(weight.to(conv.weight.dtype), requires_grad=trained),
        nn.Parameter(bias.to(conv.weight.dtype), requires_grad=trained),
    )
