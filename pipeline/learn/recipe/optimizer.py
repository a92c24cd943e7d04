"""Optimizers of a network: rates by layer, and a frozen backbone."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.learn.recipe.values import Recipe

_NUMBERED = re.compile(r"(^|_)\d+$")  # `layer1.0` and `encoder_layer_0`, but not `layer1`
SCALE = "scale"  # of a group of parameters: its share of the learning rate


def optimizer_for(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimizer of a training: SGD with Nesterov momentum, or AdamW."""
    groups = _groups(net, recipe.layer_decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), weight_decay=recipe.weight_decay
        )
    return torch.optim.SGD(
        groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
    )  # fmt: skip


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of a step, less in lower layers."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(SCALE, 1.0)


def head_of(net: nn.Module) -> tuple[str, nn.Module]:
    """Return name and module of the classifier, the last linear layer.

    Raises:
        ConfigError: for a network without one.
    """
    linear = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ConfigError("train.layer_decay and train.frozen_epochs need a network with a linear classifier")
    return linear[-1]


def blocks_of(net: nn.Module) -> list[list[str]]:
    """Divide the names of parameters into blocks, the head last.

    The first is next to the images. A block is a top-level module, or a numbered part of one such as `layer1.0`. A
    module with vectors alone, such as a norm, belongs to the block before it.
    """
    head, _ = head_of(net)
    blocks: dict[str, list[str]] = {}
    own, current = [], ""
    sizes = {name: parameter.ndim for name, parameter in net.named_parameters()}
    by_key: dict[str, list[str]] = {}
    for name in sizes:
        if name.startswith(f"{head}."):
            own.append(name)
        else:
            by_key.setdefault(_block(name), []).append(name)
    for key, names in by_key.items():
        if not current or any(sizes[name] > 1 for name in names):
            current = key
        blocks.setdefault(current, []).extend(names)
    return [*blocks.values(), own]


def _block(name: str) -> str:
    """Name a parameter's block: up to a number, or the first part."""
    parts = name.split(".")[:-1]
    numbered = [place for place, part in enumerate(parts) if _NUMBERED.search(part)]
    return ".".join(parts[: numbered[0] + 1] if numbered else parts[:1])


def _groups(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    if decay == 1.0:
        return [{"params": list(net.parameters())}]
    blocks = blocks_of(net)
    return [
        {"params": [net.get_parameter(name) for name in names], SCALE: decay ** (len(blocks) - 1 - place)}
        for place, names in enumerate(blocks)
    ]


class Freezing:
    """A backbone that stays as it is while the head is trained."""

    def __init__(self, net: nn.Module) -> None:
        self._net, (self._name, self._head) = net, head_of(net)

    def set_modes(self) -> None:
        """Let norms and dropout of the backbone work as in evaluation."""
        self._net.eval()
        self._head.train()

    def drop_gradients(self) -> None:
        """Take from the optimizer what it would move the backbone by.

        Done after the backward pass: workers that average gradients expect all of them.
        """
        for name, parameter in self._net.named_parameters():
            if not name.startswith(f"{self._name}."):
                parameter.grad = None
