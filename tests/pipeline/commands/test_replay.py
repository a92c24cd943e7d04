"""`sisom replay` where there is nothing to look at; on real rounds it runs in tests/e2e."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.commands.replay import _gap, replay
from pipeline.config.project import Config
from pipeline.errors import UserError

MakeConfig = Callable[..., Config]


@pytest.mark.parametrize("index", [None, 0, 3])
def test_replay_needs_a_committed_round(base_uri: str, make_config: MakeConfig, index: int | None) -> None:
    config = make_config(workspace=base_uri)
    with pytest.raises(UserError, match="round"):
        replay(config, index)


@pytest.mark.parametrize(
    ("again", "stored", "expected"), [(0.0, 0.0, 0.0), (2.0, 1.0, 0.5), (-1.0, 1.0, 2.0), (0.0, -4.0, 1.0)]
)
def test_a_gap_is_relative_to_the_larger_score(again: float, stored: float, expected: float) -> None:
    assert _gap(again, stored) == expected
