"""`sisom labels import`: checked answers as a new batch of labels.

The answers enter the workspace as one batch or not at all. No lease is taken: a batch is one object, written whole and
never changed, and a running round has frozen which batches it learns from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.project import Config
from pipeline.encoding import canonical, to_parquet
from pipeline.labels.answers import Hints, Note, Row, read_rows
from pipeline.labels.export_questions import fingerprint
from pipeline.labels.files import LabelFiles, label_keys
from pipeline.labels.tally import Labels, last_answers
from pipeline.pool.lookup import look_at
from pipeline.pool.pieces import Failure
from pipeline.types import LABELS
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.frozen import latest
from pipeline.workspace.keys import batch_number, import_key


def take_in(
    config: Config, files: Sequence[str], *, annotator: str = "", partial: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Import answered files into the workspace as one batch.

    Every row is checked; the batch holds the new ones.

    Args:
        config: of the project.
        files: paths or URIs; the end of a name says the form: .csv, .parquet, .jsonl, or .json of Label Studio.
        annotator: who answered, where a row doesn't say.
        partial: take the good rows even if others are refused; without it, one refused row stops the import.
        dry_run: only look, write nothing.

    Returns:
        The numbers of rows taken, known already and left open; `refused` rows and why; `remarks` on rows without
        effect; where annotators `disagree`, and the outcome; the `batch` and whether it was `written`.

    Raises:
        LabelError: a file that can't be read at all.
        UserError: no round has asked anything yet.
        StoreUnavailable: storage does not answer.
    """
    workspace = open_workspace(config)
    workspace.check(config)
    workspace.committed_round(None)
    config = latest(workspace, config)
    tables = LabelFiles.read(workspace).tables(config.taxonomy)
    earlier = pa.concat_tables([LABELS.empty_table(), *tables])
    questions = _Questions(workspace, config, _asked(workspace))
    notes = _Notes()

    rows, left_open = read_rows(files, config, annotator=annotator, refused=notes.refused)
    rows = _asked_about(rows, questions, notes)
    rows, known = _new(rows, earlier, notes)
    rows = _of_this_image(rows, questions, notes)

    good = partial or not notes.refused
    taken = sorted(rows, key=lambda row: (row.id, row.annotator)) if good else []
    batch = pa.Table.from_pylist([vars(row) for row in taken], schema=LABELS)
    key = _next_key(workspace, batch) if taken else None
    if key is not None and not dry_run:
        workspace.store.put_if_absent(key, to_parquet(batch))
    return {
        "files": list(files),
        "taken": len(taken),
        "known": known,
        "open": left_open,
        "refused": notes.refused,
        "remarks": notes.remarks,
        "disagree": _disagreements(earlier, batch),
        "batch": None if key is None else workspace.store.url(key),
        "written": key is not None and not dry_run,
    }


@dataclass(frozen=True)
class _Questions:
    """The questions asked so far: each id's URI, and the project."""

    workspace: Workspace
    config: Config
    uris: Mapping[str, str]


@dataclass(frozen=True)
class _Notes:
    """Notes on rows: refusals, and remarks on those without effect."""

    refused: list[Note] = field(default_factory=list)
    remarks: list[Note] = field(default_factory=list)

    def refuse(self, row: Row, why: str) -> None:
        """Note a refused row."""
        self.refused.append(row.note(why))

    def remark(self, row: Row, why: str) -> None:
        """Note a row without effect."""
        self.remarks.append(row.note(why))


def _asked(workspace: Workspace) -> dict[str, str]:
    """Return the URI of each id that committed rounds asked about."""
    uris: dict[str, str] = {}
    for index in range(workspace.committed()):
        query = Folder.of_round(workspace, index).read_table(keys.QUERY, ["id", "uri"])
        uris |= dict(zip(query["id"].to_pylist(), query["uri"].to_pylist(), strict=True))
    return uris


# ---------------------------------------------------------------------------------------------- the checks


def _asked_about(rows: Sequence[Row], questions: _Questions, notes: _Notes) -> list[Row]:
    uris = questions.uris
    strange = {row.id for row in rows} - set(uris)
    pool = _in_pool(questions.workspace, strange) if strange else frozenset()
    hint = Hints()
    for row in rows:
        if row.id in pool:
            notes.refuse(row, "no committed round has asked about it")
        elif row.id in strange:
            notes.refuse(row, f"unknown id; {hint(row.id[:200], uris)}")
    return [row for row in rows if row.id in uris]


def _in_pool(workspace: Workspace, ids: Collection[str]) -> frozenset[str]:
    """Return those of the ids that the last committed round has scored.

    Needs the memory of one row group.
    """
    wanted = pa.array(sorted(ids), pa.string())
    last = Folder.of_round(workspace, workspace.committed_round(None))
    scored: set[str] = set()
    for name in last.names(keys.SCORES):
        for part in last.row_groups(name, ["id"]):
            scored.update(part["id"].filter(pc.is_in(part["id"], value_set=wanted)).to_pylist())
    return frozenset(scored)


