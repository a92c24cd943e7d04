"""Accuracy of a round's classifier on the held-out test set.

With `open_world.promote_at`, the test set may hold images of classes that have not joined the taxonomy yet. They are
counted apart, since no classifier can name a class that it was never shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
import torch
from numpy.typing import NDArray

from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.errors import LabelError, PoolError, nearest
from pipeline.images.decode import decode
from pipeline.images.picture import BadImage
from pipeline.labels.forms.values import Words, plain
from pipeline.labels.sets import read_set
from pipeline.model.network import Network, normalise
from pipeline.pool.parquet import groups
from pipeline.pool.pieces import Failure, Reading
from pipeline.pool.shards import pieces
from pipeline.pool.source import PoolSource
from pipeline.store.opening import open_store
from pipeline.types import Listed, Shard
from pipeline.workspace.records import Evaluation


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
    tables = ray.get([run.remote(item, config, shared, device=cluster.device) for item in found])
    truth = np.concatenate([truth for truth, _ in tables])
    predicted = np.concatenate([predicted for _, predicted in tables])
    known = truth >= 0
    if not known.any():
        raise PoolError(f"test.uri: {config.test_uri} holds no readable image of a known class")
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
    found = read_set(f"test.uri: {source.pool.uri}", source, config.test.label_column)
    shards = enumerate(zip(found.groups, found.labels, strict=True))
    return [_LabeledShard(Shard(n, group.listed), labels, source) for n, (group, labels) in shards]


def _rows(part: Listed | _LabeledShard, config: Config) -> Iterator[tuple[Any, str, str]]:
    """Read image, class and URI of each row.

    Rows without a class beside them are left out.
    """
    if isinstance(part, _LabeledShard):
        for piece in pieces(part.shard, Reading(part.source)):
            for row, uri, data in zip(piece.rows, piece.uris, piece.images, strict=True):
                label = part.labels[row]
                if label is not None:
                    yield None if isinstance(data, Failure) else data, label, uri
        return
    with open_store(part.uri, config.storage).open("") as file:
        table = pq.ParquetFile(file).read_row_group(part.row_group)
    if config.test.label_column not in table.column_names:
        raise PoolError(
            f"test.label_column: {part.uri} has no column {config.test.label_column!r}; "
            f"{nearest(config.test.label_column, table.column_names)}"
        )
    images, labels = (
        table[name].to_pylist() for name in (config.pool.image_column, config.test.label_column)
    )
    for data, label in zip(images, labels, strict=True):
        yield data, plain(label) or "None", part.uri


def _predict(
    part: Listed | _LabeledShard, config: Config, network: Network, *, device: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return true and predicted classes; -1 means not joined yet."""
    torch.set_num_threads(config.resources.threads)
    numbers = {name: i for i, name in enumerate(config.taxonomy)}
    transform = config.model.transform(config.scoring.max_pixels)
    pixels, truth = [], []
    known = Words(config.taxonomy, config.labels.renamed)
    for data, label, uri in _rows(part, config):
        name = known.find(label)
        if name is None and config.open_world.promote_at is None:
            raise LabelError(
                f"test.uri: {uri} has label {label!r}, which is not in the taxonomy; "
                f"{nearest(label, config.taxonomy)}"
            )
        try:
            pixels.append(decode(data, transform))
            truth.append(-1 if name is None else numbers[name])
        except BadImage:
            continue
    predicted: list[int] = []
    net = network.build(device)
    size = config.scoring.batch_size
    with torch.inference_mode():
        for start in range(0, len(pixels), size):
            batch = torch.from_numpy(np.stack(pixels[start : start + size])).to(device)
            predicted += net(normalise(batch, network.model)).argmax(1).cpu().tolist()
    return np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
