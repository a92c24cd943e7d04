"""How classes join, and what a round freezes of its config."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.project import Config
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.frozen import as_planned, grown, latest, of_round
from pipeline.workspace.keys import round_key
from pipeline.workspace.plan import Plan

MakeConfig = Callable[..., Config]


def test_a_proposed_class_joins_with_enough_answers_behind_the_others() -> None:
    proposed = {"zebra": 5, "emu": 4, "bat": 5, "owl": 9}
    assert grown(["cat", "dog"], proposed, 5) == ("cat", "dog", "owl", "bat", "zebra")
    assert grown(["cat", "dog"], proposed, 10) == ("cat", "dog")
    assert grown(["cat", "dog"], proposed, None) == ("cat", "dog")
    assert grown(["cat", "owl"], proposed, 9) == ("cat", "owl")


@given(
    proposed=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 6)),
    seed=st.integers(0, 9),
    at=st.integers(2, 5),
)
def test_the_order_of_answers_changes_nothing_and_no_class_moves(
    proposed: dict[str, int], seed: int, at: int
) -> None:
    mixed = list(proposed.items())
    random.Random(seed).shuffle(mixed)
    first = grown(["x", "y"], proposed, at)
    assert grown(["x", "y"], dict(mixed), at) == first
    later = grown(first, {name: n + 1 for name, n in proposed.items()}, at)
    assert later[: len(first)] == first
    assert len(set(later)) == len(later)


def test_a_round_sees_its_own_taxonomy_device_and_threads(store: Store, make_config: MakeConfig) -> None:
    workspace, config = Workspace(store), make_config(resources={"threads": 3})
    plan = {"taxonomy": ["cat", "dog", "owl"], "scoring": {"device": "cpu", "threads": 2}}
    workspace.write_json(round_key(4, "plan.json"), plan)
    found = of_round(workspace, config, 4)
    assert found == as_planned(config, Plan.model_validate(plan))
    assert found.taxonomy == ("cat", "dog", "owl")
    assert (found.resources.device, found.resources.threads) == ("cpu", 2)
    assert found.identity() == {**config.identity(), "taxonomy": ["cat", "dog", "owl"]}


def test_label_files_must_fit_the_last_planned_round(store: Store, make_config: MakeConfig) -> None:
    workspace, config = Workspace(store), make_config()
    assert latest(workspace, config) == config
    workspace.write_json(round_key(0, "plan.json"), {"taxonomy": ["a", "b"]})
    assert latest(workspace, config).taxonomy == ("a", "b")
    workspace.write_json(round_key(0, "round.json"), {})
    assert latest(workspace, config).taxonomy == ("a", "b")
    workspace.write_json(round_key(1, "plan.json"), {"taxonomy": ["a", "b", "c"]})
    assert latest(workspace, config).taxonomy == ("a", "b", "c")
