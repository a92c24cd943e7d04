"""The sum of answers.

Of each annotator the last answer to an id counts. Where nobody is named, an answer simply overrules what came before
it, and is overruled by what comes after. Among several annotators the majority decides; who skipped has no vote. A tie
is no answer: the id may be asked about again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.types import LABEL_STATUSES, LABELS


@dataclass(frozen=True)
class Labels:
    """All answers so far: `table` holds `LABELS` rows, one an id that is answered."""

    table: pa.Table
    _ties: frozenset[str] = frozenset()

    @classmethod
    def of(cls, tables: Sequence[pa.Table]) -> Labels:
        """What checked batches add up to, sorted by id; a row is that of the last of those who agree."""
        rows = pa.concat_tables(tables) if tables else LABELS.empty_table()
        votes = last_answers(rows)
        said = list(zip(rows["status"].to_pylist(), rows["label"].to_pylist(), strict=True))
        chosen = {name: _majority(list(places.values()), said) for name, places in votes.items()}
        kept = sorted(place for place in chosen.values() if place is not None)
        ties = frozenset(name for name, place in chosen.items() if place is None)
        return cls(rows.take(pa.array(kept, pa.int64())).sort_by("id"), ties)

    def labeled(self) -> tuple[list[str], list[str]]:
        """Ids and class names of the rows that may train."""
        chosen = self.table.filter(pc.equal(self.table["status"], "labeled"))
        return chosen["id"].to_pylist(), chosen["label"].to_pylist()

    def answered(self) -> frozenset[str]:
        """Ids that need not be asked about again, whatever the answer was."""
        return frozenset(self.table["id"].to_pylist())

    def tied(self) -> frozenset[str]:
        """Ids about which annotators disagree without a majority: not answered."""
        return self._ties

    def heard(self) -> frozenset[str]:
        """Ids about which people have said something: answered or tied."""
        return self.answered() | self._ties

    def proposed(self) -> dict[str, int]:
        """How many answers of status `unknown-class` propose each name, by name."""
        rows = self.table.filter(pc.equal(self.table["status"], "unknown-class"))
        return dict(sorted(Counter(rows["label"].drop_null().to_pylist()).items()))

    def counts(self) -> dict[str, int]:
        """How many answers of each class."""
        return dict(sorted(Counter(self.labeled()[1]).items()))

    def refused(self) -> dict[str, int]:
        """How many answers of each status that is not a class."""
        statuses = Counter(self.table["status"].to_pylist())
        return {
            status: statuses[status] for status in LABEL_STATUSES if status != "labeled" and statuses[status]
        }


def last_answers(rows: pa.Table) -> dict[str, dict[str, int]]:
    """By id and annotator, the place of the last answer; an answer without a name stands alone or not at all."""
    last: dict[str, dict[str, int]] = {}
    for place, (name, annotator) in enumerate(
        zip(rows["id"].to_pylist(), rows["annotator"].to_pylist(), strict=True)
    ):
        answers = last.setdefault(name, {})
        if not annotator:
            answers.clear()
        answers.pop("", None)
        answers[annotator] = place
    return last


def _majority(places: Sequence[int], said: Sequence[tuple[str, str | None]]) -> int | None:
    """The last place of those that say what most say; None for a tie."""
    opinions = [place for place in places if said[place][0] != "skipped"] or list(places)
    (most, times), *others = Counter(said[place] for place in opinions).most_common(2)
    if others and others[0][1] == times:
        return None
    return max(place for place in opinions if said[place] == most)
