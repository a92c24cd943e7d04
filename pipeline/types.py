"""The data model of the pipeline: schemas of tables, frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

LabelStatus = Literal["labeled", "unknown-class", "out-of-world", "skipped", "withdrawn"]
LABEL_STATUSES: tuple[LabelStatus, ...] = (
    "labeled",
    "unknown-class",
    "out-of-world",
    "skipped",
)  # of an answer
WITHDRAWN: LabelStatus = "withdrawn"  # of an image that must go: no answer, and none counts beside it

# One row a listed thing: a row group (`row_group` is its number), a tar, or one image object.
SNAPSHOT = pa.schema(
    [
        ("shard", pa.int32()),
        ("uri", pa.string()),
        ("row_group", pa.int32()),
        ("rows", pa.int64()),
        ("size", pa.int64()),
        ("etag", pa.string()),
    ]
)
# One row a shard: which part of the snapshot lists it, how many rows it has, and the digest of their ids.
SHARDS = pa.schema([("shard", pa.int32()), ("part", pa.int32()), ("rows", pa.int64()), ("ids", pa.string())])
SCORES = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("shard", pa.int32()),
        ("predicted", pa.string()),
        ("inner", pa.float32()),
        ("outer", pa.float32()),
        ("ratio", pa.float32()),
        ("energy", pa.float32()),
        ("sisom", pa.float32()),
        ("sisome", pa.float32()),
        ("is_ood", pa.bool_()),
    ]
)
QUARANTINE = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("shard", pa.int32()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("attempts", pa.int32()),
    ]
)
# What a config may ask for beside: the score of a detector that is not the bank's, a selector's own priority.
EXTRAS = pa.schema([("strangeness", pa.float32()), ("priority", pa.float64())])
# Columns of the pool that `pool.metadata` asks for, as text in its order; null where there are none.
FACTS = pa.field("metadata", pa.list_(pa.string()))
# What a shard leaves: one row an image, scored where `reason` is null. `row` is its place in the shard.
PART = pa.schema(
    [
        ("row", pa.int32()),
        *SCORES,
        *EXTRAS,
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("attempts", pa.int32()),
    ]
)
# Of rows that a query looks at together: float32 bytes, which `score/feature_rows` packs; null where nobody needs them.
SCORED = pa.schema([*PART, FACTS, ("features", pa.binary())])
TOGETHER = pa.schema([*SCORES, EXTRAS.field("priority"), ("features", pa.binary())])
LABELS = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.string()),
        ("status", pa.string()),
        ("annotator", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
    ]
)
QUERY = pa.schema(
    [
        ("rank", pa.int32()),
        ("id", pa.string()),
        ("uri", pa.string()),
        ("score", pa.float32()),
        ("predicted", pa.string()),
        ("reason", pa.string()),
    ]
)
LABELED = pa.schema(
    [
        ("id", pa.string()),
        ("target", pa.int32()),
        ("held_out", pa.bool_()),
        ("shard", pa.int32()),
        ("row", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Listed:
    """A listed object or row group, in the version that `etag` names."""

    uri: str
    row_group: int | None
    rows: int
    size: int
    etag: str


@dataclass(frozen=True)
class Shard:
    """A listed piece of the pool.

    It is a row group of a Parquet object, a tar, or a run of image objects.
    """

    shard: int
    listed: tuple[Listed, ...]

    @property
    def rows(self) -> int:
        """The number of images that it lists."""
        return sum(item.rows for item in self.listed)

    @property
    def place(self) -> str:
        """The place in words for people."""
        first = self.listed[0]
        more = f" and {len(self.listed) - 1} more" if len(self.listed) > 1 else ""
        return first.uri + (f"#{first.row_group}" if first.row_group is not None else "") + more


@dataclass(frozen=True)
class Label:
    """An annotator's answer about an image.

    `label` is a class name, only when `status` is `labeled`.
    """

    id: str
    label: str | None
    status: LabelStatus
    annotator: str
    at: str | None = None


@dataclass(frozen=True)
class Round:
    """The manifest of a committed round: inputs and artefacts by digest."""

    index: int
    seed: int
    config_digest: str
    labels: tuple[str, ...]
    snapshot: str
    artefacts: tuple[tuple[str, str], ...]
