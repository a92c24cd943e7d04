"""Exports of Label Studio."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import LabelError
from pipeline.labels.forms.label_studio import from_export, from_table
from pipeline.labels.forms.rows import Answer
from pipeline.labels.forms.tables import Columns


def annotation(*results: tuple[str, list[str]], **more: Any) -> dict[str, Any]:
    return {
        "result": [
            {
                "from_name": name,
                "to_name": "image",
                "value": {"text" if name == "proposed" else "choices": chosen},
            }
            for name, chosen in results
        ],
        "completed_by": 7,
        "updated_at": "2026-05-11T12:30:15.250000Z",
        **more,
    }


def read(*annotations: Any) -> list[Answer]:
    task = {"id": 12, "data": {"image_id": "a", "fingerprint": "f"}, "annotations": list(annotations)}
    return list(from_export(json.dumps([task]).encode(), "f"))


@pytest.mark.parametrize(
    ("given", "label", "status"),
    [
        (annotation(("label", ["cat"])), "cat", None),
        (annotation(("status", ["out-of-world"])), None, "out-of-world"),
        (annotation(("status", ["unknown-class"]), ("proposed", ["bird"])), "bird", "unknown-class"),
        (annotation(("proposed", ["bird"])), "bird", "unknown-class"),
        (annotation(("label", ["cat"]), was_cancelled=True), None, "skipped"),
        (annotation(was_cancelled=True), None, "skipped"),
        (annotation(), None, None),
        (annotation(("proposed", [""])), None, None),
        (annotation(("label", ["cat"]), ("proposed", [" "])), "cat", None),
        ({**annotation(was_cancelled=True), "result": None}, None, "skipped"),
        ({**annotation(), "result": None}, None, None),
    ],
)
def test_an_annotation_is_an_answer(given: dict[str, Any], label: str | None, status: str | None) -> None:
    (answer,) = read(given)
    assert answer == Answer(
        "task 1",
        {"id": "a", "fingerprint": "f", "label": label, "status": status, "annotator": "label-studio:7",
         "at": "2026-05-11T12:30:15.250000Z"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (annotation(("label", ["cat", "dog"])), "label: more than one choice"),
        (annotation(("label", ["cat"]), ("proposed", ["bird"])), "names a class and proposes another"),
        (
            annotation(("label", ["cat"]), ("status", ["unknown-class"])),
            "label 'cat' at once; undo one of them",
        ),
        (
            annotation(("label", ["cat"]), ("status", ["out-of-world"])),
            "status 'out-of-world' and label 'cat'",
        ),
        (
            annotation(("status", ["out-of-world"]), ("proposed", ["owl"])),
            "proposes a class and says out-of-world",
        ),
        (
            {"result": [{"from_name": "label", "type": "rating", "value": {"rating": 3}}]},
            "label: a result of type 'rating', which holds no choice",
        ),
        (annotation(("choice", ["cat"])), "results of choice alone, no 'label'"),
        (annotation(("label", [["cat"]])), "label: list where text should be"),  # type: ignore[list-item]
        ({"result": "x"}, "an annotation without a list of results"),
        ("x", "an annotation without a list of results"),
    ],
)
def test_an_annotation_that_is_none_says_why(given: Any, problem: str) -> None:
    (answer,) = read(given)
    assert answer.problem is not None and problem in answer.problem


def by(origins: dict[str, str], *results: tuple[str, list[str]]) -> dict[str, Any]:
    """An annotation whose results say where they come from, as Label Studio's own do."""
    made = annotation(*results)
    for part in made["result"]:
        part["origin"] = origins.get(part["from_name"], "manual")
    return made


@pytest.mark.parametrize(
    ("results", "label", "status"),
    [
        ([("label", ["cat"])], "cat", None),  # the model was right, and the annotator sent it
        ([("label", ["cat"]), ("status", ["unknown-class"])], None, "unknown-class"),
        ([("label", ["cat"]), ("status", ["out-of-world"])], None, "out-of-world"),
        ([("label", ["cat"]), ("status", ["unknown-class"]), ("proposed", ["owl"])], "owl", "unknown-class"),
        ([("label", ["cat"]), ("proposed", ["owl"])], "owl", "unknown-class"),
        ([("label", ["cat"]), ("proposed", [""])], "cat", None),
    ],
)
def test_a_prediction_that_was_left_gives_way_to_what_the_annotator_said(
    results: list[tuple[str, list[str]]], label: str | None, status: str | None
) -> None:
    (answer,) = read(by({"label": "prediction"}, *results))
    assert answer.problem is None
    assert (answer.values["label"], answer.values["status"]) == (label, status)


