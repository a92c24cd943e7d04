"""Configs of active-learning studies."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.studies.active.config import ActiveStudy


def study(*strategies: dict[str, Any], **changes: Any) -> ActiveStudy:
    plain = {
        "study": "active-learning", "workspace": "w", "pool": {"name": "digits"}, "test": {"name": "digits"},
        "initial": 10, "query": 5, "rounds": 3, "strategies": strategies or ({"name": "random"},),
    }  # fmt: skip
    return ActiveStudy.model_validate(plain | changes)


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        ([{"name": "randon"}], "strategies: unknown name 'randon'; did you mean random?"),
        ([{"name": "random", "options": {"x": 1}}], "strategies: random takes no option 'x'"),
        ([{"name": "class-balanced", "options": {"of": "nothing"}}], "strategies: class-balanced: "),
        ([{"name": "random", "filter": True}], "strategies: random filters, which needs open_set"),
        ([{"name": "random"}, {"name": "random"}], "strategies: names must differ; twice: random"),
    ],
)
def test_strategies_that_cannot_be(strategies: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError) as told:
        study(*strategies)
    assert message in str(told.value)


def test_two_of_one_name_are_told_apart_and_open_sets_may_filter() -> None:
    found = study({"name": "random"}, {"name": "random", "called": "again", "filter": True}, open_set={})
    assert [choice.label for choice in found.strategies] == ["random", "again"]


def test_a_strategy_builds_its_selector_with_its_options() -> None:
    (choice,) = study({"name": "typiclust", "options": {"most": 7}}).strategies
    assert choice.selector().most == 7


@pytest.mark.parametrize("rounds", [1, 1000])
def test_a_curve_has_two_points_at_least(rounds: int) -> None:
    with pytest.raises(ValidationError, match="rounds"):
        study(rounds=rounds)
