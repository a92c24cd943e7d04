"""Questions out of a workspace and answers back into it; the workspace is written by hand, as a round leaves it."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.ask.selection import settled
from pipeline.config.project import Config
from pipeline.errors import LabelError, UserError
from pipeline.labels.export_questions import ENDS, Pictures, export
from pipeline.labels.files import LabelFiles, label_keys
from pipeline.labels.forms import QUESTIONS, READERS, WRITERS
from pipeline.labels.import_answers import take_in
from pipeline.labels.tally import Labels
from pipeline.pool.shards import check_pool
from pipeline.pool.source import PoolSource
from pipeline.store.opening import Store, open_store
from pipeline.types import QUERY, SCORES
from pipeline.workspace.artefacts import Workspace, open_workspace
from pipeline.workspace.keys import round_key

MakeConfig = Callable[..., Config]
TAXONOMY = ["cat", "dog", "=1+1", " a ", "x,y;z", "'q'", "unknown-class", "café"]


def png(value: int) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (8, 8), value).save(sink, "PNG")
    return sink.getvalue()


@dataclass
class Project:
    """A workspace with committed rounds, beside its pool, below one URI."""

    base: str
    config: Config

    @classmethod
    def lay(cls, base: str, make_config: MakeConfig, ids: Sequence[str], asked: Sequence[str]) -> Project:
        """One Parquet object that holds `ids`, and one round that has asked about some of them."""
        config = make_config(workspace=f"{base}/work", pool={"uri": f"{base}/pool"}, taxonomy=TAXONOMY)
        project = cls(base, config)
        project.pool({name: png(i) for i, name in enumerate(ids)})
        project.commit(0, asked)
        return project

    @property
    def workspace(self) -> Workspace:
        return open_workspace(self.config)

    @property
    def store(self) -> Store:
        return open_store(self.base, self.config.storage)

    def pool(self, images: Mapping[str, bytes]) -> None:
        sink = io.BytesIO()
        table = pa.table(
            {"id": pa.array(images, pa.string()), "image": pa.array(images.values(), pa.binary())}
        )
        pq.write_table(table, sink, row_group_size=3)
        self.store.put("pool/a.parquet", sink.getvalue())

    def commit(
        self, index: int, asked: Sequence[str], uris: Mapping[str, str] | None = None, **plan: Any
    ) -> None:
        where = uris or dict.fromkeys(asked, self.store.url("pool/a.parquet"))
        query = [
            {"rank": i, "id": name, "uri": where[name], "score": -i / 3, "predicted": "cat", "reason": "why"}
            for i, name in enumerate(asked)
        ]
        self.workspace.write_table(
            round_key(index, "query.parquet"), pa.Table.from_pylist(query, schema=QUERY)
        )
        names = (
            pq.read_table(io.BytesIO(self.store.get("pool/a.parquet")))["id"].to_pylist()
            if uris is None
            else asked
        )
        scored = pa.Table.from_pylist([{"id": name} for name in names], schema=SCORES)
        self.workspace.write_table(round_key(index, "scores/00000.parquet"), scored)
        self.workspace.write_json(round_key(index, "plan.json"), {"labels": [], "taxonomy": TAXONOMY, **plan})
        self.workspace.write_json(round_key(index, "round.json"), {})

    def out(self, form: str, name: str = "questions", **more: Any) -> str:
        place = f"{self.base}/{name}{ENDS[form]}"
        found = export(self.config, form, place, **more)
        assert found["files"][0] == place
        return place

    def write(self, name: str, *rows: Mapping[str, Any]) -> str:
        """A file of answers; columns that no row has are not in it."""
        names = [n for n in QUESTIONS.names if n in {"id", "label"}.union(*rows)]
        table = pa.Table.from_pylist([{**dict.fromkeys(names), **row} for row in rows], schema=pa.schema(
            [field for field in QUESTIONS if field.name in names]
        ))  # fmt: skip
        self.store.put(name, WRITERS[name.rpartition(".")[2]](table))
        return f"{self.base}/{name}"

    def take(self, *files: str, **more: Any) -> dict[str, Any]:
        return take_in(self.config, files, **more)

    def labels(self) -> Labels:
        return LabelFiles.read(self.workspace).labels(self.config.taxonomy)


@pytest.fixture
def project(tmp_path: Path, make_config: MakeConfig) -> Project:
    return Project.lay(str(tmp_path), make_config, list("abcdefgh"), list("abcde"))


def why(found: Mapping[str, Any]) -> dict[str, str]:
    return {row["id"]: row["why"] for row in found["refused"]}


# ------------------------------------------------------------------------------------------------- there and back


@dataclass(frozen=True)
class Said:
    """What an annotator says about one image."""

    status: str
    label: str | None
    annotator: str
    at: datetime | None


names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]), min_size=1, max_size=6)
opinions = st.one_of(
    st.tuples(st.just("labeled"), st.sampled_from(TAXONOMY)),
    st.tuples(st.just("unknown-class"), st.none() | names.filter(lambda name: name not in TAXONOMY)),
    st.tuples(st.sampled_from(["out-of-world", "skipped"]), st.none()),
)
said = st.builds(
    lambda opinion, annotator, at: Said(*opinion, annotator, at),
    opinions,
    names.map(lambda name: f"{name}@x"),
    st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
)
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6) | st.sampled_from(
    ["=1+1", "'=1", "a\nb", "a\r\nb", '"', " a ", "-", "@", "ﬀ✓𝄞", "\x00", "0012", "1e5"]
)


def filled(form: str, data: bytes, answers: Mapping[str, Said]) -> bytes:
    """A file of questions with answers written into it, as a careful editor would; what isn't answered stays empty."""
    if form == "label-studio":
        tasks = json.loads(data)
        for task in tasks:
            answer = answers.get(task["data"]["image_id"])
            task["annotations"] = [annotated(answer)] if answer else []
        return json.dumps(tasks).encode()
    if form == "csv":
        head, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        found = [answer.values["id"] for answer in READERS["csv"](data, "")]
        for name, row in zip(found, rows, strict=True):
            if name in answers:
                answer = answers[name]
                cells = {"label": answer.label, "status": answer.status, "annotator": answer.annotator,
                         "at": answer.at and answer.at.isoformat()}  # fmt: skip
                for column, value in cells.items():
                    row[head.index(column)] = value or ""
        sink = io.StringIO(newline="")
        csv.writer(sink, delimiter=";", quoting=csv.QUOTE_ALL).writerows([head, *rows])
        return sink.getvalue().encode()
    if form == "jsonl":
        lines = [json.loads(line) for line in data.decode().split("\n")[:-1]]
        for row in lines:
            if row["id"] in answers:
                answer = answers[row["id"]]
                row |= vars(answer) | {"at": answer.at and answer.at.isoformat()}
        return "\n".join(json.dumps(row) for row in lines).encode()
    table = pq.read_table(io.BytesIO(data)).to_pylist()
    for row in table:
        row |= vars(answers[row["id"]]) if row["id"] in answers else {}
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table, schema=QUESTIONS), sink)
    return sink.getvalue()


