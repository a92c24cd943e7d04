"""Functions of single rows, computed in tiles of one shape.

A row's result has the same bits whatever rows come with it.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["row_tiles", "rowwise", "unit"]

_TILE = 256


def rowwise(function: Callable[..., Tensor], *parts: Tensor) -> Tensor:
    """Apply a function to the rows of all parts, in float64.

    Returns its results one below the other.

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
    """Scale each float64 row to length one; a row of zeros stays."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.clamp(min=torch.finfo(rows.dtype).tiny)


def _filled(part: Tensor) -> Tensor:
    tile = part.new_zeros((_TILE, *part.shape[1:]), dtype=torch.float64)
    tile[: len(part)] = part.detach()
    return tile


def row_tiles(rows: int, size: int) -> Iterator[slice]:
    """Cut `rows` into slices of `size`."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
