"""Features of images from one forward pass (sections 3 and 4).

At most one partial backward pass is needed beside it. The gradient is that of KL(uniform || softmax), summed over the
batch so that it does not depend on the batch. With respect to the logits it is `softmax - 1/K`; at the vector that
enters the classifier it is `(softmax - 1/K) @ W`, so layers that feed the classifier directly need no backward pass at
all.
"""

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sisom.errors import EmptyInput, LayerError, ShapeMismatch
from sisom.network.folding import folded
from sisom.network.layers import check_layers, unwrap
from sisom.network.taps import Pooling, Record, Tap, frozen_eval, record
from sisom.types import Features

__all__ = ["Precision", "extract"]

Precision = Literal["float32", "bfloat16"]


def extract(
    model: nn.Module,
    images: Float[Tensor, "n C H W"],
    layers: Sequence[str] | str = "auto",
    *,
    pooling: Pooling = "mean",
    precision: Precision = "float32",
    tile: int = 32,
) -> Features:
    """Extract saliencies, penultimate features and logits of n normalised images.

    The model runs on its own device in evaluation mode; the features stay there. Its modes, its gradient flags and its
    hooks are afterwards what they were, also after an error. May be called under `no_grad` or `inference_mode`.

    Args:
        model: any network that ends in logits of shape (n, K).
        images: as the model takes them.
        layers: names of `model.named_modules()`, or "auto" for the nets of `MODELS`.
        pooling: "mean" over positions or tokens; "sum" is the convention of NAC's slopes.
        precision: "bfloat16" runs the network in mixed precision; softmax, its gradient and the logits stay float32.
            Not exact: check that the ranking holds before relying on it.
        tile: images per pass. Each pass has exactly this many, the last one filled up with zeros, so that an image's
            features do not depend, not even in the last bit, on how many images came with it.

    Raises:
        LayerError: for a layer that does not exist, cannot be pooled or does not reach the logits.
        ShapeMismatch, EmptyInput: for images that are not a batch.
    """
    names = check_layers(model, layers)
    net = unwrap(model)
    if images.ndim != 4:
        raise ShapeMismatch(f"images must be (n, C, H, W), got shape {tuple(images.shape)}")
    if len(images) == 0:
        raise EmptyInput("no images")
    if tile < 1:
        raise ShapeMismatch(f"a tile holds at least one image, got {tile}")
    parameter = next(net.parameters(), None)
    home = images.device if parameter is None else parameter.device
    parts = []
    mixed = torch.autocast(home.type, torch.bfloat16, enabled=precision == "bfloat16")
    with torch.inference_mode(False), mixed, frozen_eval(_outside_inference(net)) as net, folded(net, names):
        for start in range(0, len(images), tile):
            chunk = images[start : start + tile].to(home)
            rows = len(chunk)
            if rows < tile:
                chunk = torch.cat([chunk, chunk.new_zeros((tile - rows, *chunk.shape[1:]))])
            if chunk.is_inference():
                chunk = chunk.clone()  # autograd may not save tensors made in inference mode
            parts.append(_extract_tile(net, chunk, names, pooling=pooling).select(slice(0, rows)))
        return Features.concat(parts)


def _outside_inference(model: nn.Module) -> nn.Module:
    """Return the model, or a copy where inference mode built it.

    Autograd may not save such weights.
    """
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        return copy.deepcopy(model)
    return model


def _extract_tile(model: nn.Module, images: Tensor, layers: tuple[str, ...], *, pooling: Pooling) -> Features:
    start = torch.zeros((), device=images.device, requires_grad=True)
    with torch.enable_grad():
        with record(model, layers, pooling=pooling, start=start) as found:
            logits = model(images)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ShapeMismatch("the model must return logits of shape (n, K)")
        classifier = found.classifier(logits)
        outputs = logits.detach().float()
        if classifier is not None and logits.dtype != torch.float32:
            outputs = _in_float32(*classifier)
        pull = torch.softmax(outputs, dim=1) - 1.0 / logits.shape[1]
        last = None if classifier is None else _tap_classifier(found, classifier, pull)
        waiting = [tap for tap in found.taps.values() if tap.gradient is None]
        for tap in waiting:
            if tap.value is None:
                raise LayerError(f"layer {tap.name!r} does not run in a forward pass", tap.name)
        if waiting and logits.requires_grad:
            torch.autograd.grad(logits, start, pull.to(logits.dtype), allow_unused=True)
    return _collect(found, layers, logits=outputs, last=last)


def _in_float32(head: nn.Linear, inputs: Tensor) -> Tensor:
    """Compute the classifier's output again in float32.

    Mixed precision would leave the logits three digits.
    """
    bias = None if head.bias is None else head.bias.detach().float()
    with torch.autocast(inputs.device.type, enabled=False):
        return nn.functional.linear(inputs.detach().float(), head.weight.detach().float(), bias)


def _tap_classifier(found: Record, classifier: tuple[nn.Linear, Tensor], pull: Tensor) -> Tensor:
    """Set the gradient of taps directly before the classifier; return its input.

    "Directly" means the very memory: a flattened 1x1 map, a flat feature, or the class token of a sequence.
    """
    head, inputs = classifier[0], classifier[1].detach()
    with torch.autocast(inputs.device.type, enabled=False):
        closed = pull @ head.weight.detach().float()
    for tap in found.taps.values():
        view = tap.view
        if view is None or view.data_ptr() != inputs.data_ptr() or (tap.channels_last and view.ndim == 4):
            continue
        if view._version != tap.version:
            continue  # the same memory, but changed in place since: another feature
        if view.ndim == 3 and view[:, 0].shape == inputs.shape and view.stride(0) == inputs.stride(0):
            tap.value, tap.on_class_token = tap.class_token, True
            tap.gradient = closed
        elif view.ndim != 3 and view.flatten(1).shape == inputs.shape and view.shape[1] == inputs.shape[1]:
            tap.gradient = closed
    return inputs.float()


def _collect(found: Record, layers: tuple[str, ...], *, logits: Tensor, last: Tensor | None) -> Features:
    products, dims = [], []
    for name in layers:
        tap: Tap = found.taps[name]
        if tap.gradient is None or tap.value is None:
            raise LayerError(f"the logits do not depend on layer {name!r}", name)
        products.append(tap.value * tap.gradient)
        dims.append((name, products[-1].shape[1]))
    penultimate = found.taps[layers[-1]].value if last is None else last
    assert penultimate is not None
    return Features(torch.cat(products, dim=1), tuple(dims), penultimate.clone(), logits.clone())
