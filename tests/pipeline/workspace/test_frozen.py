"""How classes join, and what a round freezes of its config."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.project import Config
from pipeline.errors import WorkspaceMismatch
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.frozen import as_planned, changed_since, grown, latest, of_round
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
    plan = {
        "config": config.frozen(),
        "taxonomy": ["cat", "dog", "owl"],
        "scoring": {"device": "cpu", "threads": 2},
    }
    workspace.write_json(round_key(4, "plan.json"), plan)
    found = of_round(workspace, config, 4)
    assert found == as_planned(config, Plan.model_validate(plan))
    assert found.taxonomy == ("cat", "dog", "owl")
    assert (found.resources.device, found.resources.threads) == ("cpu", 2)
    assert found.frozen() == {**config.frozen(), "taxonomy": ["cat", "dog", "owl"]}


def test_a_round_keeps_its_config_and_takes_where_and_on_what_it_runs_from_today(
    make_config: MakeConfig,
) -> None:
    then = make_config(
        seed=3, train={"epochs": 7}, query={"size": 5, "strategy": "margin"}, scoring={"score": "knn"}
    )
    plan = {
        "config": then.frozen(),
        "taxonomy": ["cat", "dog"],
        "scoring": {"device": "cpu", "threads": 2},
    }
    now = make_config(
        workspace="elsewhere", rounds=3, stop={"labels": 9}, resources={"actors": 3}, tick={"answered": 0.5},
        tracking={"experiment": "x"}, storage={"endpoint": "http://x"}, scoring={"max_quarantined": 0.5},
    )  # fmt: skip
    found = as_planned(now, Plan.model_validate(plan))
    assert found.frozen() == then.frozen()
    assert found.digest() == then.digest() != now.digest()
    assert (found.workspace, found.rounds, found.stop, found.tick) == ("elsewhere", 3, now.stop, now.tick)
    assert (found.tracking, found.storage, found.resources.actors) == (now.tracking, now.storage, 3)
    assert found.scoring.max_quarantined == 0.5  # it decides whether to go on, not what comes out


def test_a_plan_of_an_earlier_release_lacks_keys_and_one_of_a_later_release_is_refused(
    make_config: MakeConfig,
) -> None:
    config = make_config(train={"epochs": 3})
    frozen = config.frozen()
    del frozen["open_world"], frozen["model"]["resize"], frozen["query"]["options"]
    plan: dict[str, Any] = {"taxonomy": ["cat", "dog"], "scoring": {"device": "cpu", "threads": 1}}
    assert as_planned(config, Plan.model_validate({**plan, "config": frozen})).frozen() == config.frozen()
    later = {**frozen, "train": {**frozen["train"], "colour": "red"}}
    with pytest.raises(WorkspaceMismatch, match=r"another release of sisom.*train\.colour"):
        as_planned(config, Plan.model_validate({**plan, "config": later}))


def test_what_changed_between_two_rounds_is_named(store: Store, make_config: MakeConfig) -> None:
    workspace = Workspace(store)
    first, second = make_config(), make_config(train={"epochs": 7}, query={"size": 5})
    for index, config in enumerate((first, second, second)):
        plan = {"config": config.frozen(), "taxonomy": ["cat", "dog"]}
        workspace.write_json(round_key(index, "plan.json"), plan)
    assert changed_since(workspace, 0) == changed_since(workspace, 2) == []
    names = [str(change) for change in changed_since(workspace, 1)]
    assert names == [f"query.size: {first.query.size} -> 5", f"train.epochs: {first.train.epochs} -> 7"]


def test_classes_that_the_config_has_at_its_end_join_behind_those_that_are_there(
    store: Store, make_config: MakeConfig
) -> None:
    workspace = Workspace(store)
    workspace.write_json(
        round_key(0, "plan.json"), {"taxonomy": ["cat", "dog", "bat"]}
    )  # people named the bat
    config = make_config(taxonomy=["cat", "dog", "owl", "bat"])
    assert latest(workspace, config).taxonomy == ("cat", "dog", "bat", "owl")


def test_a_renamed_class_keeps_its_place_in_the_head(store: Store, make_config: MakeConfig) -> None:
    workspace = Workspace(store)
    workspace.write_json(round_key(0, "plan.json"), {"taxonomy": ["cat", "dog", "bat"]})
    config = make_config(taxonomy=["cat", "hound"], labels={"renamed": {"dog": "hound", "bat": "flying fox"}})
    assert latest(workspace, config).taxonomy == ("cat", "hound", "flying fox")


def test_label_files_must_fit_the_last_planned_round(store: Store, make_config: MakeConfig) -> None:
    workspace, config = Workspace(store), make_config()
    assert latest(workspace, config) == config
    workspace.write_json(round_key(0, "plan.json"), {"taxonomy": ["cat", "dog", "b"]})
    assert latest(workspace, config).taxonomy == ("cat", "dog", "b")
    workspace.write_json(round_key(0, "round.json"), {})
    assert latest(workspace, config).taxonomy == ("cat", "dog", "b")
    workspace.write_json(round_key(1, "plan.json"), {"taxonomy": ["cat", "dog", "b", "c"]})
    assert latest(workspace, config).taxonomy == ("cat", "dog", "b", "c")
