"""Where a project stands, read from its workspace alone: no Ray, no MLflow."""

from __future__ import annotations

import time
from typing import Any

from pipeline.config.project import Config
from pipeline.errors import ArtefactMissing
from pipeline.labels.batches import batches, read_labels
from pipeline.rounds.steps import STEPS
from pipeline.rounds.stopping import reason_to_stop
from pipeline.workspace import keys
from pipeline.workspace.artefacts import open_workspace
from pipeline.workspace.frozen import latest
from pipeline.workspace.keys import LEASE, round_key
from pipeline.workspace.lease import in_force, lease_record

SHOWN = (
    "labeled_total",
    "test_accuracy",
    "r_avg",
    "ood_auroc",
    "ood_fpr95",
    "listed",
    "scored",
    "quarantined",
    "query_size",
)


def status(config: Config) -> dict[str, Any]:
    """Committed rounds with their metrics, the round in progress, labels, open questions, and who works here."""
    workspace = open_workspace(config)
    workspace.check(config)
    committed = workspace.committed()
    rounds = []
    for index in range(committed):
        metrics = workspace.read_json(round_key(index, keys.METRICS))
        rounds.append({"round": index, **{name: metrics[name] for name in SHOWN}})
    done = [step for step, key in STEPS if workspace.exists(round_key(committed, key))]
    now = latest(workspace, config)
    answers = read_labels(workspace, batches(workspace), now.taxonomy)
    asked: list[str] = []
    if committed:
        asked = workspace.read_table(round_key(committed - 1, keys.QUERY), ["id"])["id"].to_pylist()
    return {
        "workspace": config.workspace,
        "committed": committed,
        "wanted": config.rounds,
        "rounds": rounds,
        "in_progress": {"round": committed, "done": done, "next": _next(done)} if done else None,
        "taxonomy": list(now.taxonomy),
        "labels": {
            "per_class": answers.counts(),
            "refused": answers.refused(),
            "proposed": answers.proposed(),
            "tied": len(answers.tied()),
        },
        "asked": len(asked),
        "open_questions": len(set(asked) - answers.heard()),
        "stop": reason_to_stop(workspace, config),
        "lease": _lease(config),
    }


def _next(done: list[str]) -> str:
    return next((step for step, _ in STEPS if step not in done), STEPS[-1][0])


def _lease(config: Config) -> dict[str, Any] | None:
    try:
        held = lease_record(open_workspace(config).store.get(LEASE))
    except ArtefactMissing:
        return None
    if not in_force(held):
        return None
    return {name: held[name] for name in ("hostname", "pid", "fence")} | {
        "seconds_left": held["expires"] - time.time()
    }
