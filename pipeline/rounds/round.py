"""A round from top to bottom.

Each step of `steps.STEPS` leaves an artefact, written atomically, and is skipped where its artefact is there. What a
step needs beside artefacts comes from `plan.json`, the frozen inputs, so a resumed round equals an uninterrupted one.
Clock times lie in `timings/`, apart from everything that decides.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import torch

from pipeline.cluster import joining
from pipeline.cluster.layout import Cluster
from pipeline.encoding import to_json
from pipeline.errors import LeaseHeld
from pipeline.rounds.asking import ask, score, select
from pipeline.rounds.learning import fit_bank, judge_network, search_slopes, train_networks
from pipeline.rounds.planning import plan
from pipeline.rounds.reporting import report
from pipeline.rounds.steps import STEPS
from pipeline.rounds.work import Project, Work
from pipeline.track.record import record_round
from pipeline.types import Round
from pipeline.workspace import keys
from pipeline.workspace.records import Commit


def run_round(project: Project, cluster: Cluster, index: int) -> Round:
    """Do, or finish, one round; return when it is committed.

    Raises:
        WaitingForLabels: the last query has not been answered.
        UserError: the pool or the labels are not what the config says.
        SystemFault: a step failed; running again goes on where it stopped.
    """
    work = Work(project, cluster, index)
    plan(work)
    work = work.on(joining.start(work.config))  # the device that was planned
    torch.set_num_threads(work.round.plan.threads)  # the last bit of a sum depends on it
    train_networks(work)
    judge_network(work)
    search_slopes(work)
    fit_bank(work)
    score(work)
    select(work)
    ask(work)
    report(work)
    return commit(work)


def commit(work: Work) -> Round:
    """Write the manifest: from here on the round exists.

    MLflow records it afterwards, or in the next run.
    """
    folder, project, plan = work.folder, work.project, work.round.plan
    names = [name for step in STEPS for name in step.manifest]
    names += [keys.weights_key(member) for member in range(1, work.config.query.networks)]
    manifest = Round(
        index=work.index,
        seed=plan.seed,
        config_digest=plan.config_digest,
        labels=plan.labels,
        snapshot=plan.pool.digest,
        artefacts=tuple((name, folder.digest(name)) for name in names),
    )
    written = to_json({**asdict(manifest), "artefacts": dict(manifest.artefacts)})
    project.lease.hold()
    now = datetime.fromtimestamp(project.clock(), UTC)
    Commit(fence=project.lease.fence, at=now.isoformat()).write(folder)
    store, key = work.workspace.store, folder.key(keys.ROUND)
    if not store.put_if_absent(key, written) and store.get(key) != written:
        raise LeaseHeld(f"{store.url(key)}: another run has committed this round, and not as this one")
    record_round(folder, work.index, project.config, tracker=project.tracker, voice=project.voice)
    return manifest
