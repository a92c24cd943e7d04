"""Configs of detection studies: detectors and their sweeps."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

import sisom
from pipeline.studies.detection.config import Detection, OodStudy

VALIDATION = {"known": {"name": "v"}, "unknown": {"name": "u"}}


def study(*detectors: dict[str, Any], **changes: Any) -> OodStudy:
    plain = {
        "study": "ood", "workspace": "w", "checkpoints": ("c",), "fit": {"name": "a"}, "known": {"name": "b"},
        "far": ({"name": "c"},), "detectors": detectors,
    }  # fmt: skip
    return OodStudy.model_validate(plain | changes)


def test_a_sweep_lists_values_or_is_the_published_one() -> None:
    assert Detection(name="knn").swept() == {}
    assert Detection(name="knn", sweep={"k": (1, 5)}).swept() == {"k": [1, 5]}
    published = Detection(name="knn", sweep="published").swept()
    assert published == {key: list(values) for key, values in sisom.SWEEPS["knn"].items()}
    assert published


@pytest.mark.parametrize(
    ("detectors", "message"),
    [
        ([{"name": "knnn"}], "detectors: unknown name 'knnn'; did you mean knn?"),
        ([{"name": "knn", "options": {"k": 0}}], "detectors: knn: "),
        ([{"name": "knn", "sweep": {"kk": (1,)}}], "detectors: knn takes no option 'kk'"),
        ([{"name": "msp", "sweep": "published"}], "detectors: no sweep of msp was published"),
        ([{"name": "knn", "sweep": {"k": (1, 5)}}], "detectors: a sweep needs validation, to choose by"),
        ([{"name": "msp"}, {"name": "msp"}], "detectors: names must differ; twice: msp"),
        ([], "detectors"),
    ],
)
def test_detectors_that_cannot_be(detectors: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError) as told:
        study(*detectors)
    assert message in str(told.value)


def test_a_sweep_with_something_to_choose_by() -> None:
    found = study({"name": "knn", "sweep": {"k": (1, 5)}}, {"name": "msp"}, validation=VALIDATION)
    assert [choice.label for choice in found.detectors] == ["knn", "msp"]
