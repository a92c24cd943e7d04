"""The sum of answers.

The last answer of each annotator to an id counts. An answer without an annotator overrules all that came before it, and
any later answer overrules it. Among several annotators the majority decides; a skipped answer is no vote. A tie is no
answer: the id may be asked about again. An image that was withdrawn has no answer, whatever was said before or since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.types import LABEL_STATUSES, LABELS, WITHDRAWN


@dataclass(frozen=True)
class Labels:
    """The sum of all answers so far.

    `table` holds `LABELS` rows, one for each id that is answered.
    """

    table: pa.Table
    _ties: frozenset[str] = frozenset()

    @classmethod
    def of(cls, tables: Sequence[pa.Table]) -> Labels:
        """Sum up checked batches, sorted by id.

        The row kept for an id is the last one among the answers that agree with the majority.
        """
        rows = pa.concat_tables(tables) if tables else LABELS.empty_table()
        votes = last_answers(rows)
        said = list(zip(rows["status"].to_pylist(), rows["label"].to_pylist(), strict=True))
        chosen = {name: _majority(list(places.values()), said) for name, places in votes.items()}
        gone = [place for place, (status, _) in enumerate(said) if status == WITHDRAWN]
        chosen |= {rows["id"][place].as_py(): place for place in reversed(gone)}
        kept = sorted(place for place in chosen.values() if place is not None)
        ties = frozenset(name for name, place in chosen.items() if place is None)
        return cls(rows.take(pa.array(kept, pa.int64())).sort_by("id"), ties)

    def labeled(self) -> tuple[list[str], list[str]]:
        """Return ids and class names of the rows to train on."""
        chosen = self.table.filter(pc.equal(self.table["status"], "labeled"))
        return chosen["id"].to_pylist(), chosen["label"].to_pylist()

    def answered(self) -> frozenset[str]:
        """Return the ids that have an answer of any status.

        They need not be asked about again, and neither need those that were withdrawn.
        """
        return frozenset(self.table["id"].to_pylist())

    def withdrawn(self) -> frozenset[str]:
        """Return the ids of images that must go."""
        rows = self.table.filter(pc.equal(self.table["status"], WITHDRAWN))
        return frozenset(rows["id"].to_pylist())

    def tied(self) -> frozenset[str]:
        """Return the ids whose annotators disagree without a majority.

        They count as not answered.
        """
        return self._ties

    def heard(self) -> frozenset[str]:
        """Return the ids that are answered or tied."""
        return self.answered() | self._ties

    def proposed(self) -> dict[str, int]:
        """Count the `unknown-class` answers that propose each name, by name."""
        rows = self.table.filter(pc.equal(self.table["status"], "unknown-class"))
        return dict(sorted(Counter(rows["label"].drop_null().to_pylist()).items()))

    def counts(self) -> dict[str, int]:
        """Count the answers of each class."""
        return dict(sorted(Counter(self.labeled()[1]).items()))

    def refused(self) -> dict[str, int]:
        """Count the answers of each status other than `labeled`."""
        statuses = Counter(self.table["status"].to_pylist())
        return {
            status: statuses[status] for status in LABEL_STATUSES if status != "labeled" and statuses[status]
        }


def last_answers(rows: pa.Table) -> dict[str, dict[str, int]]:
    """Return the place of the last answer, by id and annotator.

    An answer without an annotator removes all earlier ones to its id, and the next answer removes it.
    """
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
    """Return the last place of the majority's answer; None for a tie.

    Skipped answers count only if there are no others.
    """
    opinions = [place for place in places if said[place][0] != "skipped"] or list(places)
    (most, times), *others = Counter(said[place] for place in opinions).most_common(2)
    if others and others[0][1] == times:
        return None
    return max(place for place in opinions if said[place] == most)
