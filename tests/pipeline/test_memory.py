"""How memory is shared out: all of it where it is enough, less in the promised order, and never more than there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import memory
from pipeline.config import Config
from pipeline.engine import Cluster
from pipeline.errors import ConfigError
from pipeline.memory import ENCODED, LEAST_IN_FLIGHT, MIB, MemoryPlan, plan_memory

MakeConfig = Callable[..., Config]

CLUSTER = Cluster(
    cpus=8,
    node_cpus=8,
    gpus=0,
    nodes=1,
    node_memory=64 << 30,
    object_store=8 << 30,
    device="cpu",
    min_actors=1,
    max_actors=8,
    max_readers=4,
    actor_cpus=0.95,
    actor_gpus=0.0,
    reader_cpus=0.25,
    task_cpus=0.9,
)
SIZES = {"rows": 1_000_000, "bank_bytes": 50 * MIB, "weight_bytes": 40 * MIB}


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.model_validate_json(
        '{"workspace": "w", "taxonomy": ["a", "b"], "pool": {"uri": "p"},'
        ' "oracle": {"kind": "simulated", "truth": "t"}, "scoring": {"batch_size": 64}}'
    )


@pytest.fixture(scope="module", autouse=True)
def counted_once() -> Iterator[None]:
    """A forward pass for each of a thousand plans would take minutes; each batch size needs one."""
    real, known = memory._activations, {}

    def once(config: Config, cluster: Cluster) -> int:
        key = (config.scoring.batch_size, cluster.device)
        if key not in known:
            known[key] = real(config, cluster)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_activations", once)
        yield


def plan(config: Config, cluster: Cluster = CLUSTER, *, total: int | None = None, **sizes: int) -> MemoryPlan:
    given_ = {"memory": total} if total is not None else {}
    limited = config.model_copy(update={"resources": config.resources.model_copy(update=given_)})
    return plan_memory(limited, cluster, **(SIZES | sizes))


def test_where_there_is_enough_all_that_the_cluster_offers_is_used(config: Config) -> None:
    found = plan(config)
    assert (found.total, found.actors, found.readers, found.encoded) == (64 << 30, 8, 4, ENCODED[1])
    assert found.shared == 90 * MIB
    assert found.in_flight >= LEAST_IN_FLIGHT
    assert found.block_bytes >= 64 * 3 * 32 * 32


def test_by_hand(config: Config) -> None:
    found = plan(config)
    want = 8 * found.actor + 4 * found.reader + found.in_flight + found.shared
    assert found.used == want
    two = plan(config, replace(CLUSTER, nodes=2))  # half of each on a node, what is shared on both
    assert two.used == 4 * found.actor + 2 * found.reader + found.in_flight // 2 + found.shared


def test_a_small_pool_needs_few_actors(config: Config) -> None:
    assert [plan(config, rows=rows).actors for rows in (1, 256, 257, 1025, 100_000)] == [1, 1, 2, 5, 8]
    assert plan(config, replace(CLUSTER, min_actors=3), rows=1).actors == 3


def test_it_shrinks_in_the_promised_order(config: Config) -> None:
    """Less encoded bytes first, then fewer readers, then fewer actors; never back."""
    roomy = plan(config)
    seen = [(roomy.actors, roomy.readers, roomy.encoded)]
    total = roomy.used
    while True:
        total -= 30 * MIB
        try:
            found = plan(config, total=total)
        except ConfigError:
            break
        assert found.used <= total
        if (found.actors, found.readers, found.encoded) != seen[-1]:
            seen.append((found.actors, found.readers, found.encoded))
    want = [(8, 4, ENCODED[1] >> n) for n in range(4)]  # 64, 32, 16, 8 MiB
    want += [(8, readers, ENCODED[0]) for readers in (3, 2, 1)]
    want += [(actors, 1, ENCODED[0]) for actors in range(7, 0, -1)]
    assert [step for step in want if step in seen] == seen
    assert seen[-1] == want[-1]
    assert {actors for actors, _, _ in seen} == set(range(1, 9))


def test_the_least_actors_are_kept(config: Config) -> None:
    cluster = replace(CLUSTER, min_actors=4)
    least = plan(config, replace(cluster, max_actors=4, max_readers=1))
    total = least.used - (least.readers - 1) * least.reader - 2 * (ENCODED[1] - ENCODED[0])
    assert plan(config, cluster, total=total).actors == 4
    with pytest.raises(ConfigError):
        plan(config, cluster, total=total - 200 * MIB)


def test_what_can_never_fit_is_refused_with_numbers(config: Config) -> None:
    with pytest.raises(
        ConfigError, match=r"resources\.memory: 500 MiB a node are too little: one actor takes"
    ) as raised:
        plan(config, total=500 * MIB)
    assert "a smaller scoring.batch_size takes less" in str(raised.value)
    with pytest.raises(ConfigError, match="too little"):
        plan(config, bank_bytes=65 << 30)


def test_larger_batches_take_more(make_config: MakeConfig) -> None:
    def of(**scoring: Any) -> MemoryPlan:
        return plan_memory(make_config(scoring=scoring), CLUSTER, **SIZES)

    small, large = of(batch_size=8), of(batch_size=512)
    assert small.actor < large.actor
    assert small.reader < large.reader
    assert small.block_bytes < large.block_bytes == 512 * 3 * 32 * 32


def test_it_is_told_in_a_line(config: Config) -> None:
    told = plan(config).told()
    assert "\n" not in told
    assert "of 64.0 GiB a node for 8 actors x" in told
    assert "4 readers x" in told


@settings(max_examples=200)
@given(
    total=st.integers(1, 200 << 10).map(lambda mib: mib * MIB),
    nodes=st.integers(1, 20),
    most=st.integers(1, 200),
    least=st.integers(1, 200),
    readers=st.integers(1, 200),
    rows=st.integers(0, 10**9),
    bank=st.integers(0, 4 << 30),
)
def test_the_sum_is_never_more_than_there_is(
    config: Config, total: int, nodes: int, most: int, least: int, readers: int, rows: int, bank: int
) -> None:
    cluster = replace(
        CLUSTER,
        nodes=nodes,
        max_actors=most,
        min_actors=min(least, most),
        max_readers=readers,
        node_memory=total,
    )
    try:
        found = plan(config, cluster, rows=rows, bank_bytes=bank)
    except ConfigError:
        smallest = (-(-cluster.min_actors // nodes)) * plan(config, rows=1).actor
        assert smallest + bank + 300 * MIB > total / 4  # a refusal has a reason
        return
    fullest = -(-found.actors // nodes) * found.actor + -(-found.readers // nodes) * found.reader
    assert fullest + found.in_flight // nodes + found.shared <= found.used <= total == found.total
    assert cluster.min_actors <= found.actors <= most
    assert 1 <= found.readers <= readers
    assert ENCODED[0] <= found.encoded <= ENCODED[1]
