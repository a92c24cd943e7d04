"""Choices from the catalogue: what a config may not ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.config.choices import QueryPlan
from pipeline.config.project import Config
from tests.support.scoring_lab import config_of


def plan_of(name: str, **changes: Any) -> QueryPlan:
    return QueryPlan.model_validate({"size": 12, "strategy": name} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "typiclust", "options": {"mots": 3}}, "no option 'mots'; the nearest is 'most'"),
        ({"strategy": "margin", "options": {"k": 3}}, "selector 'margin' has no option"),
        ({"strategy": "class-balanced", "options": {"of": "nothing"}}, "unknown ranking 'nothing'"),
        ({"strategy": "class-balanced", "options": {"of": 3}}, "unknown ranking '3'"),
        ({"strategy": "typiclust", "options": {"most": "x"}}, "most must be of type int, got 'x'"),
        ({"strategy": "information-density", "options": {"beta": True}}, "beta must be of type float"),
        ({"strategy": "knn", "options": {"k": 3}}, "its options are scoring.options"),
        ({"strategy": "coreste"}, "did you mean coreset"),
    ],
)
def test_what_a_query_may_not_ask_for(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(**{"name": changes["strategy"]} | {k: v for k, v in changes.items() if k != "strategy"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scoring": {"score": "knnn"}}, "unknown detector 'knnn'; did you mean knn?"),
        ({"scoring": {"options": {"k": 3}}}, "sisome comes out of the bank and takes none"),
        ({"query": {"strategy": "knn"}}, "'knn' is a detector, and scoring.score is another one, 'sisome'"),
    ],
)
def test_what_a_config_may_not_ask_for(changes: dict[str, Any], message: str) -> None:
    plain = json.loads(config_of("unused").model_dump_json())
    for section, values in changes.items():
        plain[section] |= values
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        Config.model_validate_json(json.dumps(plain))
