"""Rounds one after another until there are enough: checks first, then the lease, then Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import sisom
from pipeline import demo_data, engine, oracle
from pipeline.config import Config
from pipeline.errors import ConfigError, LabelError, PoolError, UserError, nearest
from pipeline.labels import PREFIX, batches, read_labels, require_answers
from pipeline.lease import Guarded, Lease
from pipeline.outcome import answers_key, track
from pipeline.planned import latest
from pipeline.pool import check_pool
from pipeline.pool_parquet import groups
from pipeline.progress import Voice
from pipeline.rounds import run_round
from pipeline.sections import Pool
from pipeline.stopping import reason_to_stop
from pipeline.storage import open_store
from pipeline.strangeness import detector_for
from pipeline.tracking import open_tracker
from pipeline.types import Listed
from pipeline.work import Project
from pipeline.workspace import Workspace, open_workspace, round_key
from sisom.subset import SUBSETS


def run(config: Config, voice: Voice, *, rounds: int | None = None) -> int:
    """Run rounds until `rounds` of them (default: the config's) are committed; gives how many were done now.

    Safe to call again after anything: finished work is found, not done again.

    Raises:
        UserError, WaitingForLabels, LeaseHeld, SystemFault: see `pipeline.errors`.
    """
    wanted = rounds if rounds is not None else config.rounds
    with opened(config, voice) as project:
        workspace = project.workspace
        first = workspace.committed()
        if first >= wanted:
            voice.say(f"{first} of {wanted} rounds are committed in {config.workspace}: nothing to do")
            return 0
        if first and nothing_left(workspace, first - 1) and not new_labels(workspace, first - 1):
            voice.say(
                f"round {first - 1:03d} found nothing left to ask about, and no labels came since: nothing to do"
            )
            return 0
        if (enough := enough_rounds(workspace, config)) is not None:
            voice.say(f"{enough}: nothing to do")
            return 0
        return go_on(project, first, wanted)


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
            if not workspace.exists(round_key(index, "tracking.json")):
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
    voice.say(f"report: {workspace.store.url(round_key(wanted - 1, 'report.html'))}")
    return wanted - first


def _headline(workspace: Workspace, index: int) -> str:
    found = workspace.read_json(round_key(index, "metrics.json"))
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
    if workspace.exists(round_key(workspace.committed(), "plan.json")):
        return None
    return reason_to_stop(workspace, config)


def nothing_left(workspace: Workspace, index: int) -> bool:
    """Whether a round's query is empty."""
    return bool(workspace.read_json(round_key(index, "metrics.json"))["query_size"] == 0)


def new_labels(workspace: Workspace, index: int) -> bool:
    """Whether label files came since a round was planned, beside the empty answer to its empty query."""
    known = set(workspace.read_json(round_key(index, "plan.json"))["labels"])
    return bool(set(batches(workspace)) - known - {answers_key(index)})


# ---------------------------------------------------------------------------------------------- preflight


def preflight(config: Config, voice: Voice) -> None:
    """Find the user's mistakes before anything expensive starts; makes the demo's data where they are missing.

    Raises:
        ConfigError: a layer that the model does not have, an unknown subset method.
        PoolError, StorageError: a pool or test set that is not there, is empty, or lacks a column.
        LabelError: labels or truths that do not fit the taxonomy.
    """
    check_model(config)
    if config.demo is not None:
        _check_demo(config)
        if demo_data.ensure(config):
            voice.say(f"made the demo's pool of handwritten digits at {config.pool.uri}")
    check_pool(config.pool, config.storage)
    _check_test(config)
    if config.truth_uri is not None:
        oracle.read_truth(config)
    workspace = open_workspace(config)
    if workspace.exists(f"{PREFIX}000-initial.parquet"):
        read_labels(workspace, batches(workspace), latest(workspace, config).taxonomy)
    else:
        oracle.initial(config)


def check_model(config: Config) -> None:
    """Refuse names that only the model itself can know to be wrong."""
    model = sisom.build_model(config.model.name, len(config.taxonomy), seed=0)
    try:
        sisom.check_layers(model, config.model.layers)
    except sisom.errors.LayerError as error:
        wrong = ConfigError(f"model.layers: {error}")
        wrong.path = "model.layers"
        raise wrong from None
    check_detector(config, model)
    if config.bank.subset_method not in SUBSETS:
        hint = nearest(config.bank.subset_method, SUBSETS)
        raise ConfigError(f"bank.subset_method: unknown method {config.bank.subset_method!r}; {hint}")


def check_detector(config: Config, model: torch.nn.Module) -> None:
    """Refuse options that only the detector itself can know to be wrong."""
    if not config.scoring.from_bank:
        try:
            scoring = config.scoring
            detector_for(scoring.score, scoring.options, config.model, sisom.Head.of(model))
        except (sisom.errors.InputError, TypeError) as error:
            raise ConfigError(f"scoring.options: {error}") from None


def _check_demo(config: Config) -> None:
    if config.taxonomy != demo_data.KNOWN:
        raise ConfigError(
            f"taxonomy: the digits demo needs {list(demo_data.KNOWN)}, got {list(config.taxonomy)}"
        )


def _check_test(config: Config) -> None:
    if config.test_uri is None:
        return
    pool = config.pool
    known = frozenset(config.taxonomy)
    name = config.test.label_column
    source = Pool(uri=config.test_uri, id_column=pool.id_column, image_column=pool.image_column)
    files = {item.uri for item in _listed(source, config, "test.uri")}
    for uri in sorted(files):
        with _readable(uri), open_store(uri, config.storage).open("") as file:
            parquet = pq.ParquetFile(file)
            if name not in parquet.schema_arrow.names:
                hint = nearest(name, parquet.schema_arrow.names)
                raise PoolError(f"test.label_column: {uri} has no column {name!r}; {hint}")
            for row, label in enumerate(parquet.read(columns=[name])[name].to_pylist()):
                if str(label) not in known and config.open_world.promote_at is None:
                    hint = nearest(str(label), known)
                    raise LabelError(
                        f"test.uri: {uri}, row {row}: label {label!r} is not in the taxonomy; {hint}"
                    )


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise PoolError(f"test.uri: {uri} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _listed(source: Pool, config: Config, path: str) -> list[Listed]:
    try:
        found = list(groups(source, config.storage))
        if not found:
            check_pool(source, config.storage)  # says more, where there is nothing at all
    except UserError as error:
        raise type(error)(f"{path}: {error}".replace("pool.uri: ", "")) from None
    if not found:
        raise PoolError(f"{path}: {source.uri} holds no Parquet file with rows")
    return found
