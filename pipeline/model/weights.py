"""Weights that a network starts from."""

from __future__ import annotations

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import nn

from pipeline.errors import ConfigError


def _start_from(net: nn.Module, start: bytes) -> None:
    """Take over a backbone: every tensor but the classifier's must be there, under its name or below `backbone.`."""
    try:
        given = load_tensors(start)
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
