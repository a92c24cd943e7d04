"""Labels: append-only files in the workspace, one a batch, and what they add up to.

Batches are read in the order of their keys, rows in the order of the file. Of each annotator the last answer to an
id counts. Where nobody is named, an answer simply overrules what came before it, and is overruled by what comes
after. Among several annotators the majority decides; who skipped has no vote. A tie is no answer: the id may be
asked about again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from pipeline.config.project import Config
from pipeline.errors import LabelError, WaitingForLabels
from pipeline.labels.checks import check_batch
from pipeline.labels.tables import read_foreign
from pipeline.labels.tally import Labels
from pipeline.store.opening import open_store
from pipeline.types import LABELS, Label
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import round_key


def label_table(labels: Iterable[Label]) -> pa.Table:
    """Labels as the table that a batch file holds, sorted by id."""
    rows = sorted(labels, key=lambda label: label.id)
    columns = {name: [getattr(row, name) for row in rows] for name in LABELS.names}
    return pa.table(columns, schema=LABELS)


def batches(workspace: Workspace) -> list[str]:
    """Keys of the batch files, in order."""
    return [key for key in workspace.keys(keys.LABELS) if key.endswith(".parquet")]


def read_labels(workspace: Workspace, keys: Sequence[str], taxonomy: Sequence[str]) -> Labels:
    """Read batch files, check every row, and add them up.

    Raises:
        LabelError: a missing column, an unknown status, a class outside the taxonomy; says the file and the row.
    """
    return Labels.of(read_batches(workspace, keys, taxonomy))


def read_batches(workspace: Workspace, keys: Sequence[str], taxonomy: Sequence[str]) -> list[pa.Table]:
    """Batch files as they are, every row checked; see `read_labels`."""
    tables = []
    for key in keys:
        place = workspace.store.url(key)
        with workspace.store.open(key) as file:
            table = read_foreign(file, place, LABELS.names)
        tables.append(check_batch(table, place, taxonomy))
    return tables


def require_answers(workspace: Workspace, index: int, taxonomy: Sequence[str]) -> None:
    """Refuse to start round `index` while nobody has answered any of the last query.

    Raises:
        WaitingForLabels: says where the query lies and where the answers go.
    """
    if index == 0:
        return
    query = round_key(index - 1, keys.QUERY)
    asked = workspace.read_table(query, ["id"])["id"].to_pylist()
    heard = read_labels(workspace, batches(workspace), taxonomy).heard()
    if asked and heard.isdisjoint(asked):
        raise WaitingForLabels(
            f"round {index - 1:03d} asks about {len(asked)} images ({workspace.store.url(query)}) and none is "
            f"answered; write the answers to {workspace.store.url(keys.people_answers_key(index - 1))} "
            f"(id, label, status) and run again"
        )


def read_file(uri: str, config: Config) -> pa.Table:
    """A table of labels or truths below any URI: one Parquet object, or all of a folder.

    Raises:
        LabelError: nothing there, or nothing that can be read.
    """
    store = open_store(uri, config.storage)
    tables = []
    for entry in store.list():
        if entry.key == "" or entry.key.endswith(".parquet"):
            with store.open(entry.key) as file:
                tables.append(read_foreign(file, store.url(entry.key)))
    if not tables:
        raise LabelError(f"{uri}: does not exist or holds no Parquet file")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise LabelError(f"{uri}: its files do not fit together: {' '.join(str(error).split())}") from None
