"""JSON artefacts as values: they come back as they were, and old files are read by today's release."""

from __future__ import annotations

import pytest

from pipeline.errors import ArtefactDamaged, ArtefactMissing, WorkspaceMismatch
from pipeline.store.opening import Store
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.records import (
    Account,
    Commit,
    Evaluation,
    FarFilter,
    ModelRecord,
    Record,
    SlopeSearch,
    Training,
    Trial,
    Unreadable,
)

RECORDS = [
    Account(listed=3, scored=2, quarantined=1),
    Commit(fence=2, at="2026-01-01T00:00:00+00:00"),
    Evaluation(accuracy=0.5, images=4, per_class={"cat": 1.0}, open_accuracy=0.4, undiscovered=1),
    Evaluation(
        accuracy=1.0, images=1, unreadable=1, unreadable_images=(Unreadable(id="a", uri="u", reason="r"),)
    ),
    FarFilter(far_from=1.5, far=7, rest=9, youden=0.25),
    FarFilter(far_from=None, far=0, rest=0, youden=None),
    ModelRecord(
        model={"name": "resnet10_w16"},
        taxonomy=("cat", "dog"),
        training=Training.model_validate({"held_out": 4, "held_out_accuracy": 0.5, "curve": [[1, 0.25]]}),
        unreadable=(Unreadable(id="a", uri="u", reason="broken"),),
        weights_sha256="00",
    ),
    SlopeSearch(
        slopes={"avgpool": 10.0},
        r_avg=0.5,
        default_r_avg=0.75,
        method="grid",
        trials=(Trial(slopes={"avgpool": 10.0}, r_avg=0.5),),
        note=None,
    ),
]


@pytest.fixture
def folder(store: Store) -> Folder:
    return Folder.of_round(Workspace(store), 0)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was(folder: Folder, record: Record) -> None:
    record.write(folder)
    assert folder.names() == [record.name]
    again = type(record).read(folder)
    assert again == record
    stored = folder.get(record.name)
    again.write(folder)
    assert folder.get(record.name) == stored
    assert "version" not in folder.read_json(record.name)


def test_what_was_not_given_is_not_written(folder: Folder) -> None:
    Evaluation().write(folder)
    assert folder.read_json("evaluation.json") == {}
    assert Evaluation.read(folder).accuracy is None


def test_what_is_missing_or_damaged_is_told(folder: Folder) -> None:
    assert Account.find(folder) is None
    with pytest.raises(ArtefactMissing):
        Account.read(folder)
    folder.write_json("account.json", {"listed": "many"})
    with pytest.raises(ArtefactDamaged, match=r"rounds/000/account\.json is damaged"):
        Account.read(folder)


def test_a_record_of_a_later_release_is_refused(folder: Folder) -> None:
    from pipeline.workspace.plan import Plan

    folder.write_json("plan.json", {"version": Plan.latest + 1, "taxonomy": ["cat", "dog"]})
    with pytest.raises(
        WorkspaceMismatch, match=r"plan\.json is of version 2, which a later release of sisom"
    ):
        Plan.read(folder)
