"""What earlier releases did before a key existed, and what changed between two configs."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.history import ABSENT, BEFORE, Change, as_of_its_day, changes, shown, whole
from pipeline.config.project import Config
from pipeline.config.sections import Pool

VALUES = st.recursive(
    st.integers(0, 3) | st.none() | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
CONFIGS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def test_a_younger_key_has_the_value_of_the_days_before_it() -> None:
    stored = {"model": {"name": "x"}, "seed": 3}
    before = {"model.weights": "none", "model.name": "y", "filter.kind": "far", "seed": 0}
    assert as_of_its_day(stored, before) == {
        "model": {"name": "x", "weights": "none"},
        "filter": {"kind": "far"},
        "seed": 3,
    }
    assert stored == {"model": {"name": "x"}, "seed": 3}  # the argument is left as it was


def test_every_path_with_a_value_of_earlier_days_exists_today() -> None:
    for path in BEFORE:
        model: Any = Config
        for name in path.split("."):
            assert name in model.model_fields, path
            model = model.model_fields[name].annotation


def test_changes_by_hand() -> None:
    before = {"a": {"x": 1, "y": [1, 2]}, "b": None, "c": 1}
    after = {"a": {"x": 2, "y": [1, 3]}, "c": 1, "d": "z"}
    assert list(changes(before, after)) == [
        Change("a.x", 1, 2),
        Change("a.y", [1, 2], [1, 3]),
        Change("b", None, ABSENT),
        Change("d", ABSENT, "z"),
    ]
    assert [str(each) for each in changes({"b": None}, {})] == ["b: null -> nothing"]


@given(before=CONFIGS, after=CONFIGS, seed=st.integers(0, 9))
def test_changes_are_none_between_equals_mirror_each_other_and_ignore_the_order_of_keys(
    before: dict[str, Any], after: dict[str, Any], seed: int
) -> None:
    assert list(changes(before, before)) == []
    there = list(changes(before, after))
    back = [Change(each.path, each.after, each.before) for each in changes(after, before)]
    assert there == back
    assert bool(there) == (before != after)
    mixed = list(before.items())
    random.Random(seed).shuffle(mixed)
    assert list(changes(dict(mixed), after)) == there


def test_a_long_value_is_shown_short() -> None:
    assert shown("ü") == '"ü"'
    assert len(shown(list(range(1000)))) == 203


def test_a_key_that_a_stored_config_lacks_is_no_change_of_it() -> None:
    config = Config.model_construct(workspace="", taxonomy=("a", "b"), pool=Pool(uri="p", tar_ids="path"))
    stored = config.frozen()
    for key in ("include", "exclude", "metadata"):
        del stored["pool"][key]
    del stored["query"]
    assert list(changes(stored, config.frozen()))
    assert list(changes(whole(stored), config.frozen())) == []
    stored["pool"]["tar_ids"] = "member"
    assert [change.path for change in changes(whole(stored), config.frozen())] == ["pool.tar_ids"]