def annotated(answer: Said) -> dict[str, Any]:
    controls = {
        "labeled": [("label", "choices", answer.label)],
        "unknown-class": [("status", "choices", "unknown-class"), ("proposed", "text", answer.label)],
        "out-of-world": [("status", "choices", "out-of-world")],
        "skipped": [],
    }[answer.status]
    return {
        "completed_by": {"id": 1, "email": answer.annotator},
        "was_cancelled": answer.status == "skipped",
        "updated_at": answer.at and answer.at.isoformat(),
        "result": [
            {"from_name": name, "to_name": "image", "value": {kind: [value]}}
            for name, kind, value in controls
            if value is not None
        ],
    }


@pytest.mark.parametrize("form", sorted(ENDS))
@settings(max_examples=25)
@given(pool=st.dictionaries(ids, st.none() | said, min_size=1, max_size=5))
def test_export_edit_import_loses_nothing(
    form: str, pool: dict[str, Said | None], make_config: MakeConfig
) -> None:
    answers = {name: answer for name, answer in pool.items() if answer is not None}
    with tempfile.TemporaryDirectory() as folder:
        project = Project.lay(folder, make_config, list(pool), list(pool))
        place = project.out(form)
        Path(place).write_bytes(filled(form, Path(place).read_bytes(), answers))
        found = project.take(place)
        assert found["refused"] == found["remarks"] == found["disagree"] == []
        assert (found["taken"], found["known"]) == (len(answers), 0)
        assert found["open"] == (0 if form == "label-studio" else len(pool) - len(answers))
        rows = {row.pop("id"): row for row in project.labels().table.to_pylist()}
        assert rows == {name: vars(answer) for name, answer in answers.items()}
        before = {key: project.workspace.store.get(key) for key in project.workspace.keys("")}
        again = project.take(place)
        assert (again["taken"], again["known"], again["written"]) == (0, len(answers), False)
        assert {key: project.workspace.store.get(key) for key in project.workspace.keys("")} == before


