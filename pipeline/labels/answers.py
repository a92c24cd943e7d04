"""Answers of people, read from files into rows.

A row says who says what about which image.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.config.project import Config
from pipeline.errors import LabelError, nearest
from pipeline.labels.checks import check_row, read_time
from pipeline.labels.forms import READERS, Answer, bounded
from pipeline.labels.label_studio import from_export
from pipeline.labels.tables import check_size
from pipeline.store.opening import open_store

Note = dict[str, str]  # on a row: file, where, id, why

_READERS: Final[Mapping[str, Callable[[bytes, str], Iterator[Answer]]]] = {**READERS, "json": from_export}
_COMPARED: Final = 200_000  # names compared for hints, in all


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


def read_rows(
    files: Sequence[str], config: Config, *, annotator: str, refused: list[Note]
) -> tuple[list[Row], int]:
    """Read the answered rows of files; count those left open.

    Args:
        files: paths or URIs; the end of a name says the form.
        config: with the taxonomy in force.
        annotator: who answered, where a row doesn't say.
        refused: gets a note on each row that can't be read as an answer.

    Returns:
        The rows with a label or a status, and the number of rows with neither.

    Raises:
        LabelError: a file that can't be read at all.
        StoreUnavailable: storage does not answer.
    """
    rows: list[Row] = []
    left_open = 0
    classes = frozenset(config.taxonomy)
    hint = Hints()
    for file in files:
        for answer in _answers(file, config):
            values = {name: _tidy(name, value, classes) for name, value in answer.values.items()}
            if answer.problem is None and values.get("label") is None and values.get("status") is None:
                left_open += 1
                continue
            values["annotator"] = values.get("annotator") or annotator
            try:
                rows.append(_row(file, answer, values, classes=classes, hint=hint))
            except LabelError as error:
                name = "" if values.get("id") is None else str(values["id"])
                refused.append({"file": file, "where": answer.where, "id": name, "why": str(error)})
    return rows, left_open


def _answers(file: str, config: Config) -> list[Answer]:
    end = file.rpartition("/")[2].rpartition(".")[2].lower()
    if end not in _READERS:
        raise LabelError(f"{file}: its name should end in one of .{', .'.join(sorted(_READERS))}")
    store = open_store(file, config.storage)
    entry = next(store.list(), None)
    if entry is None or entry.key:
        raise LabelError(f"{file}: no such file")
    check_size(entry.size, file)
    return bounded(_READERS[end](store.get(""), file), file)


def _tidy(name: str, value: Any, classes: Collection[str]) -> Any:
    """Remove what tools and hands add to a value.

    Empty text and not-a-number become None; white space around a word is cut off. Ids and classes stay as they are.
    """
    if isinstance(value, str) and name != "id" and value not in classes:
        value = value.strip()
    return None if value == "" or value != value else value


def _row(
    file: str, answer: Answer, values: Mapping[str, Any], *, classes: Collection[str], hint: Hints
) -> Row:
    if answer.problem is not None:
        raise LabelError(answer.problem)
    status, label = values.get("status"), values.get("label")
    if status in ("skipped", "out-of-world") and label is not None:
        raise LabelError(f"status {status!r} and label {label!r} at once; leave one of them empty")
    label = check_row(values, classes, hint)
    seen = values.get("fingerprint")
    return Row(
        file=file,
        where=answer.where,
        id=label.id,
        label=label.label,
        status=label.status,
        annotator=label.annotator,
        at=read_time(values.get("at")),
        fingerprint=None if seen is None else str(seen),
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
