"""The steps of a round that learn from labels: the network, its accuracy, the slopes, the bank and its threshold."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch

import sisom
from pipeline.learn import evaluate, train
from pipeline.learn import slopes as tune
from pipeline.learn.split import folds, threshold_rows
from pipeline.model.detector import fit
from pipeline.rounds.stored import keep_features
from pipeline.rounds.work import Work, round_seed
from pipeline.workspace.keys import member_key


def train_networks(work: Work) -> None:
    """Train the round's network, and the others of the committee that its query asks."""
    if work.done("model/model.json"):
        return
    rows = 0
    with work.timed("train", lambda: rows):
        config, workspace = work.config, work.workspace
        for member in range(1, config.query.networks):
            if not workspace.exists(member_key(work.index, member)):
                other = _trained(work, member)
                rows += other.images
                workspace.store.put(member_key(work.index, member), other.weights)
        trained = _trained(work)
        rows += trained.images
        model = {
            "model": config.model.model_dump(mode="json"),
            "taxonomy": list(config.taxonomy),
            "training": {name: v for name, v in trained.record.items() if name != "resumed_from"},
            "unreadable": work.labeled_set.broken.to_pylist(),
            "weights_sha256": hashlib.sha256(trained.weights).hexdigest(),
        }
        workspace.store.put(member_key(work.index, 0), trained.weights)
        workspace.write_json(work.key("model/model.json"), model)


def _trained(work: Work, member: int = 0) -> train.Trained:
    """The round's network, or another member of the committee that its query asks: from a seed of its own."""
    config, workspace, seed = work.config, work.workspace, work.plan["seed"]
    before = member_key(work.index - 1, member)
    warm = config.train.start == "last" and work.index > 0
    trained = train.train(
        work.labeled_set,
        workspace.store.get(before) if warm else None,
        config,
        work.cluster,
        storage_path=workspace.store.url("train"),
        name=f"{work.attempt}-member-{member:03d}" if member else work.attempt,
        seed=round_seed(seed, member) if member else seed,
        threads=work.plan["threads"],
    )
    if trained.record["resumed_from"]:
        work.project.voice.say(f"    training went on after epoch {trained.record['resumed_from']}")
    return trained


def judge_network(work: Work) -> None:
    """Find the network's accuracy on the test set, where there is one."""
    if work.done("evaluation.json"):
        return
    found: dict[str, Any] | None = None
    with work.timed("evaluate", lambda: found["images"] if found else 0):
        found = evaluate.test_accuracy(work.network, work.config, work.cluster)
        work.workspace.write_json(work.key("evaluation.json"), found or {})


def search_slopes(work: Work) -> None:
    """Calibrate the steepness of each layer's sigmoid on the labeled rows."""
    if work.done("slopes.json"):
        return
    with work.timed("embed", lambda: len(work.embedded.ids)):
        work.embedded  # noqa: B018 - computed here, so that its time is its own
    with work.timed("slopes"):
        found = tune.search(
            work.embedded.features,
            work.embedded.targets,
            work.config,
            work.cluster,
            storage_path=work.workspace.store.url("tune"),
            name=work.attempt,
            seed=work.plan["seed"],
            voice=work.project.voice,
        )
        work.workspace.write_json(work.key("slopes.json"), found)


def fit_bank(work: Work) -> None:
    """Fit the bank on all labeled rows, then set the threshold on the held-out ones, each without itself."""
    if work.done("bank.safetensors"):
        return
    with work.timed("bank"):
        config, rows = work.config, work.embedded
        found = work.workspace.read_json(work.key("slopes.json"))
        bank = sisom.fit_bank(
            rows.features,
            rows.targets,
            slopes=found["slopes"],
            spec=config.bank.spec,
            seed=work.plan["seed"],
            # Too few labels for a leave-one-out value: 1.0 makes SISOMe the energy score, which needs none.
            r_avg=1.0 if found["r_avg"] is None else None,
            num_classes=len(config.taxonomy),
        )
        chosen = torch.from_numpy(threshold_rows(rows.held_out.numpy()))
        if config.scoring.from_bank:
            scores = sisom.score(bank, rows.features.select(chosen), exclude=chosen)
            judged = getattr(scores, config.scoring.score)
        else:
            keep_features(work.workspace, work.index, work.judged_features, rows.targets)
            judged = _judged_without(work, chosen)
        limit = sisom.threshold(judged, config.scoring.keep)
        work.workspace.store.put(work.key("bank.safetensors"), replace(bank, threshold=limit).to_bytes())


def _judged_without(work: Work, chosen: torch.Tensor) -> torch.Tensor:
    """What the config's detector says of labeled rows that it was not fitted to; of all, a fold at a time."""
    rows = work.embedded
    model = work.network.build("cpu")
    found = []
    for fold in [chosen] if len(chosen) < len(rows.ids) else folds(rows.targets):
        others = torch.ones(len(rows.ids), dtype=torch.bool)
        others[fold] = False
        if len(set(rows.targets[others].tolist())) < 2:  # so few that nothing is left to fit to
            others[:] = True
        fitted = fit(work.config, model, work.judged_features.select(others), rows.targets[others])
        assert fitted is not None  # only asked where a detector judges
        found.append(fitted.score(work.judged_features.select(fold)))
    return torch.cat(found)
