"""A folder of a workspace: what is written by name lies below its prefix, and nothing else is seen."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.errors import ArtefactDamaged, ArtefactMissing
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder


@pytest.fixture
def workspace(store: Store) -> Workspace:
    return Workspace(store)


def test_names_lie_below_the_prefix(workspace: Workspace) -> None:
    folder = Folder.of_round(workspace, 3)
    assert folder == Folder(workspace, "rounds/003/")
    folder.put("scores/00000.parquet", b"x")
    folder.write_json("plan.json", {"a": 1})
    assert workspace.keys("") == ["rounds/003/plan.json", "rounds/003/scores/00000.parquet"]
    assert folder.names() == ["plan.json", "scores/00000.parquet"]
    assert folder.names("scores/") == ["scores/00000.parquet"]
    assert folder.key("plan.json") == "rounds/003/plan.json"
    assert folder.url("plan.json") == workspace.store.url("rounds/003/plan.json")
    assert folder.digest("plan.json") == workspace.digest("rounds/003/plan.json")
    assert Folder.of_round(workspace, 4).names() == []


def test_artefacts_come_back_and_go(workspace: Workspace) -> None:
    folder = Folder(workspace, "out/")
    table = pa.table({"n": [1, 2, 3], "m": ["x", "y", "z"]})
    folder.write_table("scores/00000.parquet", table, row_group_size=2)
    folder.write_json("a.json", {"b": None})
    assert folder.read_json("a.json") == {"b": None}
    assert folder.read_table("scores/00000.parquet", ["n"]).equals(table.select(["n"]))
    assert [part.num_rows for part in folder.row_groups("scores/00000.parquet")] == [2, 1]
    assert [part.column_names for part in folder.tables("scores/", ["m"])] == [["m"]]
    with folder.open("a.json") as file:
        assert file.read() == folder.get("a.json")
    assert folder.exists("a.json")
    folder.delete("a.json")
    assert not folder.exists("a.json")
    with pytest.raises(ArtefactMissing):
        folder.get("a.json")


def test_the_workspace_itself_is_a_folder(workspace: Workspace) -> None:
    folder = Folder(workspace)
    folder.write_json("summary.json", {})
    assert workspace.exists("summary.json")
    assert folder.names() == ["summary.json"]


def test_damage_is_told_with_the_place(workspace: Workspace) -> None:
    folder = Folder(workspace, "out/")
    folder.put("a.json", b"{")
    with pytest.raises(ArtefactDamaged, match=r"out/a\.json is damaged"):
        folder.read_json("a.json")
    with pytest.raises(ArtefactDamaged, match=r"out/a\.json is damaged"), folder.undamaged("a.json"):
        raise ValueError("broken")
