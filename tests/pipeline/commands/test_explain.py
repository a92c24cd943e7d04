"""`sisom explain` where there is nothing to look at; on real rounds it runs in tests/e2e."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.commands.explain import explain
from pipeline.config.project import Config
from pipeline.errors import UserError

MakeConfig = Callable[..., Config]


@pytest.mark.parametrize("index", [None, 0, 3])
def test_explain_needs_a_committed_round(base_uri: str, make_config: MakeConfig, index: int | None) -> None:
    config = make_config(workspace=base_uri)
    with pytest.raises(UserError, match="round"):
        explain(config, "an-id", index)