@pytest.mark.parametrize("form", sorted(ENDS))
def test_there_and_back_on_disk_and_s3(form: str, base_uri: str, make_config: MakeConfig) -> None:
    project = Project.lay(base_uri, make_config, list("abcd"), list("abc"))
    place = project.out(form)
    name = place.rpartition("/")[2]
    answers = {n: Said("labeled", "dog", "ann@x", None) for n in "ab"}
    project.store.put(name, filled(form, project.store.get(name), answers))
    found = project.take(place)
    assert (found["taken"], found["refused"], found["written"]) == (2, [], True)
    assert project.labels().labeled() == (["a", "b"], ["dog", "dog"])
    assert project.take(place)["written"] is False


# ------------------------------------------------------------------------------------------------------- export


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
        images = [task["data"]["image"] for task in json.loads(data)] if form == "label-studio" else []
        images = images or [data.decode() if form != "parquet" else pq.read_table(place)["image"][0].as_py()]
        assert all("data:image/png;base64,iVBOR" in image for image in images)
        with pytest.raises(UserError, match="holds many; use --images embedded"):
            project.out(form, "uri", pictures=Pictures("uri"))


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
        assert "Expires" in row["image"]
        assert "canary" not in row["image"]


# ------------------------------------------------------------------------------------------------------- import


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "aa", "label": "cat"}, "unknown id; did you mean a?"),
        ({"id": "", "label": "cat"}, "no id"),
        ({"id": "h", "label": "cat"}, "no committed round has asked about it"),
        ({"id": "a", "label": "dgo"}, "label 'dgo' is not in the taxonomy; did you mean dog?"),
        ({"id": "a", "label": "cat", "status": "labelled"}, "status 'labelled'; did you mean labeled?"),
        ({"id": "a", "status": "labeled"}, "label None is not in the taxonomy"),
        (
            {"id": "a", "label": "cat", "status": "out-of-world"},
            "status 'out-of-world' and label 'cat' at once",
        ),
        ({"id": "a", "label": "x" * 600, "status": "unknown-class"}, "is no name: at most 512 characters"),
        ({"id": "a", "label": "cat", "annotator": "x\ny"}, "the annotator 'x\\ny' is no name"),
        ({"id": "a", "label": "cat", "fingerprint": "sha256:0"}, "its image has changed since it was shown"),
    ],
)
def test_a_row_is_refused_and_nothing_is_taken(project: Project, row: dict[str, Any], message: str) -> None:
    place = project.write("x.csv", {"id": "b", "label": "cat"}, row)
    found = project.take(place)
    ((refused),) = found["refused"]
    assert (refused["file"], refused["where"], refused["id"]) == (place, "row 3", row["id"])
    assert message in refused["why"]
    assert (found["taken"], found["written"], found["batch"]) == (0, False, None)
    assert label_keys(project.workspace) == []
    found = project.take(place, partial=True)
    assert (found["taken"], len(found["refused"]), found["written"]) == (1, 1, True)
    assert project.labels().labeled() == (["b"], ["cat"])


def test_a_time_that_is_none_is_refused(project: Project) -> None:
    project.store.put("x.csv", b"id,label,at\na,cat,yesterday\n")
    assert "yesterday" in why(project.take(f"{project.base}/x.csv"))["a"]


