"""`sisom status`, from the workspace alone: no Ray, no MLflow."""

from __future__ import annotations

import time
from typing import Any

from pipeline.config.project import Config
from pipeline.errors import ArtefactMissing
from pipeline.labels.files import LabelFiles
from pipeline.rounds.steps import COMMIT, steps_of
from pipeline.rounds.stopping import reason_to_stop
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import changed_since, latest
from pipeline.workspace.lease import in_force, lease_record
from pipeline.workspace.metrics import Metrics

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
    """Return rounds, labels, open questions, and who works here."""
    workspace = open_workspace(config)
    workspace.check(config)
    committed = workspace.committed()
    rounds = []
    for index in range(committed):
        metrics = Metrics.read(Folder.of_round(workspace, index))
        changed = [str(change) for change in changed_since(workspace, index)]
        rounds.append(
            {"round": index, **{name: getattr(metrics, name) for name in SHOWN}, "changed": changed}
        )
    now = latest(workspace, config)
    files = LabelFiles.read(workspace, config.labels.renamed)
    answers = files.labels(now.taxonomy)
    asked: list[str] = []
    if committed:
        last = Folder.of_round(workspace, committed - 1)
        asked = last.read_table(keys.QUERY, ["id"])["id"].to_pylist()
    return {
        "workspace": config.workspace,
        "committed": committed,
        "wanted": config.rounds,
        "rounds": rounds,
        "in_progress": _in_progress(workspace, config, committed),
        "taxonomy": list(now.taxonomy),
        "labels": {
            "per_class": answers.counts(),
            "refused": answers.refused(),
            "proposed": answers.proposed(),
            "tied": len(answers.tied()),
        },
        "asked": len(asked),
        "open_questions": len(set(asked) - answers.heard()),
        "stop": reason_to_stop(workspace, config, files),
        "lease": _lease(workspace),
    }


def _in_progress(workspace: Workspace, config: Config, index: int) -> dict[str, Any] | None:
    """Return the steps done and the next one, of a round begun."""
    steps = steps_of(config)
    done = [step.name for step in steps if step.done(workspace, index)]
    following = next((step.name for step in steps if step.name not in done), COMMIT.name)
    return {"round": index, "done": done, "next": following} if done else None


def _lease(workspace: Workspace) -> dict[str, Any] | None:
    try:
        held = lease_record(workspace.store.get(keys.LEASE))
    except ArtefactMissing:
        return None
    if not in_force(held):
        return None
    return {name: held[name] for name in ("hostname", "pid", "fence")} | {
        "seconds_left": held["expires"] - time.time()
    }
