"""Findings of a survey: shards, things that are left out, and losses."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.types import Listed


@dataclass(frozen=True)
class Group:
    """Objects that become a shard, and the ids of their rows."""

    listed: tuple[Listed, ...]
    ids: pa.StringArray

    @property
    def digest(self) -> str:
        """The SHA-256 of the ids, whatever their order."""
        return digest_of(self.ids)


def digest_of(ids: pa.StringArray) -> str:
    """Return the SHA-256 of ids, whatever their order.

    Each id counts as often as it appears.
    """
    in_order = ids.take(pc.array_sort_indices(ids)).to_pylist()
    return hashlib.sha256("\0".join(in_order).encode()).hexdigest()


@dataclass(frozen=True)
class Lost:
    """A table or a tar that can't be read in full.

    uri     its place
    reason  why it can't be read
    bytes   its size
    listed  how many of its images are listed nevertheless
    rows    how many more it should have, if an index tells
    """

    uri: str
    reason: str
    bytes: int
    listed: int = 0
    rows: int | None = None


@dataclass(frozen=True)
class Left:
    """Things of a kind that a rule leaves out."""

    kind: str
    count: int = 1


@dataclass(frozen=True)
class Note:
    """A rule that a file was read by, worth telling."""

    kind: str


@dataclass
class Surveyed:
    """All findings in some objects; the counters go by kind."""

    groups: list[Group] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, findings: Iterable[Group | Lost | Left | Note]) -> Surveyed:
        """Sort findings by what they are."""
        found = cls()
        for each in findings:
            if isinstance(each, Group):
                found.groups.append(each)
            elif isinstance(each, Lost):
                found.lost.append(each)
            elif isinstance(each, Left):
                found.left[each.kind] += each.count
            else:
                found.notes[each.kind] += 1
        return found


def most(counts: Counter[str], kinds: int) -> dict[str, int]:
    """Return the commonest kinds with their counts, the rest as one kind."""
    in_order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in in_order[kinds:])
    return dict(in_order[:kinds]) | ({"of other kinds": rest} if rest else {})
