"""MLflow requests while a store is open.

No other module calls MLflow. Runs and versions are found by tag before they are made, the first value of a parameter or
metric stays, and a run becomes FINISHED last.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import mask
from pipeline.store.opening import Store
from pipeline.track.database import TrackingUnavailable, brought_down, is_sql, probe
from pipeline.track.names import key
from pipeline.workspace.keys import MLFLOW_ARTEFACTS, MLFLOW_DATABASE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"

MAX_VALUE_CHARS = 6000
BATCH = 100  # parameters that MLflow takes at once; of metrics it would take 1000

# Set unless the user has set them. A server that does not answer costs three tries of 15 s, then
# `TrackingUnavailable` is raised. Nothing is printed.
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
    """The values and files of a round that MLflow stores.

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
class Session:
    """An open store, and the experiment in it.

    `save` writes the database back, if the session works on a copy.
    """

    client: MlflowClient
    experiment_id: str
    store: Store
    artefact_root: str
    save: Callable[[], None]

    def found_or_made(self, tags: Mapping[str, str], name: str) -> Run:
        """Find the run with these tags, or make it.

        If there are more, the oldest stays and the others are deleted. MLflow's client repeats a request whose answer
        was lost on the way, and so may make two.
        """
        client, where = self.client, " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())

        def look() -> list[Run]:
            return list(
                client.search_runs([self.experiment_id], where, order_by=["attributes.start_time ASC"])
            )

        found = look()
        if not found:
            client.create_run(self.experiment_id, tags=dict(tags), run_name=name)
            found = look()
        for second in found[1:]:
            client.delete_run(second.info.run_id)
        return found[0]

    def round_run(self, parent: Run, index: int) -> Run:
        """Find or make the run of a round, nested in the project's."""
        tags = {"mlflow.parentRunId": parent.info.run_id, "sisom.round": f"{index:03d}"}
        return self.found_or_made(tags, f"round {index:03d}")

    def show(self, run: Run, numbers: Mapping[str, float], step: int) -> None:
        """Log the progress of a running round as metrics `live/...`.

        Numbers of a step that was shown before are left out.
        """
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        metrics = [Metric(key("live", name), value, now, step) for name, value in numbers.items()]
        new = [metric for metric in metrics if self._last_step(run, metric.key) < step]
        if new:
            self.client.log_batch(run.info.run_id, metrics=new, synchronous=True)

    def _last_step(self, run: Run, name: str) -> int:
        history = self.client.get_metric_history(run.info.run_id, name) if name in run.data.metrics else []
        return max((metric.step for metric in history), default=-1)

    def finish(self, run: Run) -> None:
        """Mark a run as finished, once all of it is logged."""
        if run.info.status != "FINISHED":
            self.client.set_terminated(run.info.run_id, "FINISHED")

    def log_values(self, run: Run, record: RoundRecord) -> None:
        """Log a record's parameters and metrics; the first value of each stays."""
        from mlflow.entities import Param

        params = {
            key(*name.split("/")): mask(value)[:MAX_VALUE_CHARS] for name, value in record.params.items()
        }
        new_params = [Param(name, value) for name, value in params.items() if name not in run.data.params]
        new_metrics = [metric for metric in _metrics(record, run) if metric.key not in run.data.metrics]
        for start in range(0, max(len(new_params), len(new_metrics)), BATCH):
            batch = slice(start, start + BATCH)
            self.client.log_batch(run.info.run_id, new_metrics[batch], new_params[batch], synchronous=True)

    def log_curves(self, parent: Run, run: Run, record: RoundRecord) -> None:
        """Log a record's metrics as points of the project's curves."""
        new = [
            metric
            for metric in _metrics(record, run)
            if "/" not in metric.key
            and all(
                was.step != record.index
                for was in self.client.get_metric_history(parent.info.run_id, metric.key)
            )
        ]
        if new:
            self.client.log_batch(parent.info.run_id, metrics=new, synchronous=True)

    def log_artefacts(self, run: Run, record: RoundRecord) -> None:
        """Log a record's files and its model's."""
        files = {**record.artefacts, **{f"model/{name}": data for name, data in record.model.items()}}
        inside = run.info.artifact_uri.removeprefix(self.artefact_root + "/")
        if inside != run.info.artifact_uri:  # the folder is in our workspace, and our store writes atomically
            for name, data in files.items():
                self.store.put(f"{MLFLOW_ARTEFACTS}/{inside}/{name}", data)
            return
        with tempfile.TemporaryDirectory(prefix="sisom-mlflow-") as folder:
            for name, data in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self.client.log_artifacts(run.info.run_id, folder)

    def register(self, model: str, run: Run, record: RoundRecord) -> int:
        """Register the round's model and return the version's number.

        The alias `champion` moves to it if it is the best and no later round holds the alias.
        """
        client = self.client
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
        for second in found[1:]:  # made by a repeated request: see `found_or_made`
            client.delete_model_version(model, str(second.version))
        made = found[0]
        champion = client.get_registered_model(model).aliases.get(CHAMPION)
        holder = (
            int(client.get_model_version(model, champion).tags.get("sisom.round", -1)) if champion else -1
        )
        if record.best and holder < record.index:
            client.set_registered_model_alias(model, CHAMPION, str(made.version))
        return int(made.version)


def open_client(uri: str) -> MlflowClient:
    """Open a client that prints nothing and waits for a bounded time."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    for name, value in _MANNERS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # takes seconds, so only where a store is opened

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if is_sql(uri):
        probe(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def create(store: Store) -> None:
    """Create the SQLite file, unless it is there.

    It is made in a private copy first: MLflow can't open a file whose first migration was cut off.
    """
    if not store.exists(MLFLOW_DATABASE):
        with brought_down(store) as (uri, save):
            open_client(uri).search_experiments(max_results=1)
            save()


def check_experiment(client: MlflowClient, name: str) -> bool:
    """Return whether an experiment is there already.

    Raises:
        TrackingUnavailable: it is deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise TrackingUnavailable(
            f"the experiment {name!r} is deleted there; restore it by `mlflow experiments restore --experiment-id "
            f"{found.experiment_id}`, or set tracking.experiment to another name"
        )
    return found is not None


def experiment_of(client: MlflowClient, name: str, artefacts: str | None) -> str:
    """Find or make an experiment and return its id.

    Its artefacts go to `artefacts`, or where MLflow chooses if that is None.
    """
    if not check_experiment(client, name):
        with _unless_there():
            client.create_experiment(name, artifact_location=artefacts)
    found = client.get_experiment_by_name(name)
    if found is None:
        raise TrackingUnavailable(f"MLflow lost the experiment {name!r} while it was made")
    return str(found.experiment_id)


@contextlib.contextmanager
def _unless_there() -> Iterator[None]:
    """Ignore the error that something exists already.

    Another project on the same server may be making it too.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _metrics(record: RoundRecord, run: Run) -> list[Metric]:
    """Return the record's metrics, equal however often they are made."""
    from mlflow.entities import Metric

    return [
        Metric(key(*name.split("/")), float(value), run.info.start_time, record.index)
        for name, value in record.metrics.items()
        if value is not None and math.isfinite(value)
    ]
