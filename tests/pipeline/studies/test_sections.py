"""Sections that all studies share."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.studies.sections import Choice, Study, check_choice, refuse_twice


def study(**changes: Any) -> Study:
    return Study.model_validate({"workspace": "w", "seeds": (0, 1)} | changes)


def knn(k: int = 3, *, head: object = None) -> tuple[int, object]:
    if k < 1:
        raise ValueError("k must be positive")
    return k, head


def test_a_choice_is_called_by_its_name_unless_it_has_another_one() -> None:
    assert Choice(name="knn").label == "knn"
    assert Choice(name="knn", called="knn, five").label == "knn, five"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(name="kn"), "detectors: unknown name 'kn'; did you mean knn?"),
        (Choice(name="knn", options={"kk": 1}), "detectors: knn takes no option 'kk'"),
        (Choice(name="knn", options={"head": 1}), "detectors: knn takes no option 'head'"),
        (Choice(name="knn", options={"k": 0}), "detectors: knn: k must be positive"),
    ],
)
def test_a_choice_that_the_catalogue_does_not_have(choice: Choice, message: str) -> None:
    with pytest.raises(ValueError) as told:
        check_choice("detectors", choice, {"knn": knn}, build=lambda: knn(**choice.options))  # type: ignore[arg-type]
    assert message in str(told.value)


def test_a_choice_of_the_catalogue_passes_and_its_swept_options_are_looked_at_too() -> None:
    good = Choice(name="knn", options={"k": 5})
    check_choice("detectors", good, {"knn": knn}, build=knn, sweep=["k"])
    with pytest.raises(ValueError, match="no option 'm'"):
        check_choice("detectors", good, {"knn": knn}, build=knn, sweep=["m"])


def test_names_that_stand_twice_are_told() -> None:
    refuse_twice("seeds", ["0", "1"])
    with pytest.raises(ValueError, match="seeds: names must differ; twice: a, b"):
        refuse_twice("seeds", ["b", "a", "c", "a", "b"])
    with pytest.raises(ValidationError, match="twice: 1"):
        study(seeds=(1, 1))


def test_a_study_is_the_same_wherever_it_lies_and_runs() -> None:
    base = study()
    for same in (
        {"workspace": "v"},
        {"compute": {"device": "cuda"}},
        {"compute": {"trials": 3, "gpu_share": 0.5}},
        {"tracking": {"experiment": "x"}},
    ):
        assert study(**same).digest() == base.digest()
    for other in ({"seeds": (0, 2)}, {"compute": {"threads": 2}}, {"data": {"root": "elsewhere"}}):
        assert study(**other).digest() != base.digest()
