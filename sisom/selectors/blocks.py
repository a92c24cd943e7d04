"""Greedy picks by the distance to the nearest center, in blocks.

Blocks are rows of a pool that may live anywhere.

Each pick is one reduction: the best row of each block, then the best of those. The distance of a row to a center is
computed from that pair alone, and ties go to the lower id, so the picks are the same for any cutting into blocks.

A row's distance to its nearest center only shrinks as centers come. What was last known is therefore a bound, and a
row is measured again only when its bound could win: most rows never meet most centers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sisom.errors import InputError
from sisom.rowwise import row_tiles
from sisom.selectors.base import PoolSelector
from sisom.types import Candidates, Labeled

__all__ = ["Block", "GreedySelector", "Pick", "Points", "Race", "pick_greedily", "winner"]

_PAIRS = 1024  # pairs measured at a time, so that they stay in the cache
_FEW = 8


P = TypeVar("P", bound="Points")


@runtime_checkable
class Points(Protocol):
    """Rows with a distance."""

    def at(self: P, rows: Tensor) -> P:
        """Select the rows at some positions."""
        ...

    def join(self: P, others: P) -> P:
        """Join the rows of both, one below the other."""
        ...

    def measure(self: P, others: P) -> Tensor:
        """Measure each row's distance to the other's row at its place.

        It depends on that pair alone, to the last bit.
        """
        ...


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread of torch's.

    A pick is many small steps, in which threads would wait for each other longer than they work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Pick(NamedTuple):
    """A row of a block, and its worth."""

    value: float
    id: str
    row: int


class Block(ABC, Generic[P]):
    """Rows of a pool with their distance to the nearest center.

    The first pick, without any center, is the subclass's to value.

    Raises `InputError` unless the ids ascend: places then stand for ids, and the first of equals is the lowest.
    """

    def __init__(self, ids: Sequence[str], points: P) -> None:
        if any(a >= b for a, b in pairwise(ids)):
            raise InputError("the ids of a block must ascend, without repetition")
        self.ids, self.points = ids, points
        self.count = 0  # of the centers that were added
        self._centers: P | None = None
        self._left = len(ids)
        # Infinite for rows that met no center, minus infinity for those that were taken.
        self._bound = torch.full((len(ids),), torch.inf, dtype=torch.float64)
        self._measured = False  # whether none is infinite
        self._seen = torch.zeros(len(ids), dtype=torch.int64)  # centers that the bound knows of

    @property
    def distances(self) -> Float[Tensor, " n"]:
        """Distance of every row to its nearest center."""
        self._refresh((self._seen < self.count).nonzero().flatten())
        return self._bound.clamp(min=0)

    @_one_thread()
    def add(self, center: P) -> None:
        """Add another center, a single row."""
        self._centers = center if self._centers is None else self._centers.join(center)
        self.count += 1

    @_one_thread()
    def take(self, row: int) -> P:
        """Take the row as a center; it will not be picked again."""
        self._bound[row] = -torch.inf
        self._left -= 1
        return self.points.at(torch.tensor([row]))

    def farthest(self) -> Pick | None:
        """Offer the row that is worth most; None when all are taken.

        Brings up to date what could be it.
        """
        if self._left == 0:
            return None
        if not self._measured:
            if self.count == 0:
                return self._first_of_best(self._first().where(self._bound > 0, -torch.inf))
            self._refresh((self._bound > 0).nonzero().flatten())
            self._measured = True
        return self._win(self._weight())

    @_one_thread()
    def _win(self, weight: Tensor | None) -> Pick:
        few = _FEW
        while True:
            worth = self._bound if weight is None else self._bound * weight
            best = self._first_of_best(worth)
            if self._seen[best.row] == self.count or self._bound[best.row] <= 0:
                return best  # what the others are worth is a bound, and no better
            rows = worth.topk(min(few, len(worth))).indices
            stale = rows[(self._seen[rows] < self.count) & (self._bound[rows] > 0)]
            # Itself too, which may stand behind equals.
            self._refresh(torch.unique(torch.cat([stale, torch.tensor([best.row])])))
            few *= 2

    @abstractmethod
    def _first(self) -> Tensor:
        """Value the rows while there is no center, float64."""

    def _weight(self) -> Tensor | None:
        """Weigh the rows' distances for the next pick; None for equal weights."""
        return None

    def _first_of_best(self, worth: Tensor) -> Pick:
        row = int(worth.numpy().argmax())  # of equals the first: the lowest id
        return Pick(float(worth[row]), self.ids[row], row)

    def _refresh(self, rows: Tensor) -> None:
        """Measure rows against the centers that they have not met."""
        if self._centers is None:
            return
        for part in row_tiles(len(rows), _PAIRS):
            some = rows[part]
            missing = self.count - self._seen[some]
            pair_row = some.repeat_interleave(missing)
            first = (missing.cumsum(0) - missing).repeat_interleave(missing)
            pair_center = self._seen[pair_row] + torch.arange(len(pair_row)) - first
            for pairs in row_tiles(len(pair_row), _PAIRS):
                row, center = pair_row[pairs], pair_center[pairs]
                near = self.points.at(row).measure(self._centers.at(center)).double()
                self._bound.scatter_reduce_(0, row, near, "amin")
        self._seen[rows] = self.count


class Race:
    """Draws in proportion to weights, by exponential waiting times.

    The row with the largest `weight / time` is drawn.

    The times are hashes of the seed, the id and how many picks there were, so that they depend on nothing else.
    """

    def __init__(self, ids: Sequence[str], seed: int) -> None:
        digests = b"".join(blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for name in ids)
        self._keys = np.frombuffer(digests, dtype="<u8").astype(np.uint64)

    def rates(self, step: int) -> Float[Tensor, " n"]:
        """Compute one over each row's waiting time for pick number `step`."""
        with np.errstate(over="ignore"):  # splitmix64, whose arithmetic is modulo 2**64
            x = self._keys + np.uint64(step + 1) * np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x ^= x >> np.uint64(31)
        uniform = ((x >> np.uint64(12)).astype(np.float64) + 0.5) / 2**52  # never 0, never 1
        return torch.from_numpy(-1 / np.log(uniform))


class GreedySelector(PoolSelector):
    """Pool selector that picks greedily from blocks.

    The pool may be cut into any blocks, which may live anywhere.
    """

    @abstractmethod
    def block(self, pool: Candidates, labeled: Labeled, *, seed: int) -> Block[Any]:
        """Make a block of rows for `pick_greedily`, in ascending order of ids."""

    def _pick(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Sequence[int]:
        return [row for _, row in pick_greedily([self.block(pool, labeled, seed=seed)], k)]


def winner(offers: Sequence[Pick | None]) -> int:
    """Find the place of the best of the blocks' offers.

    Ties go to the lower id. One block at least must offer a row.
    """
    made = [(-offer.value, offer.id, place) for place, offer in enumerate(offers) if offer is not None]
    return min(made)[2]


def pick_greedily(blocks: Sequence[Block[P]], k: int) -> list[tuple[int, int]]:
    """Make `k` picks, each a center for all blocks before the next.

    Returns (block, row) in pick order.
    """
    picks = []
    for _ in range(k):
        offers = [block.farthest() for block in blocks]
        place = winner(offers)
        best = offers[place]
        assert best is not None
        center = blocks[place].take(best.row)
        for block in blocks:
            block.add(center)
        picks.append((place, best.row))
    return picks
