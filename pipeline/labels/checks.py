"""Checks of answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from pipeline.config.sections import Name
from pipeline.errors import LabelError, nearest
from pipeline.labels.tables import MAX_ROWS, check_columns
from pipeline.types import LABEL_STATUSES, LABELS, Label, LabelStatus

MAX_ID = 65_536  # characters; pools may have long keys, but a label file is no place to store data


_NAME = TypeAdapter(Name)


def check_batch(table: pa.Table, place: str, taxonomy: Sequence[str]) -> pa.Table:
    """Check the rows of a label file; return them as `LABELS`.

    Only the columns `id` and `label` must be there. A row without a status is `labeled` if it has a label, and
    `skipped` if not. An `unknown-class` row may carry a proposed name; if the taxonomy holds that name because the
    class has joined, the row counts as `labeled`.

    Args:
        table: the rows, with columns of any type that can be read as text.
        place: of the file, for messages.
        taxonomy: the classes in force.

    Raises:
        LabelError: a missing column, too many rows, an unknown status, a class outside the taxonomy, a text that can be
            no name; says the file and the row.
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
    """Check an answer as people wrote it, without its time.

    The rules are those of `check_batch`.

    Args:
        row: values by the names of `LABELS`; missing ones are None.
        known: the classes in force, as a set.
        hint: makes a hint for a word that is not known.

    Raises:
        LabelError: says what is wrong, but not where.
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
        label = None  # a skipped or out-of-world answer names no class
    annotator = _name(str(row.get("annotator") or "") or None, "the annotator")
    return Label(str(name), label, status, annotator or "")


def _status(word: Any) -> LabelStatus:
    for status in LABEL_STATUSES:
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


def _times(values: Sequence[Any], place: str) -> pa.Array:
    """Read the times of a column; see `read_time`."""
    try:
        return pa.array([read_time(value) for value in values], LABELS.field("at").type)
    except (LabelError, pa.ArrowException, OverflowError) as error:
        raise LabelError(f"{place}: column 'at' does not hold times: {error}") from None


def read_time(value: Any) -> datetime | None:
    """Read a time, given as one or as ISO 8601 text.

    A time without a zone is UTC; None stays None. Raises `LabelError` for anything else.
    """
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
