"""The only door to MLflow: one parent run a project, one nested run a round, one model version a round.

A study is a project whose nested runs are its cells.

What is logged can be logged again: runs and versions are found by tag before they are made, the first value
of a parameter or metric stays, and a run becomes FINISHED last. A round cut off anywhere is completed by the
same call.

Without `tracking.uri` the store lies inside the workspace: a SQLite file and an artefact folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.config import canonical
from pipeline.errors import mask
from pipeline.sections import Tracking
from pipeline.storage import Store
from pipeline.tracking_database import DATABASE_KEY, TrackingUnavailable, brought_down, is_sql, probe
from pipeline.tracking_keys import key

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.entities.model_registry import ModelVersion

ARTEFACTS_KEY = "mlflow/artifacts"
CHAMPION = "champion"

MAX_VALUE_CHARS = 6000
MAX_NAME_CHARS = 500
BATCH = 100  # parameters MLflow takes at once; it would take 1000 metrics

# How long a round waits for MLflow in all, beside a second for each MiB that it sends. What a slow server then still
# has to do is done in the background as long as the process lives, and completed by the next run.
GIVE_UP_S = 120.0

# Set unless the user has set them. A silent server holds a caller up for three tries of 15 s, then comes
# `TrackingUnavailable`. Nothing is printed.
_MANNERS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",  # no open SQLite handle once a session is over
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class RoundRecord:
    """All that MLflow learns of one round.

    `params` and `metrics` are flat; `config_params` and `flat` make them, with keys by `key`. A metric
    that is None or not finite is left out; one without a slash in its key is also a curve of the parent run.
    `artefacts` and `model` map names to bytes; the model's land below `model/`.
    """

    index: int
    params: Mapping[str, str]
    metrics: Mapping[str, float | None]
    artefacts: Mapping[str, bytes] = field(default_factory=dict)
    model: Mapping[str, bytes] = field(default_factory=dict)
    best: bool = False


@dataclass(frozen=True)
class LoggedRound:
    """Where a round was logged; `model_version` is None when the record held no model."""

    run_id: str
    parent_run_id: str
    model_version: int | None


class Tracked(Protocol):
    """What a config, of a project or of a study, tells about itself."""

    @property
    def tracking(self) -> Tracking:
        """Where MLflow is."""

    def digest(self) -> str:
        """What makes two of them one project."""


class Tracker:
    """One project's MLflow store, made by `open_tracker`. Threads may share it: sessions wait in line."""

    def __init__(self, config: Tracked, store: Store) -> None:
        self._config = config
        self._store = store
        self._project = hashlib.sha256(canonical([store.uri, config.digest()])).hexdigest()[:32]
        self._lock = threading.RLock()

    @property
    def uri(self) -> str:
        """The MLflow tracking URI to show to people; a password in it is masked."""
        database = self._store.url(DATABASE_KEY)
        return mask(self._config.tracking.uri or (f"sqlite:///{database}" if self._in_place else database))

    @property
    def model_name(self) -> str:
        """The registered model's name; on a server that projects share it ends in this project's digest."""
        name = f"{self._config.tracking.experiment}-{self._title}"
        name = re.sub(r"[^\w.\-]", "_", name)[:200].strip(".") or "model"
        return f"{name}-{self._project[:8]}" if self._config.tracking.uri else name

    @property
    def _in_place(self) -> bool:
        """Whether SQLite can open its file in the workspace: local, and no `?` to end the path early."""
        return re.match(r"s3://|.*\?", self._store.uri) is None

    @property
    def _title(self) -> str:
        return self._store.uri.rstrip("/").rpartition("/")[2] or "project"

    def warm(self) -> None:
        """Import MLflow and create its store, which takes seconds the first time.

        Made for a thread beside other work: what fails here is left for `log_round` to say.
        """
        with contextlib.suppress(TrackingUnavailable), self._session() as session:
            self._parent(session)
            session.save()

    def _parent(self, session: _Session) -> Run:
        return _found_or_made(session, {"sisom.project": self._project}, self._title)

    def progress(self, index: int, numbers: Mapping[str, float], step: int) -> None:
        """Show a round at work: numbers as metrics `live/...` of the run that `log_round` completes later.

        Steps rise, as images that are done do: what a resumed round tells again is left out, and so is everything
        once the round is logged. A workspace on S3 with no `tracking.uri` shows nothing meanwhile: its database
        travels as a whole, and nobody can look into it before it is back.

        Raises:
            TrackingUnavailable: MLflow did not take them; the next numbers may go through.
        """
        if self._config.tracking.uri is None and not self._in_place:
            return
        with self._session() as session:
            from mlflow.entities import Metric

            run = _round_run(session, self._parent(session), index)
            if run.info.status == "FINISHED":
                return
            now = time.time_ns() // 1_000_000
            metrics = [Metric(key("live", name), value, now, step) for name, value in numbers.items()]
            new = [metric for metric in metrics if _last_step(session.client, run, metric.key) < step]
            if new:
                session.client.log_batch(run.info.run_id, metrics=new, synchronous=True)

    def log_round(self, record: RoundRecord) -> LoggedRound:
        """Log a round, or complete what an interrupted call has left of it.

        Returns:
            The round's run, its parent and the model version, the same ones for the same round.

        Raises:
            TrackingUnavailable: MLflow or the storage behind it failed, or takes too long; call again later.
        """
        sent = sum(map(len, record.artefacts.values())) + sum(map(len, record.model.values()))
        return _within(GIVE_UP_S + sent / 2**20, lambda: self._log_round(record), self.uri)

    def _log_round(self, record: RoundRecord) -> LoggedRound:
        with self._session() as session:
            client = session.client
            parent = self._parent(session)
            run = _round_run(session, parent, record.index)
            session.save()  # from here on a lost session leaves a run to be found, not artefacts of nobody
            if run.info.status != "FINISHED":
                _log_values(client, run, record)
                _log_artefacts(session, run, record)
            version = _register(client, self.model_name, run, record) if record.model else None
            _log_curves(client, parent, run, record)
            for which in (run, parent):
                if which.info.status != "FINISHED":
                    client.set_terminated(which.info.run_id, "FINISHED")
            session.save()
            return LoggedRound(run.info.run_id, parent.info.run_id, version)

    def log_cells(self, cells: Iterable[tuple[str, RoundRecord]]) -> None:
        """Log cells of a study by name, each as a nested run; those that were logged before stay as they are.

        Raises:
            TrackingUnavailable: MLflow or the storage behind it failed; call again later.
        """
        with self._session() as session:
            parent = self._parent(session)
            for name, record in cells:
                tags = {"mlflow.parentRunId": parent.info.run_id, "sisom.cell": name}
                run = _found_or_made(session, tags, name)
                if run.info.status != "FINISHED":
                    _log_values(session.client, run, record)
                    _log_artefacts(session, run, record)
                    session.client.set_terminated(run.info.run_id, "FINISHED")
            if parent.info.status != "FINISHED":
                session.client.set_terminated(parent.info.run_id, "FINISHED")
            session.save()

    @contextlib.contextmanager
    def _session(self) -> Iterator[_Session]:
        with self._lock, _answering(self.uri), contextlib.ExitStack() as stack:
            save: Callable[[], None] = _nothing
            uri = self._config.tracking.uri
            if uri is None and self._in_place:
                _create(self._store)
                uri = f"sqlite:///{self._store.url(DATABASE_KEY)}"
            elif uri is None:
                uri, save = stack.enter_context(brought_down(self._store))
            client = _open_client(uri)
            root = self._store.url(ARTEFACTS_KEY)
            root = root if root.startswith("s3://") else Path(root).absolute().as_uri()
            experiment = _experiment(
                client, self._config.tracking.experiment[:MAX_NAME_CHARS], root if is_sql(uri) else None
            )
            yield _Session(client, experiment, self._store, root, save)


