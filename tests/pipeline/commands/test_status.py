"""Where a project stands, from its workspace alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.commands.status import SHOWN, status
from pipeline.config.project import Config
from pipeline.encoding import to_json
from pipeline.errors import LabelError
from pipeline.rounds.steps import STEPS, steps_of
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.keys import LEASE, round_key
from pipeline.workspace.lease import Lease

QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart.yaml"

METRICS = dict(zip(SHOWN, (9, 0.5, None, 0.75, None, 7, 6, 1, 4), strict=True))
MakeConfig = Callable[..., Config]


@pytest.fixture
def config(base_uri: str, make_config: MakeConfig) -> Config:
    return make_config(workspace=base_uri, rounds=3)


@pytest.fixture
def workspace(config: Config) -> Workspace:
    return open_workspace(config)


PLAN = {"config": {"train": {"epochs": 3}}, "taxonomy": ["cat", "dog"]}


def commit(workspace: Workspace, index: int, asked: list[str], epochs: int = 3) -> None:
    workspace.write_json(round_key(index, "plan.json"), PLAN | {"config": {"train": {"epochs": epochs}}})
    workspace.write_table(round_key(index, "query.parquet"), pa.table({"id": pa.array(asked, pa.string())}))
    workspace.write_json(round_key(index, "metrics.json"), METRICS | {"extra": 1})
    workspace.write_json(round_key(index, "round.json"), {})


def answer(workspace: Workspace, batch: int, **columns: Any) -> None:
    workspace.write_table(f"labels/{batch:03d}-x.parquet", pa.table(columns))


def test_a_workspace_that_is_not_there_has_nothing_and_stays_so(config: Config, workspace: Workspace) -> None:
    found = status(config)
    assert found == {
        "workspace": config.workspace,
        "committed": 0,
        "wanted": 3,
        "rounds": [],
        "in_progress": None,
        "taxonomy": ["cat", "dog"],
        "labels": {"per_class": {}, "refused": {}, "proposed": {}, "tied": 0},
        "asked": 0,
        "open_questions": 0,
        "stop": None,
        "lease": None,
    }
    assert workspace.keys("") == []


def test_rounds_labels_and_open_questions(config: Config, workspace: Workspace) -> None:
    answer(workspace, 0, id=["a", "b"], label=["cat", "cat"])
    commit(workspace, 0, ["c", "d"])
    answer(workspace, 1, id=["c", "d"], label=["dog", None], status=[None, "skipped"])
    commit(workspace, 1, ["e", "f", "g"], epochs=5)
    answer(workspace, 2, id=["f"], label=[None], status=["out-of-world"])
    found = status(config)
    assert found["committed"] == 2
    assert found["rounds"][1] == {"round": 1, **METRICS, "changed": ["train.epochs: 3 -> 5"]}
    assert found["rounds"][0]["changed"] == []
    assert found["labels"] == {
        "per_class": {"cat": 2, "dog": 1},
        "refused": {"out-of-world": 1, "skipped": 1},
        "proposed": {},
        "tied": 0,
    }
    assert found["open_questions"] == 2  # e and g
    assert json.loads(json.dumps(found)) == found


def test_the_round_in_progress_says_what_comes_next(config: Config, workspace: Workspace) -> None:
    commit(workspace, 0, [])
    assert steps_of(config) == STEPS, "the oracle of this config is simulated"
    for count, step in enumerate(STEPS[:-1], start=1):
        key = step.artefact(1)
        if key.startswith("labels/"):
            answer(workspace, 2, id=["a"], label=["cat"])
            (made,) = workspace.keys("labels/002-x")
            workspace.store.put(key, workspace.store.get(made))
        else:
            workspace.write_json(key, PLAN if step.name == "plan" else {})
        found = status(config)["in_progress"]
        assert found["round"] == 1
        assert found["done"][-1] == step.name
        assert found["next"] == STEPS[count].name


def test_who_works_here(config: Config, workspace: Workspace) -> None:
    with Lease(workspace.store) as lease:
        found = status(config)["lease"]
        assert found.keys() == {"hostname", "pid", "fence", "seconds_left"}
        assert found["fence"] == lease.fence
        assert 0 < found["seconds_left"] <= 60
    assert status(config)["lease"] is None


def test_a_dead_owner_does_not_work_here(config: Config, workspace: Workspace) -> None:
    with Lease(workspace.store):
        pass
    held = workspace.read_json(LEASE)
    workspace.store.put(
        LEASE, to_json(held | {"expires": 4e9, "pid": 2**22 + 1})
    )  # above what Linux gives out
    assert status(config)["lease"] is None


def test_labels_that_do_not_fit_are_refused(config: Config, workspace: Workspace) -> None:
    answer(workspace, 0, id=["a"], label=["cow"])
    with pytest.raises(LabelError, match="row 0: label 'cow'"):
        status(config)


def test_status_needs_neither_ray_nor_mlflow_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys; import pipeline.commands.status;"
        "print([n for n in ('ray', 'mlflow', 'torch', 'sisom') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_config_is_read_without_torch() -> None:
    """Of every command it would take most of the time that people wait for."""
    code = (
        "import sys; from pipeline.store.config_file import load_config;"
        f"config = load_config({str(QUICKSTART)!r}, []); config.digest();"
        "print([n for n in ('ray', 'mlflow', 'torch') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
