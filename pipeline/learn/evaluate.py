"""Accuracy of a round's classifier on the held-out test set.

With `open_world.promote_at`, the test set may hold images of classes that have not joined the taxonomy yet. They are
counted apart, since no classifier can name a class that it was never shown. Images that nobody can read are neither
right nor wrong: they are counted and named beside the accuracy.
"""

from __future__ import annotations

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
from pipeline.model.network import Network, normalise
from pipeline.pool.parquet import groups
from pipeline.pool.source import PoolSource
from pipeline.store.opening import open_store
from pipeline.types import Listed
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
    found = list(groups(PoolSource.of(config).beside(config.test_uri)))
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


def _predict(item: Listed, config: Config, network: Network, *, device: str) -> _Judged:
    torch.set_num_threads(config.resources.threads)
    with open_store(item.uri, config.storage).open("") as file:
        table = pq.ParquetFile(file).read_row_group(item.row_group)
    if config.test.label_column not in table.column_names:
        raise PoolError(
            f"test.label_column: {item.uri} has no column {config.test.label_column!r}; "
            f"{nearest(config.test.label_column, table.column_names)}"
        )
    numbers = {name: i for i, name in enumerate(config.taxonomy)}
    transform = config.model.transform(config.scoring.max_pixels)
    pixels, truth = [], []
    unreadable: list[Unreadable] = []
    columns = (config.pool.id_column, config.pool.image_column, config.test.label_column)
    rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
    for row, (found, data, label) in enumerate(rows):
        name = f"row {row} of row group {item.row_group}" if found is None else str(found)
        if label is None:
            raise LabelError(
                f"test.uri: {item.uri} has no label for {printable(name)!r}; give it one, or leave it out"
            )
        if str(label) not in numbers and config.open_world.promote_at is None:
            raise LabelError(
                f"test.uri: {item.uri} has label {label!r}, which is not in the taxonomy; "
                f"{nearest(str(label), config.taxonomy)}"
            )
        try:
            pixels.append(decode(data, transform))
            truth.append(numbers.get(str(label), -1))
        except BadImage as error:
            unreadable.append(Unreadable(id=name, uri=item.uri, reason=str(error)))
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
