"""Forms of question and answer files: CSV, Parquet, JSON lines.

A row is a question: the image, the model's opinion, and four empty fields to fill in. All three forms return exactly
what was put in. In CSV, a text that a spreadsheet would take for a formula gets an apostrophe before it, which is
removed again on reading. A file that comes back is a stranger's: its size is bounded, its rows are checked, and nothing
in it is executed.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from pipeline.encoding import to_parquet
from pipeline.errors import LabelError
from pipeline.labels.forms.tables import MAX_ROWS, OURS, Columns, cells, columns_of, read_foreign
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
)  # the columns read of an answer

_HALF: Final = re.compile(r"[\ud800-\udfff]")  # half a character: JSON can hold it, other forms cannot
_MOST_FIELD = 64 << 20  # characters: an embedded image may be long


@dataclass(frozen=True)
class Answer:
    """A row of an answer file.

    where    its place in the file, for people
    values   by the names of `TAKEN`
    problem  why it can't be an answer, where its form alone shows that
    foreign  why it is no answer to a question of ours, and is left out
    """

    where: str
    values: Mapping[str, Any]
    problem: str | None = None
    foreign: str | None = None


# ------------------------------------------------------------------------------------------------------- CSV

# Text that a spreadsheet would calculate, behind any number of apostrophes: one more goes before it.
_FORMULA: Final = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
                             r"\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}])")  # fmt: skip


def to_csv(table: pa.Table) -> bytes:
    """Write `QUESTIONS` rows as CSV without formulas.

    It is UTF-8 with a byte order mark, which spreadsheets need.
    """
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


def from_csv(data: bytes, place: str, columns: Columns = OURS) -> Iterator[Answer]:
    """Read rows of CSV as spreadsheets save it; see `csv_rows`. Raises `LabelError`."""
    rows = csv_rows(data, place)
    _, names = next(rows)
    found = columns_of(names, place, TAKEN, called=columns)
    for where, row in rows:
        if isinstance(row, str):
            yield Answer(where, {}, row)
        else:
            yield Answer(where, {name: row[at] for name, at in found.items()})


def csv_rows(data: bytes, place: str) -> Iterator[tuple[str, Any]]:
    """Read CSV row by row: place and cells of each.

    The names of the columns come first. Cells stand between commas, semicolons or tabs, or as a first line `sep=;`
    says. Rows are numbered as spreadsheets show them. A row of another length than the names comes as the reason why
    it can't be read, but empty cells behind the last name are left out.

    Raises:
        LabelError: no text, or no CSV.
    """
    text = _decoded(data, place)
    head, _, rest = text.partition("\n")
    told = re.fullmatch(r"sep=(.)\r?", head, re.IGNORECASE)
    text, head = (rest, rest.partition("\n")[0]) if told else (text, head)
    delimiter = told[1] if told else max(",;\t", key=head.count)
    with _long_fields():
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            names = next(rows, [])
            yield "row 1", names
            for number, row in enumerate(rows, start=2):
                if not row:
                    continue
                if not any(row[len(names) :]):
                    row = row[: len(names)]
                short = len(row) != len(names)
                wrong = f"{len(row)} cells under {len(names)} names" if short else None
                yield f"row {number}", wrong or [_as_meant(cell) for cell in row]
        except csv.Error as error:
            raise LabelError(f"{place}: not CSV: {error}") from None


def _decoded(data: bytes, place: str) -> str:
    """Decode UTF-8, or UTF-16 where its mark stands first."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise LabelError(f"{place}: not UTF-8; save it as CSV UTF-8") from None


@contextmanager
def _long_fields() -> Iterator[None]:
    """Allow fields of `_MOST_FIELD` characters for a while.

    The limit is global to the process, so it is restored.
    """
    before = csv.field_size_limit(_MOST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# ------------------------------------------------------------------------------------------------ JSON lines


def to_jsonl(table: pa.Table) -> bytes:
    """Write `QUESTIONS` rows as JSON objects, one a line."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in _plain(table))


def from_jsonl(data: bytes, place: str, columns: Columns = OURS) -> Iterator[Answer]:
    """Read rows of JSON objects, one a line, numbered from 1.

    A row may lack `label`, as long as some row has a label or a status.
    """
    answered, first = False, None
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{place}, line {number}"
        row = read_json(line, where)
        if not isinstance(row, dict):
            raise LabelError(f"{where}: not a JSON object")
        names = list(row)
        found = columns_of(names, where, TAKEN, called=columns, needs=("id",))
        first = first or (names, where)
        answered = answered or not found.keys().isdisjoint(("label", "status"))
        values = {name: row[names[at]] for name, at in found.items()}
        yield Answer(f"line {number}", values, not_plain(values))
    if first is not None and not answered:
        columns_of(*first, TAKEN, called=columns)


def read_json(data: bytes, place: str) -> Any:
    """Read a JSON value in which no object has a name twice.

    `NaN` is read as a float. Raises `LabelError` for anything else.
    """
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
    if name == "NaN":  # what data frames write for nothing
        return math.nan
    raise ValueError(f"{name} is no number")


def not_plain(values: Mapping[str, Any]) -> str | None:
    """Return why values can't be an answer, or None.

    A list, an object or half a character may not stand where text should be, and a truth value only as a label.
    """
    for name, value in values.items():
        if isinstance(value, dict | list) or (isinstance(value, bool) and name != "label"):
            return f"{name}: {type(value).__name__} where text should be"
        if isinstance(value, str) and _HALF.search(value):
            return f"{name}: no text, but half a character"
    return None


# --------------------------------------------------------------------------------------------------- Parquet


def from_parquet(data: bytes, place: str, columns: Columns = OURS) -> Iterator[Answer]:
    """Read rows of Parquet, numbered from 0 as in label files.

    Only the columns of an answer are read.
    """
    table = read_foreign(pa.BufferReader(data), place, TAKEN, called=columns)
    for number, values in enumerate(zip(*map(cells, table.columns), strict=True)):
        row = dict(zip(table.column_names, values, strict=True))
        yield Answer(f"row {number}", row, not_plain(row))


# ------------------------------------------------------------------------------------------------- all forms

WRITERS: Final[Mapping[str, Callable[[pa.Table], bytes]]] = {
    "csv": to_csv,
    "jsonl": to_jsonl,
    "parquet": to_parquet,
}
READERS: Final[Mapping[str, Callable[..., Iterator[Answer]]]] = {
    "csv": from_csv,
    "jsonl": from_jsonl,
    "parquet": from_parquet,
}


_TABLES: Final = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def table_form(uri: str) -> str | None:
    """Return the form of a text table by its name."""
    return next((form for end, form in _TABLES.items() if uri.lower().endswith(end)), None)


def bounded(answers: Iterator[Answer], place: str) -> list[Answer]:
    """Return the answers of a file.

    Raises `LabelError` if there are more than a label file may hold.
    """
    kept: list[Answer] = []
    for answer in answers:
        if len(kept) == MAX_ROWS:
            raise LabelError(f"{place}: more than {MAX_ROWS} rows")
        kept.append(answer)
    return kept


def _plain(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Return rows with their times as ISO 8601 text."""
    for row in table.to_pylist():
        yield {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}
