"""Groups of novel images that look alike.

People's answers tune the filter between novel and far: strange rows are far if their energy is like that of images
which people called out of this world. The novel are divided into groups by their features, so that no group uses up the
budget.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.model.extractor import Extractor
from pipeline.model.network import Network
from pipeline.pool.lookup import pixels_of
from pipeline.pool.snapshot import Snapshot

MOST_GROUPS = 64  # of images that look alike: more do not help, and take time
FEW = 256  # images that the driver looks at itself


@dataclass(frozen=True)
class PoolImages:
    """Images of the pool, and the network that embeds them."""

    snapshot: Snapshot
    network: Network
    config: Config


def groups_of(
    rows: pa.Table, images: PoolImages, cluster: Cluster, *, count: int, seed: int
) -> dict[str, int]:
    """Divide images into groups that look alike to the network.

    The groups are k-means clusters of the directions of penultimate features.

    Args:
        rows: ids and their shards.
        images: of the pool, with the round's classifier.
        cluster: where the features are extracted.
        count: how many groups.
        seed: of the first centers.

    Returns:
        The group of each id. An image that can't be read any more has none.
    """
    by_shard: dict[int, list[str]] = {}
    for name, shard in sorted(zip(rows["id"].to_pylist(), rows["shard"].to_pylist(), strict=True)):
        by_shard.setdefault(shard, []).append(name)
    found = sorted(_embedded(by_shard, images, cluster), key=operator.itemgetter(0))
    if not found:
        return {}
    groups = grouped(np.stack([feature for _, feature in found]), count, seed=seed)
    return {name: int(group) for (name, _), group in zip(found, groups, strict=True)}


def _embedded(
    by_shard: Mapping[int, Sequence[str]], images: PoolImages, cluster: Cluster
) -> list[tuple[str, NDArray[np.float32]]]:
    if cluster.device == "cpu" and sum(map(len, by_shard.values())) <= FEW:  # not worth a worker's start
        kept = torch.get_num_threads()
        try:
            return _embed_shards(images, by_shard, cluster.device)
        finally:
            torch.set_num_threads(kept)
    embed_shards: Any = ray.remote(num_cpus=cluster.actor_cpus, num_gpus=cluster.actor_gpus)(_embed_shards)
    shared, shards = ray.put(images), sorted(by_shard)
    workers = min(cluster.max_actors, len(shards))
    jobs = [
        embed_shards.remote(shared, {n: by_shard[n] for n in shards[i::workers]}, cluster.device)
        for i in range(workers)
    ]
    return [pair for part in ray.get(jobs) for pair in part]


def grouped(features: NDArray[np.float32], count: int, *, seed: int) -> NDArray[np.int64]:
    """Return the k-means cluster of each of (n, p) features.

    Features are compared by direction, on one thread, so that equal input has equal clusters.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    norms = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features.astype(np.float64) / np.where(norms > 0, norms, 1.0)
    different = len(np.unique(directions, axis=0))
    with threadpool_limits(1):
        model = KMeans(min(count, different, MOST_GROUPS), n_init=1, random_state=seed).fit(directions)
    return np.asarray(model.labels_, np.int64)


def _embed_shards(
    images: PoolImages, wanted: Mapping[int, Sequence[str]], device: str
) -> list[tuple[str, NDArray[np.float32]]]:
    torch.set_num_threads(images.config.resources.threads)
    size = images.config.scoring.batch_size
    extract = Extractor(images.network, device, size)
    found: list[tuple[str, NDArray[np.float32]]] = []
    looked = pixels_of(images.snapshot, wanted, images.config)
    while batch := list(itertools.islice(looked, size)):
        good = [(name, pixels) for name, pixels in batch if not isinstance(pixels, str)]
        if good:
            features = extract(np.stack([pixels for _, pixels in good])).penultimate.cpu().numpy()
            found += [(name, feature) for (name, _), feature in zip(good, features, strict=True)]
    return found
