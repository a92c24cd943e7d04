"""Rounds that begin with labeled images outside the pool; an image that is withdrawn leaves the next bank."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.labels.forms.contact_sheet import anchor
from tests.e2e.conftest import Terminal
from tests.support.pools import png

pytestmark = pytest.mark.ray

CONFIG = {
    "workspace": "work",
    "rounds": 2,
    "taxonomy": ["dark", "light"],
    "pool": {"uri": "pool"},
    "test": {"uri": "test"},
    "oracle": {"kind": "people"},
    "labels": {"sets": [{"uri": "old"}]},
    "model": {"name": "resnet10_w16", "layers": ["layer1", "avgpool"], "image_size": 8},
    "train": {"epochs": 2, "batch_size": 8, "held_out": 0.0, "checkpoint_every": 2},
    "slopes": {"search": "none", "default": 10.0},
    "bank": {"subset": 1.0},
    "query": {"size": 4},
    "resources": {"actors": 1},
}


def images(folder: Path, names: list[str]) -> None:
    """Dark images where the name says so, light ones elsewhere."""
    for i, name in enumerate(names):
        place = folder / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(i if "dark" in name else 255 - i))


def test_a_project_begins_with_a_set_and_goes_on_without_what_was_withdrawn(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    images(tmp_path / "pool", [f"{kind}-{i}" for i in range(8) for kind in ("dark", "light")])
    images(tmp_path / "old", [f"{kind}/{i}" for i in range(6) for kind in ("dark", "light")])
    images(tmp_path / "test", [f"{kind}/{i}" for i in range(3) for kind in ("dark", "light")])
    said = terminal.run("run", "c.yaml", "--rounds", "1")
    assert "12 labeled images of 1 sets outside the pool" in said.stdout + said.stderr
    first = tmp_path / "work/rounds/000"
    labeled = pq.read_table(first / "labeled.parquet").to_pylist()
    assert [row["id"] for row in labeled] == sorted(
        f"{k}/{i}.png" for i in range(6) for k in ("dark", "light")
    )
    metrics = json.loads((first / "metrics.json").read_text())
    assert metrics["labels_per_class"] == {"dark": 6, "light": 6}
    assert json.loads((first / "evaluation.json").read_text())["images"] == 6

    terminal.run("labels", "export", "c.yaml", "--to", "csv", "--out", "q.csv")
    page = (tmp_path / "q.html").read_text()
    asked = pq.read_table(first / "query.parquet").to_pylist()
    assert all(f'id="{anchor(row)}"' in page and f"<bdi>{row['id']}</bdi>" in page for row in asked)
    (tmp_path / "labels.csv").write_text(
        "ID, Label\n" + "".join(f"{row['id']},{row['id'].partition('-')[0]}\n" for row in asked)
    )
    terminal.run("labels", "import", "c.yaml", "labels.csv")
    gone = [asked[0]["id"], "dark/0.png"]
    said = terminal.run("labels", "withdraw", "c.yaml", *gone)
    assert (
        "The model and the bank of 000 have seen one of them, and the report of 000 has shown one"
        in said.stdout
    )
    assert not (first / "report.html").exists()
    assert "showed an image that was withdrawn" in terminal.run("report", "c.yaml", expect=2).stderr

    terminal.run("run", "c.yaml")
    second = tmp_path / "work/rounds/001"
    ids = pq.read_table(second / "labeled.parquet")["id"].to_pylist()
    assert ids == sorted({*(row["id"] for row in labeled), *(row["id"] for row in asked)} - {*gone})
    assert not {*gone}.intersection(pq.read_table(second / "query.parquet")["id"].to_pylist())
    assert json.loads((second / "metrics.json").read_text())["labeled_total"] == 11 + 3
    assert json.loads((second / "metrics.json").read_text())["bank_points"] == 11 + 3
