"""The plan of a round: today's keys, and plans of before there were versions."""

from __future__ import annotations

import pytest

from pipeline.errors import ArtefactDamaged
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.plan import Plan, PlannedPool, PlannedScoring

PLAN = Plan(
    index=3,
    seed=1234,
    config={"seed": 1, "taxonomy": ["cat", "dog"], "train": {"lr": 0.1}},
    config_digest="c0ffee",
    taxonomy=("cat", "dog", "owl"),
    labels=("labels/000-initial.parquet",),
    label_digests={"labels/000-initial.parquet": "ab"},
    labels_without_image=1,
    query_size=20,
    pool=PlannedPool(
        shards=4, rows=90, other=1, duplicates=0, changes={"new": 1, "changed": 0, "vanished": 2}, digest="ef"
    ),
    threads=3,
    scoring=PlannedScoring(device="cuda", threads=2),
)
WRITTEN = {
    "version": 1,
    "index": 3,
    "seed": 1234,
    "config": {"seed": 1, "taxonomy": ["cat", "dog"], "train": {"lr": 0.1}},
    "config_digest": "c0ffee",
    "taxonomy": ["cat", "dog", "owl"],
    "labels": ["labels/000-initial.parquet"],
    "label_digests": {"labels/000-initial.parquet": "ab"},
    "labels_without_image": 1,
    "query_size": 20,
    "pool": {
        "shards": 4,
        "rows": 90,
        "other": 1,
        "duplicates": 0,
        "changes": {"new": 1, "changed": 0, "vanished": 2},
        "digest": "ef",
    },
    "threads": 3,
    "scoring": {"device": "cuda", "threads": 2},
}


@pytest.fixture
def folder(store: Store) -> Folder:
    return Folder.of_round(Workspace(store), 3)


def test_a_plan_holds_the_keys_of_the_contract(folder: Folder) -> None:
    PLAN.write(folder)
    assert folder.read_json("plan.json") == WRITTEN
    assert Plan.read(folder) == PLAN


def test_a_plan_of_before_there_were_versions_is_of_version_0(folder: Folder) -> None:
    folder.write_json("plan.json", {name: value for name, value in WRITTEN.items() if name != "version"})
    found = Plan.read(folder)
    assert found.version == 0
    assert found == PLAN.model_copy(update={"version": 0})


def test_keys_that_an_old_plan_lacks_have_the_defaults_of_their_day(folder: Folder) -> None:
    folder.write_json("plan.json", {"taxonomy": ["cat", "dog"], "pool": {"rows": 3}, "retired": True})
    found = Plan.read(folder)
    assert (found.taxonomy, found.labels, found.label_digests, found.threads) == (("cat", "dog"), (), {}, 1)
    assert (found.pool.rows, found.pool.changes, found.scoring.device) == (3, None, "cpu")


@pytest.mark.parametrize("wrong", [{"seed": "no number"}, {"taxonomy": "cat"}, {"pool": 3}, []])
def test_what_is_no_plan_is_damaged(folder: Folder, wrong: object) -> None:
    folder.write_json("plan.json", wrong)
    with pytest.raises(ArtefactDamaged, match=r"plan\.json is damaged"):
        Plan.read(folder)
