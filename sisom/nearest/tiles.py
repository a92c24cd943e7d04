"""Shortlists of the nearest points, inside and outside, from one matrix product.

For a tile of queries the product gives |b|^2 - 2 q.b, the squared distance without |q|^2. Its columns are
taken in groups; the smallest value of each group is enough to know which few groups to open, and only the
opened ones are looked at column by column. Groups need not end where classes end: a group that holds a class's
border has a minimum that is too small for one of the sides, never too large, so it is at worst opened in vain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sisom.nearest.points import SortedPoints
from sisom.nearest.queries import Queries
from sisom.rowwise import row_tiles

__all__ = ["BUDGET_BYTES", "Shortlist", "Tile", "tiles"]

BUDGET_BYTES = 128 << 20

_GROUP = 32  # columns in a group: large enough that the group minima cost little, small enough to open
_MOST_ROWS = 1024
_LEAST_ROWS = 64
_CACHED_BYTES = 4 << 20  # of values between the product and their minima
_SPARE = 3  # points beyond the needed ones, so that the proof of exactness rarely fails


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Few points of one side that hold each query's nearest.

    Args:
        values: (n, r), ascending; infinity for none.
        index: (n, r) positions, -1 for none.
        floor: (n,); every point that is not listed has a value of at least this.
        extra: (n,); how far values may be off beyond the rounding of a product.
    """

    values: Tensor
    index: Tensor
    floor: Tensor
    extra: Tensor | float = 0.0


