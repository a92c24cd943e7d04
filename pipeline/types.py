"""The words of the pipeline as values: tables by their schema, records as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

LabelStatus = Literal["labeled", "unknown-class", "out-of-world", "skipped"]
LABEL_STATUSES: tuple[LabelStatus, ...] = ("labeled", "unknown-class", "out-of-world", "skipped")

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
    ]
)
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
class Shard:
    """One listed piece of the pool: row group `row_group` of the Parquet object `uri`."""

    shard: int
    uri: str
    row_group: int
    rows: int
    size: int
    etag: str


@dataclass(frozen=True)
class Label:
    """What an annotator said about one image; `label` is a class name, only when `status` is `labeled`."""

    id: str
    label: str | None
    status: LabelStatus
    annotator: str
    at: str | None = None


@dataclass(frozen=True)
class Round:
    """The manifest of a committed round: what went in, what came out, by digest."""

    index: int
    seed: int
    config_digest: str
    labels: tuple[str, ...]
    snapshot: str
    artefacts: tuple[tuple[str, str], ...]
