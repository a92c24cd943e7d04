"""The only door to MLflow: one parent run a project, one nested run a round, one model version a round.

What is logged can be logged again: runs and versions are found by tag before they are made, the first value
of a parameter or metric stays, and a run becomes FINISHED last. A round cut off anywhere is completed by the
same call.

Without `tracking.uri` the store lies inside the workspace: a SQLite file and an artefact folder. MLflow can't
open SQLite on S3, so there the file is brought down for each session and put back by a conditional write.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import re
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Config, canonical
from pipeline.errors import ArtefactMissing, SystemFault
from pipeline.storage import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

DATABASE_KEY = "mlflow/mlflow.db"
ARTEFACTS_KEY = "mlflow/artifacts"
CHAMPION = "champion"

MAX_KEY_CHARS = 250
MAX_VALUE_CHARS = 6000
MAX_NAME_CHARS = 500
BATCH = 100  # parameters MLflow takes at once; it would take 1000 metrics

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
_SQL_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql")


class TrackingUnavailable(SystemFault):
    """MLflow did not answer, or refused; nothing is lost, since logging the same round later completes it."""


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


def key(*parts: str) -> str:
    """A legal MLflow key from names that may hold anything, such as `key("labels", "what/is this?")`.

    What MLflow refuses becomes `_`; a key that had to change ends in a digest, so that names stay distinct.
    """
    steps = [re.sub(r"[^\w.\- :]", "_", part) for part in parts]
    steps = [step if step.strip(".") else "_" for step in steps]
    if steps == list(parts) and len("/".join(steps)) <= MAX_KEY_CHARS:
        return "/".join(steps)
    digest = hashlib.sha256(canonical(parts)).hexdigest()[:8]
    return "/".join(steps)[: MAX_KEY_CHARS - 9].rstrip("/") + f"-{digest}"


def mask(text: str) -> str:
    """The text with the user and password of any URI in it replaced by stars."""
    return re.sub(r"(?<=://)[^/\s]+@", "***@", text)


def flat(values: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """Nested mappings as one: `{"seconds": {"train": 3}}` becomes `{"seconds/train": 3}`."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, *path, name)
        else:
            result[key(*path, name)] = value
    return result


def config_params(config: Config) -> dict[str, str]:
    """The resolved config as parameters: `train.lr: 0.1` is `train/lr = 0.1`; a list is shown as JSON."""
    values = flat(config.model_dump(mode="json"))
    return {
        name: mask(value) if isinstance(value, str) else canonical(value).decode()
        for name, value in values.items()
    }


class Tracker:
    """One project's MLflow store, made by `open_tracker`. Threads may share it: sessions wait in line."""

    def __init__(self, config: Config, store: Store) -> None:
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

    def log_round(self, record: RoundRecord) -> LoggedRound:
        """Log a round, or complete what an interrupted call has left of it.

        Returns:
            The round's run, its parent and the model version, the same ones for the same round.

        Raises:
            TrackingUnavailable: MLflow or the storage behind it failed; call again later.
        """
        with self._session() as session:
            client = session.client
            parent = self._parent(session)
            tags = {"mlflow.parentRunId": parent.info.run_id, "sisom.round": f"{record.index:03d}"}
            run = _found_or_made(session, tags, f"round {record.index:03d}")
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

    @contextlib.contextmanager
    def _session(self) -> Iterator[_Session]:
        with self._lock, _answering(self.uri), contextlib.ExitStack() as stack:
            save: Callable[[], None] = _nothing
            uri = self._config.tracking.uri
            if uri is None and self._in_place:
                _create(self._store)
                uri = f"sqlite:///{self._store.url(DATABASE_KEY)}"
            elif uri is None:
                uri, save = stack.enter_context(_brought_down(self._store))
            client = _open_client(uri)
            root = self._store.url(ARTEFACTS_KEY)
            root = root if root.startswith("s3://") else Path(root).absolute().as_uri()
            experiment = _experiment(
                client, self._config.tracking.experiment[:MAX_NAME_CHARS], root if _is_sql(uri) else None
            )
            yield _Session(client, experiment, self._store, root, save)


@dataclass(frozen=True)
class _Session:
    client: MlflowClient
    experiment_id: str
    store: Store
    artefact_root: str
    save: Callable[[], None]


def open_tracker(config: Config, store: Store) -> Tracker:
    """The tracker of a project; opens nothing yet.

    Args:
        config: the run's config, of which `tracking`, and `digest()` as the project's identity.
        store: the workspace's store, where MLflow's own files lie unless `tracking.uri` names another place.
    """
    return Tracker(config, store)


# ------------------------------------------------------------------------------------------ the store itself


def _nothing() -> None:
    """A store that is written in place needs no saving."""


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
    if _is_sql(uri):
        _probe(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _is_sql(uri: str) -> bool:
    return uri.partition(":")[0].partition("+")[0] in _SQL_SCHEMES


def _probe(uri: str) -> None:
    """Speak to the database once, because MLflow itself would try ten times for minutes."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    sqlalchemy.inspect(engine).get_table_names()


@contextlib.contextmanager
def _brought_down(store: Store) -> Iterator[tuple[str, Callable[[], None]]]:
    """The workspace's SQLite file as a private local copy: its URI, and how to put it back."""
    with tempfile.TemporaryDirectory(prefix="sisom-mlflow-") as folder:
        path = Path(folder, "mlflow.db")
        data, tag = b"", ""
        with contextlib.suppress(ArtefactMissing):
            data, tag = store.get_tagged(DATABASE_KEY)
            path.write_bytes(data)

        def save() -> None:
            nonlocal data, tag
            with contextlib.closing(sqlite3.connect(path)) as connection:
                now = connection.serialize()
            if now == data:
                return
            mine = (
                store.put_if_match(DATABASE_KEY, now, tag) if tag else store.put_if_absent(DATABASE_KEY, now)
            )
            if not mine:
                raise TrackingUnavailable(f"{store.url(DATABASE_KEY)}: somebody else wrote it meanwhile")
            data, tag = store.get_tagged(DATABASE_KEY)

        yield f"sqlite:///{path}", save


def _create(store: Store) -> None:
    """Make the SQLite file aside first: MLflow can't open one whose first migration was cut off."""
    if not store.exists(DATABASE_KEY):
        with _brought_down(store) as (uri, save):
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
    """The one run with these tags; should there be more, the oldest."""
    where = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
    found = session.client.search_runs(
        [session.experiment_id], where, max_results=1, order_by=["attributes.start_time ASC"]
    )
    if found:
        return found[0]
    return session.client.create_run(session.experiment_id, tags=dict(tags), run_name=name)


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
    found = client.search_model_versions(f"name = '{model}' and tags.`sisom.round` = '{tags['sisom.round']}'")
    source = f"{run.info.artifact_uri}/model"
    made = found[0] if found else client.create_model_version(model, source, run.info.run_id, tags=tags)
    champion = client.get_registered_model(model).aliases.get(CHAMPION)
    holder = int(client.get_model_version(model, champion).tags.get("sisom.round", -1)) if champion else -1
    if record.best and holder < record.index:
        client.set_registered_model_alias(model, CHAMPION, str(made.version))
    return int(made.version)
