"""The simulated annotator, the table of truths, and the first labels.

The simulated annotator looks answers up in the truths; with `oracle.kind: people`, people leave label files instead.
This module and `report/histogram` are the only ones that read truths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.project import Config
from pipeline.errors import ConfigError, LabelError, nearest
from pipeline.labels.checks import check_batch, check_rows
from pipeline.labels.forms.rows import READERS, bounded, table_form
from pipeline.labels.forms.tables import label_table, read_tables
from pipeline.store.opening import open_store
from pipeline.types import LABELS, Label, LabelStatus

KINDS: Final = ("known", "unknown", "far")
_STATUS: Final[Mapping[str, LabelStatus]] = {"unknown": "unknown-class", "far": "out-of-world"}


@dataclass(frozen=True)
class Truth:
    """The true class name and kind of each pool id.

    A kind is known, unknown or far. An unknown class that has joined the taxonomy is known.
    """

    labels: Mapping[str, str]
    kinds: Mapping[str, str]


def read_truth(config: Config) -> Truth:
    """Read the table of truths: columns id, label, kind.

    Raises:
        LabelError: a missing column, an unknown kind, an id that is missing or stands twice, a known class outside
            the taxonomy.
    """
    uri = config.truth_uri
    assert uri is not None  # the config refuses a simulated oracle without it
    table = read_tables(uri, config.storage)
    for name in ("id", "label", "kind"):
        if name not in table.column_names:
            raise LabelError(
                f"oracle.truth: {uri} has no column {name!r}; {nearest(name, table.column_names)}"
            )
    if table["id"].null_count:
        raise LabelError(f"oracle.truth: {uri} has {table['id'].null_count} rows without an id")
    ids, labels, kinds = ([str(v) for v in table[name].to_pylist()] for name in ("id", "label", "kind"))
    labels = [config.labels.renamed.get(label, label) for label in labels]
    joined = frozenset(config.taxonomy)
    now = ["known" if k == "unknown" and a in joined else k for a, k in zip(labels, kinds, strict=True)]
    truth = Truth(dict(zip(ids, labels, strict=True)), dict(zip(ids, now, strict=True)))
    if len(truth.kinds) < len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise LabelError(f"oracle.truth: {uri} has id {twice!r} more than once")
    strange = sorted(set(kinds) - set(KINDS))
    if strange:
        raise LabelError(f"oracle.truth: {uri} has kind {strange[0]!r}; {nearest(strange[0], KINDS)}")
    outside = sorted({a for a, k in zip(labels, kinds, strict=True) if k == "known"} - set(config.taxonomy))
    if outside:
        raise LabelError(
            f"oracle.truth: {uri} calls {outside[0]!r} known, but it is not in the taxonomy; "
            f"{nearest(outside[0], config.taxonomy)}"
        )
    return truth


def simulated(truth: Truth, ids: Sequence[str], *, propose: bool = False) -> pa.Table:
    """Return the simulated annotator's answers.

    They carry no time, so equal queries lead to equal bytes. With `propose`, the name of an unknown class comes with
    the answer. An id without a truth is skipped.
    """
    answers = []
    for name in ids:
        kind = truth.kinds.get(name)
        if kind is None:
            answers.append(Label(name, None, "skipped", "simulated"))
        elif kind == "known":
            answers.append(Label(name, truth.labels[name], "labeled", "simulated"))
        else:
            proposed = truth.labels[name] if propose and kind == "unknown" else None
            answers.append(Label(name, proposed, _STATUS[kind], "simulated"))
    return label_table(answers)


def initial(config: Config) -> pa.Table:
    """Return the first labels.

    They are a given file, or `initial_per_class` truths of each class, drawn by the seed.

    Raises:
        LabelError: the file is wrong, or a class has too few truths.
        ConfigError: people answer, and no file is given.
    """
    if config.oracle.initial is not None:
        place = f"oracle.initial: {config.oracle.initial}"
        checked = _given(config.oracle.initial, place, config)
        _check_agreement(checked, place)
        if config.labels.sets:
            return checked.sort_by("id")
        if not pc.any(pc.equal(checked["status"], "labeled")).as_py():
            raise LabelError(f"oracle.initial: {config.oracle.initial} holds no label to start from")
        classes = set(checked["label"].drop_null().to_pylist())
        if len(classes) < 2:
            raise LabelError(
                f"oracle.initial: {config.oracle.initial} holds {min(classes)!r} alone; two classes are needed"
            )
        return checked.sort_by("id")
    if config.labels.sets:
        return LABELS.empty_table()  # the sets are enough to start from
    if config.oracle.kind == "people":
        raise ConfigError("oracle.initial: a table of id, label to start from is missing")
    truth = read_truth(config)
    rng = np.random.default_rng([config.seed, 0x1A81])
    by_class: dict[str, list[str]] = {name: [] for name in config.taxonomy}
    for name in sorted(truth.labels):
        if truth.kinds[name] == "known":
            by_class[truth.labels[name]].append(name)
    chosen: list[str] = []
    for label, names in by_class.items():
        if len(names) < config.oracle.initial_per_class:
            raise LabelError(
                f"oracle.initial_per_class: {config.oracle.initial_per_class}, but class {label!r} "
                f"has only {len(names)} truths"
            )
        chosen += rng.permutation(names)[: config.oracle.initial_per_class].tolist()
    return simulated(truth, chosen)


def _given(uri: str, place: str, config: Config) -> pa.Table:
    """Read and check first labels, of Parquet or a text table."""
    known, renamed = config.taxonomy, config.labels.renamed
    form = table_form(uri)
    if form is None:
        table = read_tables(uri, config.storage)
        return check_batch(table, place, known, offered=known, renamed=renamed)
    data = open_store(uri, config.storage).get("")
    answers = bounded(READERS[form](data, place), place)
    for answer in answers:
        if answer.problem is not None:
            raise LabelError(f"{place}, {answer.where}: {answer.problem}")
    rows = ((answer.where, answer.values) for answer in answers)
    return check_rows(rows, place, known, offered=known, renamed=renamed)


def _check_agreement(rows: pa.Table, place: str) -> None:
    """Refuse first labels of one annotator that contradict each other."""
    said: dict[tuple[str, str], tuple[str, str | None]] = {}
    for row in rows.to_pylist():
        answer = (row["status"], row["label"])
        other = said.setdefault((row["id"], row["annotator"]), answer)
        if other != answer:
            ours, theirs = (repr(label or status) for status, label in (answer, other))
            raise LabelError(
                f"{place}: id {row['id']!r} stands twice, as {theirs} and as {ours}; keep one of them"
            )
