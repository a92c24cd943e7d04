"""Batch norms folded into the convolutions before them.

Features are equal but for float rounding. Norms are folded while features are read, and unfolded afterwards; only where
the code of the surrounding block is known, so that nothing else can read the convolution's output: residual blocks of
ours and of torchvision, and plain sequences. Other norms stay.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["folded"]

_STEM = (("conv1", "bn1"),)
_TWO = (*_STEM, ("conv2", "bn2"))
_BLOCKS = {
    "sisom.network.models.CifarResNet": _STEM,
    "sisom.network.models.ResidualBlock": _TWO,
    "torchvision.models.resnet.ResNet": _STEM,
    "torchvision.models.resnet.BasicBlock": _TWO,
    "torchvision.models.resnet.Bottleneck": (*_TWO, ("conv3", "bn3")),
}
_SEQUENCES = ("torch.nn.modules.container.Sequential", "torchvision.ops.misc.Conv2dNormActivation")


@contextmanager
def folded(model: nn.Module, layers: Sequence[str]) -> Iterator[None]:
    """Fold inside; put the model's own weights back at the end.

    The model must be in evaluation mode. Convolutions among `layers`, and any that the caller hooks, stay.
    """
    pairs = list(_pairs(model, layers))
    before = [(conv, dict(conv._parameters)) for conv, _ in pairs]
    try:
        for conv, norm in pairs:
            conv._parameters.update(_merged(conv, norm))
            norm.__dict__["forward"] = _unchanged
        yield
    finally:
        for conv, own in before:
            conv._parameters.update(own)
        for _, norm in pairs:
            norm.__dict__.pop("forward", None)


def _merged(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> dict[str, nn.Parameter]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
        )
    return {"weight": nn.Parameter(weight, False), "bias": nn.Parameter(bias, False)}


def _unchanged(x: Tensor) -> Tensor:
    return x


def _pairs(model: nn.Module, layers: Sequence[str]) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    names = [(name, module) for name, module in model.named_modules(remove_duplicate=False)]
    places = Counter(id(module) for _, module in names)
    watched = {id(module) for name, module in names if name in layers}
    for _, block in names:
        for conv, norm in _neighbors(block):
            alone = places[id(conv)] == places[id(norm)] == 1 and id(conv) not in watched
            if alone and _plain(conv, nn.Conv2d) and _plain(norm, nn.BatchNorm2d):
                assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
                if norm.running_mean is not None and conv.weight.dtype in (torch.float32, torch.float64):
                    yield conv, norm


def _neighbors(block: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """List pairs of children, the second the only reader of the first."""
    kind = f"{type(block).__module__}.{type(block).__qualname__}"
    if "forward" in block.__dict__:
        return []
    if kind in _SEQUENCES:
        return list(itertools.pairwise(block.children()))
    children_of = dict(block.named_children())
    return [
        (children_of[conv], children_of[norm])
        for conv, norm in _BLOCKS.get(kind, ())
        if conv in children_of and norm in children_of
    ]


def _plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Check that a module does what its class does, without hooks."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    return type(module) is kind and "forward" not in module.__dict__ and not any(hooks)
