"""Labels: append-only files in the workspace, one a batch, and what they add up to.

Batches are read in the order of their keys, rows in the order of the file. Of each annotator the last answer to an
id counts. Where nobody is named, an answer simply overrules what came before it, and is overruled by what comes
after. Among several annotators the majority decides; who skipped has no vote. A tie is no answer: the id may be
asked about again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from pipeline.config import Config
from pipeline.errors import LabelError, WaitingForLabels, nearest
from pipeline.foreign_tables import MAX_ROWS, check_columns, read_foreign
from pipeline.sections import Name
from pipeline.storage import open_store
from pipeline.types import LABEL_STATUSES, LABELS, Label, LabelStatus
from pipeline.workspace import Workspace

PREFIX = "labels/"
MAX_ID = 65_536  # characters; pools may have long keys, but a label file is no place to store things

_NAME = TypeAdapter(Name)


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
    """All answers so far: `table` holds `LABELS` rows, one an id that is answered."""

    table: pa.Table
    _ties: frozenset[str] = frozenset()

    @classmethod
    def of(cls, tables: Sequence[pa.Table]) -> Labels:
        """What checked batches add up to, sorted by id; a row is that of the last of those who agree."""
        rows = pa.concat_tables(tables) if tables else LABELS.empty_table()
        votes = last_answers(rows)
        said = list(zip(rows["status"].to_pylist(), rows["label"].to_pylist(), strict=True))
        chosen = {name: _majority(list(mine.values()), said) for name, mine in votes.items()}
        kept = sorted(place for place in chosen.values() if place is not None)
        ties = frozenset(name for name, place in chosen.items() if place is None)
        return cls(rows.take(pa.array(kept, pa.int64())).sort_by("id"), ties)

    def labeled(self) -> tuple[list[str], list[str]]:
        """Ids and class names of the rows that may train."""
        chosen = self.table.filter(pc.equal(self.table["status"], "labeled"))
        return chosen["id"].to_pylist(), chosen["label"].to_pylist()

    def answered(self) -> frozenset[str]:
        """Ids that need not be asked about again, whatever the answer was."""
        return frozenset(self.table["id"].to_pylist())

    def tied(self) -> frozenset[str]:
        """Ids about which annotators disagree without a majority: not answered."""
        return self._ties

    def heard(self) -> frozenset[str]:
        """Ids about which people have said something: answered or tied."""
        return self.answered() | self._ties

    def proposed(self) -> dict[str, int]:
        """How many answers of status `unknown-class` propose each name, by name."""
        rows = self.table.filter(pc.equal(self.table["status"], "unknown-class"))
        return dict(sorted(Counter(rows["label"].drop_null().to_pylist()).items()))

    def counts(self) -> dict[str, int]:
        """How many answers of each class."""
        return dict(sorted(Counter(self.labeled()[1]).items()))

    def refused(self) -> dict[str, int]:
        """How many answers of each status that is not a class."""
        statuses = Counter(self.table["status"].to_pylist())
        return {
            status: statuses[status] for status in LABEL_STATUSES if status != "labeled" and statuses[status]
        }


def last_answers(rows: pa.Table) -> dict[str, dict[str, int]]:
    """By id and annotator, the place of the last answer; an answer without a name stands alone or not at all."""
    found: dict[str, dict[str, int]] = {}
    for place, (name, annotator) in enumerate(
        zip(rows["id"].to_pylist(), rows["annotator"].to_pylist(), strict=True)
    ):
        mine = found.setdefault(name, {})
        if not annotator:
            mine.clear()
        mine.pop("", None)
        mine[annotator] = place
    return found


def _majority(places: Sequence[int], said: Sequence[tuple[str, str | None]]) -> int | None:
    """The last place of those that say what most say; None for a tie."""
    opinions = [place for place in places if said[place][0] != "skipped"] or list(places)
    (most, times), *others = Counter(said[place] for place in opinions).most_common(2)
    if others and others[0][1] == times:
        return None
    return max(place for place in opinions if said[place] == most)


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
    query = f"rounds/{index - 1:03d}/query.parquet"
    asked = workspace.read_table(query, ["id"])["id"].to_pylist()
    heard = read_labels(workspace, batches(workspace), taxonomy).heard()
    if asked and heard.isdisjoint(asked):
        raise WaitingForLabels(
            f"round {index - 1:03d} asks about {len(asked)} images ({workspace.store.url(query)}) and none is "
            f"answered; write the answers to {workspace.store.url(f'{PREFIX}{index:03d}-answers.parquet')} "
            f"(id, label, status) and run again"
        )


def check_batch(table: pa.Table, place: str, taxonomy: Sequence[str]) -> pa.Table:
    """A label file's rows in the `LABELS` schema; only `id` and `label` must be there.

    A row without a status is `labeled` if it has a label, and `skipped` if not. `unknown-class` may carry a proposed
    name; where that is in the taxonomy, a class that has joined, the row counts as `labeled`.

    Args:
        table: the rows, with columns of any type that can be read as text.
        place: of the file, for messages.
        taxonomy: the classes in force.

    Raises:
        LabelError: a missing column, an unknown status, a class outside the taxonomy, a name that is none; says
            the file and the row.
    """
    check_columns(table.column_names, place, LABELS.names)
    if table.num_rows > MAX_ROWS:
        raise LabelError(f"{place}: {table.num_rows} rows are too many for a label file ({MAX_ROWS})")
    known = frozenset(taxonomy)
    rows: list[Label] = []
    names = [name for name in LABELS.names if name in table.column_names]
    for number, values in enumerate(zip(*(table[name].to_pylist() for name in names), strict=True)):
        try:
            rows.append(check_row(dict(zip(names, values, strict=True)), known))
        except LabelError as error:
            raise LabelError(f"{place}, row {number}: {error}") from None
    checked: dict[str, Any] = {n: [getattr(row, n) for row in rows] for n in LABELS.names}
    checked["at"] = _times(table["at"].to_pylist() if "at" in names else checked["at"], place)
    return pa.table(checked, schema=LABELS)


def check_row(
    row: Mapping[str, Any], known: Collection[str], hint: Callable[[str, Collection[str]], str] = nearest
) -> Label:
    """One answer as people wrote it, without its time, read by the rules of `check_batch`.

    Args:
        row: values by the names of `LABELS`; missing ones are None.
        known: the classes in force, as a set.
        hint: what to say of a word that is none of those known.

    Raises:
        LabelError: says what is wrong, and not where.
    """
    name, label = row.get("id"), row.get("label")
    if name is None or str(name) == "":
        raise LabelError("no id")
    if len(str(name)) > MAX_ID:
        raise LabelError(f"an id of {len(str(name))} characters; {MAX_ID} are the most")
    status: LabelStatus = _status(row.get("status") or ("labeled" if label is not None else "skipped"))
    if status == "unknown-class" and label is not None:
        label = _name(str(label).strip() or None, "the proposed class")
        status = "labeled" if label in known else status
    elif status == "labeled":
        label = None if label is None else str(label)
        if label not in known:
            said = hint(str(label)[:512], known)
            raise LabelError(f"label {_short(label)} is not in the taxonomy; {said}")
    else:
        label = None  # who skips, or says that it is of no class, names none
    annotator = _name(str(row.get("annotator") or "") or None, "the annotator")
    return Label(str(name), label, status, annotator or "")


def _status(word: Any) -> LabelStatus:
    for status in LABEL_STATUSES:
        if word == status:
            return status
    raise LabelError(f"status {_short(word)}; {nearest(str(word)[:100], LABEL_STATUSES)}")


def _name(text: str | None, what: str) -> str | None:
    """Refuse what a config would not take as a name."""
    try:
        return None if text is None else _NAME.validate_python(text)
    except ValidationError:
        raise LabelError(f"{what} {_short(text)} is no name: at most 512 characters on one line") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _times(values: Sequence[Any], place: str) -> pa.Array:
    """Times of a column; see `read_time`."""
    try:
        return pa.array([read_time(value) for value in values], LABELS.field("at").type)
    except (LabelError, pa.ArrowException, OverflowError) as error:
        raise LabelError(f"{place}: column 'at' does not hold times: {error}") from None


def read_time(value: Any) -> datetime | None:
    """A time, or one as ISO 8601 text; one without a zone is UTC. `LabelError` for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise LabelError(str(error)) from None
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise LabelError(f"{_short(value)} is no time")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


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
