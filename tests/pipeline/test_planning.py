"""What is planned by arithmetic alone: steps, crops, learning rates, splits and the layout of a cluster."""

from __future__ import annotations

import itertools
import math
import socket
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cluster.joining import start
from pipeline.cluster.layout import Cluster, lay_out
from pipeline.config.project import Config
from pipeline.config.sections import Augment, Resources
from pipeline.errors import ConfigError, SystemFault
from pipeline.learn.rows import Pixels, labeled_table
from pipeline.learn.schedule import augmented, learning_rate, steps
from pipeline.learn.split import held_out
from pipeline.pool.reading import DECODED
from pipeline.types import LABELED

# --------------------------------------------------------------------------------------------------- steps


def epoch(rows: int, batch: int, workers: int, seed: int = 0, number: int = 0) -> list[list[int]]:
    found = steps(np.arange(100, 100 + rows), batch, workers, seed=seed, epoch=number)
    return [step.tolist() for step in found]


@settings(max_examples=200)
@given(
    rows=st.integers(1, 200),
    batch=st.integers(2, 40),
    workers=st.integers(1, 4),
    seed=st.integers(0, 3),
    number=st.integers(0, 3),
)
def test_an_epoch_shows_rows_once_and_every_worker_two_at_least(
    rows: int, batch: int, workers: int, seed: int, number: int
) -> None:
    found = epoch(rows, batch, workers, seed, number)
    shown = Counter(itertools.chain(*found))
    assert found
    for step, rank in itertools.product(found, range(workers)):
        assert len(step[rank::workers]) >= 2  # batch normalisation has no variance in one row
    if rows >= 2 * workers:
        assert shown == Counter(range(100, 100 + rows))
        assert max(map(len, found)) - min(map(len, found)) <= 1
    else:
        assert set(shown) == set(range(100, 100 + rows))  # too few rows: all of them, repeated
        assert len(found) == 1


@given(groups=st.integers(1, 6), batch=st.integers(8, 32), seed=st.integers(0, 5))
def test_the_number_of_workers_changes_no_step(groups: int, batch: int, seed: int) -> None:
    """Where batches come out even; the union of what the ranks take is the batch itself."""
    alone = epoch(groups * batch, batch, 1, seed)
    for workers in (2, 3, 4):
        together = epoch(groups * batch, batch, workers, seed)
        assert together == alone
        for step in together:
            assert sorted(itertools.chain(*[step[rank::workers] for rank in range(workers)])) == sorted(step)


def test_seed_and_epoch_decide_the_order() -> None:
    assert epoch(50, 8, 1, 1, 2) == epoch(50, 8, 1, 1, 2)
    assert epoch(50, 8, 1, 1, 2) != epoch(50, 8, 1, 1, 3)
    assert epoch(50, 8, 1, 1, 2) != epoch(50, 8, 1, 2, 2)


# ----------------------------------------------------------------------------------------------- augmented


def images(n: int, side: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1, 256, (n, 3, side, side)).astype(np.uint8))


def test_without_crops_and_mirrors_nothing_changes() -> None:
    pixels = images(5)
    assert torch.equal(augmented(pixels, Augment(pad=0, flip=False), (1, 2, 3)), pixels)


def test_the_seed_alone_decides() -> None:
    pixels, augment = images(20), Augment(pad=2, flip=True)
    kept = pixels.clone()
    torch.manual_seed(0)
    first = augmented(pixels, augment, (1, 2, 3))
    torch.manual_seed(1)
    assert torch.equal(augmented(pixels, augment, (1, 2, 3)), first)
    assert not torch.equal(augmented(pixels, augment, (1, 2, 4)), first)
    assert torch.equal(pixels, kept)
    assert (first.shape, first.dtype) == (pixels.shape, torch.uint8)


