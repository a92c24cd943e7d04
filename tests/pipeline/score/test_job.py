"""The scoring job on Ray: extra columns, detectors and committees as by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

import sisom
from pipeline.images.decode import decode_batch
from pipeline.model.detector import fit
from pipeline.model.extractor import Extractor
from pipeline.model.network import normalise
from pipeline.score.account import clear_parts, clear_together
from pipeline.score.feature_rows import unpack
from pipeline.score.job import score_pool
from pipeline.types import SCORES
from pipeline.voice import Voice
from pipeline.workspace.folder import Folder
from sisom.network.models import build_model, save_weights
from sisom.selectors.committee import dropout_votes
from tests.support.judging import judged_by, labeled
from tests.support.random_rows import CLASSES
from tests.support.scoring_lab import Lab, config_of, image, small_pool

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.ray
def test_scoring_leaves_what_the_strategy_needs_and_no_more(started: None, lab: Lab, tmp_path: Path) -> None:
    """Features of the rows in distribution beside the scores, or the votes' disagreement as each row's priority."""
    pool = small_pool(tmp_path / "pool", rows=90)
    pixels = decode_batch([image(n) for n in range(90)], config_of("unused").model.transform(10**6)).pixels
    features = Extractor(lab.network, "cpu", 16)(pixels)
    tables = {}
    for name in ("bald", "coreset"):
        job = lab.job(config_of(pool, query={"strategy": name}), tmp_path / name)
        score_pool(job, Voice())
        clear_parts(Folder(job.folder.workspace))
        tables[name] = pa.concat_tables(job.folder.workspace.tables("scores/")).sort_by("id")
        together = list(job.folder.workspace.tables("together/"))
        if name == "bald":
            assert not together
    bald, scored = tables["bald"], tables["coreset"]
    assert scored.column_names == bald.column_names[:-1]
    votes = dropout_votes(
        sisom.Head.of(lab.network.build("cpu")), features.penultimate, members=10, dropout=0.5, seed=0
    )
    ids = [f"i{n:04d}" for n in range(90)]
    by_hand = sisom.ROW_SELECTORS["bald"]().priority_of(sisom.Candidates(ids, committee=votes), seed=0)
    assert bald["priority"].to_numpy().tobytes() == by_hand.numpy().tobytes()
    assert float(by_hand.max()) > 0

    kept = pa.concat_tables(together).sort_by("id")
    usual = [row for row, strange in enumerate(scored["is_ood"].to_pylist()) if not strange]
    assert 0 < len(usual) < 90
    assert kept["id"].to_pylist() == [ids[row] for row in usual]
    again = unpack(kept["features"].to_pylist(), features, deep=False)
    assert torch.equal(again.penultimate, features.penultimate[usual])
    assert torch.equal(again.logits, features.logits[usual])
    clear_together(Folder(job.folder.workspace))
    assert not list(job.folder.workspace.keys("together/"))


@pytest.mark.ray
def test_networks_of_other_seeds_vote(started: None, lab: Lab, tmp_path: Path) -> None:
    """As each row's priority, which a strategy that levels the classes finds beside the scores."""
    pool = small_pool(tmp_path / "pool", rows=40)
    pixels = decode_batch([image(n) for n in range(40)], config_of("unused").model.transform(10**6)).pixels
    others = []
    for seed in (1, 2):
        weights = save_weights(build_model(lab.network.model.name, CLASSES, seed=seed))
        others.append(replace(lab.network, weights=np.frombuffer(weights, np.uint8)))
    features = Extractor(lab.network, "cpu", 16)(pixels)
    logits = [features.logits, *(Extractor(other, "cpu", 16)(pixels).logits for other in others)]
    votes = torch.stack([torch.softmax(each, dim=1) for each in logits])
    plan = {"strategy": "qbc-kl", "committee": {"members": 3}}
    job = lab.job(config_of(pool, query=plan), tmp_path / "rows", members=others)
    assert job.config.query.networks == 3
    score_pool(job, Voice())
    clear_parts(Folder(job.folder.workspace))
    found = pa.concat_tables(job.folder.workspace.tables("scores/")).sort_by("id")
    mean = votes.double().mean(dim=0)
    by_hand = (votes.double() * (votes.double() / mean).log()).sum(dim=2).mean(dim=0)
    assert found["priority"].to_pylist() == pytest.approx(by_hand.tolist(), abs=1e-6)
    assert float(by_hand.min()) > 1e-4

    balanced = {"strategy": "class-balanced", "options": {"of": "qbc-vote"}, "committee": {"members": 3}}
    job = lab.job(config_of(pool, query=balanced), tmp_path / "together", members=others)
    score_pool(job, Voice())
    kept = pa.concat_tables(job.folder.workspace.tables("together/"))
    places = [int(name[1:]) for name in kept["id"].to_pylist()]
    assert places
    assert kept["features"].null_count == kept.num_rows, "nobody looks at them again"
    shares = torch.stack([(votes.argmax(dim=2) == c).double().mean(dim=0) for c in range(CLASSES)])
    entropy = torch.special.entr(shares).sum(dim=0)[places]
    assert kept["priority"].to_pylist() == pytest.approx(entropy.tolist(), abs=1e-9)
    assert len(set(kept["priority"].to_pylist())) > 1


@pytest.mark.ray
def test_odin_judges_the_images_that_it_moves(started: None, lab: Lab, tmp_path: Path) -> None:
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
def test_scored_on_workers_as_by_hand(started: None, lab: Lab, tmp_path: Path) -> None:
    """Two actors or one, extra columns and the verdict are those of the detector and the selector themselves."""
    pool = small_pool(tmp_path / "pool", rows=90)
    features, targets = labeled(lab)
    pixels = decode_batch([image(n) for n in range(90)], config_of("unused").model.transform(10**6)).pixels
    rows = Extractor(lab.network, "cpu", 16)(pixels)
    left = []
    for actors in (1, 2):
        config = judged_by("knn", pool, scoring={"options": {"k": 3}}, query={"strategy": "margin"},
                           resources={"actors": actors})  # fmt: skip
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
