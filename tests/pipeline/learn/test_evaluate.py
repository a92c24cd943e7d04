"""Accuracy on the test set, of a network whose predictions are known; on a real cluster."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.errors import LabelError, PoolError
from pipeline.learn import evaluate
from pipeline.model.network import Network
from sisom.network.models import build_model, save_weights
from tests.support.scoring_lab import SIZE, TAXONOMY, config_of

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def network() -> Network:
    """Says `dog` to every image."""
    net = build_model("resnet10_w16", len(TAXONOMY), seed=0)
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    return Network(config_of("unused").model, len(TAXONOMY), np.frombuffer(save_weights(net), np.uint8))


def set_of(
    folder: Path, labels: list[str | None], bad: Mapping[int, bytes | None] | None = None, **changes: Any
) -> Config:
    """A test set of black images; those at the places of `bad` are these bytes instead."""
    sink = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE)).save(sink, "PNG")
    images = [(bad or {}).get(i, sink.getvalue()) for i in range(len(labels))]
    table = pa.table({"id": [str(i) for i in range(len(labels))], "image": images, "label": labels})
    pq.write_table(table, folder / "test.parquet", row_group_size=3)
    return config_of("unused", test={"uri": str(folder / "test.parquet")}, **changes)


def test_accuracy_by_class(tmp_path: Path, cluster: Cluster, network: Network) -> None:
    config = set_of(tmp_path, ["dog", "dog", "cat", "dog", "cow"])
    found = evaluate.test_accuracy(network, config, cluster)
    assert found.model_dump() == {
        "accuracy": 0.6,
        "images": 5,
        "per_class": {"cat": 0.0, "dog": 1.0, "cow": 0.0},
        "open_accuracy": 0.6,
        "undiscovered": 0,
        "unreadable": 0,
        "unreadable_images": (),
    }


def test_a_test_set_may_be_of_hugging_face(tmp_path: Path, cluster: Cluster, network: Network) -> None:
    """Images in a struct, no ids; one of them is only a path."""
    config = set_of(tmp_path, ["dog", "cat", "dog"])
    table = pq.read_table(tmp_path / "test.parquet")
    images = [{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(table["image"].to_pylist())]
    images[2]["bytes"] = None
    pq.write_table(pa.table({"image": images, "label": table["label"]}), tmp_path / "test.parquet")
    found = evaluate.test_accuracy(network, config, cluster)
    assert (found.accuracy, found.images, found.unreadable) == (0.5, 2, 1)
    assert [(row.id, row.reason) for row in found.unreadable_images] == [
        ("2.png", "no bytes: only a path, '2.png'")
    ]


def test_without_a_test_set_nothing_is_known(cluster: Cluster, network: Network) -> None:
    found = evaluate.test_accuracy(network, config_of("unused"), cluster)
    assert found.accuracy is None
    assert found.model_dump(exclude_unset=True) == {}


def test_a_class_that_has_not_joined_counts_apart(tmp_path: Path, cluster: Cluster, network: Network) -> None:
    labels = ["dog", "dog", "cat", "dog", "owl", "bat", "owl", "owl"]
    closed = set_of(tmp_path, labels)
    with pytest.raises(LabelError, match="'owl'"):
        evaluate.test_accuracy(network, closed, cluster)
    found = evaluate.test_accuracy(network, set_of(tmp_path, labels, open_world={"promote_at": 5}), cluster)
    assert (found.accuracy, found.images) == (0.75, 4)
    assert (found.open_accuracy, found.undiscovered) == (3 / 8, 4)
    assert found.per_class == {"cat": 0.0, "dog": 1.0}


def test_nothing_of_a_known_class_is_refused(tmp_path: Path, cluster: Cluster, network: Network) -> None:
    config = set_of(tmp_path, ["owl", "owl"], open_world={"promote_at": 5})
    with pytest.raises(PoolError, match=r"no readable image of a known class"):
        evaluate.test_accuracy(network, config, cluster)


def test_an_image_that_nobody_can_read_is_counted_and_named(
    tmp_path: Path, cluster: Cluster, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two dogs, a cat and an owl the network says dog: 2/3 of the known, 2/4 of all, and three that are no image."""
    labels: list[str | None] = ["dog", "cat", "dog", "dog", "cat", "owl", "owl"]
    bad = {1: b"this is not an image", 3: None, 6: b"GIF89a"}
    config = set_of(tmp_path, labels, bad, open_world={"promote_at": 5})
    found = evaluate.test_accuracy(network, config, cluster)
    assert (found.accuracy, found.images) == (2 / 3, 3)
    assert (found.open_accuracy, found.undiscovered) == (0.5, 1)
    assert found.unreadable == 3
    uri = str(tmp_path / "test.parquet")
    assert [(row.id, row.reason.partition(":")[0]) for row in found.unreadable_images] == [
        ("1", "not an image"), ("3", "no bytes"), ("6", "broken GIF"),
    ]  # fmt: skip
    assert {row.uri for row in found.unreadable_images} == {uri}
    assert found.images + found.undiscovered + found.unreadable == len(labels)
    monkeypatch.setattr(evaluate, "MOST_NAMED", 2)
    cut = evaluate.test_accuracy(network, config, cluster)
    assert (cut.unreadable, [row.id for row in cut.unreadable_images]) == (3, ["1", "3"])


def test_a_set_that_nobody_can_read_says_why(tmp_path: Path, cluster: Cluster, network: Network) -> None:
    config = set_of(tmp_path, ["dog", "cat"], {0: b"no picture", 1: None})
    with pytest.raises(
        PoolError,
        match=r"no readable image of a known class; 2 cannot be read, the first of them '0' in .*: not an image",
    ):
        evaluate.test_accuracy(network, config, cluster)


@pytest.mark.parametrize("world", [{}, {"open_world": {"promote_at": 5}}], ids=["closed", "open"])
def test_an_image_without_a_label_is_refused(
    tmp_path: Path, cluster: Cluster, network: Network, world: dict[str, Any]
) -> None:
    config = set_of(tmp_path, ["dog", None], **world)
    with pytest.raises(LabelError, match=r"test\.parquet has no label for '1'"):
        evaluate.test_accuracy(network, config, cluster)


def test_images_in_folders_or_beside_a_table_are_a_test_set_too(
    tmp_path: Path, cluster: Cluster, network: Network
) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE)).save(sink, "PNG")
    for name in ("dog/1.png", "dog/2.png", "cat/1.png", "hound/9.png"):
        (tmp_path / "folders" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folders" / name).write_bytes(sink.getvalue())
    (tmp_path / "table").mkdir()
    for name in ("a.png", "b.png", "c.png", "d.png"):
        (tmp_path / "table" / name).write_bytes(sink.getvalue() if name != "c.png" else b"no image")
    (tmp_path / "table/truth.csv").write_text("id,label\na.png,dog\nb.png,cat\nc.png,dog\n")
    renamed = {"labels": {"renamed": {"hound": "dog"}}}
    for place, accuracy, images in (("folders", 0.75, 4), ("table", 0.5, 2)):
        config = config_of("unused", test={"uri": str(tmp_path / place)}, **renamed)
        found = evaluate.test_accuracy(network, config, cluster)
        assert (found.accuracy, found.images) == (accuracy, images)
    with pytest.raises(LabelError, match="'hound'"):
        evaluate.test_accuracy(network, config_of("unused", test={"uri": str(tmp_path / "folders")}), cluster)
