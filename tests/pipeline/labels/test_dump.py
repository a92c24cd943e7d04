"""Answers that go to another project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config.project import Config
from pipeline.errors import UserError
from pipeline.labels.dump import dump
from pipeline.labels.withdraw import withdraw
from tests.support.hand_off import Project

MakeConfig = Callable[..., Config]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_the_votes_come_to_the_same_in_another_project(
    form: str, project: Project, make_config: MakeConfig
) -> None:
    initial = pa.table({"id": ["f", "g"], "label": ["cat", "dog"]})
    project.workspace.write_table("labels/000-initial.parquet", initial)
    for who, rows in (
        (
            "ann",
            [{"id": "a", "label": "cat"}, {"id": "b", "label": "=1+1"}, {"id": "c", "status": "skipped"}],
        ),
        ("bob", [{"id": "a", "label": "dog"}, {"id": "d", "label": "owl", "status": "unknown-class"}]),
        ("cem", [{"id": "a", "label": "dog"}, {"id": "e", "label": "cat"}, {"id": "g", "label": "cat"}]),
    ):
        project.take(project.write(f"{who}.jsonl", *rows), annotator=who)
    project.take(project.write("again.csv", {"id": "b", "label": " a ", "annotator": "ann"}))
    withdraw(project.config, ["e"])
    out = f"{project.base}/all.{form}"
    assert dump(project.config, out) == {"answers": 8, "images": 6, "withdrawn": 1, "file": out}
    other = Project.lay(f"{project.base}/other", make_config, list("abcdefgh"), ["h"])
    found = other.take(out, unasked=True)
    assert (found["taken"], found["refused"]) == (8, [])
    mine, theirs = project.labels().table, other.labels().table
    assert theirs.to_pylist() == [row for row in mine.to_pylist() if row["id"] != "e"]


def test_a_place_that_can_not_be(project: Project) -> None:
    Path(project.base, "x.csv").touch()
    for out, message in (
        ("x.csv", "exists already"),
        ("x.xls", r"name it \*\.csv"),
        ("work/labels/002-x.parquet", "lies in the workspace"),
    ):
        with pytest.raises(UserError, match=message):
            dump(project.config, f"{project.base}/{out}")
