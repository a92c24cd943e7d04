"""`sisom study`: one study, from its config to its report.

A study that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.cluster import joining
from pipeline.encoding import canonical
from pipeline.errors import WorkspaceMismatch
from pipeline.report.study_page import render
from pipeline.store.opening import open_store
from pipeline.studies.kinds import KINDS, StudyConfig
from pipeline.studies.lab.cells import Bench, Lab
from pipeline.studies.outcome import Outcome
from pipeline.track.database import TrackingUnavailable
from pipeline.track.names import flat
from pipeline.track.session import RoundRecord
from pipeline.track.tracker import open_tracker
from pipeline.voice import Voice
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import PROJECT
from pipeline.workspace.lease import Guarded, Lease

REPORT = "report.html"


def study(config: StudyConfig, voice: Voice) -> str:
    """Run a study and write its results; return the report's URI.

    Writes `results/*.parquet`, `results/seconds.parquet` (which alone differs from run to run), `config.json` and
    `report.html` into the study's workspace. Safe to call again after any failure: finished cells are kept.

    Raises:
        UserError, LeaseHeld, SystemFault: see `pipeline.errors`.
    """
    workspace = Workspace(open_store(config.workspace, config.storage))
    with Lease(workspace.store) as lease:
        workspace = Workspace(Guarded(workspace.store, lease))
        began = time.perf_counter()
        _refuse_foreign(config, workspace)
        workspace.write_json("config.json", config.model_dump(mode="json", exclude={"storage"}))
        cluster = joining.start(config)
        voice.say(
            f"{config.study} in {config.workspace}, Ray with {cluster.cpus} CPUs and {cluster.gpus} GPUs"
        )
        bench = Bench(workspace.store.uri, str(Path.cwd()), config.storage, cluster.device, config.compute)
        outcome = KINDS[config.study].run(config, Lab(bench, cluster, voice))
        _write(config, workspace, outcome)
        _track(config, workspace, outcome, voice=voice)
        voice.say(f"done after {time.perf_counter() - began:.0f} s")
    return workspace.store.url(REPORT)


def _refuse_foreign(config: StudyConfig, workspace: Workspace) -> None:
    """Refuse a workspace that holds another kind of study, or a project."""
    kind = "project" if workspace.exists(PROJECT) else None
    if workspace.exists("config.json"):
        kind = workspace.read_json("config.json").get("study", "something else")
    if kind not in (None, config.study):
        raise WorkspaceMismatch(f"{workspace.store.uri} holds {kind} work; give `workspace` another place")


def _write(config: StudyConfig, workspace: Workspace, outcome: Outcome) -> None:
    for name, table in outcome.tables.items():
        workspace.write_table(f"results/{name}.parquet", table)
    workspace.write_table("results/seconds.parquet", outcome.seconds)
    title = config.workspace.rstrip("/").rpartition("/")[2]
    page = render(title, KINDS[config.study].title, facts=outcome.facts, blocks=outcome.blocks)
    workspace.store.put(REPORT, page.encode())


def _track(config: StudyConfig, workspace: Workspace, outcome: Outcome, *, voice: Voice) -> None:
    """Record the cells in MLflow.

    A study does not fail with MLflow: what it could not record, the next run does.
    """
    common = flat(config.model_dump(mode="json", include={"study", "model", "train", "compute"}))
    records = []
    for each in outcome.records:
        values = {**common, **flat(each.params)}
        params = {
            name: value if isinstance(value, str) else canonical(value).decode()
            for name, value in values.items()
        }
        records.append((each.name, RoundRecord(0, params, each.metrics)))
    try:
        open_tracker(config, workspace.store).log_cells(records)
    except TrackingUnavailable as error:
        voice.say(f"  tracking  not now: {error} (kept, and sent by the next run)")
