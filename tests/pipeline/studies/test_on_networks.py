"""What a study of trained networks must be told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.studies.on_networks import OnNetworks


def study(**changes: Any) -> OnNetworks:
    plain = {
        "workspace": "w",
        "checkpoints": ("c",),
        "fit": {"name": "a"},
        "known": {"name": "b"},
        "far": ({"name": "c"},),
    }
    return OnNetworks.model_validate(plain | changes)


def test_groups_without_sets_are_left_out() -> None:
    assert list(study().groups()) == ["far"]
    both = study(near=({"name": "d"}, {"name": "e"})).groups()
    assert {group: [each.name for each in sets] for group, sets in both.items()} == {
        "near": ["d", "e"],
        "far": ["c"],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoints": ()}, "give either checkpoints or train"),
        ({"train": {}}, "give either checkpoints or train"),
        ({"far": ()}, "needs at least one set of unknown images"),
        ({"near": ({"name": "c"},)}, "near, far: names must differ; twice: c"),
    ],
)
def test_a_study_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        study(**changes)


def test_networks_are_given_or_trained() -> None:
    assert study(checkpoints=(), train={"epochs": 3}).train is not None
