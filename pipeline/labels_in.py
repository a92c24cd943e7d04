"""`sisom labels import`: answers back into the workspace, every row checked, as one new batch or not at all.

No lease is taken: a batch is one object, written whole and never changed, and a round that runs has frozen which
batches it learns from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.asked_images import look_at
from pipeline.config import Config, canonical
from pipeline.errors import LabelError, nearest
from pipeline.label_files import READERS, Answer, bounded, check_size
from pipeline.label_studio import from_export
from pipeline.labels import PREFIX, Labels, batches, check_row, last_answers, read_batches, read_time
from pipeline.labels_out import fingerprint
from pipeline.pieces import Failure
from pipeline.planned import latest
from pipeline.storage import open_store
from pipeline.types import LABELS
from pipeline.workspace import Workspace, open_workspace, round_key, to_parquet

_READERS: Final[Mapping[str, Callable[[bytes, str], Iterator[Answer]]]] = {**READERS, "json": from_export}
_NUMBER: Final = re.compile(rf"{PREFIX}(\d{{3}})-")
_COMPARED: Final = 1_000_000  # names looked at for hints, in all


@dataclass(frozen=True)
class Row:
    """An answer on its way in: where it stood, and its values as `LABELS` holds them."""

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
        """Who says what about which image."""
        return (self.id, self.label, self.status, self.annotator)

    @property
    def place(self) -> str:
        """Where it stood, for people."""
        return f"{self.file}, {self.where}"

    def note(self, why: str) -> dict[str, str]:
        """Something to tell about it."""
        return {"file": self.file, "where": self.where, "id": self.id, "why": why}


def take_in(
    config: Config, files: Sequence[str], *, annotator: str = "", partial: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Read answered files, check every row, and put what is new into the workspace as one batch.

    Args:
        config: of the project.
        files: paths or URIs; the end of a name says the form: .csv, .parquet, .jsonl, or .json of Label Studio.
        annotator: who answered, where a row doesn't say.
        partial: take the good rows though others are refused; otherwise nothing is written then.
        dry_run: only look.

    Returns:
        How many rows were taken, known already or left open; `refused` rows and why; `remarks` on rows that make no
        difference; where annotators `disagree`, and what becomes of it; the `batch` and whether it was `written`.

    Raises:
        LabelError: a file that can't be read at all.
        UserError: no round has asked anything yet.
        StoreUnavailable: storage does not answer.
    """
    workspace = open_workspace(config)
    workspace.check(config)
    workspace.committed_round(None)
    config = latest(workspace, config)
    earlier = pa.concat_tables([LABELS.empty_table(), *_earlier(workspace, config)])
    asked = _asked(workspace)
    refused: list[dict[str, str]] = []
    remarks: list[dict[str, str]] = []

    rows, left_open = _read(files, config, annotator, refused)
    rows = _asked_about(workspace, rows, asked, refused)
    rows, known = _new(rows, earlier, remarks)
    rows = _once(rows, refused, remarks)
    rows = _of_this_image(rows, asked, config, refused)

    taken = sorted(rows, key=lambda row: (row.id, row.annotator)) if partial or not refused else []
    batch = pa.Table.from_pylist([vars(row) for row in taken], schema=LABELS)
    key = _next_key(workspace, batch) if taken else None
    if key is not None and not dry_run:
        workspace.store.put_if_absent(key, to_parquet(batch))
    return {
        "files": list(files),
        "taken": len(taken),
        "known": known,
        "open": left_open,
        "refused": refused,
        "remarks": remarks,
        "disagree": _disagreements(earlier, batch),
        "batch": None if key is None else workspace.store.url(key),
        "written": key is not None and not dry_run,
    }


def _earlier(workspace: Workspace, config: Config) -> list[pa.Table]:
    return read_batches(workspace, batches(workspace), config.taxonomy)


def _asked(workspace: Workspace) -> dict[str, str]:
    """The URI of each id that a committed round has asked about."""
    found: dict[str, str] = {}
    for index in range(workspace.committed()):
        query = workspace.read_table(round_key(index, "query.parquet"), ["id", "uri"])
        found |= dict(zip(query["id"].to_pylist(), query["uri"].to_pylist(), strict=True))
    return found


# ---------------------------------------------------------------------------------------------- row by row


