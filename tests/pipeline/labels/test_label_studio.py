"""Tasks, interface and exports of Label Studio."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from pipeline.labels.forms import Answer
from pipeline.labels.label_studio import from_export, interface, to_tasks
from tests.support.questions import one


def test_a_task_shows_the_image_and_the_models_choice() -> None:
    ((task),) = json.loads(to_tasks(one(reason="why", fingerprint="sha256:1")))
    assert task == {
        "data": {
            "image_id": "a", "round": 3, "rank": 0, "uri": "u", "image": "u", "fingerprint": "sha256:1",
            "predicted": "cat", "score": 0.5, "reason": "why",
        },
        "predictions": [
            {
                "model_version": "round-003",
                "result": [
                    {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}
                ],
            }
        ],
    }  # fmt: skip


def test_the_interface_is_xml_whatever_classes_are_called() -> None:
    names = ['"><script>', "a & b", "'q'", "=x", "ü"]
    root = ET.fromstring(interface(names))
    found = root.findall("./Choices[@name='label']/Choice")
    assert [choice.attrib["value"] for choice in found] == names
    many = ET.fromstring(interface([f"class {n}" for n in range(31)]))
    assert many.find("./Choices[@name='label']").attrib["layout"] == "select"  # type: ignore[union-attr]


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
        (annotation(("choice", ["cat"])), "results of choice alone, no 'label'"),
        (annotation(("label", [["cat"]])), "label: list where text should be"),  # type: ignore[list-item]
        ({"result": "x"}, "an annotation without a list of results"),
        ("x", "an annotation without a list of results"),
    ],
)
def test_an_annotation_that_is_none_says_why(given: Any, problem: str) -> None:
    (answer,) = read(given)
    assert answer.problem is not None and problem in answer.problem


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
