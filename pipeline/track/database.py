"""MLflow's database: probe it, or download it from S3.

MLflow can't open SQLite on S3, so there the file is downloaded for each session and written back by a conditional
write.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.errors import ArtefactMissing, SystemFault
from pipeline.store.opening import Store
from pipeline.workspace.keys import MLFLOW_DATABASE

_SQL_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql")


class TrackingUnavailable(SystemFault):
    """Failure of MLflow to answer or to accept.

    Nothing is lost: logging the same round later completes it.
    """


def is_sql(uri: str) -> bool:
    """Return whether MLflow opens the URI as a database.

    Any other URI names a server.
    """
    return uri.partition(":")[0].partition("+")[0] in _SQL_SCHEMES


def probe(uri: str) -> None:
    """Query the database once, to fail early.

    MLflow itself would try ten times, for minutes.
    """
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    sqlalchemy.inspect(engine).get_table_names()


@contextlib.contextmanager
def brought_down(store: Store) -> Iterator[tuple[str, Callable[[], None]]]:
    """Download the workspace's SQLite file as a private copy.

    Yields the copy's URI, and a function that writes it back. The function raises `TrackingUnavailable` if somebody
    else wrote the file meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="sisom-mlflow-") as folder:
        path = Path(folder, "mlflow.db")
        data, tag = b"", ""
        with contextlib.suppress(ArtefactMissing):
            data, tag = store.get_tagged(MLFLOW_DATABASE)
            path.write_bytes(data)

        def save() -> None:
            nonlocal data, tag
            with contextlib.closing(sqlite3.connect(path)) as connection:
                now = connection.serialize()
            if now == data:
                return
            mine = (
                store.put_if_match(MLFLOW_DATABASE, now, tag)
                if tag
                else store.put_if_absent(MLFLOW_DATABASE, now)
            )
            if not mine:
                raise TrackingUnavailable(f"{store.url(MLFLOW_DATABASE)}: somebody else wrote it meanwhile")
            data, tag = store.get_tagged(MLFLOW_DATABASE)

        yield f"sqlite:///{path}", save
