"""Do new images score like those of the last round? A round's artefacts are made by hand; nothing needs Ray."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.commands.drift import FEWEST, drift, growth
from pipeline.config.project import Config
from pipeline.config.sections import Storage
from pipeline.pool.shards import survey, units
from pipeline.pool.snapshot import SnapshotWriter
from pipeline.pool.source import PoolSource
from pipeline.rounds.stored import StoredRound
from pipeline.store.opening import open_store
from pipeline.types import SCORES
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from pipeline.workspace.keys import round_key
from tests.support.corpus import poisoned
from tests.support.scoring_lab import SIZE, TAXONOMY, Lab, config_of, image

POISON = Path(__file__).parents[2] / "support" / "poison"


def last(workspace: Workspace, config: Config) -> StoredRound:
    return StoredRound(workspace, 0, config)


def flat(seed: int) -> bytes:
    """A PNG of one bright colour: nothing like noise."""
    sink = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), tuple(np.random.default_rng(seed).integers(200, 256, 3).tolist())).save(
        sink, "PNG"
    )
    return sink.getvalue()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.build(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def project(tmp_path: Path, lab: Lab) -> tuple[Workspace, Config]:
    """Round 000 over 150 images of noise, with its listing, network, bank and scores."""
    pool = tmp_path / "pool"
    (pool / "a").mkdir(parents=True)
    for n in range(150):
        (pool / f"a/{n:03d}.png").write_bytes(image(n))
    config = config_of(pool)
    config = config.model_copy(update={"scoring": config.scoring.model_copy(update={"score": "energy"})})
    workspace = Workspace(open_store(str(tmp_path / "work"), Storage()))
    writer = SnapshotWriter(Folder.of_round(workspace, 0))
    source = PoolSource.of(config)
    for unit in units(source):
        for group in survey(unit, source).groups:
            writer.add(group.listed, group.digest)
    writer.close()
    plan = {"config": config.frozen(), "taxonomy": TAXONOMY, "scoring": {"device": "cpu", "threads": 1}}
    workspace.write_json(round_key(0, "plan.json"), plan)
    workspace.store.put(round_key(0, "model/model.safetensors"), lab.network.weights.tobytes())
    workspace.store.put(round_key(0, "bank.safetensors"), lab.bank.to_bytes())
    workspace.write_table(round_key(0, "scores/00000.parquet"), scores(lab, [image(n) for n in range(150)]))
    return workspace, config


def scores(lab: Lab, images: list[bytes]) -> pa.Table:
    import sisom
    from pipeline.images.decode import decode_batch
    from pipeline.model.extractor import Extractor

    pixels = decode_batch(images, config_of("unused").model.transform(10**6)).pixels
    found = sisom.score(lab.bank, Extractor(lab.network, "cpu", 16)(pixels))
    return pa.Table.from_pylist([{"energy": float(v)} for v in found.energy], schema=SCORES)


def add(config: Config, name: str, images: list[bytes], form: str) -> None:
    folder = Path(config.pool.uri)
    if form == "images":
        (folder / name).mkdir()
        for n, data in enumerate(images):
            (folder / name / f"{n:03d}.png").write_bytes(data)
    else:
        ids = [f"{name}-{n}" for n in range(len(images))]
        pq.write_table(pa.table({"id": ids, "image": images}), folder / f"{name}.parquet", row_group_size=30)


def test_a_pool_that_stands_still_has_no_drift(project: tuple[Workspace, Config]) -> None:
    found = growth(last(*project))
    assert (found.share, found.sample) == (0.0, ())
    assert drift(last(*project), found) is None


@pytest.mark.parametrize("form", ["images", "parquet"])
def test_images_like_the_old_ones_are_no_drift_and_others_are(
    project: tuple[Workspace, Config], form: str
) -> None:
    workspace, config = project
    add(config, "b", [image(n) for n in range(1000, 1060)], form)
    tested = drift(last(workspace, config), growth(last(workspace, config)))
    assert tested is not None
    p, images = tested
    assert images == 60
    assert p > 1e-3
    assert drift(last(workspace, config), growth(last(workspace, config))) == tested  # the same again
    add(config, "c", [flat(n) for n in range(60)], form)
    found = growth(last(workspace, config))
    assert found.share == (120 / 150 if form == "images" else 2 / 150)
    tested = drift(last(workspace, config), found)
    assert tested is not None
    assert tested[0] < 1e-6
    assert tested[1] == 120


def test_no_more_images_are_looked_at_than_configured(project: tuple[Workspace, Config]) -> None:
    workspace, config = project
    few = config.model_copy(update={"tick": config.tick.model_copy(update={"drift_images": 40})})
    for name in "bcd":
        add(config, name, [image(n) for n in range(50)], "parquet")
    tested = drift(last(workspace, few), growth(last(workspace, few)))
    assert tested is not None
    assert tested[1] == 40


def test_too_few_new_images_and_broken_ones_say_nothing(project: tuple[Workspace, Config]) -> None:
    workspace, config = project
    add(config, "b", [image(n) for n in range(FEWEST - 1)], "parquet")
    assert drift(last(workspace, config), growth(last(workspace, config))) is None
    add(config, "c", [b"no image"] * 50, "parquet")
    (Path(config.pool.uri) / "d.parquet").write_bytes(b"PAR1 or so")
    assert drift(last(workspace, config), growth(last(workspace, config))) is None


def test_the_scale_of_new_images_is_that_of_the_round(project: tuple[Workspace, Config], lab: Lab) -> None:
    """The test compares scores with the stored ones: other stored scores are another answer."""
    workspace, config = project
    add(config, "b", [image(n) for n in range(1000, 1060)], "images")
    table: Any = scores(lab, [flat(n) for n in range(100)])
    workspace.write_table(round_key(0, "scores/00000.parquet"), table)
    tested = drift(last(workspace, config), growth(last(workspace, config)))
    assert tested is not None
    assert tested[0] < 1e-6


def test_an_image_that_kills_its_decoder_does_not_kill_the_tick(
    project: tuple[Workspace, Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(POISON))
    workspace, config = project
    add(config, "b", [image(n) for n in range(1000, 1060)] + [poisoned(image(1), "SEGV")], "parquet")
    tested = drift(last(workspace, config), growth(last(workspace, config)))
    assert tested is not None
    assert tested[1] == 60
