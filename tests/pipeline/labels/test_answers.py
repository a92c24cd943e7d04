"""Answers from files: times, names, numbers and classes as people write them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.hand_off import TAXONOMY, Project, why


def test_a_time_that_is_none_is_refused(project: Project) -> None:
    project.store.put("x.csv", b"id,label,at\na,cat,yesterday\n")
    assert "yesterday" in why(project.take(f"{project.base}/x.csv"))["a"]


def test_names_for_nobody_and_tidy_words(project: Project) -> None:
    project.store.put(
        "x.csv", b"id,label,status,annotator\na, dog ,, \nb,, skipped ,bob\nc, ,,\nd, bird ,unknown-class,\n"
    )
    assert project.take(f"{project.base}/x.csv", annotator="ann")["open"] == 1
    assert [tuple(row.values())[:4] for row in project.labels().table.to_pylist()] == [
        ("a", "dog", "labeled", "ann"),
        ("b", None, "skipped", "bob"),
        ("d", "bird", "unknown-class", "ann"),
    ]


def test_numbers_and_missing_values_as_tables_have_them(project: Project) -> None:
    table = pa.table(
        {"id": ["a", "b"], "label": ["cat", "dog"], "status": [float("nan")] * 2, "extra": [[1], [2]]}
    )
    pq.write_table(table, f"{project.base}/x.parquet")
    assert project.take(f"{project.base}/x.parquet")["taken"] == 2


def test_a_class_that_has_joined_is_one(project: Project) -> None:
    place = project.write("x.csv", {"id": "a", "label": "bird"})
    assert "'bird' is not in the taxonomy" in why(project.take(place))["a"]
    project.commit(1, ["f"], taxonomy=[*TAXONOMY, "bird"])
    assert project.take(place)["taken"] == 1
    found = ET_choices(project, project.out("label-studio"))
    assert found[-3:] == ["bird", "unknown-class", "out-of-world"]


def ET_choices(project: Project, place: str) -> list[str]:
    import xml.etree.ElementTree as ET

    root = ET.fromstring(Path(place.removesuffix(".json") + ".xml").read_bytes())
    return [choice.attrib["value"] for choice in root.iter("Choice")]
