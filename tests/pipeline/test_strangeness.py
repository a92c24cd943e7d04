"""Any detector of the catalogue in SISOM's place, and strategies that look at features: scored, stored, selected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_world
import pyarrow as pa
import pytest
import ray
import torch

import sisom
from pipeline.ask.selection import COLUMNS, QueryRules, candidates, priorities
from pipeline.config.project import Config
from pipeline.errors import ConfigError, LabelError
from pipeline.images.decode import decode_batch
from pipeline.learn.split import folds
from pipeline.model.detector import fit
from pipeline.model.extractor import Extractor
from pipeline.model.network import normalise
from pipeline.rounds.preflight import check_model
from pipeline.rounds.stored import keep_features, stored_detector
from pipeline.score.account import clear_parts
from pipeline.score.job import score_pool
from pipeline.store.opening import LocalStore
from pipeline.types import SCORES
from pipeline.voice import Voice
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from tests.support.scoring_lab import SIZE, Lab, config_of, image, small_pool

JUDGES = sorted(name for name in sisom.DETECTORS if name not in ("sisome", "sisom", "energy"))


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(kept)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.build(tmp_path_factory.mktemp("lab"))


def judged_by(name: str, pool: Any = "unused", **changes: Any) -> Config:
    scoring = {"batch_size": 16, "max_quarantined": 1.0, "max_pixels": 1_000_000, "score": name}
    return config_of(pool, scoring=scoring | changes.pop("scoring", {}), **changes)


def labeled(lab: Lab) -> tuple[sisom.Features, torch.Tensor]:
    pixels = np.random.default_rng(7).integers(0, 256, (48, 3, SIZE, SIZE), np.uint8)
    return Extractor(lab.network, "cpu", 16)(pixels), torch.arange(48) % 3


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


def test_the_banks_own_scores_need_no_detector(lab: Lab, tmp_path: Path) -> None:
    features, targets = labeled(lab)
    for name in ("sisome", "sisom", "energy"):
        assert fit(judged_by(name), lab.network.build("cpu"), features, targets=targets) is None
        assert (
            stored_detector(Folder(Workspace(LocalStore(str(tmp_path)))), lab.network, judged_by(name))
            is None
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scoring": {"score": "knnn"}}, "unknown detector 'knnn'; did you mean knn?"),
        ({"scoring": {"options": {"k": 3}}}, "sisome comes out of the bank and takes none"),
        ({"query": {"strategy": "knn"}}, "'knn' is a detector, and scoring.score is another one, 'sisome'"),
    ],
)
def test_what_a_config_may_not_ask_for(changes: dict[str, Any], message: str) -> None:
    plain = json.loads(config_of("unused").model_dump_json())
    for section, values in changes.items():
        plain[section] |= values
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        Config.model_validate_json(json.dumps(plain))


def test_a_wrong_option_is_told_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"scoring\.options: detector 'knn' has no option 'kk'"):
        check_model(judged_by("knn", scoring={"options": {"kk": 3}}))
    check_model(judged_by("knn", scoring={"options": {"k": 3}}))


def test_folds_hold_every_row_once_and_each_class_in_equal_shares() -> None:
    targets = torch.tensor([0] * 11 + [1] * 7 + [2])
    parts = folds(targets)
    assert sorted(torch.cat(parts).tolist()) == list(range(19))
    for c, most, least in ((0, 3, 2), (1, 2, 1)):
        counts = [int((targets[part] == c).sum()) for part in parts]
        assert (max(counts), min(counts)) == (most, least)
    assert [part.tolist() for part in folds(torch.tensor([3, 4]))] == [[0], [1]]


def test_a_threshold_by_folds_is_that_of_new_rows() -> None:
    """Fitted rows look less strange than new ones to a detector that has seen them; rows left out do not."""
    detector = sisom.build_detector("sisom-fused", slopes=10.0, k=3)
    marked: dict[str, list[float]] = {"seen": [], "unseen": []}
    for world in range(16):  # in a single one the outermost of 48 rows decides
        features, targets = open_world.make(48, seed=world, noise=1.2)
        seen = detector.score(detector.fit(features, targets), features)
        unseen = torch.empty(48)
        for part in folds(targets):
            others = torch.ones(48, dtype=torch.bool)
            others[part] = False
            state = detector.fit(features.select(others), targets[others])
            unseen[part] = detector.score(state, features.select(part))
        rows = open_world.make(400, seed=100 + world, noise=1.2)[0]
        new = detector.score(detector.fit(features, targets), rows)
        for name, told in (("seen", seen), ("unseen", unseen)):
            marked[name].append(float((new > told.quantile(0.95)).float().mean()))
    assert np.mean(marked["unseen"]) < 0.1 < 0.3 < np.mean(marked["seen"])


def test_too_few_labels_are_told_with_what_would_do(lab: Lab) -> None:
    features, _ = labeled(lab)
    model = lab.network.build("cpu")
    with pytest.raises(LabelError, match=r"sisom-fused: .*; label more, or let sisome judge"):
        fit(judged_by("sisom-fused"), model, features.select([0, 1]), targets=torch.tensor([0, 1]))


def test_strange_rows_go_by_the_detector_and_others_by_the_strategys_column() -> None:
    rows = [
        {
            "id": n,
            "uri": n,
            "shard": 0,
            "predicted": "cat",
            "is_ood": n in "xy",
            "strangeness": s,
            "priority": p,
        }
        | dict.fromkeys(("inner", "outer", "ratio", "energy", "sisom", "sisome"), 9.0)
        for n, s, p in (("a", 1.0, 5.0), ("b", 2.0, 4.0), ("x", 7.0, 0.0), ("y", 8.0, 0.0))
    ]
    schema = pa.schema([*SCORES, ("strangeness", pa.float32()), ("priority", pa.float64())])
    part = pa.Table.from_pylist(rows, schema=schema)
    assert priorities(part, "margin", 0).tolist() == [5.0, 4.0, 7.0, 8.0]
    assert priorities(part.drop_columns(["priority"]), "knn", 0).tolist() == [1.0, 2.0, 7.0, 8.0]
    assert priorities(part.select(COLUMNS), "sisome", 0).tolist() == [9.0] * 4
    plan = judged_by("knn", query={"size": 2, "strategy": "margin", "ood_share": 0.5}).query
    found = candidates([part], pa.array([], pa.string()), QueryRules(plan, None, 0))
    assert found.num_rows == 4


@pytest.mark.ray
def test_odin_judges_the_images_that_it_moves(lab: Lab, tmp_path: Path) -> None:
    """On workers as by hand, image by image: moved in pixels' units, not in those that the network sees."""
    pool = small_pool(tmp_path / "pool", rows=40)
    config = judged_by("odin", pool, scoring={"options": {"noise": 0.05, "temperature": 10.0}})
    pixels = decode_batch([image(n) for n in range(40)], config.model.transform(10**6)).pixels
    net = lab.network.build("cpu")
    detector = sisom.build_detector("odin", noise=0.05, temperature=10.0, std=config.model.std)
    strange = []
    for one in pixels:
        moved = detector.perturb(net, normalise(torch.from_numpy(one[None]), config.model))
        strange.append(float(detector.score((), sisom.extract(net, moved, config.model.layers))[0]))
    features, targets = labeled(lab)
    job = lab.job(config, tmp_path / "out", fit(config, net, features, targets=targets))
    score_pool(job, Voice())
    clear_parts(Folder(job.folder.workspace))
    found = pa.concat_tables(job.folder.workspace.tables("scores/")).sort_by("id")
    assert found["strangeness"].to_pylist() == pytest.approx(strange, abs=1e-6)
    still = fit(judged_by("msp"), net, features, targets=targets)
    assert still is not None
    unmoved = still.score(Extractor(lab.network, "cpu", 16)(pixels)).numpy()
    assert np.abs(found["strangeness"].to_numpy() - unmoved).max() > 0.01


