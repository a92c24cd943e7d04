"""Uniform sampling that does not depend on the order of the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor

from sisom.errors import ShapeMismatch
from sisom.types import Scores

__all__ = ["RandomSelector"]


@dataclass(frozen=True)
class RandomSelector:
    """A hash of (seed, id) in [0, 1): every row has the same chance, and its own draw."""

    def priority(self, ids: Sequence[str], scores: Scores, *, seed: int) -> Float[Tensor, " n"]:
        """The draw of each id; the scores only say how many rows there are."""
        if len(ids) != len(scores):
            raise ShapeMismatch(f"{len(ids)} ids for {len(scores)} scores")
        return torch.tensor([_draw(seed, name) for name in ids], dtype=torch.float64)


def _draw(seed: int, name: str) -> float:
    digest = blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # the 53 bits a float64 holds exactly