def _new(rows: Sequence[Row], earlier: pa.Table, notes: _Notes) -> tuple[list[Row], int]:
    """Select the new rows and count the known ones.

    At most one row is kept for each annotator and id.
    """
    ids = pa.array(sorted({row.id for row in rows}), pa.string())
    same_ids = earlier.filter(pc.is_in(earlier["id"], value_set=ids))
    stored = list(zip(*(same_ids[name].to_pylist() for name in LABELS.names), strict=True))
    held = frozenset(stored)
    standing = {
        (name, annotator): stored[place]
        for name, votes in last_answers(same_ids).items()
        for annotator, place in votes.items()
    }
    overruled = held - set(standing.values())
    by_author: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_author.setdefault((row.id, row.annotator), []).append(row)
        if row.stored in overruled:
            notes.remark(row, "said before and overruled since; to say it again, give a later time in 'at'")
    kept: list[Row] = []
    known = 0
    for author, said in by_author.items():
        fresh = [row for row in said if row.stored not in held]
        known += len(said) - len(fresh)
        times = [row.at for row in said] + [standing[author][-1] if author in standing else None]
        newest = max((at for at in times if at is not None), default=None)
        kept += _agreed([row for row in fresh if not _late(row, newest, notes)], notes)
    return kept, known


def _late(row: Row, newest: datetime | None, notes: _Notes) -> bool:
    """Tell whether the annotator has answered later.

    A row without a time is never late: it counts as said now.
    """
    late = row.at is not None and newest is not None and row.at < newest
    if late:
        notes.remark(row, "the same annotator has answered later")
    return late


def _agreed(rows: Sequence[Row], notes: _Notes) -> list[Row]:
    """Return an annotator's first row about an id.

    If the rows disagree, none is kept.
    """
    firsts: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        firsts.setdefault(row.said, row)
    if len(firsts) > 1:
        who = repr(rows[0].annotator) if rows[0].annotator else "somebody without a name"
        for row in rows:
            other = next(first for said, first in firsts.items() if said != row.said)
            ours, theirs = _said(row.status, row.label), _said(other.status, other.label)
            notes.refuse(row, f"{who} says {ours} here, and {theirs} in {other.place}")
        return []
    for row in rows[1:]:
        notes.remark(row, f"says what {rows[0].place} says already")
    return list(rows[:1])


def _of_this_image(rows: Sequence[Row], questions: _Questions, notes: _Notes) -> list[Row]:
    """Select the rows whose image is the one that was shown.

    Rows without a fingerprint cannot be checked and are kept.
    """
    wanted: dict[str, list[str]] = {}
    for name in {row.id: None for row in rows if row.fingerprint is not None}:
        wanted.setdefault(questions.uris[name], []).append(name)
    now = dict(look_at(wanted, questions.config, fingerprint))
    kept = []
    for row in rows:
        print_now = now.get(row.id)
        if row.fingerprint is None or print_now == row.fingerprint:
            kept.append(row)
        elif isinstance(print_now, Failure):
            notes.refuse(row, f"its image is not as it was shown: {print_now.reason}")
        else:
            notes.refuse(row, "its image has changed since it was shown")
    return kept


# ------------------------------------------------------------------------------------------------- the batch


def _next_key(workspace: Workspace, batch: pa.Table) -> str:
    """Return the key of a new batch.

    It sorts after all batches that are there, and before those that will answer a later round.
    """
    rows = [[v.astimezone(UTC).isoformat() if isinstance(v, datetime) else v for v in row.values()]
            for row in batch.to_pylist()]  # fmt: skip
    digest = hashlib.sha256(canonical(rows)).hexdigest()[:16]
    numbered = [key for key in label_keys(workspace) if batch_number(key) is not None]
    last = max(numbered, default="")
    number = max(workspace.committed(), batch_number(last) or 0)
    turn = sum(key.startswith(keys.imports_prefix(number)) for key in numbered)
    key = import_key(number, turn, digest)
    return key if key > last else import_key(number + 1, 0, digest)


def _disagreements(earlier: pa.Table, batch: pa.Table) -> list[dict[str, Any]]:
    """List the ids of a batch about which annotators disagree.

    Each comes with the annotators' answers and the outcome.
    """
    ids = pc.unique(batch["id"])
    rows = pa.concat_tables([earlier.filter(pc.is_in(earlier["id"], value_set=ids)), batch])
    said = [_said(*pair) for pair in zip(rows["status"].to_pylist(), rows["label"].to_pylist(), strict=True)]
    stand = Labels.of([rows])
    names = (stand.table[name].to_pylist() for name in ("id", "status", "label"))
    outcome = {name: _said(status, label) for name, status, label in zip(*names, strict=True)}
    disagreements = []
    for name, votes in sorted(last_answers(rows).items()):
        answers = {annotator: said[place] for annotator, place in sorted(votes.items())}
        if len(set(answers.values())) > 1:
            came_to = outcome.get(name, "a tie: it counts as not answered")
            disagreements.append({"id": name, "answers": answers, "outcome": came_to})
    return disagreements


def _said(status: str, label: str | None) -> str:
    return repr(label) if status == "labeled" else status if label is None else f"{status} {label!r}"