def test_one_annotator_who_says_two_things_is_heard_in_neither(project: Project) -> None:
    rows = [
        {"id": "a", "label": "cat"},
        {"id": "b", "label": "cat"},
        {"id": "a", "label": "dog"},
        {"id": "b", "label": "cat"},
    ]
    place = project.write("x.jsonl", *rows)
    found = project.take(place, partial=True)
    assert [row["where"] for row in found["refused"]] == ["line 1", "line 3"]
    assert (
        found["refused"][0]["why"] == f"somebody without a name says 'cat' here, and 'dog' in {place}, line 3"
    )
    assert [row["why"] for row in found["remarks"]] == [f"says what {place}, line 2 says already"]
    assert project.labels().labeled() == (["b"], ["cat"])
    named = [row | {"annotator": who} for row, who in zip(rows, ["ann", "ann", "bob", "bob"], strict=True)]
    assert project.take(project.write("y.jsonl", *named))["refused"] == []


def test_an_image_that_has_changed_is_no_longer_the_one_that_was_shown(project: Project) -> None:
    place = project.out("jsonl")
    answers = {name: Said("labeled", "cat", "ann", None) for name in "abcde"}
    Path(place).write_bytes(filled("jsonl", Path(place).read_bytes(), answers))
    project.pool({name: png(i) for i, name in enumerate("abc")} | {"d": png(200)})
    found = project.take(place, partial=True)
    assert found["taken"] == 3
    assert why(found) == {
        "d": "its image has changed since it was shown",
        "e": "its image is not as it was shown: no longer in the pool",
    }
    project.store.delete("pool/a.parquet")
    assert project.take(place, partial=True)["known"] == 3, "what is known needs no image"


def test_names_for_nobody_and_tidy_words(project: Project) -> None:
    project.store.put(
        "x.csv", b"id,label,status,annotator\na, dog ,, \nb,, skipped ,bob\nc, ,,\nd, bird ,unknown-class,\n"
    )
    assert project.take(f"{project.base}/x.csv", annotator="ann")["open"] == 1
    assert [tuple(row.values())[:4] for row in project.labels().table.to_pylist()] == [
        ("a", "dog", "labeled", "ann"),
        ("b", None, "skipped", "bob"),
        ("d", "bird", "unknown-class", "ann"),
    ]


def test_numbers_and_missing_values_as_tables_have_them(project: Project) -> None:
    table = pa.table(
        {"id": ["a", "b"], "label": ["cat", "dog"], "status": [float("nan")] * 2, "extra": [[1], [2]]}
    )
    pq.write_table(table, f"{project.base}/x.parquet")
    assert project.take(f"{project.base}/x.parquet")["taken"] == 2


def test_a_class_that_has_joined_is_one(project: Project) -> None:
    place = project.write("x.csv", {"id": "a", "label": "bird"})
    assert "'bird' is not in the taxonomy" in why(project.take(place))["a"]
    project.commit(1, ["f"], taxonomy=[*TAXONOMY, "bird"])
    assert project.take(place)["taken"] == 1
    found = ET_choices(project, project.out("label-studio"))
    assert found[-3:] == ["bird", "unknown-class", "out-of-world"]


def ET_choices(project: Project, place: str) -> list[str]:
    import xml.etree.ElementTree as ET

    root = ET.fromstring(Path(place.removesuffix(".json") + ".xml").read_bytes())
    return [choice.attrib["value"] for choice in root.iter("Choice")]


def test_a_later_word_stands_and_an_old_file_does_not_bring_the_first_one_back(project: Project) -> None:
    first = project.write("1.csv", {"id": "a", "label": "cat", "annotator": "ann"})
    second = project.write("2.csv", {"id": "a", "label": "dog", "annotator": "ann"})
    project.take(first)
    project.take(second)
    assert project.labels().labeled() == (["a"], ["dog"])
    found = project.take(first)
    assert (found["taken"], found["known"]) == (0, 1)
    assert "overruled since" in found["remarks"][0]["why"]
    assert project.labels().labeled() == (["a"], ["dog"])
    noon = datetime(2026, 5, 11, 12, tzinfo=UTC)
    project.take(project.write("3.csv", {"id": "a", "label": "cat", "annotator": "ann", "at": noon}))
    assert project.labels().labeled() == (["a"], ["cat"])


