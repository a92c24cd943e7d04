"""Reading and scoring called directly on tables, as any engine would: the same rows however they are grouped."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pools import reading, snapshot_of

import sisom
from pipeline.config.sections import Model, Pool
from pipeline.model.extractor import Extractor
from pipeline.model.network import Network, normalise
from pipeline.pool.reading import ReadShards
from pipeline.score.scorer import Scorer, ScoringOptions
from pipeline.store.opening import LocalStore
from pipeline.types import SCORED
from pipeline.workspace.artefacts import Workspace
from sisom.network.models import build_model, save_weights

MODEL = Model(name="resnet10_w16", image_size=8, layers=("layer2", "avgpool"))
TAXONOMY = ("cat", "dog", "cow")
SCORES = ("inner", "outer", "ratio", "energy", "sisom", "sisome")
BATCH = 4


@dataclass(frozen=True)
class Setup:
    """A network, a bank, and the batches of a pool of 21 rows in two shards, four of them broken."""

    network: Network
    bank: sisom.FeatureBank
    batches: list[pa.Table]

    def scorer(self, score: str = "sisome", **changes: Any) -> Scorer:
        bank = replace(self.bank, **changes)
        return Scorer(self.network, bank, ScoringOptions(TAXONOMY, score, BATCH, "cpu", 1))


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    kept = torch.get_num_threads()
    yield
    torch.set_num_threads(kept)


def noise(n: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 8, 8), np.uint8)


def png(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(sink, "PNG")
    return sink.getvalue()


IMAGES = noise(21, 1)
BROKEN = {1: b"", 12: b"text", 13: b"text", 20: b"\x89PNG"}


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    torch.set_num_threads(1)
    net = build_model(MODEL.name, len(TAXONOMY), seed=3)
    network = Network(MODEL, len(TAXONOMY), np.frombuffer(save_weights(net), np.uint8))
    features = Extractor(network, "cpu", BATCH)(noise(12, 2))
    bank = sisom.fit_bank(features, torch.arange(12) % 3, slopes=10.0, num_classes=3)
    folder = tmp_path_factory.mktemp("pool")
    images = [BROKEN.get(i, png(image)) for i, image in enumerate(IMAGES)]
    table = pa.table({"id": [f"i{n:02d}" for n in range(21)], "image": images})
    pq.write_table(table, folder / "p.parquet", row_group_size=12)
    return Setup(network, bank, batches(folder, tmp_path_factory.mktemp("workspace")))


def batches(pool: Path, workspace: Path) -> list[pa.Table]:
    found = snapshot_of(Pool(uri=str(pool)), Workspace(LocalStore(str(workspace))))
    read = ReadShards(found.folder, reading(Pool(uri=str(pool))), MODEL.transform(1000), BATCH)
    return list(read(found.table))


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["id"])


def test_every_row_comes_out_scored_or_with_its_reason(setup: Setup) -> None:
    scorer = setup.scorer()
    found = pa.concat_tables([scorer(batch) for batch in setup.batches])
    assert found.schema == SCORED
    rows = rows_of(found)
    assert [row["id"] for row in rows] == [f"i{n:02d}" for n in range(21)]
    assert [(row["shard"], row["row"]) for row in rows] == [(n // 12, n % 12) for n in range(21)]
    for number, row in enumerate(rows):
        values = [row[name] for name in (*SCORES, "predicted", "is_ood")]
        if number in BROKEN:
            assert values == [None] * len(values)
            assert row["stage"] == "decode"
            data = BROKEN[number]
            assert row["reason"] == (f"not an image: starts with {data.hex(' ')}" if data else "no bytes")
        else:
            assert np.isfinite(values[:6]).all()
            assert row["predicted"] in TAXONOMY
            assert (row["stage"], row["reason"]) == (None, None)


def test_the_rows_are_equal_to_the_bit_in_any_order_and_any_grouping(setup: Setup) -> None:
    want = rows_of(pa.concat_tables([setup.scorer()(batch) for batch in setup.batches]))
    chance = np.random.default_rng(0)
    for size in (1, 2, 3, len(setup.batches)):
        mixed = [setup.batches[i] for i in chance.permutation(len(setup.batches))]
        scorer = setup.scorer()
        groups = [pa.concat_tables(mixed[i : i + size]) for i in range(0, len(mixed), size)]
        assert rows_of(pa.concat_tables([scorer(group) for group in groups])) == want
    combined = pa.concat_tables(setup.batches).combine_chunks()
    halves = [setup.scorer()(combined.slice(2)), setup.scorer()(combined.slice(0, 2))]  # views with offsets
    assert rows_of(pa.concat_tables(halves)) == want


def test_an_image_does_not_see_its_neighbors(setup: Setup) -> None:
    """The same image alone, and in a full batch of others: the same features, to the bit."""
    extract = Extractor(setup.network, "cpu", BATCH)
    others = noise(BATCH, 9)
    alone = extract(others[:1])
    together = extract(others)
    for name in ("saliency", "penultimate", "logits"):
        assert torch.equal(getattr(alone, name)[0], getattr(together, name)[0])


def test_features_do_not_depend_on_how_many_come_at_once(setup: Setup) -> None:
    extract = Extractor(setup.network, "cpu", BATCH)
    pixels = noise(10, 4)
    whole = extract(pixels)
    parts = sisom.Features.concat([extract(pixels[i : i + BATCH]) for i in range(0, 10, BATCH)])
    assert len(whole) == 10
    assert torch.equal(whole.saliency, parts.saliency)
    assert torch.equal(whole.logits, parts.logits)


def test_the_scores_are_the_librarys(setup: Setup) -> None:
    """By hand, for the first batch: decode nothing, extract the known pixels, score with the bank."""
    first = setup.batches[0]
    assert first["ids"].to_pylist() == [["i00", "i02", "i03"]]
    features = Extractor(setup.network, "cpu", BATCH)(IMAGES[[0, 2, 3]])
    want = sisom.score(setup.bank, features)
    table = setup.scorer()(first)
    for name in SCORES:
        assert table[name].to_pylist()[:3] == getattr(want, name).tolist()
    assert table["predicted"].to_pylist()[:3] == [TAXONOMY[i] for i in want.predicted]


@pytest.mark.parametrize("score", ["sisome", "sisom", "energy"])
def test_the_verdict_is_the_configured_score_above_the_threshold(setup: Setup, score: str) -> None:
    every = pa.concat_tables([setup.scorer()(batch) for batch in setup.batches])
    values = [value for value in every[score].to_pylist() if value is not None]
    limit = sorted(values)[len(values) // 2]
    judged = pa.concat_tables([setup.scorer(score, threshold=limit)(batch) for batch in setup.batches])
    scored = [row for row in judged.to_pylist() if row["reason"] is None]
    assert [row["is_ood"] for row in scored] == [row[score] > limit for row in scored]
    assert {row["is_ood"] for row in scored} == {True, False}


def test_without_a_threshold_nothing_is_strange(setup: Setup) -> None:
    table = setup.scorer(threshold=None)(setup.batches[0])
    assert set(table["is_ood"].to_pylist()) == {False, None}


def test_a_batch_without_a_readable_image_passes_through(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    pq.write_table(pa.table({"id": ["a", "b"], "image": [b"", b"x"]}), tmp_path / "pool" / "p.parquet")
    (batch,) = batches(tmp_path / "pool", tmp_path / "workspace")
    assert setup.scorer()(batch).select(["id", "sisome", "reason"]).to_pylist() == [
        {"id": "a", "sisome": None, "reason": "no bytes"},
        {"id": "b", "sisome": None, "reason": "not an image: starts with 78"},
    ]


def test_no_batches_are_no_rows(setup: Setup) -> None:
    assert setup.scorer()(setup.batches[0].slice(0, 0)).equals(SCORED.empty_table())


def test_normalising_by_hand() -> None:
    model = Model(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    # (0 - mean) / std and (1 - mean) / std
    assert normalise(pixels, model).squeeze().tolist() == [[0.0, 1.0], [-1.0, 1.0], [-4.0, 0.0]]


def test_a_network_built_twice_is_the_same_and_frozen(setup: Setup) -> None:
    one, two = setup.network.build("cpu"), setup.network.build("cpu")
    assert not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())
    images = normalise(torch.from_numpy(noise(3, 5)), MODEL)
    assert torch.equal(one(images), two(images))


@pytest.mark.parametrize("tiles", [1, 1 << 12, 1 << 20])
def test_memory_for_distances_changes_no_bit(setup: Setup, tiles: int) -> None:
    options = ScoringOptions(TAXONOMY, "sisome", BATCH, "cpu", 1, tiles=tiles)
    found = Scorer(setup.network, setup.bank, options)
    for batch in setup.batches:
        assert found(batch).equals(setup.scorer()(batch))