def shift_of(pixels: torch.Tensor, found: torch.Tensor, pad: int) -> tuple[int, int] | None:
    """How far the window was moved, found by trying all moves; zeros come in from outside."""
    side = pixels.shape[-1]
    for down, right in itertools.product(range(-pad, pad + 1), repeat=2):
        want = torch.zeros_like(pixels)
        top, left = max(0, -down), max(0, -right)
        height, width = side - abs(down), side - abs(right)
        want[:, top : top + height, left : left + width] = pixels[
            :, max(0, down) : max(0, down) + height, max(0, right) : max(0, right) + width
        ]
        if torch.equal(want, found):
            return down, right
    return None


def test_crops_are_shifts_by_at_most_the_padding_and_reach_all_of_it() -> None:
    pixels = images(200)
    found = augmented(pixels, Augment(pad=1, flip=False), (0,))
    shifts = [shift_of(a, b, 1) for a, b in zip(pixels, found, strict=True)]
    assert set(shifts) == set(itertools.product((-1, 0, 1), repeat=2))


def test_a_shift_by_hand() -> None:
    """One white pixel in the middle of 3 x 3: padded by one and cropped, it lies where the crop put it."""
    pixels = torch.zeros(100, 3, 3, 3, dtype=torch.uint8)
    pixels[:, :, 1, 1] = 255
    found = augmented(pixels, Augment(pad=1, flip=False), (7,))
    places = {tuple(torch.nonzero(image[0])[0].tolist()) for image in found}
    assert places == set(itertools.product(range(3), repeat=2))  # the middle moved by -1, 0 or 1 each way
    assert found.sum() == 100 * 3 * 255


