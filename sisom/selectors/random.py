"""Uniform sampling that does not depend on the order of the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor

from sisom.selectors.base import RowSelector
from sisom.types import Candidates

__all__ = ["RandomSelector", "draws"]


@dataclass(frozen=True)
class RandomSelector(RowSelector):
    """Uniform draws: a hash of (seed, id) in [0, 1)."""

    needs = frozenset[str]()

    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:
        """Rank by the draw of each id."""
        return draws(pool.ids, seed)


def draws(ids: Sequence[str], seed: int) -> Float[Tensor, " n"]:
    """Draw a number in [0, 1) by id and seed alone."""
    return torch.tensor([_draw(seed, name) for name in ids], dtype=torch.float64)


def _draw(seed: int, name: str) -> float:
    digest = blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # the 53 bits a float64 holds exactly
