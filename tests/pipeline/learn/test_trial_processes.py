"""Trial processes: kept between batches, handed out once enough have come."""

from __future__ import annotations

from typing import Any

import pytest
from ray.tune.execution import tune_controller

from pipeline.learn import trial_processes
from pipeline.learn.trial_processes import GATHER_S, Waiting, kept_processes


def test_none_is_handed_out_before_enough_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(trial_processes.time, "monotonic", lambda: now[0])
    waiting = Waiting(2)
    assert not waiting.has_cached_object("a")
    assert waiting.cache_object("a", "first")
    assert not waiting.has_cached_object("a"), "the second is still starting"
    now[0] += GATHER_S + 0.1
    assert waiting.has_cached_object("a"), "no room for the second: one has to do"
    now[0] = 100.0
    assert waiting.cache_object("a", "second")
    assert waiting.has_cached_object("a") and not waiting.has_cached_object("b")
    assert waiting.pop_cached_object("a") == "first"
    assert waiting.cache_object("a", "first")
    assert list(waiting.flush_cached_objects()) == []
    assert waiting.num_cached_objects == 2
    assert sorted(waiting.flush_cached_objects(force_all=True)) == ["first", "second"]
    assert waiting.num_cached_objects == 0


def test_what_ray_tune_uses_is_restored() -> None:
    controller: Any = tune_controller
    usual = controller._ObjectCache
    with pytest.raises(KeyError), kept_processes(3):
        assert isinstance(controller._ObjectCache(may_keep_one=True), Waiting)
        raise KeyError
    assert controller._ObjectCache is usual