def test_about_half_are_mirrored_and_none_is_changed_otherwise() -> None:
    pixels = images(400)
    found = augmented(pixels, Augment(pad=0, flip=True), (0,))
    mirrored = [torch.equal(b, a.flip(-1)) for a, b in zip(pixels, found, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(pixels, found, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 150 < sum(mirrored) < 250  # 200 in the mean with a deviation of 10


# ------------------------------------------------------------------------------------------- learning rate


@given(total=st.integers(1, 500), peak=st.floats(1e-4, 10.0))
def test_learning_rate_rises_to_its_peak_and_falls(total: int, peak: float) -> None:
    rates = [learning_rate(step, total, peak) for step in range(total)]
    assert all(0.0 < rate <= peak * (1 + 1e-12) for rate in rates)
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(peak)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_learning_rate_by_hand() -> None:
    # 40 steps: two of warm-up, then a cosine over 38, whose middle is step 2 + 19.
    assert learning_rate(0, 40, 0.2) == pytest.approx(0.1)
    assert learning_rate(1, 40, 0.2) == pytest.approx(0.2)
    assert learning_rate(2, 40, 0.2) == pytest.approx(0.2)
    assert learning_rate(21, 40, 0.2) == pytest.approx(0.1)
    assert learning_rate(39, 40, 0.2) == pytest.approx(0.1 * (1 + math.cos(math.pi * 37 / 38)))


# -------------------------------------------------------------------------------------------------- labels


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    share=st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    seed=st.integers(0, 3),
)
def test_a_share_of_each_class_is_held_out(sizes: list[int], share: float, seed: int) -> None:
    targets = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    ids = [f"id{n}" for n in range(len(targets))]
    chosen = held_out(targets, ids, share, seed=seed)
    for target, size in enumerate(sizes):
        count = int(chosen[targets == target].sum())
        assert count == (max(round(share * size), 1) if share and size >= 4 else 0)
        assert size == 0 or count < size
    # The same ids, whatever order the rows have.
    order = np.random.default_rng(seed).permutation(len(ids))
    again = held_out(targets[order], [ids[i] for i in order], share, seed=seed)
    assert (again == chosen[order]).all()


def test_the_seed_chooses_who_is_held_out() -> None:
    targets, ids = np.zeros(100, np.int32), [f"{n:03d}" for n in range(100)]
    first = held_out(targets, ids, 0.2, seed=1)
    assert (held_out(targets, ids, 0.2, seed=1) == first).all()
    assert (held_out(targets, ids, 0.2, seed=2) != first).any()


def test_the_labeled_table_is_ordered_by_id_and_keeps_places() -> None:
    places = {"b": (0, 5), "a": (1, 2), "c": (0, 1)}
    table = labeled_table([("b", 1), ("a", 0), ("c", 1)], places, share=0.0, seed=0)
    assert table.schema == LABELED
    assert table.to_pylist() == [
        {"id": "a", "target": 0, "held_out": False, "shard": 1, "row": 2},
        {"id": "b", "target": 1, "held_out": False, "shard": 0, "row": 5},
        {"id": "c", "target": 1, "held_out": False, "shard": 0, "row": 1},
    ]
    again = labeled_table([("c", 1), ("b", 1), ("a", 0)], places, share=0.0, seed=0)
    assert again.equals(table)


def decoded(ids: str, size: int = 2) -> pa.Table:
    """Rows whose pixels and target follow from their id."""
    columns = {
        "id": list(ids),
        "target": [ord(name) % 3 for name in ids],
        "held_out": [name == "b" for name in ids],
        "pixels": [bytes([ord(name)]) * (3 * size * size) for name in ids],
    }
    return pa.table(columns, schema=DECODED)


@given(order=st.permutations("abcdefg"), cuts=st.lists(st.integers(0, 7), max_size=3), chunks=st.booleans())
def test_pixels_follow_their_ids_whatever_the_blocks(order: list[str], cuts: list[int], chunks: bool) -> None:
    table = decoded("".join(order))
    edges = [0, *sorted(cuts), 7]
    blocks = [table.slice(a, b - a) for a, b in itertools.pairwise(edges)]  # empty ones and offsets too
    pixels = Pixels.of([pa.concat_tables(blocks)] if chunks else blocks, 2)
    assert pixels.ids == tuple("abcdefg")
    assert len(pixels) == 7
    assert pixels.targets.tolist() == [ord(name) % 3 for name in "abcdefg"]
    assert pixels.held_out.tolist() == [name == "b" for name in "abcdefg"]
    rows = np.array([6, 0, 0, 3])
    taken = pixels.take(rows)
    assert taken.shape == (4, 3, 2, 2)
    assert taken.dtype == torch.uint8
    assert [set(image.flatten().tolist()) for image in taken] == [
        {ord("g")},
        {ord("a")},
        {ord("a")},
        {ord("d")},
    ]
    assert pixels.take(np.array([], np.int64)).shape == (0, 3, 2, 2)


# ---------------------------------------------------------------------------------------------- the cluster


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


def test_a_cluster_that_does_not_answer_is_told_at_once(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    for name in ("RAY_DATA_DISABLE_PROGRESS_BARS", "RAY_AIR_NEW_OUTPUT", "TUNE_DISABLE_SIGINT_HANDLER"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(SystemFault, match=rf"RAY_ADDRESS='127.0.0.1:{port}' .*; see `ray status` there"):
        start(make_config())


def test_a_pool_of_actors_may_shrink_to_its_least() -> None:
    assert lay_out(Resources(min_actors=3), [node(8)]).min_actors == 3
    assert lay_out(Resources(min_actors=3, actors=2), [node(8)]).min_actors == 2


def test_new_labels_move_few_rows_between_training_and_validation() -> None:
    """A net that is trained further may not be judged by rows that it learned from."""
    ids = [f"img-{n}" for n in range(400)]
    early = held_out(np.zeros(200, np.int32), ids[:200], 0.2, seed=7)
    late = held_out(np.zeros(400, np.int32), ids, 0.2, seed=7)
    before = {name for name, held in zip(ids[:200], early, strict=True) if held}
    after = {name for name, held in zip(ids, late, strict=True) if held}
    assert len(before) == 40 and len(after) == 80
    # The 40 smallest hashes of the first 200 are still small among 400: about the smallest fifth of both.
    assert len(before & after) >= 30


def test_a_gpu_is_never_shared_by_more_actors_than_its_share_allows() -> None:
    assert lay_out(Resources(actors=5), [node(16, 1)]).max_actors == 1
    assert lay_out(Resources(gpu_share=0.6), [node(16, 2)]).max_actors == 2
    assert lay_out(Resources(gpu_share=0.25), [node(16, 2)]).max_actors == 8
