"""`sisom labels import`: checked answers as a new batch of labels.

The answers enter the workspace as one batch or not at all. No lease is taken: a batch is one object, written whole and
never changed, and a running round has frozen which batches it learns from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.project import Config
from pipeline.encoding import canonical, to_parquet
from pipeline.labels.answers import Hints, Notes, Reading, Row, read_rows
from pipeline.labels.export_questions import fingerprint
from pipeline.labels.files import LabelFiles, label_keys
from pipeline.labels.forms.tables import OURS, Columns
from pipeline.labels.questions import Questions
from pipeline.labels.tally import Labels, last_answers
from pipeline.pool.lookup import look_at
from pipeline.pool.pieces import Failure
from pipeline.types import LABELS
from pipeline.workspace import keys
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.frozen import latest
from pipeline.workspace.keys import batch_number, import_key


def take_in(
    config: Config,
    files: Sequence[str],
    *,
    annotator: str = "",
    columns: Columns = OURS,
    unasked: bool = False,
    partial: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Import answered files into the workspace as one batch.

    Every row is checked; the batch holds the new ones.

    Args:
        config: of the project.
        files: paths or URIs; the end of a name says the form: .csv, .parquet, .jsonl, or .json of Label Studio.
        annotator: who answered, where a row doesn't say.
        columns: what the files call their ids and labels.
        unasked: take answers about images of the pool that no round has asked about, too.
        partial: take the good rows even if others are refused; without it, one refused row stops the import.
        dry_run: only look, write nothing.

    Returns:
        The numbers of rows taken, known already and left open; `refused` rows and why; `remarks` on rows without
        effect; answers that are `corrected`; where annotators `disagree`, and the outcome; the `batch` and whether it
        was `written`.

    Raises:
        LabelError: a file that can't be read at all.
        UserError: no round has asked anything yet.
        StoreUnavailable: storage does not answer.
    """
    workspace = open_workspace(config)
    workspace.check(config)
    workspace.committed_round(None)
    config = latest(workspace, config)
    tables = LabelFiles.read(workspace, config.labels.renamed).tables(config.taxonomy)
    earlier = pa.concat_tables([LABELS.empty_table(), *tables])
    questions = Questions.read(workspace, config)
    notes = Notes()

    reading = Reading(annotator, columns, questions.meant, questions.offered)
    rows, left_open = read_rows(files, config, reading=reading, notes=notes)
    rows, uris = _askable(rows, questions, earlier, notes=notes, unasked=unasked)
    rows, known = _new(rows, earlier, notes)
    rows = _of_this_image(rows, uris, config, notes=notes)

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
        "corrected": _corrections(earlier, batch, questions.learned),
        "disagree": _disagreements(earlier, batch),
        "batch": None if key is None else workspace.store.url(key),
        "written": key is not None and not dry_run,
    }


# ---------------------------------------------------------------------------------------------- the checks


def _askable(
    rows: Sequence[Row], questions: Questions, earlier: pa.Table, *, notes: Notes, unasked: bool
) -> tuple[list[Row], dict[str, str | None]]:
    """Select the rows about images that may be answered.

    These are the images that were asked about or have a label, such as a first one; with `unasked`, all of the pool.

    Returns:
        The rows, and the URI of each image as far as it is known.
    """
    uris: dict[str, str | None] = dict(questions.uris)
    strange = {row.id for row in rows} - set(uris)
    pool = questions.in_pool(strange) if strange else {}
    labeled = {*earlier["id"].to_pylist(), *questions.learned} if strange else set()
    gone = Labels.of([earlier]).withdrawn()
    hint = Hints()
    kept = []
    for row in rows:
        if row.id in gone:
            notes.refuse(row, "the image was withdrawn")
            continue
        if row.id in questions.uris:
            kept.append(row)
            continue
        name, uri = pool.get(row.id, (row.id, None))
        if name in labeled or (row.id in pool and unasked):
            uris[name] = uri
            kept.append(replace(row, id=name))
        elif row.id in pool:
            notes.refuse(row, "no committed round has asked about it; --unasked takes it all the same")
        else:
            notes.refuse(row, f"unknown id; {hint(row.id[:200], questions.uris)}; {_what_ids_are(questions)}")
    return kept, uris


