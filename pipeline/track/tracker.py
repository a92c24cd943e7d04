"""MLflow logging of a project: runs, metrics and models.

A project has one parent run, a round one nested run and one model version. A study is a project whose nested runs are
its cells.

All that is logged can be logged again: the same call completes a round that was cut off anywhere.

Without `tracking.uri` the store lies inside the workspace: a SQLite file and an artefact folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.config.sections import Tracking, is_server
from pipeline.encoding import canonical
from pipeline.errors import mask
from pipeline.store.opening import Store
from pipeline.track.database import TrackingUnavailable, brought_down, is_sql
from pipeline.track.session import (
    RoundRecord,
    Session,
    check_experiment,
    create,
    experiment_of,
    open_client,
)
from pipeline.workspace.keys import MLFLOW_ARTEFACTS, MLFLOW_DATABASE

_VARIABLE = "MLFLOW_TRACKING_URI"

MAX_NAME_CHARS = 500

# How long a round waits for MLflow in all, plus a second for each MiB that it sends. What a slow server has not done
# by then goes on in the background as long as the process lives, and the next run completes it.
GIVE_UP_S = 120.0


@dataclass(frozen=True)
class LoggedRound:
    """The MLflow runs and the model version of a round.

    `model_version` is None if the record held no model.
    """

    run_id: str
    parent_run_id: str
    model_version: int | None


class Tracked(Protocol):
    """The config of a project or a study, as tracking needs it."""

    @property
    def tracking(self) -> Tracking:
        """The settings of MLflow."""

    def digest(self) -> str:
        """Return a digest; configs with equal ones are one project."""


class Tracker:
    """The MLflow store of one project, made by `open_tracker`.

    Threads may share it: sessions wait in line.
    """

    def __init__(self, config: Tracked, store: Store, project: str | None = None) -> None:
        self._config = config
        self._store = store
        self._project = hashlib.sha256(canonical([store.uri, project or config.digest()])).hexdigest()[:32]
        self._lock = threading.RLock()

    @property
    def uri(self) -> str:
        """The MLflow tracking URI to show to people.

        A password in it is masked.
        """
        database = self._store.url(MLFLOW_DATABASE)
        shown = mask(self._server or (f"sqlite:///{database}" if self._in_place else database))
        passed_over = os.environ.get(_VARIABLE) if self._server is None else None
        return shown + (f" ({_VARIABLE} names no server, and is passed over)" if passed_over else "")

    @property
    def _server(self) -> str | None:
        """The server or database that the config names, or else the environment."""
        given = os.environ.get(_VARIABLE, "")
        return self._config.tracking.uri or (given if is_server(given) else None)

    @property
    def model_name(self) -> str:
        """The registered model's name.

        On a server that projects share, it ends in this project's digest.
        """
        name = f"{self._config.tracking.experiment}-{self._title}"
        name = re.sub(r"[^\w.\-]", "_", name)[:200].strip(".") or "model"
        return f"{name}-{self._project[:8]}" if self._server else name

    @property
    def _in_place(self) -> bool:
        """True if SQLite can open its file in the workspace.

        The workspace must be local, and its URI without a `?`, which would end the path early.
        """
        return re.match(r"s3://|.*\?", self._store.uri) is None

    @property
    def _title(self) -> str:
        return self._store.uri.rstrip("/").rpartition("/")[2] or "project"

    def check(self) -> str:
        """Ask the server or database once, and return what is there.

        Nothing is made or changed.

        Raises:
            TrackingUnavailable: it does not answer, or the experiment is deleted there.
        """
        if self._server is None:
            return f"MLflow's store in the workspace, {self.uri}"
        name = self._config.tracking.experiment[:MAX_NAME_CHARS]
        with _answering(self.uri):
            there = check_experiment(open_client(self._server), name)
        return f"MLflow at {self.uri}, experiment {name!r} " + ("is there" if there else "will be made")

    def warm(self) -> None:
        """Import MLflow and create its store, which takes seconds the first time.

        Meant for a thread beside other work: it does not raise `TrackingUnavailable`, which `log_round` will raise.
        """
        with contextlib.suppress(TrackingUnavailable), self._session() as session:
            self._parent(session)
            session.save()

    def _parent(self, session: Session) -> Any:
        return session.found_or_made({"sisom.project": self._project}, self._title)

    def progress(self, index: int, numbers: Mapping[str, float], step: int) -> None:
        """Show the progress of a running round.

        Numbers are logged as metrics `live/...` of the run that `log_round` completes later. Steps rise, as the number
        of finished images does: what a resumed round shows again is left out, and so is everything once the round is
        logged. A workspace on S3 without `tracking.uri` shows nothing meanwhile: its database travels as a whole, and
        cannot be read before it is written back.

        Raises:
            TrackingUnavailable: MLflow did not take them; the next numbers may go through.
        """
        if self._server is None and not self._in_place:
            return
        with self._session() as session:
            run = session.round_run(self._parent(session), index)
            if run.info.status != "FINISHED":
                session.show(run, numbers, step)

    def log_round(self, record: RoundRecord) -> LoggedRound:
        """Log a round, or complete an interrupted call.

        Returns:
            The round's run, its parent and the model version, the same ones for the same round.

        Raises:
            TrackingUnavailable: MLflow or the storage behind it failed, or takes too long; call again later.
        """
        sent = sum(map(len, record.artefacts.values())) + sum(map(len, record.model.values()))
        return _within(GIVE_UP_S + sent / 2**20, lambda: self._log_round(record), self.uri)

    def _log_round(self, record: RoundRecord) -> LoggedRound:
        with self._session() as session:
            parent = self._parent(session)
            run = session.round_run(parent, record.index)
            session.save()  # from here on a lost session leaves a run that can be found, not artefacts without a run
            if run.info.status != "FINISHED":
                session.log_values(run, record)
                session.log_artefacts(run, record)
            version = session.register(self.model_name, run, record) if record.model else None
            session.log_curves(parent, run, record)
            session.finish(run)
            session.finish(parent)
            session.save()
            return LoggedRound(run.info.run_id, parent.info.run_id, version)

    def log_cells(self, cells: Iterable[tuple[str, RoundRecord]]) -> None:
        """Log cells of a study by name, each as a nested run.

        Cells that were logged before stay as they are.

        Raises:
            TrackingUnavailable: MLflow or the storage behind it failed; call again later.
        """
        with self._session() as session:
            parent = self._parent(session)
            for name, record in cells:
                tags = {"mlflow.parentRunId": parent.info.run_id, "sisom.cell": name}
                run = session.found_or_made(tags, name)
                if run.info.status != "FINISHED":
                    session.log_values(run, record)
                    session.log_artefacts(run, record)
                    session.finish(run)
            session.finish(parent)
            session.save()

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        with self._lock, _answering(self.uri), contextlib.ExitStack() as stack:
            save: Callable[[], None] = _nothing
            uri = self._server
            if uri is None and self._in_place:
                create(self._store)
                uri = f"sqlite:///{self._store.url(MLFLOW_DATABASE)}"
            elif uri is None:
                uri, save = stack.enter_context(brought_down(self._store))
            client = open_client(uri)
            root = self._store.url(MLFLOW_ARTEFACTS)
            root = root if root.startswith("s3://") else Path(root).absolute().as_uri()
            experiment = experiment_of(
                client, self._config.tracking.experiment[:MAX_NAME_CHARS], root if is_sql(uri) else None
            )
            yield Session(client, experiment, self._store, root, save)


def open_tracker(config: Tracked, store: Store, project: str | None = None) -> Tracker:
    """Return the tracker of a project; nothing is opened yet.

    Args:
        config: the run's config, of which `tracking`.
        store: the workspace's store, where MLflow's own files lie unless `tracking.uri` names another place.
        project: digest of the config that made the workspace, whose runs go on when the config changes; by default
            that of `config`.
    """
    return Tracker(config, store, project)


def _nothing() -> None:
    """Do nothing: a store that is written in place needs no saving."""


def _within(seconds: float, work: Callable[[], LoggedRound], uri: str) -> LoggedRound:
    """Do work in a thread of its own, within a time limit.

    Raises:
        TrackingUnavailable: it took longer than `seconds`; the thread goes on.
    """
    done: Future[LoggedRound] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
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
