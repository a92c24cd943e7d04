"""Questions out of a workspace that is written by hand."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.ask.selection import settled
from pipeline.config.project import Config
from pipeline.errors import UserError
from pipeline.labels.export_questions import ENDS, Pictures, export
from pipeline.labels.forms.rows import QUESTIONS, READERS
from pipeline.pool.shards import check_pool
from pipeline.pool.source import PoolSource
from pipeline.workspace.keys import round_key
from tests.support.corpus import cases
from tests.support.hand_off import TAXONOMY, Project, png
from tests.support.shown_pictures import check_shown

MakeConfig = Callable[..., Config]


def read(form: str, project: Project, place: str) -> list[dict[str, Any]]:
    data = project.store.get(place.rpartition("/")[2])
    return [task["data"] for task in json.loads(data)] if form == "label-studio" else [
        dict(answer.values) for answer in READERS[form](data, "")
    ]  # fmt: skip


def test_only_open_questions_go_out_unless_all_are_wanted(project: Project) -> None:
    project.take(project.write("x.csv", {"id": "a", "label": "cat"}, {"id": "b", "status": "skipped"}))
    table = pq.read_table(project.out("parquet"))
    assert table.schema == QUESTIONS
    assert table.select(["round", "rank", "id", "predicted", "reason"]).to_pylist() == [
        {"round": 0, "rank": i, "id": name, "predicted": "cat", "reason": "why"}
        for i, name in [(2, "c"), (3, "d"), (4, "e")]
    ]
    for name in ("label", "status", "annotator", "at"):
        assert table[name].null_count == 3
    assert pq.read_table(project.out("parquet", "all", everything=True))["id"].to_pylist() == list("abcde")


def test_a_tie_goes_out_again(project: Project) -> None:
    one = project.write("1.csv", {"id": "a", "label": "cat", "annotator": "ann"})
    two = project.write("2.csv", {"id": "a", "label": "dog", "annotator": "bob"}, {"id": "b", "label": "dog"})
    found = project.take(one, two)
    tie = {
        "id": "a",
        "answers": {"ann": "'cat'", "bob": "'dog'"},
        "outcome": "a tie: it counts as not answered",
    }
    assert found["disagree"] == [tie]
    labels = project.labels()
    assert labels.tied() == {"a"}
    assert labels.answered() == {"b"}
    assert settled(project.workspace, 1, labels) == {"b", "c", "d", "e"}
    assert "a" in [row["id"] for row in read("jsonl", project, project.out("jsonl"))]
    found = project.take(project.write("3.csv", {"id": "a", "label": "dog", "annotator": "cem"}))
    assert found["disagree"][0]["outcome"] == "'dog'"
    assert project.labels().labeled() == (["a", "b"], ["dog", "dog"])


def test_a_file_that_is_there_is_never_overwritten(project: Project) -> None:
    for form in ENDS:
        place = project.out(form)
        before = Path(place).read_bytes()
        with pytest.raises(UserError, match="exists already and may hold answers"):
            project.out(form, everything=True)
        assert Path(place).read_bytes() == before


def test_the_interface_beside_the_tasks_is_not_overwritten_either(project: Project) -> None:
    project.store.put("questions.xml", b"mine")
    with pytest.raises(UserError, match=r"questions\.xml exists already"):
        project.out("label-studio")
    assert not project.store.exists("questions.json")


def test_open_questions_of_earlier_rounds_are_told(project: Project) -> None:
    project.take(project.write("x.csv", {"id": "a", "label": "cat"}, {"id": "b", "label": "cat"}))
    project.commit(1, ["f"])
    found = export(project.config, "csv", f"{project.base}/q.csv")
    assert (found["round"], found["questions"], found["open_before"]) == (1, 1, {0: 3})
    assert export(project.config, "csv", f"{project.base}/r.csv", index=0)["questions"] == 3


@pytest.mark.parametrize(
    ("form", "out", "message"),
    [
        ("csv", "q.txt", r"name it \*\.csv"),
        ("csv", ".csv", r"name it \*\.csv"),
        ("label-studio", "q.csv", r"name it \*\.json"),
        ("csv", "s3://q.csv", "write it as s3://bucket/prefix"),
        ("csv", "gs://x/q.csv", "gs:// is not known here"),
    ],
)
def test_a_place_that_can_not_be(project: Project, form: str, out: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export(project.config, form, out)


def test_images_are_embedded_where_an_object_holds_many(project: Project) -> None:
    for form in ENDS:
        place = project.out(form)
        data = project.store.get(place.rpartition("/")[2])
        if form == "csv":
            continue
        images = [task["data"]["image"] for task in json.loads(data)] if form == "label-studio" else []
        images = images or [data.decode() if form != "parquet" else pq.read_table(place)["image"][0].as_py()]
        assert all("data:image/png;base64,iVBOR" in image for image in images)
        with pytest.raises(UserError, match="holds many; use --images embedded"):
            project.out(form, "uri", pictures=Pictures("uri"))


@pytest.mark.slow
def test_an_export_shows_what_the_model_sees(project: Project) -> None:
    """Every form that is decoded, whole: nobody labels another picture than the one that is scored."""
    corpus = {case.name: case.data for case in cases(0) if case.fate == "scored"}
    project.pool(corpus)
    project.commit(0, list(corpus))
    tasks = json.loads(project.store.get(project.out("label-studio").rpartition("/")[2]))
    shown = {task["data"]["image_id"]: task["data"]["image"] for task in tasks}
    assert set(shown) == set(corpus)
    begin = "data:image/png;base64,"
    assert all(image.startswith(begin) for image in shown.values())
    pngs = {name: base64.b64decode(image[len(begin) :]) for name, image in shown.items()}
    assert sum(check_shown(corpus[name], png, 256) for name, png in pngs.items()) > 150


@pytest.mark.slow
def test_an_export_leaves_out_what_the_model_refuses(project: Project) -> None:
    refused = {case.name: case.data for case in cases(0) if case.fate == "quarantined" and case.data}
    project.pool({**refused, "a": png(1)})
    project.commit(0, ["a", *refused])
    found = export(project.config, "label-studio", f"{project.base}/q.json")
    assert found["questions"] == 1
    assert found["without_image"] == dict.fromkeys(refused, "cannot be drawn")


def test_a_table_has_links_to_the_page_beside_it(project: Project) -> None:
    place = project.out("csv", "my questions")
    with pytest.raises(UserError, match="holds many; use --images embedded"):
        project.out("csv", "uri", pictures=Pictures("uri"))
    rows = list(csv.DictReader(io.StringIO(Path(place).read_bytes().decode("utf-8-sig"))))
    assert [row["image"] for row in rows] == [f"my%20questions.html#q{i}" for i in range(5)]
    assert max(len(cell) for row in rows for cell in row.values()) < 200
    page = Path(place).with_suffix(".html").read_text()
    assert page.count('src="data:image/png;base64,iVBOR') == 5
    for row in rows:
        assert f'id="{row["image"].partition("#")[2]}"' in page and f"<bdi>{row['id']}</bdi>" in page
    with pytest.raises(UserError, match=r"my questions\.csv exists already"):
        project.out("csv", "my questions")


def test_a_place_in_the_workspace_is_refused(project: Project) -> None:
    """An open question there would be read as an answer."""
    for form, end in ENDS.items():
        with pytest.raises(UserError, match=r"lies in the workspace"):
            export(project.config, form, f"{project.config.workspace}/labels/001-answers{end}")
    assert project.workspace.keys("labels") == []


def test_an_image_that_is_gone_is_not_asked_about(project: Project) -> None:
    project.pool({name: png(i) for i, name in enumerate("abc")} | {"d": b"no image"})
    found = export(project.config, "csv", f"{project.base}/q.csv")
    assert (found["questions"], found["without_image"]) == (
        3,
        {"d": "cannot be drawn", "e": "no longer in the pool"},
    )


@pytest.fixture
def of_objects(base_uri: str, make_config: MakeConfig) -> Project:
    """A project whose pool is image objects."""
    config = make_config(workspace=f"{base_uri}/work", pool={"uri": f"{base_uri}/pool"}, taxonomy=TAXONOMY)
    project = Project(base_uri, config)
    for i, name in enumerate(("a b.png", "x/ü%.png")):
        project.store.put(f"pool/{name}", png(i))
    check_pool(PoolSource.of(config))
    asked = ["a b.png", "x/ü%.png"]
    project.commit(0, asked, {name: project.store.url(f"pool/{name}") for name in asked})
    return project


def test_image_objects_are_shown_by_their_uri(of_objects: Project) -> None:
    project = of_objects
    (first, second) = csv.DictReader(
        io.StringIO(project.store.get(project.out("csv").rpartition("/")[2]).decode("utf-8-sig"))
    )
    assert first["image"] == first["uri"] == project.store.url("pool/a b.png")
    assert second["fingerprint"].startswith("sha256:")
    (task, _) = read("label-studio", project, project.out("label-studio"))
    assert task["image"].startswith("data:image/png")
    (task, _) = read("label-studio", project, project.out("label-studio", "uri", pictures=Pictures("uri")))
    assert task["image"] == first["uri"]
    assert project.take(
        project.write("x.csv", {"id": second["id"], "label": "cat", "fingerprint": second["fingerprint"]})
    )["taken"]


def test_presigned_links_open_without_credentials(of_objects: Project) -> None:
    project = of_objects
    if not project.base.startswith("s3://"):
        with pytest.raises(UserError, match="only objects on S3 have presigned links"):
            project.out("csv", pictures=Pictures("presigned"))
        return
    rows = csv.DictReader(
        io.StringIO(
            project.store.get(
                project.out("csv", pictures=Pictures("presigned", 2)).rpartition("/")[2]
            ).decode("utf-8-sig")
        )
    )
    for i, row in enumerate(rows):
        with urlopen(row["image"]) as answer:
            assert answer.read() == png(i)
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in row["image"]
        assert "X-Amz-Expires=7200" in row["image"]
        assert "canary" not in row["image"]


@pytest.mark.parametrize("form", list(ENDS))
def test_metadata_of_a_query_go_out_with_its_questions(project: Project, form: str) -> None:
    key = round_key(0, "query.parquet")
    query = project.workspace.read_table(key)
    cameras = [f"camera {n}" for n in range(query.num_rows)]
    project.workspace.write_table(key, query.append_column("camera", pa.array(cameras)))
    data = project.store.get(project.out(form).rpartition("/")[2])
    if form == "label-studio":
        rows = [task["data"] for task in json.loads(data)]
    elif form == "parquet":
        rows = pq.read_table(io.BytesIO(data)).to_pylist()
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    else:
        rows = [json.loads(line) for line in data.splitlines()]
    assert [row["camera"] for row in rows] == cameras
