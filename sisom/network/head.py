"""The classifier's last layer, for the methods that look at it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sisom.errors import LayerError, NonFinite, ShapeMismatch

__all__ = ["Head"]


@dataclass(frozen=True, eq=False)
class Head:
    """`logits = weight @ penultimate + bias`, in float64."""

    weight: Float[Tensor, "K p"]
    bias: Float[Tensor, " K"]

    def __post_init__(self) -> None:
        if len(self.weight) != len(self.bias):
            raise ShapeMismatch(f"{len(self.weight)} rows of weights for {len(self.bias)} biases")
        if not bool(torch.isfinite(self.weight).all() and torch.isfinite(self.bias).all()):
            raise NonFinite("the weights and biases of a head must be finite")

    @classmethod
    def of(cls, model: nn.Module) -> Head:
        """Take the model's last linear layer.

        Raises:
            LayerError: for a model without one.
        """
        linear = next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)
        if linear is None:
            raise LayerError(f"{type(model).__name__} has no linear layer")
        weight = linear.weight.detach().double()
        return cls(
            weight, weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach().double()
        )

    def logits(self, penultimate: Float[Tensor, "n p"]) -> Float[Tensor, "n K"]:
        """Compute the logits of float64 penultimate features."""
        return penultimate @ self.weight.to(penultimate).T + self.bias.to(penultimate)

    def gaps(self) -> Float[Tensor, "K K"]:
        """Measure the distance between the weights of each two classes.

        A difference of their logits over it is a distance to their boundary.
        """
        weight = self.weight.double()
        return torch.stack([(weight - row).norm(dim=1) for row in weight])