@dataclass(frozen=True)
class _Session:
    client: MlflowClient
    experiment_id: str
    store: Store
    artefact_root: str
    save: Callable[[], None]


def open_tracker(config: Tracked, store: Store) -> Tracker:
    """The tracker of a project; opens nothing yet.

    Args:
        config: the run's config, of which `tracking`, and `digest()` as the project's identity.
        store: the workspace's store, where MLflow's own files lie unless `tracking.uri` names another place.
    """
    return Tracker(config, store)


# ------------------------------------------------------------------------------------------ the store itself


def _nothing() -> None:
    """A store that is written in place needs no saving."""


def _within(seconds: float, work: Callable[[], LoggedRound], uri: str) -> LoggedRound:
    """Do some work in a thread of its own, and wait so long for it."""
    done: Future[LoggedRound] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was asked for
            done.set_exception(error)

    threading.Thread(target=run, name="mlflow", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        raise TrackingUnavailable(f"MLflow at {uri} took longer than {seconds:.0f} s") from None


@contextlib.contextmanager
def _answering(uri: str) -> Iterator[None]:
    try:
        yield
    except TrackingUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - MLflow, its drivers and its clients share no root
        reason = mask(f"{type(error).__name__}: {error}").partition("\n")[0][:500]
        # Without its cause, whose text may show the password of the URI.
        raise TrackingUnavailable(f"MLflow at {uri} failed: {reason}") from None


def _open_client(uri: str) -> MlflowClient:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in _MANNERS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # takes seconds: only where a store is opened

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if is_sql(uri):
        probe(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create(store: Store) -> None:
    """Make the SQLite file aside first: MLflow can't open one whose first migration was cut off."""
    if not store.exists(DATABASE_KEY):
        with brought_down(store) as (uri, save):
            _open_client(uri).search_experiments(max_results=1)
            save()


# ------------------------------------------------------------------------------------------- what is logged


@contextlib.contextmanager
def _unless_there() -> Iterator[None]:
    """Make something that another project on the same server may be making too."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _experiment(client: MlflowClient, name: str, artefacts: str | None) -> str:
    if client.get_experiment_by_name(name) is None:
        with _unless_there():
            client.create_experiment(name, artifact_location=artefacts)
    found = client.get_experiment_by_name(name)
    if found is None:
        raise TrackingUnavailable(f"MLflow lost the experiment {name!r} while it was made")
    return str(found.experiment_id)


def _found_or_made(session: _Session, tags: Mapping[str, str], name: str) -> Run:
    """The one run with these tags; should there be more, the oldest stays.

    MLflow's client repeats a request whose answer was lost on the way, and so may make two.
    """
    client, where = session.client, " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())

    def look() -> list[Run]:
        return list(
            client.search_runs([session.experiment_id], where, order_by=["attributes.start_time ASC"])
        )

    found = look()
    if not found:
        client.create_run(session.experiment_id, tags=dict(tags), run_name=name)
        found = look()
    for second in found[1:]:
        client.delete_run(second.info.run_id)
    return found[0]


def _round_run(session: _Session, parent: Run, index: int) -> Run:
    tags = {"mlflow.parentRunId": parent.info.run_id, "sisom.round": f"{index:03d}"}
    return _found_or_made(session, tags, f"round {index:03d}")


def _last_step(client: MlflowClient, run: Run, name: str) -> int:
    history = client.get_metric_history(run.info.run_id, name) if name in run.data.metrics else []
    return max((metric.step for metric in history), default=-1)


def _metrics(record: RoundRecord, run: Run) -> list[Metric]:
    """The record's metrics as rows that are equal however often they are made."""
    from mlflow.entities import Metric

    return [
        Metric(key(*name.split("/")), float(value), run.info.start_time, record.index)
        for name, value in record.metrics.items()
        if value is not None and math.isfinite(value)
    ]


def _log_values(client: MlflowClient, run: Run, record: RoundRecord) -> None:
    from mlflow.entities import Param

    params = {key(*name.split("/")): mask(value)[:MAX_VALUE_CHARS] for name, value in record.params.items()}
    new_params = [Param(name, value) for name, value in params.items() if name not in run.data.params]
    new_metrics = [metric for metric in _metrics(record, run) if metric.key not in run.data.metrics]
    for start in range(0, max(len(new_params), len(new_metrics)), BATCH):
        batch = slice(start, start + BATCH)
        client.log_batch(run.info.run_id, new_metrics[batch], new_params[batch], synchronous=True)


def _log_curves(client: MlflowClient, parent: Run, run: Run, record: RoundRecord) -> None:
    new = [
        metric
        for metric in _metrics(record, run)
        if "/" not in metric.key
        and all(was.step != record.index for was in client.get_metric_history(parent.info.run_id, metric.key))
    ]
    if new:
        client.log_batch(parent.info.run_id, metrics=new, synchronous=True)


def _log_artefacts(session: _Session, run: Run, record: RoundRecord) -> None:
    files = {**record.artefacts, **{f"model/{name}": data for name, data in record.model.items()}}
    inside = run.info.artifact_uri.removeprefix(session.artefact_root + "/")
    if inside != run.info.artifact_uri:  # the folder is in our workspace, and our store writes atomically
        for name, data in files.items():
            session.store.put(f"{ARTEFACTS_KEY}/{inside}/{name}", data)
        return
    with tempfile.TemporaryDirectory(prefix="sisom-mlflow-") as folder:
        for name, data in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        session.client.log_artifacts(run.info.run_id, folder)


def _register(client: MlflowClient, model: str, run: Run, record: RoundRecord) -> int:
    """The round's model version; the alias moves to it when it is the best and no later round holds it."""
    with _unless_there():
        client.create_registered_model(model)
    tags = {"sisom.round": f"{record.index:03d}"}

    def look() -> list[ModelVersion]:
        where = f"name = '{model}' and tags.`sisom.round` = '{tags['sisom.round']}'"
        return sorted(client.search_model_versions(where), key=lambda version: int(version.version))

    found = look()
    if not found:
        source = f"{run.info.artifact_uri}/model"
        client.create_model_version(model, source, run.info.run_id, tags=tags)
        found = look()
    for second in found[1:]:  # see `_found_or_made`
        client.delete_model_version(model, str(second.version))
    made = found[0]
    champion = client.get_registered_model(model).aliases.get(CHAMPION)
    holder = int(client.get_model_version(model, champion).tags.get("sisom.round", -1)) if champion else -1
    if record.best and holder < record.index:
        client.set_registered_model_alias(model, CHAMPION, str(made.version))
    return int(made.version)
