"""Label files that are there and count for nothing."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.labels.files import LabelFiles
from pipeline.labels.unheard import unheard
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace

ASKED = ["heron-0001.png", "kite-0002.png"]


@pytest.fixture
def workspace(store: Store) -> Workspace:
    workspace = Workspace(store)
    workspace.write_table("labels/000-initial.parquet", pa.table({"id": ["x"], "label": ["kite"]}))
    return workspace


def why(workspace: Workspace) -> str:
    return unheard(LabelFiles.read(workspace), ASKED, ["labels/000-initial.parquet"])


def test_nothing_is_said_where_nothing_came(workspace: Workspace) -> None:
    assert why(workspace) == ""


def test_ids_without_their_ends_are_told_with_the_nearest_one(workspace: Workspace) -> None:
    table = pa.table({"id": ["heron-0001", "kite-0002"], "label": ["heron", "kite"]})
    workspace.write_table("labels/001-answers.parquet", table)
    said = why(workspace)
    assert "labels/001-answers.parquet is there, but none of its 2 ids was asked about" in said
    assert "'heron-0001'; did you mean heron-0001.png?" in said


def test_a_file_of_another_form_is_told(workspace: Workspace) -> None:
    workspace.store.put("labels/001-answers.csv", b"id,label\nheron-0001.png,heron\n")
    assert (
        "labels/001-answers.csv is not read, since label files are Parquet: use `sisom labels import`"
        in why(workspace)
    )


def test_rows_that_nobody_has_filled_in_are_told(workspace: Workspace) -> None:
    table = pa.table({"id": ASKED, "label": pa.nulls(2, pa.string())})
    workspace.write_table("labels/001-answers.parquet", table)
    assert why(workspace).endswith("is there, but its rows have neither a label nor a status")
