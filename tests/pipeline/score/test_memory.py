"""How memory is shared out: all of it where it is enough, less in the promised order, and never more than there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ByteSize, TypeAdapter

import sisom
from pipeline.cluster.layout import GROWTH, Cluster
from pipeline.config.project import Config
from pipeline.errors import ConfigError, SystemFault
from pipeline.score.memory import DRIVER, ENCODED, LEAST_IN_FLIGHT, MIB, MemoryPlan, foresee, plan_memory
from sisom.network.models import build_model, save_weights

MakeConfig = Callable[..., Config]

CLUSTER = Cluster(
    cpus=8,
    node_cpus=8,
    gpus=0,
    nodes=1,
    node_memory=64 << 30,
    object_store=8 << 30,
    device="cpu",
    full=8,
    min_actors=1,
    max_actors=8,
    max_readers=4,
    actor_cpus=0.95,
    actor_gpus=0.0,
    reader_cpus=0.005,
)
SIZES = {"rows": 1_000_000, "bank_bytes": 50 * MIB, "weight_bytes": 40 * MIB}


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.model_validate_json(
        '{"workspace": "w", "taxonomy": ["a", "b"], "pool": {"uri": "p"},'
        ' "oracle": {"kind": "simulated", "truth": "t"}, "scoring": {"batch_size": 64}}'
    )


def plan(config: Config, cluster: Cluster = CLUSTER, *, total: int | None = None, **sizes: int) -> MemoryPlan:
    given_ = {"memory": total} if total is not None else {}
    limited = config.model_copy(update={"resources": config.resources.model_copy(update=given_)})
    return plan_memory(limited, cluster, **(SIZES | sizes))


def test_where_there_is_enough_all_that_the_cluster_offers_is_used(config: Config) -> None:
    found = plan(config)
    assert (found.total, found.actors, found.readers_a_node, found.encoded) == (64 << 30, 8, 4, ENCODED[1])
    assert (found.actor_cpus, found.tiles) == (CLUSTER.actor_cpus, 128 * MIB)
    assert found.shared == 90 * MIB
    assert found.in_flight >= LEAST_IN_FLIGHT
    assert found.block_bytes >= 64 * 3 * 32 * 32


def test_by_hand(config: Config) -> None:
    found = plan(config)
    # One reader more than planned has its room: a reader that hangs keeps its place.
    want = 8 * found.actor + 5 * found.reader + 4 * found.giant + found.in_flight + found.shared + DRIVER
    assert found.used == want
    assert found.giant == 9 * config.scoring.max_pixels
    assert found.reader_memory * 5 <= CLUSTER.node_memory < found.reader_memory * 6
    assert found.store_share == found.in_flight / CLUSTER.object_store
    # Ray may put all actors of a small pool on one of the nodes, if they fit there.
    two = plan(config, replace(CLUSTER, nodes=2, cpus=16, max_actors=16, max_readers=8))
    assert (two.used, two.actors, two.actors_a_node) == (found.used, 16, 8)


def test_a_small_pool_needs_few_actors(config: Config) -> None:
    assert [plan(config, rows=rows).actors for rows in (1, 256, 257, 1025, 100_000)] == [1, 1, 2, 5, 8]
    assert plan(config, replace(CLUSTER, min_actors=3), rows=1).actors == 3


def test_a_pool_may_grow_beyond_what_the_nodes_of_now_take(config: Config) -> None:
    limited = config.model_copy(update={"resources": config.resources.model_copy(update={"actors": 20})})
    assert (plan(config).actors, plan(config).most_actors) == (8, 1_000_000 // 256 + 1)
    assert (plan(limited).actors, plan(limited).most_actors) == (8, 20)
    assert plan(config, rows=300).most_actors == 2
    assert plan(config).most_readers == GROWTH * 5


def test_it_shrinks_in_the_promised_order(config: Config) -> None:
    """Less encoded bytes and smaller distances first, then fewer readers, then fewer actors; never back."""
    roomy = plan(config)
    seen = [(roomy.actors, roomy.readers_a_node, roomy.encoded)]
    total = roomy.used
    while True:
        total -= 30 * MIB
        try:
            found = plan(config, total=total)
        except ConfigError:
            break
        assert found.used <= total
        assert found.tiles == 2 * found.encoded
        if (found.actors, found.readers_a_node, found.encoded) != seen[-1]:
            seen.append((found.actors, found.readers_a_node, found.encoded))
    want = [(8, 4, ENCODED[1] >> n) for n in range(4)]  # 64, 32, 16, 8 MiB
    want += [(8, readers, ENCODED[0]) for readers in (3, 2, 1)]
    want += [(actors, 1, ENCODED[0]) for actors in range(7, 0, -1)]
    assert [step for step in want if step in seen] == seen
    assert seen[-1] == want[-1]
    assert {actors for actors, _, _ in seen} == set(range(1, 9))


def test_what_memory_forbids_ray_does_not_do(config: Config) -> None:
    """Actors that memory leaves out would fit by their CPUs: so each of the others asks for more of these."""
    roomy = plan(config)
    for total in range(roomy.used, 3 << 30, -500 * MIB):
        try:
            found = plan(config, total=total)
        except ConfigError:
            break
        assert int(CLUSTER.cpus / found.actor_cpus + 1e-9) == found.actors_a_node
        assert CLUSTER.cpus - found.actors_a_node * found.actor_cpus >= CLUSTER.reader_cpus
        assert CLUSTER.node_memory // found.reader_memory == found.readers_a_node + 1


def test_the_least_actors_are_kept(config: Config) -> None:
    cluster = replace(CLUSTER, min_actors=4)
    least = refusal(config, cluster)
    assert plan(config, cluster, total=least).actors == 4
    assert least > refusal(config, CLUSTER) + 3 * (600 * MIB)


def refusal(config: Config, cluster: Cluster) -> int:
    """The least memory that a refusal names."""
    with pytest.raises(ConfigError) as raised:
        plan(config, cluster, total=1)
    found = re.search(r"the least that would do is (\d+MiB): ", str(raised.value))
    assert found
    return TypeAdapter(ByteSize).validate_python(found[1])


def test_what_can_never_fit_is_refused_with_what_would_do(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"^resources\.memory: 500 MiB a node are too little; the least"):
        plan(config, total=500 * MIB)
    least = refusal(config, CLUSTER)
    assert plan(config, total=least).used <= least
    with pytest.raises(ConfigError, match="the least that would do is"):
        plan(config, total=least - MIB)
    with pytest.raises(ConfigError, match="too little"):
        plan(config, total=64 << 30, bank_bytes=65 << 30)


def test_what_nobody_has_set_may_be_more_at_another_hour(config: Config) -> None:
    """A scheduler tries again after a fault of the system, and not after a wrong config."""
    with pytest.raises(
        SystemFault, match=r"^memory: .* are too little; .* try again when other programs hold less"
    ):
        plan(config, bank_bytes=65 << 30)


def test_it_is_foreseen_before_there_is_a_network_or_a_bank(make_config: MakeConfig) -> None:
    config = make_config(bank={"subset": 1.0})
    net = build_model(config.model.name, len(config.taxonomy), seed=1)
    image = torch.zeros(7, 3, 32, 32)
    bank = sisom.fit_bank(
        sisom.extract(net.eval(), image, config.model.layers), torch.arange(7) % 2, slopes=10.0, num_classes=2
    )
    arrays = sum(value.nbytes for name, value in bank.to_arrays().items() if name != "meta")
    foreseen = foresee(config, CLUSTER, rows=1000, labeled=7)
    known = plan_memory(
        config, CLUSTER, rows=1000, bank_bytes=arrays, weight_bytes=len(save_weights(net)) - 8000
    )
    assert arrays <= foreseen.shared
    assert foreseen.shared == pytest.approx(known.shared, rel=0.01)
    with pytest.raises(SystemFault, match="GiB shared"):
        foresee(config, CLUSTER, rows=1000, labeled=10**9)


def test_larger_batches_take_more(make_config: MakeConfig) -> None:
    def of(**scoring: Any) -> MemoryPlan:
        return plan_memory(make_config(scoring=scoring), CLUSTER, **SIZES)

    small, large = of(batch_size=8), of(batch_size=512)
    assert small.actor < large.actor
    assert small.reader < large.reader
    assert small.block_bytes < large.block_bytes == 512 * 3 * 32 * 32


def test_a_detector_that_moves_images_holds_them_twice_and_fills_its_tile(make_config: MakeConfig) -> None:
    def actor(score: str, batch: int) -> int:
        return plan_memory(make_config(scoring={"score": score, "batch_size": batch}), CLUSTER, **SIZES).actor

    pixels = 3 * 32 * 32
    assert actor("odin", 512) - actor("msp", 512) == 8 * 512 * pixels
    assert actor("odin", 32) - actor("odin", 1) == 13 * 31 * pixels, (
        "the network sees as many images either way"
    )
    assert actor("msp", 32) - actor("msp", 1) > 10 * 5 * 31 * pixels


def test_it_is_told_in_a_line(config: Config) -> None:
    told = plan(config).told()
    assert "\n" not in told
    assert "of 64.0 GiB a node: 8 actors x" in told
    assert "4 + 1 readers x" in told and "4 giant images x 429 MiB" in told
    assert "600 MiB of the driver" in told


@settings(max_examples=200)
@given(
    total=st.integers(1, 200 << 10).map(lambda mib: mib * MIB),
    nodes=st.integers(1, 20),
    full=st.integers(1, 64),
    least=st.integers(1, 200),
    readers=st.integers(1, 64),
    rows=st.integers(0, 10**9),
    bank=st.integers(0, 4 << 30),
)
def test_the_sum_is_never_more_than_there_is(
    config: Config, total: int, nodes: int, full: int, least: int, readers: int, rows: int, bank: int
) -> None:
    cluster = replace(
        CLUSTER,
        nodes=nodes,
        full=full,
        max_actors=nodes * full,
        min_actors=min(least, nodes * full),
        max_readers=nodes * readers,
        node_memory=total,
    )
    try:
        found = plan(config, cluster, rows=rows, bank_bytes=bank)
    except SystemFault:
        smallest = (-(-cluster.min_actors // nodes)) * plan(config, rows=1).actor
        assert (
            smallest + bank + DRIVER + 2 * plan(config, rows=1).reader + plan(config).giant > total / 4
        )  # a refusal has a reason
        return
    fullest = found.actors_a_node * found.actor + (found.readers_a_node + 1) * found.reader
    fullest += found.readers_a_node * found.giant
    assert fullest + found.in_flight + found.shared + DRIVER == found.used <= total == found.total
    assert cluster.min_actors <= found.actors <= nodes * full
    assert found.actors <= found.most_actors or found.actors == cluster.min_actors
    assert 1 <= found.readers_a_node <= readers
    assert ENCODED[0] <= found.encoded <= ENCODED[1]
