"""Tasks of Label Studio, and its labeling interface."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from pipeline.labels.forms.label_studio_tasks import interface, to_tasks, without_gap
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
    names = ['"><script>', "a & b", "'q'", "=x", "ü", "5 $", "$"]
    root = ET.fromstring(interface(names))
    found = root.findall("./Choices[@name='label']/Choice")
    assert [choice.attrib["value"] for choice in found] == names
    assert not any("alias" in choice.attrib for choice in found)
    assert root.find("./Filter") is None
    many = ET.fromstring(interface([f"class {n}" for n in range(31)]))
    assert [tag.attrib["toName"] for tag in many.findall("./Filter")] == ["label"]


def test_every_choice_can_be_undone() -> None:
    """A radio button and a list to choose one from can't be emptied again; a box can."""
    for classes in (["cat", "dog"], [f"class {n}" for n in range(100)]):
        root = ET.fromstring(interface(classes))
        for control in root.findall("./Choices"):
            assert (control.attrib["choice"], control.attrib.get("layout")) == ("single", None)


@pytest.mark.parametrize("name", ["$1", "$5", "a$b", "$predicted", "$image[0]", "$$x"])
def test_a_class_with_a_dollar_is_no_field_of_a_task(name: str) -> None:
    """Label Studio replaces `$word` in a value, and answers by the alias where there is one."""
    (choice,) = ET.fromstring(interface([name])).findall("./Choices[@name='label']/Choice")
    assert choice.attrib["alias"] == name
    shown = choice.attrib["value"]
    assert re.search(r"\$[\w.\[\]]", shown) is None
    assert shown.replace("\N{ZERO WIDTH SPACE}", "") == name
    assert without_gap(shown) == name
