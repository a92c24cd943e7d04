"""Functions of single rows, in tiles of one shape: a row's result has the same bits whatever rows come with it."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["row_tiles", "rowwise", "unit"]

_TILE = 256


def rowwise(function: Callable[..., Tensor], *parts: Tensor) -> Tensor:
    """`function` of the parts' rows, in float64; its results one below the other.

    The function sees tiles of 256 rows, the last one filled up with zeros, so that a matrix product within it is
    always of the same shape: products of other shapes add in other orders. It must treat every row by itself.
    """
    n = len(parts[0])
    results = []
    for tile in row_tiles(max(n, 1), _TILE):
        found = function(*(_filled(part[tile]) for part in parts))
        results.append(found[: min(_TILE, n - tile.start)])
    return torch.cat(results)


def unit(rows: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """Each float64 row at length one; a row of zeros as it is."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.clamp(min=torch.finfo(rows.dtype).tiny)


def _filled(part: Tensor) -> Tensor:
    tile = part.new_zeros((_TILE, *part.shape[1:]), dtype=torch.float64)
    tile[: len(part)] = part.detach()
    return tile


def row_tiles(rows: int, size: int) -> Iterator[slice]:
    """Slices of `size` rows that cover `rows`."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
