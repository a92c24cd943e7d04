"""A trained classifier as values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config.sections import Model
from sisom.network.models import build_model, load_weights


@dataclass(frozen=True)
class Network:
    """A trained classifier as values: what a worker needs to rebuild it."""

    model: Model
    num_classes: int
    weights: NDArray[np.uint8]  # safetensors bytes; an array, so that Ray shares it without a copy

    def build(self, device: str) -> torch.nn.Module:
        """Return the network in eval mode on `device`, its parameters frozen."""
        net = build_model(self.model.name, self.num_classes, seed=0)
        load_weights(net, self.weights.tobytes())
        return net.eval().requires_grad_(False).to(device)


def normalise(pixels: torch.Tensor, model: Model) -> torch.Tensor:
    """Normalise (n,3,s,s) uint8 pixels by the model's mean and std.

    Returns float32 on the device of the pixels.
    """
    mean = torch.tensor(model.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(model.std, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() / 255.0 - mean) / std
