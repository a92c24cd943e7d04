"""Networks inside a cell: training one, loading one, and what it makes of images.

Everything follows from its arguments; `threads` of torch are the caller's to set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import sisom
from pipeline.config.sections import Model
from pipeline.errors import ConfigError
from pipeline.learn.schedule import augmented, steps
from pipeline.model.network import normalise
from pipeline.model.weights import _start_from
from pipeline.studies.sections import Training
from sisom.arrays import as_tensor
from sisom.network.models import build_model, load_weights

Precision = Literal["fp32", "bf16"]
Pixels = NDArray[np.uint8]


def build(
    model: Model, num_classes: int, *, seed: int, dropout: float = 0.0, start: bytes | None = None
) -> nn.Module:
    """An untrained network, `start` its weights below the classifier."""
    net = build_model(model.name, num_classes, seed=seed)
    if dropout:
        if not isinstance(getattr(net, "dropout", None), nn.Dropout):
            raise ConfigError(f"train.dropout: {model.name} has no dropout before its classifier")
        net.dropout.p = dropout  # type: ignore[union-attr]
    if start is not None:
        _start_from(net, start)
    return net


def load(model: Model, num_classes: int, weights: bytes, device: str) -> nn.Module:
    """A trained network in evaluation mode, its parameters frozen."""
    net = build_model(model.name, num_classes, seed=0)
    return load_weights(net, weights).eval().requires_grad_(False).to(device)


def fit(
    net: nn.Module,
    pixels: Pixels,
    labels: NDArray[np.int64],
    training: Training,
    model: Model,
    *,
    seed: int,
    device: str,
    outliers: Pixels | None = None,
    exposure: float = 0.0,
) -> nn.Module:
    """Train in place on (n,3,s,s) uint8 pixels and return the network in evaluation mode.

    `outliers` are images of no class: with weight `exposure`, the network learns to be unsure of them (the
    cross-entropy of the uniform distribution to its softmax).
    """
    net = net.to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        net.parameters(), lr=training.lr, momentum=training.momentum, weight_decay=training.weight_decay,
        nesterov=training.momentum > 0,
    )  # fmt: skip
    rows = np.arange(len(pixels), dtype=np.int64)
    per_epoch = len(list(steps(rows, training.batch_size, 1, 0, 0)))
    total = per_epoch * training.epochs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for dropout
        for epoch in range(training.epochs):
            for number, batch in enumerate(steps(rows, training.batch_size, 1, seed, epoch)):
                for group in optimizer.param_groups:
                    done = epoch * per_epoch + number
                    group["lr"] = training.lr * 0.5 * (1.0 + math.cos(math.pi * done / total))
                seen = augmented(torch.from_numpy(pixels[batch]), training.augment, (seed, epoch, number))
                targets = torch.from_numpy(labels[batch]).to(device)
                known = len(seen)
                if outliers is not None and len(outliers) and exposure:
                    pick = np.random.default_rng([seed, epoch, number, 1]).integers(len(outliers), size=known)
                    more = augmented(
                        torch.from_numpy(outliers[pick]), training.augment, (seed, epoch, number, 1)
                    )
                    seen = torch.cat([seen, more])
                images = normalise(seen.to(device), model).contiguous(memory_format=torch.channels_last)
                logits = net(images).float()
                loss = F.cross_entropy(logits[:known], targets)
                if len(logits) > known:
                    unsure = logits[known:]
                    loss = loss + exposure * (unsure.logsumexp(1) - unsure.mean(1)).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return net.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)


def predict(net: nn.Module, pixels: Pixels, model: Model, *, batch_size: int, device: str) -> Tensor:
    """Logits of (n,3,s,s) uint8 pixels, (n, K) float32 on the CPU."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            part = as_tensor(pixels[start : start + batch_size]).to(device)
            parts.append(net(normalise(part, model)).float().cpu())
    return torch.cat(parts)


def embed(
    net: nn.Module,
    pieces: Iterable[Pixels],
    model: Model,
    layers: Sequence[str],
    *,
    device: str,
    batch_size: int,
    precision: Precision = "fp32",
) -> sisom.Features:
    """Features of pixels that come in pieces, on the CPU."""
    parts = []
    tile = batch_size if device == "cuda" else min(32, batch_size)
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
