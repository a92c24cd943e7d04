"""Detectors that come back from what a round keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import sisom
from pipeline.config.project import Config
from pipeline.errors import ArtefactMissing, UserError
from pipeline.labels.forms.tables import label_table
from pipeline.labels.tally import Labels
from pipeline.model.detector import fit
from pipeline.pool.shards import survey, units
from pipeline.pool.snapshot import SnapshotWriter
from pipeline.pool.source import PoolSource
from pipeline.report.histogram import ScoreSummary
from pipeline.rounds import reporting
from pipeline.rounds.measuring import measure
from pipeline.rounds.stored import StoredRound, keep_features, stored_detector
from pipeline.store.opening import LocalStore
from pipeline.types import LABELED, QUERY, SCORES, Label
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.plan import Plan, PlannedScoring
from pipeline.workspace.records import (
    Account,
    Evaluation,
    FarFilter,
    ModelRecord,
    SlopeSearch,
    Training,
    Unreadable,
)
from tests.support.judging import judged_by, labeled
from tests.support.scoring_lab import TAXONOMY, Lab, config_of, image

pytestmark = pytest.mark.usefixtures("one_thread")

JUDGES = sorted(name for name in sisom.DETECTORS if name not in ("sisome", "sisom", "energy"))


@pytest.mark.parametrize("name", JUDGES)
def test_a_detector_is_the_same_again_from_what_a_round_keeps(name: str, lab: Lab, tmp_path: Path) -> None:
    config = judged_by(name)
    features, targets = labeled(lab)
    workspace = Workspace(LocalStore(str(tmp_path)))
    keep_features(Folder.of_round(workspace, 3), features, targets)
    fitted = fit(config, lab.network.build("cpu"), features, targets=targets)
    again = stored_detector(Folder.of_round(workspace, 3), lab.network, config)
    assert fitted is not None
    assert again is not None
    assert torch.equal(again.score(features), fitted.score(features))
    assert again.score(features).dtype == torch.float32


JOINED = tuple(TAXONOMY)  # the project began with the first two


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.build(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    pool = tmp_path / "pool"
    pool.mkdir()
    for n in range(6):
        (pool / f"{n}.png").write_bytes(image(n))
    return config_of(pool, workspace=str(tmp_path / "work"), resources={"threads": 3})


def lay(workspace: Workspace, config: Config, lab: Lab, index: int) -> None:
    """All that the steps of a round leave, up to the manifest."""
    folder = Folder.of_round(workspace, index)
    writer = SnapshotWriter(folder)
    source = PoolSource.of(config)
    for unit in units(source):
        for group in survey(unit, source).groups:
            writer.add(group.listed, group.digest)
    writer.close()
    Plan(
        index=index,
        seed=11,
        config=config.frozen() | {"taxonomy": TAXONOMY[:2]},
        taxonomy=JOINED,
        scoring=PlannedScoring(device="cpu", threads=1),
    ).write(folder)
    labeled = [{"id": n, "target": 0, "held_out": False, "shard": 0, "row": 0} for n in ("b", "a", "c")]
    folder.write_table(keys.LABELED, pa.Table.from_pylist(labeled, schema=LABELED))
    folder.put(keys.MODEL_WEIGHTS, lab.network.weights.tobytes())
    ModelRecord(
        training=Training(held_out=4, held_out_accuracy=0.25), unreadable=(Unreadable(id="b"),)
    ).write(folder)
    Evaluation(
        accuracy=0.75,
        images=8,
        per_class={TAXONOMY[0]: 1.0, TAXONOMY[1]: 0.5, TAXONOMY[2]: 0.25},
        open_accuracy=0.5,
        unreadable=2,
        unreadable_images=(Unreadable(id="x", uri="u", reason="no bytes"),),
    ).write(folder)
    SlopeSearch(slopes={"avgpool": 10.0}).write(folder)
    folder.put(keys.BANK, lab.bank.to_bytes())
    scores = [{"id": f"{n}.png", "uri": "u", "shard": 0} for n in range(6)]
    folder.write_table(keys.score_file_key(0), pa.Table.from_pylist(scores, schema=SCORES), row_group_size=4)
    Account(listed=7, scored=6, quarantined=1).write(folder)
    FarFilter(far_from=1.5, far=5, rest=5, youden=1.0).write(folder)
    query = [{"rank": i, "id": name, "uri": "u"} for i, name in enumerate(("3.png", "1.png"))]
    folder.write_table(keys.QUERY, pa.Table.from_pylist(query, schema=QUERY))
    for name, seconds, images in (("train", 2.0, 100), ("select", 0.5, 0)):
        folder.write_json(keys.timing_key(name), {"seconds": seconds, "images": images})
    folder.write_json(keys.ROUND, {})


@pytest.fixture
def stored(config: Config, lab: Lab) -> StoredRound:
    workspace = open_workspace(config)
    for index in (0, 1):
        lay(workspace, config, lab, index)
    return StoredRound.open(config, None)


def test_the_last_committed_round_is_opened(stored: StoredRound, config: Config) -> None:
    assert stored.index == 1
    assert StoredRound.open(config, 0).index == 0
    with pytest.raises(UserError, match="round 2 is not committed"):
        StoredRound.open(config, 2)


def test_the_config_is_as_the_round_has_it(stored: StoredRound, config: Config) -> None:
    assert stored.config.taxonomy == JOINED
    assert (stored.config.resources.device, stored.config.resources.threads) == ("cpu", 1)
    assert stored.current == config


def test_models_are_those_that_the_round_has_left(stored: StoredRound, lab: Lab) -> None:
    images = torch.zeros(1, 3, stored.config.model.image_size, stored.config.model.image_size)
    assert stored.network.num_classes == len(JOINED)
    assert torch.equal(stored.network.build("cpu")(images), lab.network.build("cpu")(images))
    assert stored.bank.to_bytes() == lab.bank.to_bytes()
    assert stored.bank_file.load().to_bytes() == lab.bank.to_bytes()
    assert stored.detector is None
    models = stored.models()
    assert (models.network, list(models.members)) == (stored.network, [])
    with pytest.raises(ArtefactMissing, match=r"model/member-001\.safetensors"):
        stored.member(1)


def test_a_detector_comes_back_from_the_features_that_were_kept(stored: StoredRound, config: Config) -> None:
    judged = config.model_copy(update={"scoring": config.scoring.model_copy(update={"score": "knn"})})
    assert StoredRound(stored.workspace, stored.index, judged).detector is None, (
        "another config plans no round anew"
    )
    planned = stored.plan.model_copy(update={"config": judged.frozen() | {"taxonomy": TAXONOMY[:2]}})
    planned.write(stored.folder)
    again = StoredRound(stored.workspace, stored.index, config)
    size = config.model.image_size
    pixels = np.random.default_rng(3).integers(0, 256, (30, 3, size, size), np.uint8)
    features = again.extractor(pixels)
    keep_features(again.folder, features, torch.arange(30) % 3)
    assert again.detector is not None
    assert again.detector.score(features).shape == (30,)


def test_rows_of_its_pool(stored: StoredRound) -> None:
    row = stored.row(keys.SCORES, "5.png")
    assert row is not None
    assert row["uri"] == "u"
    assert stored.row(keys.SCORES, "nobody") is None
    assert stored.row(keys.QUARANTINE, "5.png") is None
    assert [part.num_rows for part in stored.parts(keys.SCORES, ["id"])] == [4, 2]
    assert stored.asked == ["3.png", "1.png"]
    assert stored.fitted_ids == ["a", "c"]
    found = dict(stored.pixels({0: ["4.png", "gone.png"]}))
    assert found["4.png"].shape == (3, stored.config.model.image_size, stored.config.model.image_size)
    assert found["gone.png"] == "its shard has changed since"


def answers(**said: str) -> Labels:
    labels: list[Any] = []
    for name, status in said.items():
        label = TAXONOMY[0] if status == "labeled" else "bat" if status == "unknown-class" else None
        labels.append(Label(name.replace("_", "."), label, status, "x"))  # type: ignore[arg-type]
    return Labels(label_table(labels))


def test_metrics_are_taken_from_what_the_steps_have_left(stored: StoredRound, lab: Lab) -> None:
    view = ScoreSummary((0.0, 1.0), {"pool": (6,)}, 0.9, 0.3, 2)
    said = answers(a="labeled", **{"3_png": "unknown-class", "1_png": "out-of-world", "z": "out-of-world"})
    metrics = measure(stored, said, view)
    assert (metrics.round, metrics.listed, metrics.scored, metrics.quarantined) == (1, 7, 6, 1)
    assert (metrics.test_accuracy, metrics.open_accuracy, metrics.held_out_accuracy) == (0.75, 0.5, 0.25)
    assert (metrics.test_images, metrics.test_unreadable) == (8, 2)
    assert (metrics.classes, metrics.classes_joined) == (3, (TAXONOMY[2],))
    assert (metrics.known_accuracy, metrics.joined_accuracy) == (0.75, 0.25)
    assert (metrics.threshold, metrics.threshold_rows, metrics.threshold_from) == (0.0, 3, "all labeled")
    assert (metrics.r_avg, metrics.bank_points) == (lab.bank.r_avg, len(lab.bank.labels))
    assert (metrics.ood_auroc, metrics.ood_fpr95, metrics.marked_ood) == (0.9, 0.3, 2)
    assert (metrics.labeled_total, metrics.proposed) == (1, {"bat": 1})
    assert metrics.labels_per_class == {TAXONOMY[0]: 1, TAXONOMY[1]: 0, TAXONOMY[2]: 0}
    assert metrics.refused == {"unknown-class": 1, "out-of-world": 2}
    assert (metrics.query_size, metrics.far_from) == (2, 1.5)
    assert metrics.query_precision == 0.5, "of the last query's two answers one was out of this world"
    assert (metrics.seconds, metrics.images_per_s) == ({"train": 2.0, "select": 0.5}, {"train": 50.0})
    metrics.write(stored.folder)
    assert StoredRound(stored.workspace, 1, stored.current).metrics == metrics


def test_the_report_names_the_test_images_that_are_left_out(
    stored: StoredRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "thumbnails", lambda *_: {})
    monkeypatch.setattr(reporting, "changed_since", lambda *_: ())
    monkeypatch.setattr(reporting, "TOP_UNREADABLE", 2)
    view = ScoreSummary((0.0, 1.0), {"pool": (6,)}, 0.9, 0.3, 2)
    first = StoredRound(stored.workspace, 0, stored.current)
    rows = tuple(Unreadable(id=name, uri="s3://a:secret@b/t", reason="no bytes") for name in "xyz")
    Evaluation(accuracy=0.75, images=8, unreadable=3, unreadable_images=rows).write(first.folder)
    page = reporting.view_of(first, measure(first, answers(), view), view)
    assert page.metrics["test_unreadable"] == 3
    assert page.test_unreadable == (
        ("x", "s3://***@b/t", "no bytes"), ("y", "s3://***@b/t", "no bytes"),
    )  # fmt: skip


def test_the_first_round_has_no_query_before_it(stored: StoredRound) -> None:
    first = StoredRound(stored.workspace, 0, stored.current)
    assert measure(first, answers(), ScoreSummary((), {}, None, None, 0)).query_precision is None


def test_a_round_without_its_features_says_what_took_them(tmp_path: Path, lab: Lab) -> None:
    folder = Folder.of_round(Workspace(LocalStore(str(tmp_path))), 0)
    with pytest.raises(
        UserError, match=r"labeled-features\.safetensors is not there, as after `sisom labels withdraw`"
    ):
        stored_detector(folder, lab.network, judged_by("knn"))
