"""Rounds one after another: checks, then the lease, then Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.cluster import joining
from pipeline.config.project import Config
from pipeline.errors import WaitingForLabels
from pipeline.labels import oracle
from pipeline.labels.files import LabelFiles
from pipeline.labels.unheard import unheard
from pipeline.rounds import steps
from pipeline.rounds.preflight import preflight
from pipeline.rounds.round import run_round
from pipeline.rounds.stopping import reason_to_stop
from pipeline.rounds.work import Project
from pipeline.track.record import record_round
from pipeline.track.tracker import open_tracker
from pipeline.voice import Voice
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import latest
from pipeline.workspace.lease import Guarded, Lease
from pipeline.workspace.metrics import Metrics
from pipeline.workspace.plan import Plan


@contextmanager
def opened(config: Config, voice: Voice, clock: Callable[[], float] = time.time) -> Iterator[Project]:
    """Open a project: check, take the lease, record rounds in MLflow.

    `clock` returns seconds since 1970.

    Raises:
        UserError, LeaseHeld: see `pipeline.errors`.
    """
    workspace = open_workspace(config)
    workspace.check(config)
    label_files = preflight(config, voice)
    with Lease(workspace.store) as lease:
        workspace = Workspace(Guarded(workspace.store, lease))
        workspace.claim(config)
        tracker = open_tracker(config, workspace.store, workspace.project())
        for index in range(workspace.committed()):
            folder = Folder.of_round(workspace, index)
            record_round(folder, index, config, tracker=tracker, voice=voice)
            if not folder.exists(keys.TRACKING):
                break  # MLflow does not answer: do not wait for it once a round
        yield Project(config, workspace, tracker, lease, voice, label_files, clock).refreshed()


def go_on(project: Project, first: int, wanted: int) -> int:
    """Do rounds `first` up to `wanted`; return how many were done.

    It stops where there is nothing left to ask about.
    """
    config, workspace, voice = project.config, project.workspace, project.voice
    require_answers(project, first)
    # MLflow's first look at its store takes seconds of migrations: meanwhile the round can start.
    threading.Thread(target=project.tracker.warm, name="mlflow-warm", daemon=True).start()
    voice.say(
        f"workspace {config.workspace}, rounds {first} to {wanted - 1}, MLflow at {project.tracker.uri}"
    )
    cluster = joining.start(config)
    voice.say(
        f"Ray with {cluster.cpus} CPUs and {cluster.gpus} GPUs: "
        f"up to {cluster.max_actors} scoring actors on {cluster.device}"
    )
    _write_initial_labels(project)
    for index in range(first, wanted):
        project = project.refreshed()  # labels may have come meanwhile
        if index > first and (enough := enough_rounds(project)) is not None:
            voice.say(f"stopping here: {enough}")
            return index - first
        require_answers(project, index)
        voice.say(f"round {index:03d}")
        run_round(project, cluster, index)
        voice.say(f"  {_headline(workspace, index)}")
        if nothing_left(workspace, index):
            voice.say(f"round {index:03d} found nothing left to ask about: stopping here")
            return index + 1 - first
    voice.say(f"report: {Folder.of_round(workspace, wanted - 1).url(keys.REPORT)}")
    return wanted - first


def _write_initial_labels(project: Project) -> None:
    """Write the labels that the project begins with, unless they are there."""
    if not project.workspace.exists(keys.INITIAL_LABELS):
        project.workspace.write_table(keys.INITIAL_LABELS, oracle.initial(project.config))


def _headline(workspace: Workspace, index: int) -> str:
    metrics = Metrics.read(Folder.of_round(workspace, index))
    parts = [f"{metrics.labeled_total} labels"]
    if metrics.test_accuracy is not None:
        unread = f" ({metrics.test_unreadable} unreadable left out)" if metrics.test_unreadable else ""
        parts.append(f"test accuracy {metrics.test_accuracy:.1%}{unread}")
    parts.append(f"r_avg {metrics.r_avg:.3f}" if metrics.r_avg is not None else "no r_avg yet")
    if metrics.ood_auroc is not None:
        parts.append(f"unknown against known AUROC {metrics.ood_auroc:.3f}, FPR95 {metrics.ood_fpr95:.3f}")
    account = f"{metrics.scored} scored + {metrics.quarantined} quarantined = {metrics.listed} listed"
    plan = Plan.find(Folder.of_round(workspace, index))
    if plan is not None and plan.pool.unreadable is not None:
        account += f", without {plan.pool.unreadable.told()}"
    return ", ".join(parts) + f"; {account}; {metrics.query_size} asked"


def require_answers(project: Project, index: int) -> None:
    """Refuse to start a round while nobody has answered the last query.

    Raises:
        WaitingForLabels: says where the query lies and where the answers go.
    """
    if index == 0:
        return
    workspace = project.workspace
    last = Folder.of_round(workspace, index - 1)
    asked = last.read_table(keys.QUERY, ["id"])["id"].to_pylist()
    answers = project.label_files.labels(latest(workspace, project.config).taxonomy)
    asked = [name for name in asked if name not in answers.withdrawn()]
    if asked and answers.heard().isdisjoint(asked):
        raise WaitingForLabels(
            f"round {index - 1:03d} asks about {len(asked)} images ({last.url(keys.QUERY)}) and none is "
            f"answered; write the answers to {workspace.store.url(keys.people_answers_key(index - 1))} "
            f"(id, label, status) and run again{unheard(project.label_files, asked, Plan.read(last).labels)}"
        )


def enough_rounds(project: Project) -> str | None:
    """Return why no further round should start.

    A round that was begun is always finished.
    """
    workspace = project.workspace
    if steps.PLAN.done(workspace, workspace.committed()):
        return None
    return reason_to_stop(workspace, project.config, project.label_files)


def nothing_left(workspace: Workspace, index: int) -> bool:
    """Return whether a round's query is empty."""
    return Metrics.read(Folder.of_round(workspace, index)).query_size == 0


def new_labels(files: LabelFiles, index: int) -> bool:
    """Return whether label files came since a round was planned.

    The oracle's own answer to the round's query does not count.
    """
    known = Plan.read(Folder.of_round(files.workspace, index)).labels
    return bool({*files.keys} - {*known} - {keys.oracle_answers_key(index)})
