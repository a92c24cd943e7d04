"""The search for one slope a layer that minimises the leave-one-out ratio (section 8)."""

import itertools
from collections.abc import Mapping, Sequence

from jaxtyping import Int
from torch import Tensor

from sisom.bank import average_ratio
from sisom.errors import SlopeError
from sisom.types import Features

__all__ = ["search_slopes"]


def search_slopes(
    features: Features, labels: Int[Tensor, " n"], candidates: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """The combination of candidate slopes with the smallest leave-one-out ratio; ties go to the smaller
    slopes.
    """
    if set(candidates) != set(features.layers) or not all(candidates.values()):
        raise SlopeError(f"candidates are needed for exactly the layers {', '.join(features.layers)}")
    names = list(features.layers)
    best: tuple[float, float, tuple[float, ...]] | None = None
    for combination in itertools.product(*(candidates[name] for name in names)):
        value = average_ratio(features, labels, dict(zip(names, combination, strict=True)))
        key = (value, sum(combination), combination)
        best = key if best is None or key < best else best
    assert best is not None
    return dict(zip(names, best[2], strict=True))
