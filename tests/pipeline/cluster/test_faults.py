"""What Ray raises, as errors of ours; nothing here starts Ray."""

from __future__ import annotations

import pytest
from ray.exceptions import NodeDiedError, RayError, RayTaskError

from pipeline.cluster.faults import working
from pipeline.errors import PoolError, StageFailed


def test_a_lost_node_is_a_stage_that_failed_and_may_be_run_again() -> None:
    lost = NodeDiedError("node 3\n is   gone")
    with pytest.raises(StageFailed) as told, working("score"):
        raise lost
    assert "score: a worker or a node was lost (NodeDiedError: node 3 is gone)" in str(told.value)
    assert "run the same command again" in str(told.value)
    assert told.value.stage == "score"
    assert told.value.__cause__ is lost


def test_a_long_reason_is_cut_and_an_empty_one_is_the_kind() -> None:
    with pytest.raises(StageFailed) as told, working("train"):
        raise RayError("x" * 1000)
    assert len(str(told.value)) < 500
    with pytest.raises(StageFailed, match="RayError: RayError"), working("train"):
        raise RayError


def test_an_error_of_ours_comes_out_as_it_is() -> None:
    ours = PoolError("no such pool")
    with pytest.raises(PoolError) as told, working("plan"):
        raise RayTaskError("listing", "a traceback", ours)
    assert told.value is ours


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(RayTaskError), working("plan"):
        raise RayTaskError("listing", "a traceback", KeyError("x"))


def test_what_is_not_rays_is_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), working("plan"):
        raise ZeroDivisionError
    with working("plan"):
        pass