def _what_ids_are(questions: Questions) -> str:
    if questions.of_images:
        return f"an id is an image's key below pool.uri, such as {questions.example!r}"
    return f"ids look like {questions.example!r}"


def _new(rows: Sequence[Row], earlier: pa.Table, notes: Notes) -> tuple[list[Row], int]:
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


def _late(row: Row, newest: datetime | None, notes: Notes) -> bool:
    """Tell whether the annotator has answered later.

    A row without a time is never late: it counts as said now.
    """
    late = row.at is not None and newest is not None and row.at < newest
    if late:
        notes.remark(row, "the same annotator has answered later")
    return late


def _agreed(rows: Sequence[Row], notes: Notes) -> list[Row]:
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


def _of_this_image(
    rows: Sequence[Row], uris: Mapping[str, str | None], config: Config, *, notes: Notes
) -> list[Row]:
    """Select the rows whose image is the one that was shown.

    Rows without a fingerprint cannot be checked and are kept.
    """
    wanted: dict[str, list[str]] = {}
    for name in {row.id: None for row in rows if row.fingerprint is not None}:
        uri = uris[name]
        if uri is not None:
            wanted.setdefault(uri, []).append(name)
    now = dict(look_at(wanted, config, fingerprint))
    kept = []
    for row in rows:
        print_now = now.get(row.id)
        if row.fingerprint is None or uris[row.id] is None or print_now == row.fingerprint:
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
    batches = [key for key in label_keys(workspace) if not keys.is_tombstone(key)]
    numbered = [key for key in batches if batch_number(key) is not None]
    last = max(numbered, default="")
    number = max(workspace.committed(), batch_number(last) or 0)
    turn = sum(key.startswith(keys.imports_prefix(number)) for key in numbered)
    key = import_key(number, turn, digest)
    return key if key > last else import_key(number + 1, 0, digest)


def _corrections(earlier: pa.Table, batch: pa.Table, learned: Mapping[str, str]) -> list[dict[str, str]]:
    """List the ids whose answer a batch changes, with both answers."""
    ids = pc.unique(batch["id"])
    rows = earlier.filter(pc.is_in(earlier["id"], value_set=ids))
    before = {name: repr(learned[name]) for name in ids.to_pylist() if name in learned} | _outcomes(rows)
    after = _outcomes(pa.concat_tables([rows, batch]))
    return [
        {"id": name, "was": was, "now": after[name]}
        for name, was in sorted(before.items())
        if name in after and after[name] != was
    ]


def _outcomes(rows: pa.Table) -> dict[str, str]:
    """Return the outcome of the answers to each id, without ties."""
    stand = Labels.of([rows]).table
    names = (stand[name].to_pylist() for name in ("id", "status", "label"))
    return {name: _said(status, label) for name, status, label in zip(*names, strict=True)}


def _disagreements(earlier: pa.Table, batch: pa.Table) -> list[dict[str, Any]]:
    """List the ids of a batch about which annotators disagree.

    Each comes with the annotators' answers and the outcome.
    """
    ids = pc.unique(batch["id"])
    rows = pa.concat_tables([earlier.filter(pc.is_in(earlier["id"], value_set=ids)), batch])
    said = [_said(*pair) for pair in zip(rows["status"].to_pylist(), rows["label"].to_pylist(), strict=True)]
    outcome = _outcomes(rows)
    disagreements = []
    for name, votes in sorted(last_answers(rows).items()):
        answers = {annotator: said[place] for annotator, place in sorted(votes.items())}
        if len(set(answers.values())) > 1:
            came_to = outcome.get(name, "a tie: it counts as not answered")
            disagreements.append({"id": name, "answers": answers, "outcome": came_to})
    return disagreements


def _said(status: str, label: str | None) -> str:
    return repr(label) if status == "labeled" else status if label is None else f"{status} {label!r}"
