"""Enhanced features (section 3.3), shifted to zero.

`tanh(t / 2) / 2` is `sigmoid(t) - 1/2`, with `t = slope * saliency`.

A constant shift changes no distance, and small features keep their relative precision, which a float32
sigmoid near one half has lost (section 10.2 of the method's analysis: 0.15 against 1e-4 relative error of
GEMM distances).
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sisom.bank.presets import preset_slopes
from sisom.errors import LayerError, SlopeError, nearest_name

__all__ = ["Slopes", "columns_of", "enhance", "resolve_slopes"]

Slopes = float | Mapping[str, float] | str


def resolve_slopes(slopes: Slopes, layers: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Resolve slopes to one for each layer, in the layers' order.

    A single number serves all layers; a name is a preset's.

    Raises `SlopeError` for a missing or unknown layer and for a slope that is negative or not finite.
    """
    if isinstance(slopes, str):
        slopes = preset_slopes(slopes, layers)
    if isinstance(slopes, Mapping):
        unknown = [name for name in slopes if name not in layers]
        if unknown:
            near = nearest_name(unknown[0], list(layers))
            raise SlopeError(f"slope given for unknown layer {unknown[0]!r}; the nearest layer is {near!r}")
        missing = [name for name in layers if name not in slopes]
        if missing:
            raise SlopeError(f"no slope given for layer {missing[0]!r}")
        pairs = tuple((name, float(slopes[name])) for name in layers)
    else:
        pairs = tuple((name, float(slopes)) for name in layers)
    for name, slope in pairs:
        if not math.isfinite(slope) or slope < 0:
            raise SlopeError(f"the slope of layer {name!r} must be finite and not negative, got {slope}")
    return pairs


def columns_of(layer_dims: Sequence[tuple[str, int]]) -> dict[str, slice]:
    """Map each layer to its columns of a saliency matrix."""
    columns, start = {}, 0
    for name, dim in layer_dims:
        columns[name] = slice(start, start + dim)
        start += dim
    return columns


def enhance(
    saliency: Float[Tensor, "n d"],
    layer_dims: Sequence[tuple[str, int]],
    slopes: Sequence[tuple[str, float]],
) -> Float[Tensor, "n e"]:
    """Enhance the layers that `slopes` names, in that order.

    Returns `tanh(slope * saliency / 2) / 2`, float32 in (-1/2, 1/2).

    Layers without a slope are left out. Raises `LayerError` for a slope whose layer the saliency lacks.
    """
    columns = columns_of(layer_dims)
    parts = []
    for name, slope in slopes:
        if name not in columns:
            near = nearest_name(name, list(columns))
            raise LayerError(
                f"the features lack layer {name!r}; the nearest they have is {near!r}", name, near
            )
        # The product cannot overflow into NaN: tanh saturates, and an infinite product still becomes one half.
        parts.append(torch.tanh(saliency[:, columns[name]].detach() * (0.5 * slope)).mul_(0.5))
    return torch.cat(parts, dim=1) if parts else saliency[:, :0]
