"""ProbCover (Yehuda et al. 2022): coverage by balls of one radius."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sisom.errors import InputError
from sisom.rowwise import row_tiles
from sisom.selectors.base import PoolSelector
from sisom.selectors.random import draws
from sisom.selectors.typical import unit_rows
from sisom.types import Candidates, Labeled

__all__ = ["ProbCoverSelector"]

_TILE = 64  # balls at a time, always as many: a product of another shape could see another border


@dataclass(frozen=True)
class ProbCoverSelector(PoolSelector):
    """ProbCover: each pick covers the most rows not covered yet.

    Rows are penultimate features at length one, covered within `radius`; the default is the one published for
    self-supervised features of CIFAR-10. When all rows are covered the rest is drawn at random.
    """

    radius: float = 0.75

    needs = frozenset({"features", "labeled"})

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise InputError(f"the radius must be positive, got {self.radius}")

    def _pick(self, pool: Candidates, labeled: Labeled, k: int, *, seed: int) -> Sequence[int]:
        balls = _Balls(unit_rows(pool, labeled), self.radius)
        n = len(pool)
        for tile in row_tiles(len(labeled), _TILE):
            balls.cover(torch.arange(n + tile.start, min(n + tile.stop, len(balls.rows))))
        gain = torch.cat(
            [balls.gain(torch.arange(tile.start, min(tile.stop, n))) for tile in row_tiles(n, _TILE)]
        )
        # A gain only shrinks, so the last known one is a bound, and only rows whose bound could win are looked at.
        known = torch.zeros(n, dtype=torch.int64)
        picks: list[int] = []
        while len(picks) < k:
            stale = known < len(picks)
            sure = int(gain.masked_fill(stale, 0).max())
            open_rows = (stale & (gain >= max(1, sure))).nonzero().flatten()
            if len(open_rows):
                order = gain[open_rows].argsort(descending=True, stable=True)
                some = open_rows[order[:_TILE]]
                gain[some], known[some] = balls.gain(some), len(picks)
            elif sure == 0:
                break
            else:
                picks.append(int(gain.argmax()))  # the first of equals: the lowest id
                balls.cover(torch.tensor(picks[-1:]))
        taken = set(picks)
        chance = draws(pool.ids, seed)
        rest = sorted((row for row in range(n) if row not in taken), key=lambda row: -float(chance[row]))
        return picks + rest[: k - len(picks)]


class _Balls:
    """All rows, which of them are covered, and the balls around some."""

    def __init__(self, rows: Tensor, radius: float) -> None:
        self.rows, self.radius = rows, radius
        self.open = torch.ones(len(rows), dtype=torch.bool)
        self._norms = rows.square().sum(dim=1)

    def gain(self, centers: Tensor) -> Tensor:
        """Count the uncovered rows in each ball; at most 64 balls."""
        return (self._inside(centers) & self.open).sum(dim=1)

    def cover(self, centers: Tensor) -> None:
        """Mark the rows in some balls as covered; at most 64 balls."""
        self.open &= ~self._inside(centers).any(dim=0)

    def _inside(self, centers: Tensor) -> Tensor:
        tile = self.rows.new_zeros((_TILE, self.rows.shape[1]))
        tile[: len(centers)] = self.rows[centers]
        squared = torch.addmm(self._norms, tile, self.rows.T, alpha=-2)[: len(centers)]
        near = squared + self._norms[centers, None] < self.radius**2
        near[torch.arange(len(centers)), centers] = True
        return near
