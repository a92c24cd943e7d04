"""A copy of a network made for scoring: same answers to float rounding, less work."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sisom.network.layers import unwrap

__all__ = ["prepare_model"]


def prepare_model(model: nn.Module, *, fold: bool = True, channels_last: bool = True) -> nn.Module:
    """A frozen copy in evaluation mode; the given model is not touched.

    fold            merge each batch norm into the convolution whose output it alone reads. The names of all
                    modules stay, so `layers` stay valid; a merged norm becomes the identity
    channels_last   lay convolution weights out as (n, H, W, C), which most devices prefer

    A network that `torch.fx` cannot trace keeps its norms.
    """
    net = copy.deepcopy(unwrap(model)).eval().requires_grad_(False)
    if fold:
        for conv, norm in _foldable(net):
            before, after = net.get_submodule(conv), net.get_submodule(norm)
            assert isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d)
            _put(net, conv, fuse_conv_bn_eval(before, after))
            _put(net, norm, nn.Identity())
        net.eval().requires_grad_(False)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    return net


def _foldable(net: nn.Module) -> list[tuple[str, str]]:
    """Names of the convolutions followed by a batch norm and by nothing else, as the traced graph shows them."""
    try:
        graph = torch.fx.Tracer().trace(net)
    except Exception:  # noqa: BLE001  tracing runs the net's own code, which may fail in any way
        return []
    modules = dict(net.named_modules())
    calls = [node for node in graph.nodes if node.op == "call_module"]
    uses: dict[str, int] = {}
    for node in calls:
        uses[str(node.target)] = uses.get(str(node.target), 0) + 1
    pairs = []
    for node in calls:
        source = node.args[0] if node.args else None
        if not isinstance(source, torch.fx.Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        conv, norm = modules[str(source.target)], modules[str(node.target)]
        if uses[str(source.target)] > 1 or uses[str(node.target)] > 1:
            continue
        if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.running_mean is not None:
            pairs.append((str(source.target), str(node.target)))
    return pairs


def _put(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module)
