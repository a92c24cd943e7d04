"""Labels: append-only files in the workspace, one a batch, and what they add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import Config
from pipeline.errors import ArtefactDamaged, LabelError, WaitingForLabels, nearest
from pipeline.storage import open_store
from pipeline.types import LABEL_STATUSES, LABELS, Label
from pipeline.workspace import Workspace

PREFIX = "labels/"
MAX_LABEL_BYTES = 1 << 30


def label_table(labels: Iterable[Label]) -> pa.Table:
    """Labels as the table that a batch file holds, sorted by id."""
    rows = sorted(labels, key=lambda label: label.id)
    columns = {name: [getattr(row, name) for row in rows] for name in LABELS.names}
    return pa.table(columns, schema=LABELS)


def batches(workspace: Workspace) -> list[str]:
    """Keys of the batch files, in order."""
    return [key for key in workspace.keys(PREFIX) if key.endswith(".parquet")]


@dataclass(frozen=True)
class Labels:
    """All answers so far. A later batch overrules an earlier one."""

    table: pa.Table

    @classmethod
    def of(cls, tables: Sequence[pa.Table]) -> Labels:
        """The last answer to each id in checked batches, sorted by id."""
        rows = pa.concat_tables(tables) if tables else LABELS.empty_table()
        last = {name: i for i, name in enumerate(rows["id"].to_pylist())}
        return cls(rows.take(pa.array(sorted(last.values()), pa.int64())).sort_by("id"))

    def labeled(self) -> tuple[list[str], list[str]]:
        """Ids and class names of the rows that may train."""
        chosen = self.table.filter(pc.equal(self.table["status"], "labeled"))
        return chosen["id"].to_pylist(), chosen["label"].to_pylist()

    def answered(self) -> frozenset[str]:
        """Ids that need not be asked about again, whatever the answer was."""
        return frozenset(self.table["id"].to_pylist())

    def counts(self) -> dict[str, int]:
        """How many answers of each class."""
        return dict(sorted(Counter(self.labeled()[1]).items()))

    def refused(self) -> dict[str, int]:
        """How many answers of each status that is not a class."""
        statuses = Counter(self.table["status"].to_pylist())
        return {
            status: statuses[status] for status in LABEL_STATUSES if status != "labeled" and statuses[status]
        }


def read_labels(workspace: Workspace, keys: Sequence[str], taxonomy: Sequence[str]) -> Labels:
    """Read batch files and check every row.

    Raises:
        LabelError: a missing column, an unknown status, a class outside the taxonomy; says the file and the row.
    """
    tables = []
    for key in keys:
        place = workspace.store.url(key)
        with _parquet(place):
            table = workspace.read_table(key)
        tables.append(check_batch(table, place, taxonomy))
    return Labels.of(tables)


def require_answers(workspace: Workspace, index: int, taxonomy: Sequence[str]) -> None:
    """Refuse to start round `index` while nobody has answered any of the last query.

    Raises:
        WaitingForLabels: says where the query lies and where the answers go.
    """
    if index == 0:
        return
    query = f"rounds/{index - 1:03d}/query.parquet"
    asked = workspace.read_table(query, ["id"])["id"].to_pylist()
    answered = read_labels(workspace, batches(workspace), taxonomy).answered()
    if asked and answered.isdisjoint(asked):
        raise WaitingForLabels(
            f"round {index - 1:03d} asks about {len(asked)} images ({workspace.store.url(query)}) and none is "
            f"answered; write the answers to {workspace.store.url(f'{PREFIX}{index:03d}-answers.parquet')} "
            f"(id, label, status) and run again"
        )


def check_batch(table: pa.Table, place: str, taxonomy: Sequence[str]) -> pa.Table:
    """A label file's rows in the `LABELS` schema; only `id` and `label` must be there.

    A row without a status is `labeled` if it has a label, and `skipped` if not.
    """
    for name in ("id", "label"):
        if name not in table.column_names:
            raise LabelError(f"{place}: no column {name!r}; {nearest(name, table.column_names)}")
    known = frozenset(taxonomy)
    rows: list[Label] = []
    columns = [
        table[n].to_pylist() if n in table.column_names else [None] * table.num_rows for n in LABELS.names
    ]
    for number, (name, label, status, annotator, at) in enumerate(zip(*columns, strict=True)):
        where = f"{place}, row {number}"
        if name is None or str(name) == "":
            raise LabelError(f"{where}: no id")
        status = status or ("labeled" if label is not None else "skipped")
        if status not in LABEL_STATUSES:
            raise LabelError(f"{where}: status {status!r}; {nearest(str(status), LABEL_STATUSES)}")
        label = None if label is None else str(label)
        if status == "labeled" and label not in known:
            raise LabelError(
                f"{where}: label {label!r} is not in the taxonomy; {nearest(str(label), taxonomy)}"
            )
        rows.append(Label(str(name), label, status, str(annotator or ""), at))
    checked: dict[str, Any] = {n: [getattr(row, n) for row in rows] for n in LABELS.names}
    checked["at"] = _times(checked["at"], place)
    return pa.table(checked, schema=LABELS)


def _times(values: Sequence[Any], place: str) -> pa.Array:
    """Times, or ISO 8601 text; one without a zone is UTC."""
    try:
        times = [datetime.fromisoformat(value) if isinstance(value, str) else value for value in values]
        aware = [t.replace(tzinfo=UTC) if t is not None and t.tzinfo is None else t for t in times]
        return pa.array(aware, LABELS.field("at").type)
    except (pa.ArrowException, ValueError, TypeError, AttributeError) as error:
        raise LabelError(f"{place}: column 'at' does not hold times: {error}") from None


@contextmanager
def _parquet(place: str) -> Iterator[None]:
    """Label files come from people: one that can't be read is theirs to put right."""
    try:
        yield
    except (pa.ArrowException, OSError, ArtefactDamaged) as error:
        raise LabelError(f"{place}: not a Parquet file: {' '.join(str(error).split())[:300]}") from None


def read_file(uri: str, config: Config) -> pa.Table:
    """A table of labels or truths below any URI: one Parquet object, or all of a folder.

    Raises:
        LabelError: nothing there, or nothing that can be read.
    """
    store = open_store(uri, config.storage)
    tables = []
    for entry in store.list():
        if entry.key == "" or entry.key.endswith(".parquet"):
            if entry.size > MAX_LABEL_BYTES:
                raise LabelError(f"{store.url(entry.key)}: {entry.size} bytes is too large for a label file")
            with _parquet(store.url(entry.key)):
                tables.append(Workspace(store).read_table(entry.key))
    if not tables:
        raise LabelError(f"{uri}: does not exist or holds no Parquet file")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise LabelError(f"{uri}: its files do not fit together: {' '.join(str(error).split())}") from None
