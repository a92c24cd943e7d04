"""How many questions a budget pays for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.config.project import Config
from pipeline.rounds.planning import _affordable

MakeConfig = Callable[..., Config]


@pytest.mark.parametrize(
    ("labels", "answered", "expected"),
    [(None, 10**6, 20), (100, 50, 20), (100, 80, 20), (100, 85, 15), (100, 100, 0), (100, 130, 0)],
)
def test_a_query_is_as_large_as_the_budget_allows(
    make_config: MakeConfig, labels: int | None, answered: int, expected: int
) -> None:
    config = make_config(query={"size": 20}, stop={"labels": labels})
    assert _affordable(config, answered) == expected
