"""Answers of people, read from files into rows.

A row says who says what about which image.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final

from pipeline.config.project import Config
from pipeline.errors import LabelError, nearest
from pipeline.labels.checks import check_row
from pipeline.labels.forms.label_studio import from_export, from_table
from pipeline.labels.forms.rows import READERS, Answer, bounded
from pipeline.labels.forms.tables import MAX_ROWS, OURS, Columns, check_size
from pipeline.labels.forms.times import read_time
from pipeline.labels.forms.values import Words, is_open, tidy
from pipeline.store.base import Entry
from pipeline.store.opening import Store, open_store

Note = dict[str, str]  # on a row: file, where, id, why

_READERS: Final[Mapping[str, Callable[..., Iterator[Answer]]]] = {
    **READERS,
    "csv": from_table,
    "json": from_export,
}
_ALSO: Final = {"tsv": "csv", "ndjson": "jsonl", "": "json"}  # what Label Studio stores by itself has no end
_COMPARED: Final = 200_000  # names compared for hints, in all
AN_ID: Final = (
    "an id is an image's key below pool.uri, or what pool.id_column holds; --id-column and --label-column name the "
    "columns of other tools"
)


@dataclass(frozen=True)
class Row:
    """An answer to import: its place and its values.

    The values are as `LABELS` holds them, with the image's fingerprint.
    """

    file: str
    where: str
    id: str
    label: str | None
    status: str
    annotator: str
    at: datetime | None
    fingerprint: str | None

    @property
    def said(self) -> tuple[str, str | None, str, str]:
        """The answer without its time: (id, label, status, annotator)."""
        return (self.id, self.label, self.status, self.annotator)

    @property
    def stored(self) -> tuple[Any, ...]:
        """Values in a batch file."""
        return (*self.said, self.at)

    @property
    def place(self) -> str:
        """Place in the file, as text for people."""
        return f"{self.file}, {self.where}"

    def note(self, why: str) -> Note:
        """Make a note on the row."""
        return {"file": self.file, "where": self.where, "id": self.id, "why": why}


@dataclass(frozen=True)
class Notes:
    """Notes on rows: refusals, and remarks on those without effect."""

    refused: list[Note] = field(default_factory=list)
    remarks: list[Note] = field(default_factory=list)

    def refuse(self, row: Row, why: str) -> None:
        """Note a refused row."""
        self.refused.append(row.note(why))

    def remark(self, row: Row, why: str) -> None:
        """Note a row without effect."""
        self.remarks.append(row.note(why))


@dataclass(frozen=True)
class Reading:
    """Settings for reading answer files.

    annotator  who answered, where a row doesn't say
    columns    what tables call their ids and labels
    meant      the id that was meant by a text, which may be the text itself
    offered    the classes that could be chosen for an id
    """

    annotator: str = ""
    columns: Columns = OURS
    meant: Callable[[str], str] = str
    offered: Callable[[str], Collection[str]] = lambda _: ()


def read_rows(
    files: Sequence[str], config: Config, *, reading: Reading, notes: Notes
) -> tuple[list[Row], int]:
    """Read the answered rows of files; count those left open.

    Args:
        files: paths or URIs; the end of a name says the form. A folder stands for all files in it.
        config: with the taxonomy in force.
        reading: who is meant by what.
        notes: gets a refusal for each row that can't be read as an answer, and a remark on each that is none.

    Returns:
        The rows with a label or a status, and the number of rows with neither.

    Raises:
        LabelError: a file that can't be read at all.
        StoreUnavailable: storage does not answer.
    """
    rows: list[Row] = []
    left_open = 0
    known = Words(config.taxonomy, config.labels.renamed)
    hint = Hints()
    for place, answer in _all_answers(files, config, reading.columns):
        note = {"file": place, "where": answer.where, "id": _shown_id(answer)}
        if answer.foreign is not None:
            notes.remarks.append({**note, "why": answer.foreign})
            continue
        try:
            if answer.problem is not None:
                raise LabelError(answer.problem)
            values = tidy(answer.values, known)
            if is_open(values):
                left_open += 1
            else:
                rows.append(_row(place, answer, values, known=known, hint=hint, reading=reading))
        except LabelError as error:
            notes.refused.append({**note, "why": str(error)})
    return rows, left_open


def _all_answers(files: Sequence[str], config: Config, columns: Columns) -> Iterator[tuple[str, Answer]]:
    for file in files:
        store = open_store(file, config.storage)
        for entry in _entries(store, file):
            place = store.url(entry.key) if entry.key else file
            for answer in _answers(store, entry, place, columns=columns):
                yield place, answer


def _entries(store: Store, file: str) -> list[Entry]:
    """Return an object, or those of a folder with answers."""
    listed = store.list()
    first = next(listed, None)
    if first is None or (first.key and _ending(file)):
        raise LabelError(f"{file}: no such file")
    if first.key:
        return [entry for entry in (first, *islice(listed, MAX_ROWS)) if _end(entry.key) is not None]
    if _end(file) is None:
        raise LabelError(
            f"{file}: its name should end in one of .{', .'.join(sorted(_READERS))}; other tools' answers go through "
            f"such a table: {AN_ID}"
        )
    return [first]


def _end(name: str) -> str | None:
    """Return the form of a file by its name, if known."""
    end = _ALSO.get(_ending(name), _ending(name))
    return end if end in _READERS else None


def _ending(name: str) -> str:
    _, dot, end = name.rstrip("/").rpartition("/")[2].rpartition(".")
    return end.lower() if dot else ""


def _answers(store: Store, entry: Entry, place: str, *, columns: Columns) -> list[Answer]:
    check_size(entry.size, place)
    try:
        return bounded(_READERS[_end(entry.key or place) or ""](store.get(entry.key), place, columns), place)
    except LabelError as error:
        if "no column" in str(error) and "did you mean" not in str(error):
            raise LabelError(f"{error}; {AN_ID}") from None
        raise


def _shown_id(answer: Answer) -> str:
    value = answer.values.get("id")
    return "" if value is None else str(value)


def _row(
    file: str, answer: Answer, values: Mapping[str, Any], *, known: Words, hint: Hints, reading: Reading
) -> Row:
    values = {**values, "annotator": values.get("annotator") or reading.annotator or None}
    if values.get("id") is not None:
        values["id"] = reading.meant(values["id"])
    label = check_row(values, known, hint, offered=reading.offered(values["id"] or ""))
    return Row(
        file=file,
        where=answer.where,
        id=label.id,
        label=label.label,
        status=label.status,
        annotator=label.annotator,
        at=read_time(values.get("at")),
        fingerprint=values.get("fingerprint"),
    )


class Hints:
    """Hints at the nearest known word, with bounded effort.

    At most `_COMPARED` words are compared in all; later hints only say how many words are known.
    """

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._compared = 0

    def __call__(self, word: str, known: Collection[str]) -> str:
        """Return a hint for a word that is not known."""
        if word not in self._told:
            self._compared += len(known)
            if self._compared > _COMPARED:
                return f"{len(known)} others are known"
            self._told[word] = nearest(word, known)
        return self._told[word]
