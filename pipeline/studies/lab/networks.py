"""Networks inside a cell: loading, training, predicting, embedding.

Results depend on the arguments alone; the caller sets the number of torch's threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import sisom
from pipeline.config.sections import Model
from pipeline.learn.epoch import Course, train_epoch
from pipeline.learn.recipe.optimizer import optimizer_for
from pipeline.model.network import normalise
from sisom.arrays import as_tensor
from sisom.network.models import build_model, load_weights

Precision = Literal["fp32", "bf16"]
Pixels = NDArray[np.uint8]


def load(model: Model, num_classes: int, weights: bytes, *, device: str) -> nn.Module:
    """Load a trained network in evaluation mode, its parameters frozen."""
    net = build_model(model.name, num_classes, seed=0)
    return load_weights(net, weights).eval().requires_grad_(False).to(device)


def fit(net: nn.Module, course: Course, *, device: str) -> nn.Module:
    """Train a network in place by the steps of a round.

    Returns the network in evaluation mode, its parameters frozen.
    """
    net = net.to(device).to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    optimizer = optimizer_for(net, course.recipe)
    for epoch in range(course.recipe.epochs):
        train_epoch(net, optimizer, course, epoch=epoch)
    return net.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)


def predict(net: nn.Module, pixels: Pixels, model: Model, *, batch_size: int) -> Tensor:
    """Compute the logits of pixels.

    Args:
        net: in evaluation mode.
        pixels: (n, 3, s, s) uint8.
        model: how pixels are normalised.
        batch_size: images at a time.

    Returns:
        (n, K) float32 on the CPU.
    """
    parts = []
    device = next(net.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            part = as_tensor(pixels[start : start + batch_size]).to(device)
            parts.append(net(normalise(part, model)).float().cpu())
    return torch.cat(parts)


def embed(
    net: nn.Module,
    pieces: Iterable[Pixels],
    model: Model,
    *,
    layers: Sequence[str],
    batch_size: int,
    precision: Precision = "fp32",
) -> sisom.Features:
    """Extract features of pixels that come in pieces.

    Args:
        net: in evaluation mode.
        pieces: (n, 3, s, s) uint8 pixels.
        model: how pixels are normalised.
        layers: whose saliencies are read.
        batch_size: images at a time.
        precision: of the passes.

    Returns:
        Features of all pieces, on the CPU.
    """
    parts = []
    device = next(net.parameters()).device
    tile = batch_size if device.type == "cuda" else min(32, batch_size)
    for piece in pieces:
        for start in range(0, len(piece), batch_size):
            part = as_tensor(piece[start : start + batch_size]).to(device)
            parts.append(
                sisom.extract(
                    net,
                    normalise(part, model),
                    layers,
                    precision="bfloat16" if precision == "bf16" else "float32",
                    tile=tile,
                ).to("cpu")
            )
    return sisom.Features.concat(parts)
