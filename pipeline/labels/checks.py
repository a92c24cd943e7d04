"""Checks of answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from pipeline.config.sections import Name
from pipeline.errors import LabelError, nearest
from pipeline.labels.forms.tables import MAX_ROWS, cells, columns_of
from pipeline.labels.forms.times import read_time
from pipeline.labels.forms.values import Words, is_open, tidy
from pipeline.types import LABEL_STATUSES, LABELS, WITHDRAWN, Label, LabelStatus

MAX_ID = 65_536  # characters; pools may have long keys, but a label file is no place to store data


_NAME = TypeAdapter(Name)


def check_batch(
    table: pa.Table,
    place: str,
    taxonomy: Sequence[str],
    *,
    offered: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> pa.Table:
    """Check the rows of a label file; return the answers as `LABELS`.

    Only the columns `id` and `label` must be there. A row without a status is `labeled` if it has a label; one with
    neither is still open, and no answer. An `unknown-class` row may carry a proposed name; if the taxonomy holds that
    name because the class has joined, the row counts as `labeled`.

    Args:
        table: the rows, with columns of any type that can be read as text.
        place: of the file, for messages.
        taxonomy: the classes in force.
        offered: the classes that could be chosen when the rows were written; a row that names one of them and has
            the status `unknown-class` contradicts itself.
        renamed: what former names of classes mean now.

    Raises:
        LabelError: a missing column, too many rows, an unknown status, a class outside the taxonomy, a label beside a
            status that takes none, a text that can be no name; says the file and the row.
    """
    names = columns_of(table.column_names, place, LABELS.names)
    if table.num_rows > MAX_ROWS:
        raise LabelError(f"{place}: {table.num_rows} rows are too many for a label file ({MAX_ROWS})")
    columns = [cells(table.column(at)) for at in names.values()]
    rows = (
        (f"row {number}", dict(zip(names, values, strict=True)))
        for number, values in enumerate(zip(*columns, strict=True))
    )
    return check_rows(rows, place, taxonomy, offered=offered, renamed=renamed)


def check_rows(
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    place: str,
    taxonomy: Sequence[str],
    *,
    offered: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> pa.Table:
    """Check rows of a label file as `check_batch` does.

    Each comes with its place in the file.
    """
    known = Words(taxonomy, renamed)
    checked: list[Label] = []
    times: list[Any] = []
    for where, values in rows:
        try:
            row = tidy(values, known)
            if is_open(row):
                continue
            checked.append(check_row(row, known, offered=offered, more=[WITHDRAWN]))
        except LabelError as error:
            raise LabelError(f"{place}, {where}: {error}") from None
        try:
            times.append(read_time(row.get("at")))
        except LabelError as error:
            raise LabelError(f"{place}: column 'at' does not hold times: {where}: {error}") from None
    columns: dict[str, Any] = {n: [getattr(row, n) for row in checked] for n in LABELS.names}
    return pa.table(columns | {"at": times}, schema=LABELS)


def check_row(
    row: Mapping[str, Any],
    known: Words,
    hint: Callable[[str, Collection[str]], str] = nearest,
    *,
    offered: Collection[str] = (),
    more: Sequence[LabelStatus] = (),
) -> Label:
    """Check an answer that is not open, without its time.

    The rules are those of `check_batch`.

    Args:
        row: tidied values by the names of `LABELS`; missing ones are None.
        known: the classes in force.
        hint: makes a hint for a word that is not known.
        offered: see `check_batch`.
        more: statuses that are no answer, and may stand here.

    Raises:
        LabelError: says what is wrong, but not where.
    """
    name, label = row.get("id"), row.get("label")
    if name is None:
        raise LabelError("no id")
    if len(name) > MAX_ID:
        raise LabelError(f"an id of {len(name)} characters; {MAX_ID} are the most")
    status: LabelStatus = _status(row.get("status") or "labeled", more)
    found = None if label is None else known.find(label)
    chosen = status == "unknown-class" and found in offered
    if label is not None and (chosen or status not in ("labeled", "unknown-class")):
        raise LabelError(f"status {status!r} and label {_short(label)} at once; leave one of them empty")
    if status == "unknown-class" and label is not None:
        label = found or known.now(_name(label, "the proposed class") or "")
        status = "labeled" if found is not None else status
    elif status == "labeled":
        if found is None:
            raise LabelError(_unknown(label, known, hint))
        label = found
    annotator = _name(row.get("annotator"), "the annotator")
    return Label(name, label, status, annotator or "")


def _unknown(label: str | None, known: Words, hint: Callable[[str, Collection[str]], str]) -> str:
    if label is None:
        return "label None is not in the taxonomy"
    return (
        f"label {_short(label)} is not in the taxonomy; {hint(label[:512], known)} "
        "(to propose a new class, write the status unknown-class beside its name)"
    )


def _status(word: Any, more: Sequence[LabelStatus]) -> LabelStatus:
    for status in (*LABEL_STATUSES, *more):
        if word == status:
            return status
    raise LabelError(f"status {_short(word)}; {nearest(str(word)[:100], LABEL_STATUSES)}")


def _name(text: str | None, what: str) -> str | None:
    """Return a name; refuse what a config would not take as one."""
    try:
        return None if text is None else _NAME.validate_python(text)
    except ValidationError:
        raise LabelError(f"{what} {_short(text)} is no name: at most 512 characters on one line") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
