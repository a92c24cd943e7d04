"""The layout of work on nodes: pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.config.sections import Resources
from pipeline.errors import ConfigError

# A job that has begun goes on to use so many times the nodes that were there: what it asks for readers is a number.
GROWTH: Final = 16
# Of a task that reads or merges: one a CPU, for each process loads what it works with, which takes seconds.
TASK_CPUS: Final = 0.9


@dataclass(frozen=True)
class Cluster:
    """The joined cluster's resources, and the layout of work on it."""

    cpus: int
    node_cpus: int  # of the smallest node that has any
    gpus: int
    nodes: int  # that have CPUs
    node_memory: int  # bytes of the smallest one, beside its object store
    object_store: int  # bytes of the smallest one
    device: str  # of scoring and training workers: "cpu" or "cuda"
    full: int  # actors on the node that takes most of them
    min_actors: int
    max_actors: int  # on the nodes of now
    max_readers: int
    actor_cpus: float
    actor_gpus: float
    reader_cpus: float  # of a task that feeds actors


def lay_out(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> Cluster:
    """Choose as many actors as leave room for their readers.

    An actor pool that can take every CPU starves its own readers, for ever after a node loss. So an actor takes
    a little less than a CPU, or than its share of the CPUs beside a GPU: a node full of actors has room for
    a reader left, whatever becomes of the other nodes.
    """
    sizes = [max(1, int(node.get("CPU", 1))) for node in nodes]
    cpus, least, most = sum(sizes), min(sizes), max(sizes)
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if resources.device == "cuda" and not gpus:
        raise ConfigError("resources.device: cuda, but the Ray cluster has no GPU; use auto or cpu")
    on_gpu = gpus > 0 and resources.device != "cpu"
    share = int(1 / resources.gpu_share)  # actors of a GPU
    room = gpus * share if on_gpu else cpus
    actors = max(1, min(resources.actors or room, room))
    readers = cpus if on_gpu else max(1, cpus // 2)
    if on_gpu:
        full = [
            (size, int(n["GPU"]) * share)
            for n, size in zip(nodes, sizes, strict=True)
            if n.get("GPU", 0) >= 1
        ]
        room_left = all(count + 0.9 <= size for size, count in full)
        tight = min((size - 0.5) / count for size, count in full)
        actor_cpus, reader_cpus = (1.0, 0.9) if room_left else (tight, 0.45)
    else:  # on each node, as many actors as CPUs leave room for the readers
        # All the readers that a grown job may have fit into that room: memory bounds those of a node, not this.
        a_node = -(-readers // len(nodes)) + 1
        actor_cpus, reader_cpus = (most - 0.4) / most, 0.4 * least / most / (GROWTH * a_node)
    return Cluster(
        cpus=cpus,
        node_cpus=least,
        gpus=gpus,
        nodes=len(nodes),
        node_memory=int(min(node.get("memory", 0) for node in nodes)),
        object_store=int(min(node.get("object_store_memory", 0) for node in nodes)),
        device="cuda" if on_gpu else "cpu",
        full=max(int(node.get("GPU", 0)) for node in nodes) * share if on_gpu else most,
        min_actors=min(resources.min_actors, actors),
        max_actors=actors,
        max_readers=readers,
        actor_cpus=round(actor_cpus, 4),
        actor_gpus=resources.gpu_share if on_gpu else 0.0,
        reader_cpus=max(0.0001, round(reader_cpus, 4)),
    )
