"""The query with what the pool says of its images; the steps themselves are tested by whole rounds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from pipeline.rounds.asking import _with_metadata
from pipeline.store.opening import LocalStore
from pipeline.types import QUERY, SCORES
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder


def work(folder: Folder, *names: str) -> Any:
    return SimpleNamespace(folder=folder, config=SimpleNamespace(pool=SimpleNamespace(metadata=names)))


def test_a_query_has_the_metadata_of_its_images(tmp_path: Path) -> None:
    folder = Folder(Workspace(LocalStore(str(tmp_path))))
    scored = pa.Table.from_pylist([{"id": f"i{n}"} for n in range(9)], schema=SCORES)
    days = pa.array([f"day {n}" if n % 2 else None for n in range(9)], pa.string())
    folder.write_table("scores/00000.parquet", scored.append_column("day", days))
    query = pa.Table.from_pylist([{"rank": n, "id": f"i{9 - n}"} for n in range(1, 4)], schema=QUERY)
    found = _with_metadata(query, work(folder, "day"))
    assert found.schema.names == [*QUERY.names, "day"]
    assert found.select(["id", "day"]).to_pylist() == [
        {"id": "i8", "day": None},
        {"id": "i7", "day": "day 7"},
        {"id": "i6", "day": None},
    ]
    assert _with_metadata(query, work(folder)) is query
    empty = _with_metadata(QUERY.empty_table(), work(folder, "day"))
    assert (empty.num_rows, empty.schema.names) == (0, [*QUERY.names, "day"])
