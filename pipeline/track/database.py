"""The database that MLflow keeps its runs in: spoken to once before MLflow does, or brought down from S3.

MLflow can't open SQLite on S3, so there the file is brought down for each session and put back by a conditional
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
    """MLflow did not answer, or refused; nothing is lost, since logging the same round later completes it."""


def is_sql(uri: str) -> bool:
    """Whether the URI names a database that MLflow opens itself, not a server."""
    return uri.partition(":")[0].partition("+")[0] in _SQL_SCHEMES


def probe(uri: str) -> None:
    """Speak to the database once, because MLflow itself would try ten times for minutes."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    sqlalchemy.inspect(engine).get_table_names()


@contextlib.contextmanager
def brought_down(store: Store) -> Iterator[tuple[str, Callable[[], None]]]:
    """The workspace's SQLite file as a private local copy: its URI, and how to put it back."""
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
