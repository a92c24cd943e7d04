"""The layout of actors and readers on nodes, by arithmetic alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cluster.layout import Cluster, lay_out
from pipeline.config.sections import Resources
from pipeline.errors import ConfigError


def node(cpus: float, gpus: float = 0.0, memory: float = 8e9, store: float = 2e9) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus, "memory": memory, "object_store_memory": store}


def full(cluster: Cluster, cpus: int, gpus: int) -> int:
    """How many actors Ray would put on a node, if it put there all that fit."""
    by_cpu = int(cpus / cluster.actor_cpus + 1e-9)
    by_gpu = gpus * int(1 / cluster.actor_gpus) if cluster.actor_gpus else by_cpu  # none lies across two GPUs
    return min(cluster.max_actors, by_cpu, by_gpu)


sizes = st.tuples(st.integers(1, 256), st.integers(0, 8))


@settings(max_examples=300)
@given(
    nodes=st.lists(sizes, min_size=1, max_size=6),
    actors=st.none() | st.integers(1, 300),
    share=st.sampled_from([1.0, 0.6, 0.5, 0.34, 0.25, 0.1]),
    device=st.sampled_from(["auto", "cpu"]),
)
def test_a_node_full_of_actors_has_room_for_a_reader(
    nodes: list[tuple[int, int]], actors: int | None, share: float, device: str
) -> None:
    """Whichever nodes survive: actors are placed where they fit, so each node is looked at as if it were the last."""
    resources = Resources(device=device, actors=actors, gpu_share=share)
    cluster = lay_out(resources, [node(*size) for size in nodes])
    assert 1 <= cluster.min_actors <= cluster.max_actors
    assert actors is None or cluster.max_actors <= actors
    for cpus, gpus in nodes:
        left = cpus - full(cluster, cpus, gpus) * cluster.actor_cpus
        assert left >= cluster.reader_cpus - 1e-9
    assert (
        cluster.actor_gpus or cluster.reader_cpus < cluster.actor_cpus
    )  # or Ray Data would put readers inside the actors
    assert (cluster.device == "cuda") == (cluster.gpus > 0 and device == "auto") == (cluster.actor_gpus > 0)
    # All of the planned actors find a place, and no node holds more than one a CPU, or than its GPUs' shares.
    assert sum(full(cluster, *size) for size in nodes) >= cluster.max_actors
    if cluster.device == "cpu":
        assert all(full(cluster, *size) <= size[0] for size in nodes)


@settings(max_examples=100)
@given(nodes=st.lists(sizes, min_size=2, max_size=5), lost=st.sets(st.integers(0, 4), min_size=1))
def test_what_is_laid_out_holds_after_the_loss_of_any_nodes(
    nodes: list[tuple[int, int]], lost: set[int]
) -> None:
    cluster = lay_out(Resources(), [node(*size) for size in nodes])
    left = [size for place, size in enumerate(nodes) if place not in lost]
    actors = [full(cluster, *size) for size in left]
    free = [cpus - count * cluster.actor_cpus for (cpus, _), count in zip(left, actors, strict=True)]
    assert all(room >= cluster.reader_cpus - 1e-9 for room in free)
    if any(gpus or cluster.device == "cpu" for _, gpus in left):
        assert sum(actors) >= 1


@pytest.mark.parametrize(
    ("cpus", "actors"), [([1], 1), ([2], 2), ([3], 3), ([64], 64), ([4, 4], 8), ([64, 1], 65), ([1, 1, 1], 3)]
)
def test_every_cpu_may_score(cpus: list[int], actors: int) -> None:
    cluster = lay_out(Resources(), [node(count) for count in cpus])
    assert (cluster.max_actors, cluster.cpus, cluster.node_cpus) == (actors, sum(cpus), min(cpus))


@pytest.mark.parametrize(("gpus", "share", "actors"), [(1, 1.0, 1), (4, 1.0, 4), (2, 0.5, 4), (1, 0.1, 10)])
def test_on_gpus_each_takes_its_share(gpus: int, share: float, actors: int) -> None:
    cluster = lay_out(Resources(gpu_share=share), [node(64, gpus)])
    assert (cluster.max_actors, cluster.actor_gpus, cluster.device) == (actors, share, "cuda")
    assert (cluster.actor_cpus, cluster.reader_cpus) == (1.0, 0.9)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"resources\.device: cuda, but the Ray cluster has no GPU"):
        lay_out(Resources(device="cuda"), [node(8)])


def test_memory_is_that_of_the_smallest_node() -> None:
    cluster = lay_out(Resources(), [node(4, memory=9e9, store=1e9), node(2, memory=5e9, store=3e9)])
    assert (cluster.nodes, cluster.node_memory, cluster.object_store) == (2, 5_000_000_000, 1_000_000_000)


def test_a_pool_of_actors_may_shrink_to_its_least() -> None:
    assert lay_out(Resources(min_actors=3), [node(8)]).min_actors == 3
    assert lay_out(Resources(min_actors=3, actors=2), [node(8)]).min_actors == 2


def test_a_gpu_is_never_shared_by_more_actors_than_its_share_allows() -> None:
    assert lay_out(Resources(actors=5), [node(16, 1)]).max_actors == 1
    assert lay_out(Resources(gpu_share=0.6), [node(16, 2)]).max_actors == 2
    assert lay_out(Resources(gpu_share=0.25), [node(16, 2)]).max_actors == 8
