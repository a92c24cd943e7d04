"""Rounds one after another until there are enough: checks first, then the lease, then Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.cluster import joining as engine
from pipeline.config.project import Config
from pipeline.labels.batches import batches, require_answers
from pipeline.rounds.mlflow_record import track
from pipeline.rounds.preflight import preflight
from pipeline.rounds.round import run_round
from pipeline.rounds.stopping import reason_to_stop
from pipeline.rounds.work import Project
from pipeline.track.tracker import open_tracker
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.frozen import latest
from pipeline.workspace.keys import oracle_answers_key, round_key
from pipeline.workspace.lease import Guarded, Lease


@contextmanager
def opened(config: Config, voice: Voice, clock: Callable[[], float] = time.time) -> Iterator[Project]:
    """A project to work on: checked, leased and this config's, its committed rounds known to MLflow.

    `clock` gives seconds since 1970.

    Raises:
        UserError, LeaseHeld: see `pipeline.errors`.
    """
    workspace = open_workspace(config)
    workspace.check(config)
    preflight(config, voice)
    with Lease(workspace.store) as lease:
        workspace = Workspace(Guarded(workspace.store, lease))
        workspace.claim(config)
        tracker = open_tracker(config, workspace.store)
        for index in range(workspace.committed()):
            track(workspace, config, tracker, voice, index)
            if not workspace.exists(round_key(index, keys.TRACKING)):
                break  # no use in waiting for the same silence once a round
        yield Project(config, workspace, tracker, lease, voice, clock)


def go_on(project: Project, first: int, wanted: int) -> int:
    """Do the rounds from `first` up to `wanted`, as far as there is something to ask; gives how many were done."""
    config, workspace, voice = project.config, project.workspace, project.voice
    require_answers(workspace, first, latest(workspace, config).taxonomy)
    # MLflow's first look at its store takes seconds of migrations: meanwhile the round can start.
    threading.Thread(target=project.tracker.warm, name="mlflow-warm", daemon=True).start()
    voice.say(
        f"workspace {config.workspace}, rounds {first} to {wanted - 1}, MLflow at {project.tracker.uri}"
    )
    cluster = engine.start(config)
    voice.say(
        f"Ray with {cluster.cpus} CPUs and {cluster.gpus} GPUs: "
        f"up to {cluster.max_actors} scoring actors on {cluster.device}"
    )
    for index in range(first, wanted):
        if index > first and (enough := enough_rounds(workspace, config)) is not None:
            voice.say(f"stopping here: {enough}")
            return index - first
        require_answers(workspace, index, latest(workspace, config).taxonomy)
        voice.say(f"round {index:03d}")
        run_round(project, cluster, index)
        voice.say(f"  {_headline(workspace, index)}")
        if nothing_left(workspace, index):
            voice.say(f"round {index:03d} found nothing left to ask about: stopping here")
            return index + 1 - first
    voice.say(f"report: {workspace.store.url(round_key(wanted - 1, keys.REPORT))}")
    return wanted - first


def _headline(workspace: Workspace, index: int) -> str:
    found = workspace.read_json(round_key(index, keys.METRICS))
    parts = [f"{found['labeled_total']} labels"]
    if found["test_accuracy"] is not None:
        parts.append(f"test accuracy {found['test_accuracy']:.1%}")
    parts.append(f"r_avg {found['r_avg']:.3f}" if found["r_avg"] is not None else "no r_avg yet")
    if found["ood_auroc"] is not None:
        parts.append(f"unknown against known AUROC {found['ood_auroc']:.3f}, FPR95 {found['ood_fpr95']:.3f}")
    account = f"{found['scored']} scored + {found['quarantined']} quarantined = {found['listed']} listed"
    return ", ".join(parts) + f"; {account}; {found['query_size']} asked"


def enough_rounds(workspace: Workspace, config: Config) -> str | None:
    """Why no further round should start; a round that was begun is always finished."""
    if workspace.exists(round_key(workspace.committed(), keys.PLAN)):
        return None
    return reason_to_stop(workspace, config)


def nothing_left(workspace: Workspace, index: int) -> bool:
    """Whether a round's query is empty."""
    return bool(workspace.read_json(round_key(index, keys.METRICS))["query_size"] == 0)


def new_labels(workspace: Workspace, index: int) -> bool:
    """Whether label files came since a round was planned, beside the empty answer to its empty query."""
    known = set(workspace.read_json(round_key(index, keys.PLAN))["labels"])
    return bool(set(batches(workspace)) - known - {oracle_answers_key(index)})


# ---------------------------------------------------------------------------------------------- preflight