def _read(
    files: Sequence[str], config: Config, annotator: str, refused: list[dict[str, str]]
) -> tuple[list[Row], int]:
    """The rows that say something, and how many don't."""
    rows: list[Row] = []
    left_open = 0
    classes = frozenset(config.taxonomy)
    hint = _Hints()
    for file in files:
        for answer in _answers(file, config):
            values = {name: _tidy(name, value, classes) for name, value in answer.values.items()}
            if answer.problem is None and values.get("label") is None and values.get("status") is None:
                left_open += 1
                continue
            values["annotator"] = values.get("annotator") or annotator
            try:
                rows.append(_row(file, answer, values, classes, hint))
            except LabelError as error:
                name = "" if values.get("id") is None else str(values["id"])
                refused.append({"file": file, "where": answer.where, "id": name, "why": str(error)})
    return rows, left_open


def _answers(file: str, config: Config) -> list[Answer]:
    end = file.rpartition("/")[2].rpartition(".")[2]
    if end not in _READERS:
        raise LabelError(f"{file}: its name should end in one of .{', .'.join(sorted(_READERS))}")
    store = open_store(file, config.storage)
    entry = next(store.list(), None)
    if entry is None or entry.key:
        raise LabelError(f"{file}: no such file")
    check_size(entry.size, file)
    return bounded(_READERS[end](store.get(""), file), file)


def _tidy(name: str, value: Any, classes: Collection[str]) -> Any:
    """Without what tools and hands add: empty text, not-a-number for nothing, white space around a word."""
    if isinstance(value, str) and name != "id" and value not in classes:
        value = value.strip()
    return None if value == "" or value != value else value


def _row(file: str, answer: Answer, values: Mapping[str, Any], classes: Collection[str], hint: _Hints) -> Row:
    if answer.problem is not None:
        raise LabelError(answer.problem)
    status, label = values.get("status"), values.get("label")
    if status in ("skipped", "out-of-world") and label is not None:
        raise LabelError(f"status {status!r} and label {label!r} at once; leave one of them empty")
    found = check_row(values, classes, hint)
    seen = values.get("fingerprint")
    return Row(
        file=file,
        where=answer.where,
        id=found.id,
        label=found.label,
        status=found.status,
        annotator=found.annotator,
        at=read_time(values.get("at")),
        fingerprint=None if seen is None else str(seen),
    )


class _Hints:
    """The nearest known word, as long as looking for it takes no time to speak of."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._compared = 0

    def __call__(self, word: str, known: Collection[str]) -> str:
        if word not in self._told:
            self._compared += len(known)
            if self._compared > _COMPARED:
                return f"{len(known)} others are known"
            self._told[word] = nearest(word, known)
        return self._told[word]


# -------------------------------------------------------------------------------------------- all together


def _asked_about(
    workspace: Workspace, rows: Sequence[Row], asked: Mapping[str, str], refused: list[dict[str, str]]
) -> list[Row]:
    strange = {row.id for row in rows} - set(asked)
    pool = _in_pool(workspace, strange) if strange else frozenset()
    hint = _Hints()
    for row in rows:
        if row.id in pool:
            refused.append(row.note("no committed round has asked about it"))
        elif row.id in strange:
            refused.append(row.note(f"unknown id; {hint(row.id[:200], asked)}"))
    return [row for row in rows if row.id in asked]


def _in_pool(workspace: Workspace, ids: Collection[str]) -> frozenset[str]:
    """Those of some ids that the last committed round has scored; memory of one row group."""
    wanted = pa.array(sorted(ids), pa.string())
    prefix = round_key(workspace.committed_round(None), "scores/")
    found: set[str] = set()
    for key in workspace.keys(prefix):
        for part in workspace.row_groups(key, ["id"]):
            found.update(part["id"].filter(pc.is_in(part["id"], value_set=wanted)).to_pylist())
    return frozenset(found)


def _new(rows: Sequence[Row], earlier: pa.Table, remarks: list[dict[str, str]]) -> tuple[list[Row], int]:
    """The rows that no batch holds yet, and how many are known."""
    ids = pa.array(sorted({row.id for row in rows}), pa.string())
    mine = earlier.filter(pc.is_in(earlier["id"], value_set=ids))
    stored = list(zip(*(mine[name].to_pylist() for name in LABELS.names), strict=True))
    held = frozenset(stored)
    last = {place for votes in last_answers(mine).values() for place in votes.values()}
    overruled = held - {stored[place] for place in last}
    for row in rows:
        if _stored(row) in overruled:
            remarks.append(
                row.note("said before and overruled since; to say it again, give a later time in 'at'")
            )
    new = [row for row in rows if _stored(row) not in held]
    return new, len(rows) - len(new)


def _stored(row: Row) -> tuple[Any, ...]:
    return (*row.said, row.at)


def _once(rows: Sequence[Row], refused: list[dict[str, str]], remarks: list[dict[str, str]]) -> list[Row]:
    """One row of each annotator about each id: the first of those that agree, none of those that don't."""
    by_author: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_author.setdefault((row.id, row.annotator), []).append(row)
    kept = []
    for first, *others in by_author.values():
        if all(row.said == first.said for row in others):
            kept.append(first)
            remarks.extend(row.note(f"says what {first.place} says already") for row in others)
            continue
        who = repr(first.annotator) if first.annotator else "somebody without a name"
        for row in (first, *others):
            other = next(o for o in (first, *others) if o.said != row.said)
            refused.append(row.note(
                f"{who} says {_said(row.status, row.label)} here, and {_said(other.status, other.label)} "
                f"in {other.place}"
            ))  # fmt: skip
    return kept


