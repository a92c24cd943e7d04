"""Tables that import an entry when it is asked for."""

import sys

import pytest

import sisom
from sisom.tables import Table


def test_an_entry_is_imported_when_it_is_asked_for():
    sys.modules.pop("this", None)
    table = Table({"zen": "this:s", "pi": "math:pi"})
    assert list(table) == ["zen", "pi"] and len(table) == 2
    assert "pi" in table and "e" not in table
    assert table["pi"] == pytest.approx(3.14159, abs=1e-5)
    assert "this" not in sys.modules
    with pytest.raises(KeyError):
        table["e"]


@pytest.mark.parametrize("table", [sisom.DETECTORS, sisom.SELECTORS, sisom.ROW_SELECTORS])
def test_every_entry_of_the_catalogue_is_there(table):
    assert all(isinstance(table[name], type) for name in table)
    assert len({table[name] for name in table}) == len(table)