def test_the_last_time_counts_within_files_and_between_them(project: Project) -> None:
    def at(hour: int, label: str) -> dict[str, Any]:
        return {"id": "a", "label": label, "annotator": "ann", "at": datetime(2026, 5, 11, hour, tzinfo=UTC)}

    noon = project.write("noon.csv", at(12, "dog"), at(11, "cat"))
    found = project.take(noon)
    assert (found["taken"], found["refused"]) == (1, [])
    assert [(row["where"], row["why"]) for row in found["remarks"]] == [
        ("row 3", "the same annotator has answered later")
    ]
    found = project.take(noon)
    assert (found["taken"], found["known"]) == (0, 1)
    assert project.take(project.write("late.csv", at(10, "café")))["taken"] == 0
    assert project.labels().labeled() == (["a"], ["dog"])
    assert project.take(project.write("next.csv", at(13, "cat")))["taken"] == 1
    assert project.labels().labeled() == (["a"], ["cat"])


def test_who_skips_first_and_answers_then_has_answered(project: Project) -> None:
    place = project.out("label-studio")
    tasks = json.loads(Path(place).read_bytes())
    skip = annotated(Said("skipped", None, "ann", datetime(2026, 5, 11, 11, tzinfo=UTC)))
    answer = annotated(Said("labeled", "cat", "ann", datetime(2026, 5, 11, 12, tzinfo=UTC)))
    tasks[0]["annotations"] = [skip, answer]
    Path(place).write_text(json.dumps(tasks))
    for taken in (1, 0):
        found = project.take(place)
        assert (found["taken"], found["refused"]) == (taken, [])
        assert project.labels().labeled() == (["a"], ["cat"])


def test_batches_lie_behind_all_that_are_there(project: Project) -> None:
    def add(label: str) -> str:
        place = project.write(f"{label}.csv", {"id": "a", "label": label})
        batch: str = project.take(place)["batch"]
        return batch.rpartition("/")[2][:15]

    assert add("cat") == "001-import-0000"
    assert add("dog") == "001-import-0001"
    assert project.labels().labeled() == (["a"], ["dog"])
    rows = [{"id": "a", "label": "cat", "status": "labeled"}]
    project.workspace.write_table("labels/001-round-000.parquet", pa.Table.from_pylist(rows))
    assert add("x,y;z") == "002-import-0000"
    assert project.labels().labeled() == (["a"], ["x,y;z"])
    project.commit(1, ["b"])
    project.commit(2, ["c"])
    assert add("café") == "003-import-0000"


def test_a_dry_run_writes_nothing_and_says_the_same(project: Project) -> None:
    place = project.write("x.csv", {"id": "a", "label": "cat"})
    dry = project.take(place, dry_run=True)
    assert label_keys(project.workspace) == []
    assert project.take(place) == dry | {"written": True}


def test_files_that_are_none_stop_it_all(project: Project) -> None:
    good = project.write("x.csv", {"id": "a", "label": "cat"})
    project.store.put("bad.csv", b"id,label\na\n")
    project.store.put("x.xls", b"")
    (Path(project.base) / "folder.csv").mkdir()
    for place, message in (
        ("bad.csv", r"bad\.csv, row 2: 1 cells under 2 names"),
        ("x.xls", r"x\.xls: its name should end in one of \.csv, \.json, \.jsonl, \.parquet"),
        ("none.csv", r"none\.csv: no such file"),
        ("folder.csv", r"folder\.csv: no such file"),
    ):
        with pytest.raises(LabelError, match=message):
            project.take(good, f"{project.base}/{place}", partial=True)
    assert label_keys(project.workspace) == []


def test_nobody_has_asked_yet(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(workspace=str(tmp_path / "work"), taxonomy=TAXONOMY)
    with pytest.raises(UserError, match="no round is"):
        take_in(config, ["x.csv"])
    with pytest.raises(UserError, match="no round is"):
        export(config, "csv", f"{tmp_path}/x.csv")
    assert list(tmp_path.iterdir()) == []
