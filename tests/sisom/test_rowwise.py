"""Functions of single rows in tiles of one shape."""

import pytest
import torch

from sisom.rowwise import row_tiles, rowwise, unit


def test_tiles_cover_all_rows_once():
    assert list(row_tiles(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(row_tiles(0, 2)) == []


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 600])
def test_a_row_has_the_same_bits_whatever_comes_with_it(rows):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(rows, 7, generator=generator)
    weight = torch.randn(7, 5, generator=generator).double()
    found = rowwise(lambda part: part @ weight, values)
    assert found.shape == (rows, 5)
    assert found.dtype == torch.float64
    for row in {0, rows // 2, rows - 1} if rows else ():
        assert torch.equal(rowwise(lambda part: part @ weight, values[row : row + 1])[0], found[row])


def test_several_parts_are_cut_alike():
    a, b = torch.arange(300.0), torch.arange(300.0) * 2
    found = rowwise(lambda x, y: x + y, a[:, None], b[:, None])
    assert torch.equal(found[:, 0], (a + b).double())


def test_unit_rows_by_hand():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    assert unit(rows).tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]