class Tile:
    """A tile of queries against all points.

    The points are walked in pieces that fit the buffer.

    A point's value is its squared distance less the squared length of the query, but for rounding.

    Args:
        queries: of the tile.
        points: all that are searched.
        buffer: scratch of shape (at least n, a multiple of the group's columns).
    """

    def __init__(self, queries: Queries, points: SortedPoints, buffer: Tensor) -> None:
        self.queries, self.points, self.buffer = queries, points, buffer
        self._only: _Groups | None = None

    def shortlists(self, inner: int, outer: int) -> tuple[Shortlist, Shortlist]:
        """List the nearest points, inside and outside.

        Args:
            inner: how many points of the query's class are asked for.
            outer: how many points of other classes.
        """
        inside, outside = [], []
        for groups in self._pieces():
            inside.append(groups.inside(inner))
            outside.append(groups.outside(outer))
        return _merge(inside, inner), _merge(outside, outer)

    def below(self, rows: Tensor, limit: Tensor, *, same: bool) -> tuple[Tensor, Tensor]:
        """Find pairs of one side with a value within the row's limit.

        Returns places in `rows`, and positions.
        """
        # Rounded up, so that comparing in float32 leaves nobody out.
        limit = limit.float() + limit.float().abs() * 2.0**-22
        if self._only is not None:
            return self._only.below(rows, limit, same=same)
        part = Tile(self.queries.at(rows), self.points, self.buffer)
        every = torch.arange(len(rows), device=rows.device)
        pairs = [groups.below(every, limit, same=same) for groups in part._pieces()]
        row, column = (torch.cat(side) for side in zip(*pairs, strict=True))
        return row, column

    def _pieces(self) -> Iterator[_Groups]:
        n, width = len(self.queries), self.buffer.shape[1]
        for columns in row_tiles(len(self.points), width):
            piece = self.points.only(columns.start, columns.stop)
            values = self.buffer[:n, : _whole_groups(len(piece))]
            minima = self._fill(values, piece, columns.start)
            groups = _Groups(values, minima, piece=piece, classes=self.queries.classes, offset=columns.start)
            if len(piece) == len(self.points):
                self._only = groups
            yield groups

    def _fill(self, values: Tensor, piece: SortedPoints, offset: int) -> Tensor:
        """Write the values; return the minima of their groups.

        Slice by slice, so that each is reduced while it lies in the cache.
        """
        minima = values.new_empty((len(values), values.shape[1] // _GROUP))
        for columns in row_tiles(
            values.shape[1], max(_GROUP, _CACHED_BYTES // (4 * len(values)) // _GROUP * _GROUP)
        ):
            part, stop = values[:, columns], min(columns.stop, len(piece))
            inside = slice(columns.start, stop)
            product = part[:, : stop - columns.start]
            queries = self.queries.points
            torch.addmm(piece.norms[inside], queries, piece.points[inside].T, alpha=-2, out=product)
            part[:, stop - columns.start :] = torch.inf
            if self.queries.hidden is not None:
                local = self.queries.hidden - offset - columns.start
                hidden = ((local >= 0) & (local < product.shape[1])).nonzero().flatten()
                part[hidden, local[hidden]] = torch.inf
            groups = slice(columns.start // _GROUP, columns.stop // _GROUP)
            torch.amin(part.view(len(part), -1, _GROUP), dim=2, out=minima[:, groups])
        return minima


def tiles(queries: Queries, points: SortedPoints, budget_bytes: int) -> Iterator[Tile]:
    """Cut queries into tiles whose scratch memory the budget allows.

    One buffer serves all tiles.
    """
    columns = _whole_groups(max(1, len(points)))
    rows = max(_LEAST_ROWS, budget_bytes // (4 * columns))
    rows = min(_MOST_ROWS, rows, max(1, len(queries)))
    columns = min(columns, max(_GROUP, budget_bytes // (4 * rows) // _GROUP * _GROUP))
    buffer = queries.points.new_empty((rows, columns))
    return (Tile(queries.at(part), points, buffer) for part in row_tiles(len(queries), rows))


class _Groups:
    """Values of a tile and a piece of the points, in groups."""

    def __init__(
        self, values: Tensor, minima: Tensor, *, piece: SortedPoints, classes: Tensor, offset: int
    ) -> None:
        self.count = values.shape[1] // _GROUP
        self.values = values.view(len(values), self.count, _GROUP)
        self.minima = minima
        self.classes, self.offset = classes, offset
        pad = self.count * _GROUP - len(piece)
        self.labels = torch.nn.functional.pad(piece.labels, (0, pad), value=-1).view(self.count, _GROUP)
        self.start, self.stop = piece.span(classes)
        self.one_class = bool(piece.labels[0] == piece.labels[-1])

    def inside(self, need: int) -> Shortlist:
        """List points of the query's class.

        Only the groups that the class touches can hold them.
        """
        if need == 0:
            return self._nothing()
        first = self.start // _GROUP
        last = torch.where(self.stop > self.start, (self.stop - 1) // _GROUP, first - 1)
        width = int((last - first).max()) + 1
        window = first[:, None] + torch.arange(width, device=first.device)
        beyond = window > last[:, None]
        window = window.clamp(max=self.count - 1)
        minima = self.minima.gather(1, window).masked_fill_(beyond, torch.inf)
        return self._open(minima, window, need, same=True)

    def outside(self, need: int) -> Shortlist:
        """List points of other classes.

        Groups of the query's class alone are left out.
        """
        if need == 0:
            return self._nothing()
        pure = torch.where(self.labels[:, 0] == self.labels[:, -1], self.labels[:, 0], -1)
        minima = self.minima.masked_fill(pure == self.classes[:, None], torch.inf)
        return self._open(minima, None, need, same=False)

    def below(self, rows: Tensor, limit: Tensor, *, same: bool) -> tuple[Tensor, Tensor]:
        """Find pairs of one side with a value of at most `limit`.

        Returns places in `rows`, and positions.
        """
        row, group = (self.minima[rows] <= limit[:, None]).nonzero(as_tuple=True)
        fits = self.values[rows[row], group] <= limit[row, None]
        fits &= (self.labels[group] == self.classes[rows[row], None]) == same
        pair, column = fits.nonzero(as_tuple=True)
        return row[pair], group[pair] * _GROUP + column + self.offset

    def _nothing(self) -> Shortlist:
        empty = self.minima[:, :0]
        return Shortlist(empty, empty.long(), self.minima.new_full((len(self.minima),), torch.inf))

    def _open(self, minima: Tensor, window: Tensor | None, need: int, *, same: bool) -> Shortlist:
        """Open the most promising groups, and list their best columns.

        Two groups may be borders of the class, opened in vain.
        """
        minima, chosen, floor = _smallest(minima, need + 3)
        opened = chosen if window is None else window.gather(1, chosen)
        values = self.values.gather(1, opened[:, :, None].expand(*opened.shape, _GROUP))
        # A group that was masked among the minima must not come back by being opened.
        fits = torch.isfinite(minima)[:, :, None]
        if not (same and self.one_class):
            fits = fits & ((self.labels[opened] == self.classes[:, None, None]) == same)
        values, place, rest = _smallest(values.masked_fill_(~fits, torch.inf).flatten(1), need + _SPARE)
        index = opened.gather(1, place // _GROUP) * _GROUP + place % _GROUP + self.offset
        return Shortlist(values, index, torch.minimum(floor, rest))


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the `count` smallest of each row and their places.

    Returns values, places, and the smallest of the other values: infinity where there are none.
    """
    take = min(count + 1, values.shape[1])
    best, place = values.topk(take, dim=1, largest=False)
    if take == count + 1:
        return best[:, :count], place[:, :count], best[:, count]
    return best, place, values.new_full((len(values),), torch.inf)


def _merge(sides: list[Shortlist], need: int) -> Shortlist:
    values = torch.cat([side.values for side in sides], dim=1)
    index = torch.cat([side.index for side in sides], dim=1)
    floor = torch.stack([side.floor for side in sides]).amin(dim=0)
    if len(sides) > 1:
        values, place, rest = _smallest(values, need + _SPARE)
        index, floor = index.gather(1, place), torch.minimum(floor, rest)
    return Shortlist(values, torch.where(torch.isfinite(values), index, -1), floor)


def _whole_groups(columns: int) -> int:
    return -(-columns // _GROUP) * _GROUP
