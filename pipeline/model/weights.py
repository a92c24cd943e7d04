"""New networks, and the weights that they start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import nn

from pipeline.config.sections import Model
from pipeline.errors import ConfigError
from sisom.network.models import build_model, grow_head


@dataclass(frozen=True)
class Start:
    """Weights that a new network starts from, as a safetensors file.

    `network` is an earlier network of as many classes or fewer: its head is kept and grows. `backbone` is all but the
    classifier of any network of the same kind, such as one trained without labels.
    """

    weights: bytes
    part: Literal["network", "backbone"]


def new_network(
    model: Model, classes: int, *, seed: int, dropout: float = 0.0, start: Start | None = None
) -> nn.Module:
    """Build an untrained network.

    Weights that `start` does not hold are drawn from `seed`.

    Raises:
        ConfigError: a backbone that does not fit, or dropout that the network has no place for.
        sisom.errors.WeightsError: an earlier network that does not fit.
    """
    net = build_model(model.name, classes, seed=seed)
    if dropout:
        if not isinstance(getattr(net, "dropout", None), nn.Dropout):
            raise ConfigError(f"train.dropout: {model.name} has no dropout before its classifier")
        net.dropout.p = dropout  # type: ignore[union-attr]
    if start is not None and start.part == "network":
        grow_head(net, start.weights)
    elif start is not None:
        _take_backbone(net, start.weights)
    return net


def _take_backbone(net: nn.Module, weights: bytes) -> None:
    """Take every tensor but the classifier's, under its name or below `backbone.`."""
    try:
        given = load_tensors(weights)
    except (SafetensorError, ValueError) as error:
        raise ConfigError(f"start: not a safetensors file: {error}") from None
    given = {name.removeprefix("module.").removeprefix("backbone."): value for name, value in given.items()}
    own = net.state_dict()
    head = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
    for name, value in own.items():
        if name.startswith(f"{head}."):
            continue
        if name not in given or given[name].shape != value.shape:
            have = "is missing" if name not in given else f"has shape {tuple(given[name].shape)}"
            raise ConfigError(f"start: {name} {have}; the network needs {tuple(value.shape)}")
        own[name] = given[name]
    net.load_state_dict(own)
