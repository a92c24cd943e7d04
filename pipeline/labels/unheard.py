"""Label files that are there and say nothing about the open query."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa

from pipeline.errors import nearest
from pipeline.labels.files import LabelFiles
from pipeline.labels.forms.values import Words, plain
from pipeline.workspace import keys


def unheard(files: LabelFiles, asked: Collection[str], learned: Collection[str]) -> str:
    """Say why files below `labels/` answer no question, where some are there.

    Args:
        files: the label files of the workspace.
        asked: ids that are asked about.
        learned: keys of the files that the last round learned from.

    Returns:
        Sentences that start with a semicolon, or nothing.
    """
    return "".join(f"; {reason}" for reason in _reasons(files, asked, learned))


def _reasons(files: LabelFiles, asked: Collection[str], learned: Collection[str]) -> Iterator[str]:
    workspace = files.workspace
    for key in workspace.keys(keys.LABELS):
        if not key.endswith(".parquet"):
            yield f"{workspace.store.url(key)} is not read, since label files are Parquet: use `sisom labels import`"
    known = Words(asked)
    for file in files.files:
        if file.key not in learned and file.rows.num_rows and not keys.is_tombstone(file.key):
            yield f"{file.place} is there, but {_why(file.rows, known)}"


def _why(rows: pa.Table, known: Words) -> str:
    names = [plain(name) or "" for name in rows["id"].to_pylist()]
    if not known.isdisjoint(names):
        return "its rows have neither a label nor a status"
    meant = next((name for name in names if known.find(name) is not None), names[0])
    found = known.find(meant) or min(
        (name for name in known if name.rpartition(".")[0] == meant), default=None
    )
    said = nearest(meant[:200], sorted(known)[:10_000]) if found is None else f"did you mean {found}?"
    return f"none of its {len(names)} ids was asked about, such as {meant[:200]!r}; {said}"