@pytest.mark.parametrize("origin", ["manual", "prediction-changed"])
def test_a_choice_of_the_annotators_own_beside_a_status_is_refused(origin: str) -> None:
    (answer,) = read(by({"label": origin}, ("label", ["cat"]), ("status", ["unknown-class"])))
    assert answer.problem is not None and "at once" in answer.problem


def test_a_taxonomy_is_read_as_choices_are() -> None:
    made = annotation()
    made["result"] = [{"from_name": "label", "type": "taxonomy", "value": {"taxonomy": [["animal", "cat"]]}}]
    (answer,) = read(made)
    assert answer.values["label"] == "cat"


def test_a_class_with_a_dollar_comes_back_as_shown_or_by_its_alias() -> None:
    for said in ("a$b", "a$\N{ZERO WIDTH SPACE}b"):
        (answer,) = read(annotation(("label", [said])))
        assert answer.values["label"] == "a$b"


def test_a_file_of_a_target_storage_is_one_annotation() -> None:
    stored = {"id": 5, **annotation(("label", ["cat"])), "task": {"id": 1, "data": {"image_id": "a"}}}
    (answer,) = from_export(json.dumps(stored).encode(), "f")
    assert (answer.values["id"], answer.values["label"]) == ("a", "cat")
    assert answer.values["annotator"] == "label-studio:7"


def test_a_task_that_is_not_ours_is_left_out_alone() -> None:
    ours = {"data": {"image_id": "a"}, "annotations": [annotation(("label", ["cat"]))]}
    other = {"data": {"image": "y"}, "annotations": [annotation(("label", ["cat"]))]}
    first, second = from_export(json.dumps([other, ours]).encode(), "f")
    assert first.foreign == "no 'image_id': a task that `sisom labels export` has not made"
    assert (second.values["id"], second.foreign) == ("a", None)
    (answer,) = from_export(json.dumps([other]).encode(), "f", Columns("image"))
    assert (answer.values["id"], answer.values["label"]) == ("y", "cat")


def test_the_export_as_csv_goes_by_our_id() -> None:
    table = (
        "annotation_id,annotator,fingerprint,id,image,image_id,label,proposed,status\n"
        "9,1,f,4711,x,a,cat,,\n"
        "10,x@y,f,4712,x,b,,owl,unknown-class\n"
        '11,1,f,4713,x,c,"{""choices"": [""cat"", ""dog""]}",,\n'
        "12,1,f,4714,x,d,cat,,out-of-world\n"
    )
    first, second, third, fourth = from_table(table.encode(), "f")
    assert (first.values["id"], first.values["label"]) == ("a", "cat")
    assert (first.values["annotator"], first.values["fingerprint"]) == ("label-studio:1", "f")
    assert (second.values["label"], second.values["status"]) == ("owl", "unknown-class")
    assert third.problem == "label: more than one choice"
    assert fourth.problem is not None and "at once" in fourth.problem


@pytest.mark.parametrize(
    ("found", "tool"),
    [
        ({"categories": {}, "items": []}, "Datumaro"),
        ({"images": [], "annotations": []}, "COCO"),
        ({"samples": []}, "FiftyOne"),
    ],
)
def test_another_tools_json_says_what_an_id_is(found: dict[str, Any], tool: str) -> None:
    with pytest.raises(LabelError, match=f"looks like {tool}; .*an id is an image's key below pool.uri"):
        list(from_export(json.dumps(found).encode(), "f"))


def test_every_annotation_of_a_task_is_an_answer() -> None:
    first, second = read(
        annotation(("label", ["cat"])), annotation(("label", ["dog"]), completed_by={"email": "x@y"})
    )
    assert (first.where, first.values["annotator"]) == ("task 1, annotation 1", "label-studio:7")
    assert (second.where, second.values["annotator"]) == ("task 1, annotation 2", "x@y")
    assert read() == []


def test_the_short_export_is_read_too() -> None:
    short = [
        {
            "id": 12,
            "image_id": "a",
            "fingerprint": "f",
            "label": "cat",
            "annotator": 7,
            "updated_at": "2026-05-11",
        },
        {"id": 13, "image_id": "b", "status": "unknown-class", "proposed": "bird", "annotator": 7},
        {"id": 14, "image_id": "c", "label": {"choices": ["cat", "dog"]}, "annotator": 7},
    ]
    first, second, third = from_export(json.dumps(short).encode(), "f")
    assert first.values == {
        "id": "a", "fingerprint": "f", "label": "cat", "status": None, "annotator": "label-studio:7", "at": "2026-05-11"
    }  # fmt: skip
    assert (second.values["label"], second.values["status"]) == ("bird", "unknown-class")
    assert third.problem == "label: more than one choice"