def _of_this_image(
    rows: Sequence[Row], asked: Mapping[str, str], config: Config, refused: list[dict[str, str]]
) -> list[Row]:
    """The rows whose image is the one that was shown; of those without a fingerprint nobody can say."""
    wanted: dict[str, list[str]] = {}
    for name in {row.id: None for row in rows if row.fingerprint is not None}:
        wanted.setdefault(asked[name], []).append(name)
    now = dict(look_at(wanted, config, fingerprint))
    kept = []
    for row in rows:
        found = now.get(row.id)
        if row.fingerprint is None or found == row.fingerprint:
            kept.append(row)
        elif isinstance(found, Failure):
            refused.append(row.note(f"its image is not as it was shown: {found.reason}"))
        else:
            refused.append(row.note("its image has changed since it was shown"))
    return kept


# ------------------------------------------------------------------------------------------------- the batch


def _next_key(workspace: Workspace, batch: pa.Table) -> str:
    """Where a batch goes: behind all that are there, before those that answer a later round."""
    rows = [[v.astimezone(UTC).isoformat() if isinstance(v, datetime) else v for v in row.values()]
            for row in batch.to_pylist()]  # fmt: skip
    digest = hashlib.sha256(canonical(rows)).hexdigest()[:16]
    keys = [key for key in batches(workspace) if _NUMBER.match(key)]
    last = max(keys, default="")
    found = _NUMBER.match(last)
    number = max(workspace.committed(), int(found[1]) if found else 0)
    turn = sum(key.startswith(f"{PREFIX}{number:03d}-import-") for key in keys)
    key = f"{PREFIX}{number:03d}-import-{turn:04d}-{digest}.parquet"
    return key if key > last else f"{PREFIX}{number + 1:03d}-import-0000-{digest}.parquet"


def _disagreements(earlier: pa.Table, batch: pa.Table) -> list[dict[str, Any]]:
    """The ids of a batch about which annotators differ, what each says, and what it comes to."""
    ids = pc.unique(batch["id"])
    rows = pa.concat_tables([earlier.filter(pc.is_in(earlier["id"], value_set=ids)), batch])
    said = [_said(*pair) for pair in zip(rows["status"].to_pylist(), rows["label"].to_pylist(), strict=True)]
    stand = Labels.of([rows])
    names = (stand.table[name].to_pylist() for name in ("id", "status", "label"))
    outcome = {name: _said(status, label) for name, status, label in zip(*names, strict=True)}
    found = []
    for name, votes in sorted(last_answers(rows).items()):
        answers = {annotator: said[place] for annotator, place in sorted(votes.items())}
        if len(set(answers.values())) > 1:
            came_to = outcome.get(name, "a tie: it counts as not answered")
            found.append({"id": name, "answers": answers, "outcome": came_to})
    return found


def _said(status: str, label: str | None) -> str:
    return repr(label) if status == "labeled" else status if label is None else f"{status} {label!r}"
