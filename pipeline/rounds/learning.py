"""The steps that learn from labels: network, accuracy, slopes, bank."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pyarrow as pa
import torch

import sisom
from pipeline.errors import PoolError, StageFailed, printable
from pipeline.learn import evaluate, slopes, train
from pipeline.learn.attempt import Attempt
from pipeline.learn.seeds import member_seed
from pipeline.learn.split import folds, threshold_rows
from pipeline.model.detector import fit
from pipeline.model.weights import Start
from pipeline.rounds import steps
from pipeline.rounds.stored import keep_features
from pipeline.rounds.work import Work
from pipeline.workspace import keys
from pipeline.workspace.folder import Folder
from pipeline.workspace.records import Evaluation, ModelRecord, SlopeSearch, Training, Unreadable


def train_networks(work: Work) -> None:
    """Train the round's network, and the others of its committee."""
    if work.done(steps.TRAIN):
        return
    rows = 0
    with work.timed(steps.TRAIN.name, lambda: rows):
        config, folder = work.config, work.folder
        for member in range(1, config.query.networks):
            if not folder.exists(keys.weights_key(member)):
                other = _trained(work, member)
                rows += other.images
                folder.put(keys.weights_key(member), other.weights)
        trained = _trained(work)
        rows += trained.images
        training = {name: value for name, value in trained.record.items() if name != "resumed_from"}
        record = ModelRecord(
            model=config.model.model_dump(mode="json"),
            taxonomy=config.taxonomy,
            training=Training.model_validate(training),
            unreadable=tuple(Unreadable(**row) for row in work.labeled_set.broken.to_pylist()),
            weights_sha256=hashlib.sha256(trained.weights).hexdigest(),
        )
        folder.put(keys.MODEL_WEIGHTS, trained.weights)
        record.write(folder)


def _trained(work: Work, member: int = 0) -> train.Trained:
    """Train a member of the committee from a seed of its own."""
    config, workspace, seed = work.config, work.workspace, work.round.plan.seed
    before = Folder.of_round(workspace, work.index - 1)
    weights = keys.weights_key(member)
    # A committee may have grown since: its new members start fresh.
    warm = config.train.start == "last" and work.index > 0 and before.exists(weights)
    attempt = Attempt(
        workspace.store.url(keys.TRAIN),
        f"{work.attempt}-member-{member:03d}" if member else work.attempt,
        member_seed(seed, member),
    )
    start = Start(before.get(weights), "network") if warm else None
    threads = work.round.plan.threads
    try:
        trained = train.train(
            work.labeled_set, config, work.cluster, attempt=attempt, start=start, threads=threads
        )
    except StageFailed:
        require_rows(work.labeled_set.broken, work.labeled_set.rows)  # says more than a worker without rows
        raise
    if trained.record["resumed_from"]:
        work.project.voice.say(f"    training went on after epoch {trained.record['resumed_from']}")
    return trained


def require_rows(broken: pa.Table, rows: int) -> None:
    """Refuse a labeled set of which no image could be read.

    Args:
        broken: the `BROKEN` rows of the set.
        rows: how many could be read.

    Raises:
        PoolError: says how many there are, and why the first of them could not be read.
    """
    if not rows and broken.num_rows:
        first = broken.slice(0, 1).to_pylist()[0]
        raise PoolError(
            f"none of the {broken.num_rows} labeled images can be read; the first, {printable(first['id'])!r} in "
            f"{printable(first['uri'])}: {printable(first['reason'])}"
        )


def judge_network(work: Work) -> None:
    """Find the network's accuracy on the test set, where there is one."""
    if work.done(steps.EVALUATE):
        return
    evaluation = Evaluation()
    with work.timed(steps.EVALUATE.name, lambda: evaluation.images):
        evaluation = evaluate.test_accuracy(work.round.network, work.config, work.cluster)
        evaluation.write(work.folder)


def search_slopes(work: Work) -> None:
    """Calibrate the steepness of each layer's sigmoid on the labeled rows."""
    if work.done(steps.SLOPES):
        return
    with work.timed("embed", lambda: len(work.embedded.ids)):
        work.embedded  # noqa: B018 - computed here, so that its time is its own
    with work.timed(steps.SLOPES.name):
        search = slopes.search(
            work.embedded.features,
            work.embedded.targets,
            work.config,
            cluster=work.cluster,
            attempt=Attempt(work.workspace.store.url(keys.TUNE), work.attempt, work.round.plan.seed),
            voice=work.project.voice,
        )
        SlopeSearch.model_validate(search).write(work.folder)


def fit_bank(work: Work) -> None:
    """Fit the bank on all labeled rows, then set its threshold.

    The threshold comes from the held-out rows, each scored without itself.
    """
    if work.done(steps.BANK):
        return
    with work.timed(steps.BANK.name):
        config, rows = work.config, work.embedded
        search = SlopeSearch.read(work.folder)
        bank = sisom.fit_bank(
            rows.features,
            rows.targets,
            slopes=search.slopes,
            spec=config.bank.spec,
            seed=work.round.plan.seed,
            # Too few labels for a leave-one-out value: 1.0 makes SISOMe the energy score, which needs none.
            r_avg=1.0 if search.r_avg is None else None,
            num_classes=len(config.taxonomy),
        )
        chosen = torch.from_numpy(threshold_rows(rows.held_out.numpy()))
        if config.scoring.from_bank:
            scores = sisom.score(bank, rows.features.select(chosen), exclude=chosen)
            judged = getattr(scores, config.scoring.score)
        else:
            keep_features(work.folder, work.judged_features, rows.targets)
            judged = _judged_without(work, chosen)
        limit = sisom.threshold(judged, config.scoring.keep)
        work.folder.put(keys.BANK, replace(bank, threshold=limit).to_bytes())


def _judged_without(work: Work, chosen: torch.Tensor) -> torch.Tensor:
    """Score labeled rows by a detector that was not fitted to them.

    If all labeled rows are chosen, they are scored a fold at a time.
    """
    rows = work.embedded
    model = work.round.network.build("cpu")
    scores = []
    for fold in [chosen] if len(chosen) < len(rows.ids) else folds(rows.targets):
        others = torch.ones(len(rows.ids), dtype=torch.bool)
        others[fold] = False
        if len(set(rows.targets[others].tolist())) < 2:  # so few that nothing is left to fit to
            others[:] = True
        fitted = fit(work.config, model, work.judged_features.select(others), targets=rows.targets[others])
        assert fitted is not None  # only asked where a detector judges
        scores.append(fitted.score(work.judged_features.select(fold)))
    return torch.cat(scores)
