"""Candidates for the nearest neighbors, inside and outside, from one pass over one matrix product.

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

from sisom.nearest.gallery import Gallery
from sisom.rowwise import row_tiles

__all__ = ["GROUP", "SPARE", "Candidates", "Tile"]

GROUP = 32  # columns in a group: large enough that the group minima cost little, small enough to open
_CACHED_BYTES = 4 << 20  # of values between the product and their minima
SPARE = 3  # candidates beyond the needed ones, so that the proof of exactness rarely fails


@dataclass(frozen=True, eq=False)
class Candidates:
    """Positions (n, r) that hold the nearest points, -1 for none.

    Every point that is not among them has a value of at least `floor` (n,).
    """

    index: Tensor
    floor: Tensor


class Tile:
    """One tile of queries against the whole gallery, which is walked in pieces that fit the buffer.

    exclude  the position that each query may not see, -1 for none
    buffer   scratch of shape (at least n, a multiple of GROUP)
    """

    def __init__(
        self, queries: Tensor, classes: Tensor, gallery: Gallery, exclude: Tensor | None, buffer: Tensor
    ) -> None:
        self.queries, self.classes, self.exclude = queries, classes, exclude
        self.gallery, self.buffer = gallery, buffer
        self._only: _Groups | None = None

    def candidates(self, inner: int, outer: int) -> tuple[Candidates, Candidates]:
        """Candidates for the `inner` nearest points of the query's class and the `outer` nearest others."""
        inside, outside = [], []
        for groups in self._pieces():
            inside.append(groups.inside(inner))
            outside.append(groups.outside(outer))
        return _merge(inside, inner), _merge(outside, outer)

    def below(self, rows: Tensor, limit: Tensor, *, same: bool) -> tuple[Tensor, Tensor]:
        """All pairs (place in `rows`, position) of one side whose value is at most the row's limit."""
        # Rounded up, so that comparing in float32 leaves nobody out.
        limit = limit.float() + limit.float().abs() * 2.0**-22
        if self._only is not None:
            return self._only.below(rows, limit, same=same)
        exclude = None if self.exclude is None else self.exclude[rows]
        part = Tile(self.queries[rows], self.classes[rows], self.gallery, exclude, self.buffer)
        every = torch.arange(len(rows), device=rows.device)
        pairs = [groups.below(every, limit, same=same) for groups in part._pieces()]
        row, column = (torch.cat(side) for side in zip(*pairs, strict=True))
        return row, column

    def _pieces(self) -> Iterator[_Groups]:
        n, width = len(self.queries), self.buffer.shape[1]
        for columns in row_tiles(len(self.gallery), width):
            piece = self.gallery.only(columns.start, columns.stop)
            values = self.buffer[:n, : -(-len(piece) // GROUP) * GROUP]
            groups = _Groups(
                values, self._fill(values, piece, columns.start), piece, self.classes, columns.start
            )
            if len(piece) == len(self.gallery):
                self._only = groups
            yield groups

    def _fill(self, values: Tensor, piece: Gallery, offset: int) -> Tensor:
        """Write the values, slice by slice; each slice is reduced to its groups' minima while in the cache."""
        minima = values.new_empty((len(values), values.shape[1] // GROUP))
        for columns in row_tiles(
            values.shape[1], max(GROUP, _CACHED_BYTES // (4 * len(values)) // GROUP * GROUP)
        ):
            part, stop = values[:, columns], min(columns.stop, len(piece))
            inside = slice(columns.start, stop)
            product = part[:, : stop - columns.start]
            torch.addmm(piece.norms[inside], self.queries, piece.points[inside].T, alpha=-2, out=product)
            part[:, stop - columns.start :] = torch.inf
            if self.exclude is not None:
                local = self.exclude - offset - columns.start
                hidden = ((local >= 0) & (local < product.shape[1])).nonzero().flatten()
                part[hidden, local[hidden]] = torch.inf
            groups = slice(columns.start // GROUP, columns.stop // GROUP)
            torch.amin(part.view(len(part), -1, GROUP), dim=2, out=minima[:, groups])
        return minima


@dataclass(frozen=True, eq=False)
class _Side:
    values: Tensor  # (n, r), ascending
    index: Tensor
    floor: Tensor  # (n,)


class _Groups:
    """The values of one tile and one piece of the gallery, in groups of columns."""

    def __init__(self, values: Tensor, minima: Tensor, piece: Gallery, classes: Tensor, offset: int) -> None:
        self.count = values.shape[1] // GROUP
        self.values = values.view(len(values), self.count, GROUP)
        self.minima = minima
        self.classes, self.offset = classes, offset
        pad = self.count * GROUP - len(piece)
        self.labels = torch.nn.functional.pad(piece.labels, (0, pad), value=-1).view(self.count, GROUP)
        self.start, self.stop = piece.span(classes)

    def inside(self, need: int) -> _Side:
        """Only the groups that the query's class touches can hold its points: a window of the minima."""
        if need == 0:
            return self._nothing()
        first = self.start // GROUP
        last = torch.where(self.stop > self.start, (self.stop - 1) // GROUP, first - 1)
        width = int((last - first).max()) + 1
        window = first[:, None] + torch.arange(width, device=first.device)
        beyond = window > last[:, None]
        window = window.clamp(max=self.count - 1)
        minima = self.minima.gather(1, window).masked_fill_(beyond, torch.inf)
        return self._open(minima, window, need, same=True)

    def outside(self, need: int) -> _Side:
        """All groups but those that hold nothing else than the query's class."""
        if need == 0:
            return self._nothing()
        pure = torch.where(self.labels[:, 0] == self.labels[:, -1], self.labels[:, 0], -1)
        minima = self.minima.masked_fill(pure == self.classes[:, None], torch.inf)
        return self._open(minima, None, need, same=False)

    def below(self, rows: Tensor, limit: Tensor, *, same: bool) -> tuple[Tensor, Tensor]:
        """Pairs (place in `rows`, position) of one side with a value of at most `limit`."""
        row, group = (self.minima[rows] <= limit[:, None]).nonzero(as_tuple=True)
        fits = self.values[rows[row], group] <= limit[row, None]
        fits &= (self.labels[group] == self.classes[rows[row], None]) == same
        pair, column = fits.nonzero(as_tuple=True)
        return row[pair], group[pair] * GROUP + column + self.offset

    def _nothing(self) -> _Side:
        empty = self.minima[:, :0]
        return _Side(empty, empty.long(), self.minima.new_full((len(self.minima),), torch.inf))

    def _open(self, minima: Tensor, window: Tensor | None, need: int, *, same: bool) -> _Side:
        """Open the most promising groups; two of them may be borders of the class, opened in vain."""
        minima, chosen, floor = _smallest(minima, need + 3)
        opened = chosen if window is None else window.gather(1, chosen)
        values = self.values.gather(1, opened[:, :, None].expand(*opened.shape, GROUP))
        fits = (self.labels[opened] == self.classes[:, None, None]) == same
        # A group that was masked among the minima must not come back by being opened.
        fits &= torch.isfinite(minima)[:, :, None]
        columns = opened[:, :, None] * GROUP + torch.arange(GROUP, device=opened.device)
        values, place, rest = _smallest(values.masked_fill_(~fits, torch.inf).flatten(1), need + SPARE)
        index = columns.flatten(1).gather(1, place) + self.offset
        return _Side(values, index, torch.minimum(floor, rest))


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` smallest of each row, where they are, and the smallest of the others (infinity for none)."""
    take = min(count + 1, values.shape[1])
    best, place = values.topk(take, dim=1, largest=False)
    if take == count + 1:
        return best[:, :count], place[:, :count], best[:, count]
    return best, place, values.new_full((len(values),), torch.inf)


def _merge(sides: list[_Side], need: int) -> Candidates:
    values = torch.cat([side.values for side in sides], dim=1)
    index = torch.cat([side.index for side in sides], dim=1)
    floor = torch.stack([side.floor for side in sides]).amin(dim=0)
    if len(sides) > 1:
        values, place, rest = _smallest(values, need + SPARE)
        index, floor = index.gather(1, place), torch.minimum(floor, rest)
    return Candidates(torch.where(torch.isfinite(values), index, -1), floor)
