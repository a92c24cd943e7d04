"""The forms in which questions go out and answers come back: CSV, Parquet, and JSON lines.

A row is a question: what it is about, what the model thinks, and four empty fields to fill in. All three forms give
back what was put in, to the letter. In CSV a text that a spreadsheet would take for a formula gets an apostrophe
before it, which is taken away again. What comes back is a stranger's file: bounded, checked, and never executed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from pipeline.encoding import to_parquet
from pipeline.errors import LabelError
from pipeline.labels.tables import MAX_ROWS, check_columns, read_foreign
from pipeline.types import LABELS

QUESTIONS: Final = pa.schema(
    [
        ("round", pa.int32()),
        ("rank", pa.int32()),
        ("id", pa.string()),
        ("uri", pa.string()),
        ("image", pa.string()),
        ("fingerprint", pa.string()),
        ("predicted", pa.string()),
        ("score", pa.float32()),
        ("reason", pa.string()),
        *(field for field in LABELS if field.name != "id"),
    ]
)
TAKEN: Final[Sequence[str]] = (
    "id",
    "label",
    "status",
    "annotator",
    "at",
    "fingerprint",
)  # what is read of an answer

_HALF: Final = re.compile(r"[\ud800-\udfff]")  # JSON can write it down; nothing else can
_MOST_FIELD = 64 << 20  # characters: an embedded image may be long


@dataclass(frozen=True)
class Answer:
    """A row as it came back: its place in the file for people, and its values by the names of `TAKEN`.

    `problem` is why it can't be read as an answer, where its form already says so.
    """

    where: str
    values: Mapping[str, Any]
    problem: str | None = None


# ------------------------------------------------------------------------------------------------------- CSV

# What a spreadsheet would calculate, behind any number of apostrophes: one more goes before it.
_FORMULA: Final = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
                             r"\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}])")  # fmt: skip


def to_csv(table: pa.Table) -> bytes:
    """`QUESTIONS` rows as UTF-8 with a byte order mark, which spreadsheets need; nothing in them is a formula."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow(table.column_names)
    for row in _plain(table):
        writer.writerow([_harmless(value) for value in row.values()])
    return sink.getvalue().encode("utf-8-sig")


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _as_meant(cell: str) -> str | None:
    return (cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell) or None


def from_csv(data: bytes, place: str) -> Iterator[Answer]:
    """Rows of CSV between commas, semicolons or tabs, as spreadsheets save it; numbered as they show it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LabelError(f"{place}: not UTF-8; save it as CSV UTF-8") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    with _long_fields():
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            names = next(rows, [])
            check_columns(names, place, TAKEN)
            for number, cells in enumerate(rows, start=2):
                if not cells:
                    continue
                if len(cells) != len(names):
                    raise LabelError(f"{place}, row {number}: {len(cells)} cells under {len(names)} names")
                row = dict(zip(names, cells, strict=True))
                values = {name: _as_meant(row[name]) for name in TAKEN if name in row}
                yield Answer(f"row {number}", values)
        except csv.Error as error:
            raise LabelError(f"{place}: not CSV: {error}") from None


@contextmanager
def _long_fields() -> Iterator[None]:
    """The limit is the process's own, so it is put back."""
    before = csv.field_size_limit(_MOST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# ------------------------------------------------------------------------------------------------ JSON lines


def to_jsonl(table: pa.Table) -> bytes:
    """`QUESTIONS` rows, one JSON object a line."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in _plain(table))


def from_jsonl(data: bytes, place: str) -> Iterator[Answer]:
    """Rows of JSON objects, one a line, numbered from 1."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        row = read_json(line, f"{place}, line {number}")
        if not isinstance(row, dict):
            raise LabelError(f"{place}, line {number}: not a JSON object")
        check_columns(list(row), f"{place}, line {number}", TAKEN)
        values = {name: row[name] for name in TAKEN if name in row}
        yield Answer(f"line {number}", values, not_plain(values))


def read_json(data: bytes, place: str) -> Any:
    """A JSON value in which no name stands twice; `LabelError` for anything else."""
    try:
        return json.loads(data, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"{place}: not JSON: {' '.join(str(error).split())[:200]}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return values


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def not_plain(values: Mapping[str, Any]) -> str | None:
    """Why values can't be an answer: a list, an object or half a character where text should be."""
    for name, value in values.items():
        if isinstance(value, dict | list | bool):
            return f"{name}: {type(value).__name__} where text should be"
        if isinstance(value, str) and _HALF.search(value):
            return f"{name}: no text, but half a character"
    return None


# --------------------------------------------------------------------------------------------------- Parquet


def from_parquet(data: bytes, place: str) -> Iterator[Answer]:
    """Rows of Parquet, numbered from 0 as label files are; only the columns of an answer are read."""
    table = read_foreign(pa.BufferReader(data), place, TAKEN)
    for number, row in enumerate(table.to_pylist()):
        yield Answer(f"row {number}", row, not_plain(row))


# ------------------------------------------------------------------------------------------------- all forms

WRITERS: Final[Mapping[str, Callable[[pa.Table], bytes]]] = {
    "csv": to_csv,
    "jsonl": to_jsonl,
    "parquet": to_parquet,
}
READERS: Final[Mapping[str, Callable[[bytes, str], Iterator[Answer]]]] = {
    "csv": from_csv,
    "jsonl": from_jsonl,
    "parquet": from_parquet,
}


def bounded(answers: Iterator[Answer], place: str) -> list[Answer]:
    """The answers of a file; refuses more than a label file may hold."""
    kept: list[Answer] = []
    for answer in answers:
        if len(kept) == MAX_ROWS:
            raise LabelError(f"{place}: more than {MAX_ROWS} rows")
        kept.append(answer)
    return kept


def _plain(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows whose times are ISO 8601 text."""
    for row in table.to_pylist():
        yield {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}
