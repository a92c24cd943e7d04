"""Keys of cells: one for each thing that a result follows from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.config.sections import Storage
from pipeline.studies.lab.cells import Bench, Cell, Lab, compute
from pipeline.studies.sections import Compute


def work(cell: Cell, bench: Bench, shared: Any) -> Mapping[str, Any]:
    raise AssertionError("nobody asked for it")


def cell(name: str = "chains/margin/seed-0", **spec: Any) -> Cell:
    return Cell(name, spec, work, {"place": "anywhere"})


def test_a_key_follows_from_name_and_spec_alone() -> None:
    one = cell(seed=1, rounds=3)
    assert one.key == Cell(one.name, {"rounds": 3, "seed": 1}, work, {}).key
    assert len({one.key, cell(seed=2, rounds=3).key, cell("chains/margin/seed-1", seed=1, rounds=3).key}) == 3
    assert one.key.startswith("cells/chains/margin/seed-0-")
    assert one.key == f"{one.folder}/result.json"


@pytest.mark.parametrize("name", ["a b", "../../etc", "a\nb", "name: \u2713", "*"])
def test_odd_names_make_plain_keys(name: str) -> None:
    folder = cell(name).folder
    assert ".." not in folder
    assert not set(folder) & set(" \n*:")
    assert (
        folder
        != cell(name.replace(" ", "_").replace("*", "_").replace(":", "_").replace("\n", "_") + "!").folder
    )


def test_finished_cells_are_read_and_not_computed(tmp_path: object) -> None:
    bench = Bench(str(tmp_path), str(tmp_path), Storage(), "cpu", Compute())
    cells = [cell(seed=1), cell(seed=2)]
    for number, each in enumerate(cells):
        bench.open().write_json(each.key, {"value": number})
    nobody: Any = None
    assert compute(cells, Lab(bench, nobody, nobody)) == [{"value": 0}, {"value": 1}]