@pytest.mark.ray
def test_scored_on_workers_as_by_hand(lab: Lab, tmp_path: Path) -> None:
    """Two actors or one, extra columns and the verdict are those of the detector and the selector themselves."""
    pool = small_pool(tmp_path / "pool", rows=90)
    features, targets = labeled(lab)
    pixels = decode_batch([image(n) for n in range(90)], config_of("unused").model.transform(10**6)).pixels
    rows = Extractor(lab.network, "cpu", 16)(pixels)
    left = []
    for actors in (1, 2):
        config = judged_by("knn", pool, scoring={"options": {"k": 3}}, query={"strategy": "margin"},
                           resources={"actors": actors, "no_progress_s": 60.0})  # fmt: skip
        fitted = fit(config, lab.network.build("cpu"), features, targets=targets)
        assert fitted is not None
        job = lab.job(config, tmp_path / f"out{actors}", fitted)
        score_pool(job, Voice())
        clear_parts(Folder(job.folder.workspace))
        found = pa.concat_tables(job.folder.workspace.tables("scores/")).sort_by("id")
        assert found.column_names == [*SCORES.names, "strangeness", "priority"]
        strange = fitted.score(rows).numpy()
        assert found["strangeness"].to_numpy().tobytes() == strange.tobytes()
        margin = sisom.ROW_SELECTORS["margin"]().priority_of(
            sisom.Candidates(found["id"].to_pylist(), None, rows), seed=0
        )
        assert found["priority"].to_numpy().tobytes() == margin.numpy().tobytes()
        assert found["is_ood"].to_pylist() == (strange > (lab.bank.threshold or 0.0)).tolist()
        left.append(
            {key: job.folder.workspace.store.get(key) for key in job.folder.workspace.keys("scores/")}
        )
    assert left[0] == left[1]
    ray.shutdown()
