"""Accuracy of a round's classifier on the held-out test set.

With `open_world.promote_at`, the test set may hold images of classes that have not joined the taxonomy yet. They are
counted apart, since no classifier can name a class that it was never shown. Images that nobody can read are neither
right nor wrong: they are counted and named beside the accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import ray
import torch
from numpy.typing import NDArray

from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.errors import LabelError, PoolError, nearest, printable
from pipeline.images.bad import BadImage
from pipeline.images.decode import decode
from pipeline.labels.forms.values import Words, plain
from pipeline.labels.sets import read_set
from pipeline.model.network import Network, normalise
from pipeline.pool.columns.chosen import Columns
from pipeline.pool.parquet import groups
from pipeline.pool.pieces import Failure, Reading
from pipeline.pool.shards import pieces
from pipeline.pool.source import PoolSource
from pipeline.store.opening import open_store
from pipeline.types import Listed, Shard
from pipeline.workspace.records import Evaluation, Unreadable

MOST_NAMED: Final = 1000  # unreadable images whose names are kept


@dataclass(frozen=True)
class _Judged:
    """True and predicted classes of a row group's images.

    A true class of -1 has not joined yet.
    """

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    unreadable: int
    named: tuple[Unreadable, ...]


def test_accuracy(network: Network, config: Config, cluster: Cluster) -> Evaluation:
    """Measure the share of test images whose class is predicted right.

    The result is empty without a test set.

    Args:
        network: the round's classifier.
        config: with `test_uri`.
        cluster: where images are read and predicted.

    Raises:
        PoolError: a missing column, or no readable image of a known class.
        LabelError: a label outside a taxonomy that is closed.
    """
    if config.test_uri is None:
        return Evaluation()
    found = _parts(PoolSource.of(config).beside(config.test_uri), config)
    remote: Any = ray.remote(num_cpus=cluster.actor_cpus, num_gpus=cluster.actor_gpus)
    run = remote(_predict)
    shared = ray.put(network)
    judged = ray.get([run.remote(item, config, shared, device=cluster.device) for item in found])
    truth = np.concatenate([one.truth for one in judged])
    predicted = np.concatenate([one.predicted for one in judged])
    unreadable = sum(one.unreadable for one in judged)
    named = tuple(row for one in judged for row in one.named)[:MOST_NAMED]
    known = truth >= 0
    if not known.any():
        raise PoolError(
            f"test.uri: {config.test_uri} holds no readable image of a known class{_why(unreadable, named)}"
        )
    right = truth == predicted
    per_class = {
        name: float(right[truth == i].mean()) for i, name in enumerate(config.taxonomy) if (truth == i).any()
    }
    return Evaluation(
        accuracy=float(right[known].mean()),
        images=int(known.sum()),
        per_class=per_class,
        open_accuracy=float(right.mean()),
        undiscovered=int((~known).sum()),
        unreadable=unreadable,
        unreadable_images=named,
    )


def _why(unreadable: int, named: tuple[Unreadable, ...]) -> str:
    if not named:
        return ""
    first = named[0]
    return (
        f"; {unreadable} cannot be read, the first of them {printable(first.id)!r} in {printable(first.uri)}: "
        f"{printable(first.reason)}"
    )


@dataclass(frozen=True)
class _LabeledShard:
    """A shard of images and their classes.

    These stand in a table beside the images, or in the names of folders.
    """

    shard: Shard
    labels: tuple[str | None, ...]
    source: PoolSource


def _parts(source: PoolSource, config: Config) -> list[Listed | _LabeledShard]:
    """Divide the test set into parts, each read by one task."""
    row_groups: list[Listed | _LabeledShard] = list(groups(source))
    if row_groups:
        return row_groups
    found = read_set(f"test.uri: {source.pool.place}", source, config.test.label_column)
    shards = enumerate(zip(found.groups, found.labels, strict=True))
    return [_LabeledShard(Shard(n, group.listed), labels, source) for n, (group, labels) in shards]


@dataclass(frozen=True)
class _Row:
    """A test image, or its failure, and its class as written."""

    id: str
    uri: str
    image: bytes | Failure | None
    label: str | None


def _rows(part: Listed | _LabeledShard, config: Config) -> Iterator[_Row]:
    """Read a part's rows.

    Images that no table beside them names are left out: they belong to no test set.
    """
    if isinstance(part, _LabeledShard):
        for piece in pieces(part.shard, Reading(part.source)):
            for row, name, uri, image in zip(piece.rows, piece.ids, piece.uris, piece.images, strict=True):
                if part.labels[row] is not None:
                    yield _Row(name, uri, image, part.labels[row])
        return
    with open_store(part.uri, config.storage).open("") as file:
        table = pq.ParquetFile(file).read_row_group(part.row_group)
    if config.test.label_column not in table.column_names:
        raise PoolError(
            f"test.label_column: {part.uri} has no column {config.test.label_column!r}; "
            f"{nearest(config.test.label_column, table.column_names)}"
        )
    columns = Columns.of(table.schema, PoolSource.of(config).beside(part.uri).pool, part.uri)
    assert columns is not None  # or it would not be listed
    labels = table[config.test.label_column].to_pylist()
    rows = zip(columns.names(table), columns.image_bytes(table), labels, strict=True)
    for row, (called, image, label) in enumerate(rows):
        place = f"row {row} of row group {part.row_group}"
        yield _Row(called or place, part.uri, image, None if label is None else plain(label))


def _predict(part: Listed | _LabeledShard, config: Config, network: Network, *, device: str) -> _Judged:
    torch.set_num_threads(config.resources.threads)
    numbers = {name: i for i, name in enumerate(config.taxonomy)}
    known = Words(config.taxonomy, config.labels.renamed)
    transform = config.model.transform(config.scoring.max_pixels)
    pixels, truth = [], []
    unreadable: list[Unreadable] = []
    for row in _rows(part, config):
        if row.label is None:
            raise LabelError(
                f"test.uri: {row.uri} has no label for {printable(row.id)!r}; give it one, or leave it out"
            )
        name = known.find(row.label)
        if name is None and config.open_world.promote_at is None:
            raise LabelError(
                f"test.uri: {row.uri} has label {row.label!r}, which is not in the taxonomy; "
                f"{nearest(row.label, config.taxonomy)}"
            )
        if isinstance(row.image, Failure):
            unreadable.append(Unreadable(id=row.id, uri=row.uri, reason=row.image.reason))
            continue
        try:
            pixels.append(decode(row.image, transform))
            truth.append(-1 if name is None else numbers[name])
        except BadImage as error:
            unreadable.append(Unreadable(id=row.id, uri=row.uri, reason=str(error)))
    predicted: list[int] = []
    net = network.build(device)
    size = config.scoring.batch_size
    with torch.inference_mode():
        for start in range(0, len(pixels), size):
            batch = torch.from_numpy(np.stack(pixels[start : start + size])).to(device)
            predicted += net(normalise(batch, network.model)).argmax(1).cpu().tolist()
    return _Judged(
        np.asarray(truth, np.int64),
        np.asarray(predicted, np.int64),
        len(unreadable),
        tuple(unreadable[:MOST_NAMED]),
    )
