"""Taps that read and pool a layer's output and its gradient.

The tap that sits first in the network is where the graph starts: nothing before it is recorded. Pooling
inside the tap means that no full gradient is kept, and that a later in-place operation cannot change what was
read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sisom.errors import LayerError
from sisom.network.layers import is_channels_last

__all__ = ["Pooling", "Record", "Tap", "frozen_eval", "record"]

Pooling = Literal["mean", "sum"]


class _Alias(torch.autograd.Function):
    """Identity that shows the gradient to `see`.

    `start` requires a gradient, so the graph begins here.
    """

    @staticmethod
    def forward(x: Tensor, start: Tensor, see: Callable[[Tensor], None]) -> Tensor:  # noqa: ARG004
        return x.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.see = inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        ctx.see(grads[0])
        return (grads[0] if ctx.needs_input_grad[0] else None), None, None


@dataclass(eq=False)
class Tap:
    """Reading at a layer for the images of one tile."""

    name: str
    channels_last: bool
    pooling: Pooling
    view: Tensor | None = None  # the output itself, without history: to see whether the classifier reads it
    version: int = 0  # of the output's memory, which an in-place operation would raise
    value: Tensor | None = None
    class_token: Tensor | None = None
    on_class_token: bool = False
    gradient: Tensor | None = None

    def see_output(self, output: Tensor) -> None:
        """Pool the layer's output.

        Raises:
            LayerError: for one that cannot be pooled.
        """
        if self.view is not None:
            raise LayerError(f"layer {self.name!r} runs twice in one forward pass", self.name)
        if output.ndim not in (2, 3, 4):
            raise LayerError(
                f"layer {self.name!r} has an output of {output.ndim} dimensions, not a map, tokens or a flat feature",
                self.name,
            )
        self.view = output.detach()
        self.version = self.view._version
        self.value = self._pool(self.view)
        if output.ndim == 3:
            self.class_token = self.view[:, 0].float()

    def see_gradient(self, gradient: Tensor) -> None:
        """Pool the gradient the way the output was pooled."""
        self.gradient = gradient[:, 0].float() if self.on_class_token else self._pool(gradient)

    def _pool(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return x.float().clone()
        axes = (1,) if x.ndim == 3 else (1, 2) if self.channels_last else (2, 3)
        reduce = torch.mean if self.pooling == "mean" else torch.sum
        return reduce(x, dim=axes, dtype=torch.float32)


@dataclass(eq=False)
class Record:
    """Record of a forward pass: taps, and inputs of linear layers."""

    taps: dict[str, Tap]
    linears: list[tuple[nn.Linear, Tensor, Tensor]] = field(default_factory=list)

    def classifier(self, logits: Tensor) -> tuple[nn.Linear, Tensor] | None:
        """Find the linear layer whose output is the logits, with its input.

        Returns None when the net ends otherwise.
        """
        for module, inputs, output in reversed(self.linears):
            if output is logits and inputs.ndim == 2:
                return module, inputs
        return None


@contextmanager
def record(model: nn.Module, layers: tuple[str, ...], *, pooling: Pooling, start: Tensor) -> Iterator[Record]:
    """Set hooks for one forward pass; remove them at the end.

    The graph begins at the first tap.
    """
    modules = dict(model.named_modules())
    taps = {name: Tap(name, is_channels_last(modules[name]), pooling) for name in layers}
    found = Record(taps)
    handles = []

    def tap_hook(tap: Tap) -> Callable[[nn.Module, Any, Any], Tensor]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise LayerError(
                    f"layer {tap.name!r} returns a {type(output).__name__}, not a tensor", tap.name
                )
            tap.see_output(output)
            return _Alias.apply(output, start, tap.see_gradient)  # type: ignore[no-any-return]

        return hook

    def linear_hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        found.linears[:] = [(module, args[0], output)]  # type: ignore[list-item]

    try:
        handles += [
            m.register_forward_hook(linear_hook) for m in modules.values() if isinstance(m, nn.Linear)
        ]
        handles += [modules[name].register_forward_hook(tap_hook(tap)) for name, tap in taps.items()]
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen_eval(model: nn.Module) -> Iterator[nn.Module]:
    """Switch to evaluation mode without weight gradients inside.

    Modes and flags are afterwards what they were.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, flag in flags:
            if flag:
                parameter.requires_grad_(False)
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            if flag:
                parameter.requires_grad_(True)
