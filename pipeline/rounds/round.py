"""One round, from top to bottom.

    plan -> train -> evaluate -> slopes -> bank -> score -> select -> ask -> report -> commit

Each step leaves an artefact, written atomically, and is skipped where its artefact is there. What a step needs
beside artefacts comes from `plan.json`, the frozen inputs, so a resumed round equals an uninterrupted one. Clock
times lie in `timings/`, apart from everything that decides.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import torch

from pipeline.cluster import joining as engine
from pipeline.cluster.layout import Cluster
from pipeline.encoding import to_json
from pipeline.errors import LeaseHeld
from pipeline.rounds.asking import ask, score, select
from pipeline.rounds.learning import fit_bank, judge_network, search_slopes, train_networks
from pipeline.rounds.mlflow_record import track
from pipeline.rounds.planning import plan
from pipeline.rounds.reporting import _report
from pipeline.rounds.work import Project, Work
from pipeline.types import Round
from pipeline.workspace import keys


def run_round(project: Project, cluster: Cluster, index: int) -> Round:
    """Do, or finish, one round; returns when it is committed.

    Raises:
        WaitingForLabels: the last query has not been answered.
        UserError: the pool or the labels are not what the config says.
        SystemFault: a stage failed; running again goes on where it stopped.
    """
    work = Work(project, cluster, index)
    plan(work)
    work = Work(project, engine.start(work.config), index)  # on the device that was planned
    torch.set_num_threads(work.plan["threads"])  # the last bit of a sum depends on it
    train_networks(work)
    judge_network(work)
    search_slopes(work)
    fit_bank(work)
    score(work)
    select(work)
    ask(work)
    _report(work)
    return _commit(work)


def _commit(work: Work) -> Round:
    """Write the manifest: from here on the round exists. MLflow is told afterwards, or by the next run."""
    workspace = work.workspace
    names = [keys.PLAN, keys.LABELED, keys.SHARDS, keys.MODEL_WEIGHTS, keys.SLOPES]
    names += [keys.BANK, keys.ACCOUNT, keys.FAR_FILTER, keys.QUERY]
    names += [keys.weights_key(member) for member in range(1, work.config.query.networks)]
    manifest = Round(
        index=work.index,
        seed=work.plan["seed"],
        config_digest=work.plan["config_digest"],
        labels=tuple(work.plan["labels"]),
        snapshot=work.plan["pool"]["digest"],
        artefacts=tuple((name, workspace.digest(work.key(name))) for name in names),
    )
    written = to_json({**asdict(manifest), "artefacts": dict(manifest.artefacts)})
    lease = work.project.lease
    lease.hold()
    workspace.write_json(
        work.key(keys.COMMIT),
        {"fence": lease.fence, "at": datetime.fromtimestamp(work.project.clock(), UTC).isoformat()},
    )
    key = work.key(keys.ROUND)
    if not workspace.store.put_if_absent(key, written) and workspace.store.get(key) != written:
        raise LeaseHeld(
            f"{workspace.store.url(key)}: another run has committed this round, and not as this one"
        )
    track(workspace, work.project.config, work.project.tracker, work.project.voice, work.index)
    return manifest
