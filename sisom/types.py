"""Values that flow through the algorithm, all frozen.

`eq=False` because tensors have no single truth.

n rows of a batch, d saliency columns, p penultimate columns, K classes. Scores are higher when the image is
stranger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sisom.arrays import as_tensor
from sisom.errors import EmptyInput, LabelError, ShapeMismatch

__all__ = ["Candidates", "Features", "Labeled", "LayerDims", "Scores"]

LayerDims = tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of n images, from one forward pass.

    Args:
        saliency: pooled activation times pooled gradient, `z * g`, the layers side by side as `layer_dims` says.
        layer_dims: name and columns of each layer.
        penultimate: the vector that enters the classifier.
        logits: the classifier's output.
    """

    saliency: Float[Tensor, "n d"]
    layer_dims: LayerDims
    penultimate: Float[Tensor, "n p"]
    logits: Float[Tensor, "n K"]

    def __post_init__(self) -> None:
        rows = {len(self.saliency), len(self.penultimate), len(self.logits)}
        if len(rows) != 1:
            raise ShapeMismatch(f"saliency, penultimate and logits must have equal rows, got {sorted(rows)}")
        width = sum(dim for _, dim in self.layer_dims)
        if width != self.saliency.shape[1]:
            raise ShapeMismatch(
                f"layer_dims add up to {width}, saliency has {self.saliency.shape[1]} columns"
            )

    def __len__(self) -> int:
        return len(self.saliency)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in column order."""
        return tuple(name for name, _ in self.layer_dims)

    def select(self, index: Tensor | slice | Sequence[int]) -> Features:
        """Select the rows at `index`, in that order."""
        rows = index if isinstance(index, slice | Tensor) else torch.as_tensor(list(index), dtype=torch.int64)
        return Features(self.saliency[rows], self.layer_dims, self.penultimate[rows], self.logits[rows])

    def to(self, device: str | torch.device) -> Features:
        """Move the features to `device`."""
        return Features(
            self.saliency.to(device), self.layer_dims, self.penultimate.to(device), self.logits.to(device)
        )

    @classmethod
    def concat(cls, parts: Sequence[Features]) -> Features:
        """Join the rows of all parts, one after the other.

        The parts must agree on `layer_dims`.
        """
        if not parts:
            raise EmptyInput("cannot concatenate no features")
        if any(part.layer_dims != parts[0].layer_dims for part in parts):
            raise ShapeMismatch("features of different layers cannot be concatenated")
        return cls(
            torch.cat([part.saliency for part in parts]),
            parts[0].layer_dims,
            torch.cat([part.penultimate for part in parts]),
            torch.cat([part.logits for part in parts]),
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return `saliency`, `penultimate` and `logits` as NumPy arrays.

        No copy is made on a CPU.
        """
        return {
            "saliency": self.saliency.detach().cpu().numpy(),
            "penultimate": self.penultimate.detach().cpu().numpy(),
            "logits": self.logits.detach().cpu().numpy(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], layer_dims: Sequence[Sequence[Any]]) -> Features:
        """Restore features of `to_arrays`; read-only arrays are used in place."""
        return cls(
            as_tensor(arrays["saliency"]),
            tuple((str(name), int(dim)) for name, dim in layer_dims),
            as_tensor(arrays["penultimate"]),
            as_tensor(arrays["logits"]),
        )


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores, one row per image; higher is stranger.

    Every number is finite. `outer` alone is a distance that is smaller for stranger images.

    Args:
        predicted: argmax of the logits, the class that distances are taken for.
        inner: distance to the nearest bank point of the predicted class.
        outer: distance to the nearest bank point of another class.
        ratio: inner / outer.
        energy: -logsumexp of the logits.
        sisom: the paper's SISOM score, the ratio.
        sisome: the energy and the ratio fused.
    """

    predicted: Int[Tensor, " n"]
    inner: Float[Tensor, " n"]
    outer: Float[Tensor, " n"]
    ratio: Float[Tensor, " n"]
    energy: Float[Tensor, " n"]
    sisom: Float[Tensor, " n"]
    sisome: Float[Tensor, " n"]

    def __post_init__(self) -> None:
        if len({len(getattr(self, field.name)) for field in fields(self)}) != 1:
            raise ShapeMismatch("all scores must have the same number of rows")

    def __len__(self) -> int:
        return len(self.predicted)

    def select(self, index: Tensor | slice | Sequence[int]) -> Scores:
        """Select the rows at `index`, in that order."""
        rows = index if isinstance(index, slice | Tensor) else torch.as_tensor(list(index), dtype=torch.int64)
        return Scores(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def concat(cls, parts: Sequence[Scores]) -> Scores:
        """Join the rows of all parts, one after the other."""
        if not parts:
            raise EmptyInput("cannot concatenate no scores")
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return each score under its name as a NumPy array."""
        return {field.name: getattr(self, field.name).cpu().numpy() for field in fields(self)}


@dataclass(frozen=True, eq=False)
class Candidates:
    """Rows that may be asked about, with the facts that selectors need.

    None stands for what nobody produced.

    Args:
        ids: of the rows.
        scores: by a bank.
        features: of the images.
        committee: class probabilities by each member: passes with dropout, or an ensemble.
    """

    ids: Sequence[str]
    scores: Scores | None = None
    features: Features | None = None
    committee: Float[Tensor, "members n K"] | None = None

    def __post_init__(self) -> None:
        rows = {
            "scores": None if self.scores is None else len(self.scores),
            "features": None if self.features is None else len(self.features),
            "committee outputs": None if self.committee is None else self.committee.shape[1],
        }
        for what, count in rows.items():
            if count not in (None, len(self.ids)):
                raise ShapeMismatch(f"{len(self.ids)} ids for {count} rows of {what}")

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, index: Sequence[int]) -> Candidates:
        """Select the rows at `index`, in that order."""
        rows = torch.as_tensor(list(index), dtype=torch.int64)
        return Candidates(
            [self.ids[row] for row in index],
            None if self.scores is None else self.scores.select(rows),
            None if self.features is None else self.features.select(rows),
            None if self.committee is None else self.committee[:, rows],
        )


@dataclass(frozen=True, eq=False)
class Labeled:
    """Labeled set as the current model sees it.

    `features` may be None where no selector needs them.
    """

    features: Features | None
    labels: Int[Tensor, " m"]
    num_classes: int

    def __post_init__(self) -> None:
        if self.features is not None and len(self.features) != len(self.labels):
            raise ShapeMismatch(f"{len(self.features)} feature rows for {len(self.labels)} labels")
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < self.num_classes:
            raise LabelError(f"labels must lie in 0 to {self.num_classes - 1}")

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self) -> dict[int, int]:
        """Count the labels of each class."""
        return dict(enumerate(torch.bincount(self.labels.cpu(), minlength=self.num_classes).tolist()))
