"""Steps and timings of a round in progress."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pipeline.rounds import steps
from pipeline.rounds.work import Project, Work
from pipeline.store.opening import Store
from pipeline.voice import Voice
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import round_key


def work_of(store: Store, sink: io.StringIO) -> Work:
    nobody: Any = None
    voice = Voice(Console(file=sink, soft_wrap=True))
    return Work(Project(nobody, Workspace(store), nobody, nobody, voice, nobody), nobody, 7)


def test_a_step_is_done_when_its_artefact_is_there(store: Store) -> None:
    work = work_of(store, io.StringIO())
    assert not work.done(steps.PLAN)
    work.workspace.write_json(round_key(7, "plan.json"), {})
    assert work.done(steps.PLAN)
    assert not work.done(steps.TRAIN)


def test_the_time_of_a_step_is_kept_and_said(store: Store) -> None:
    sink = io.StringIO()
    work = work_of(store, sink)
    with work.timed("score", lambda: 12):
        pass
    found = work.workspace.read_json(round_key(7, "timings/score.json"))
    assert found["images"] == 12
    assert found["seconds"] > 0
    assert "score" in sink.getvalue()
    assert "images/s" in sink.getvalue()


def test_a_step_that_failed_has_no_time(store: Store) -> None:
    work = work_of(store, io.StringIO())
    with pytest.raises(ZeroDivisionError), work.timed("score"):
        raise ZeroDivisionError
    assert not work.folder.exists("timings/score.json")
