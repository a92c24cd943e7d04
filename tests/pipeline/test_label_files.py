"""The forms of a hand-off: what is put in comes out to the letter, nothing is a formula, and bad files are named."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import LabelError
from pipeline.labels.forms import QUESTIONS, READERS, TAKEN, WRITERS, Answer, to_csv
from pipeline.labels.label_studio import from_export, interface, to_tasks

NOON = datetime(2026, 5, 11, 12, 30, 15, 250_000, tzinfo=UTC)
ODD = [
    "=1+1",
    "'=1+1",
    "''@x",
    "+1",
    "-1",
    "@a",
    "\t=1",
    " =1",
    "a\nb",
    "a\r\nb",
    "\r",
    '"',
    "a,b;c\td",
    "ﬀ ✓ 𝄞",
    "\x00",
    "'",
]

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.sampled_from(ODD)
rows = st.fixed_dictionaries(
    {
        "round": st.integers(0, 999),
        "rank": st.integers(0, 2**31 - 1),
        "score": st.floats(width=32, allow_nan=False, allow_infinity=False),
        "at": st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
        "id": texts,
        **{
            name: st.none() | texts
            for name in ("uri", "image", "fingerprint", "predicted", "reason", "label", "status", "annotator")
        },
    }
)


def questions(*given: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(given), schema=QUESTIONS)


def one(**changes: Any) -> pa.Table:
    plain = {"round": 3, "rank": 0, "id": "a", "uri": "u", "image": "u", "predicted": "cat", "score": 0.5}
    return questions(plain | changes)


def at_of(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


@pytest.mark.parametrize("form", sorted(WRITERS))
@given(given_rows=st.lists(rows, max_size=4))
def test_every_form_gives_back_what_was_put_in(form: str, given_rows: list[dict[str, Any]]) -> None:
    data = WRITERS[form](questions(*given_rows))
    back = [answer.values for answer in READERS[form](data, "f")]
    assert [{**v, "at": at_of(v["at"])} for v in back] == [{k: row[k] for k in TAKEN} for row in given_rows]


@given(given_rows=st.lists(rows, min_size=1, max_size=3))
@example([dict.fromkeys(TAKEN, "=2*3") | {"round": 0, "rank": 0, "score": -1.0, "at": None}])
def test_no_cell_of_csv_is_a_formula(given_rows: list[dict[str, Any]]) -> None:
    text = to_csv(questions(*given_rows)).decode("utf-8-sig")
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    assert header == QUESTIONS.names
    for cells in lines:
        for name, cell in zip(header, cells, strict=True):
            if name == "score":
                float(cell)  # a negative number is one
            else:
                assert cell.strip()[:1] not in tuple("=+-@") and cell[:1] not in ("\t", "\r", "\n")


def test_csv_as_spreadsheets_save_it() -> None:
    for data in (
        b"\xef\xbb\xbfid;label;note\r\na;cat;x\r\n",
        b'"id"\t"label"\n"a"\t"cat"\n\n',
        b"label,id\ncat,a",
    ):
        assert list(READERS["csv"](data, "f")) == [Answer("row 2", {"id": "a", "label": "cat"})]


def test_rows_are_counted_as_the_tool_shows_them() -> None:
    table = questions(*[{"id": name} for name in "ab"])
    wheres = {form: [answer.where for answer in READERS[form](WRITERS[form](table), "f")] for form in READERS}
    assert wheres == {
        "csv": ["row 2", "row 3"],
        "jsonl": ["line 1", "line 2"],
        "parquet": ["row 0", "row 1"],
    }


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("form", "data", "message"),
    [
        ("csv", b"", "f: no column 'id'"),
        ("csv", b"idd,label\n", "f: no column 'id'; did you mean idd?"),
        ("csv", b"id\na\n", "f: no column 'label'"),
        ("csv", b"id,label,label\na,b,c\n", "f: 2 columns 'label'"),
        ("csv", b"id,label\na\n", "f, row 2: 1 cells under 2 names"),
        ("csv", b'id,label\n"a"b,c\n', "f: not CSV: "),
        ("csv", b'id,label\n"a,c\n', "f: not CSV: "),
        ("csv", "id,label\né,cat\n".encode("latin-1"), "f: not UTF-8; save it as CSV UTF-8"),
        ("csv", b"PK\x03\x04\xff", "f: not UTF-8"),
        ("jsonl", b"{", "f, line 1: not JSON"),
        ("jsonl", b'{"id": "a", "label": null}\n[]', "f, line 2: not a JSON object"),
        ("jsonl", b'{"id": "a", "id": "b", "label": "c"}', "f, line 1: not JSON: a name stands twice"),
        ("jsonl", b'{"id": "a", "label": NaN}', "f, line 1: not JSON: NaN is no number"),
        ("jsonl", b'{"id": "a"}', "f, line 1: no column 'label'"),
        ("jsonl", b"[" * 100_000, "f, line 1: not JSON"),
        ("jsonl", b'{"id": "\xff", "label": "c"}', "f, line 1: not JSON"),
        ("jsonl", b'{"id": ' + b"9" * 5000 + b', "label": "c"}', "f, line 1: not JSON"),
        ("parquet", b"PAR1 not", "f: not a Parquet file"),
        ("parquet", parquet(pa.table({"id": ["a"]})), "f: no column 'label'"),
        ("parquet", parquet(pa.table([["a"], ["b"], ["c"]], ["id", "label", "id"])), "f: 2 columns 'id'"),
        ("json", b"{}", "f: an export of Label Studio is a list of tasks"),
        ("json", b"[" * 100_000, "f: not JSON"),
        ("json", b"[3]", "f, task 1: not a JSON object"),
        ("json", b'[{"data": {"image": "x"}}]', "f, task 1: no 'image_id'"),
    ],
)
def test_a_file_that_is_none_of_ours_is_named(form: str, data: bytes, message: str) -> None:
    reader = from_export if form == "json" else READERS[form]
    with pytest.raises(LabelError) as raised:
        list(reader(data, "f"))
    assert message in str(raised.value)


@pytest.mark.parametrize("value", [["cat"], {"a": 1}, True])
def test_a_row_that_holds_no_text_is_refused_alone(value: Any) -> None:
    lines = [json.dumps({"id": "a", "label": value}), json.dumps({"id": "b", "label": "cat"})]
    first, second = READERS["jsonl"]("\n".join(lines).encode(), "f")
    assert first.problem is not None and "where text should be" in first.problem
    assert second == Answer("line 2", {"id": "b", "label": "cat"})


def test_half_a_character_is_no_text() -> None:
    (answer,) = READERS["jsonl"](b'{"id": "a\\ud800", "label": "cat"}', "f")
    assert answer.problem == "id: no text, but half a character"


def test_a_small_file_that_unfolds_into_a_large_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.labels.tables.MAX_HELD", 1 << 20)
    table = pa.table({"id": ["x" * 1000] * 5000, "label": ["cat"] * 5000})
    data = parquet(table)
    assert len(data) < 50_000
    with pytest.raises(LabelError, match="f: more than 1048576 bytes when unfolded"):
        list(READERS["parquet"](data, "f"))


def test_the_limit_of_csv_fields_stays_the_processs_own() -> None:
    before = csv.field_size_limit()
    answers = list(READERS["csv"](to_csv(one(image="x" * 200_000)), "f"))
    assert [answer.values["id"] for answer in answers] == ["a"]
    assert csv.field_size_limit() == before


# ------------------------------------------------------------------------------------------------ Label Studio


def test_a_task_shows_the_image_and_the_models_choice() -> None:
    ((task),) = json.loads(to_tasks(one(reason="why", fingerprint="sha256:1")))
    assert task == {
        "data": {
            "image_id": "a", "round": 3, "rank": 0, "uri": "u", "image": "u", "fingerprint": "sha256:1",
            "predicted": "cat", "score": 0.5, "reason": "why",
        },
        "predictions": [
            {
                "model_version": "round-003",
                "result": [
                    {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}}
                ],
            }
        ],
    }  # fmt: skip


def test_the_interface_is_xml_whatever_classes_are_called() -> None:
    names = ['"><script>', "a & b", "'q'", "=x", "ü"]
    root = ET.fromstring(interface(names))
    found = root.findall("./Choices[@name='label']/Choice")
    assert [choice.attrib["value"] for choice in found] == names
    many = ET.fromstring(interface([f"class {n}" for n in range(31)]))
    assert many.find("./Choices[@name='label']").attrib["layout"] == "select"  # type: ignore[union-attr]


def annotation(*results: tuple[str, list[str]], **more: Any) -> dict[str, Any]:
    return {
        "result": [
            {
                "from_name": name,
                "to_name": "image",
                "value": {"text" if name == "proposed" else "choices": chosen},
            }
            for name, chosen in results
        ],
        "completed_by": 7,
        "updated_at": "2026-05-11T12:30:15.250000Z",
        **more,
    }


def read(*annotations: Any) -> list[Answer]:
    task = {"id": 12, "data": {"image_id": "a", "fingerprint": "f"}, "annotations": list(annotations)}
    return list(from_export(json.dumps([task]).encode(), "f"))


@pytest.mark.parametrize(
    ("given", "label", "status"),
    [
        (annotation(("label", ["cat"])), "cat", None),
        (annotation(("status", ["out-of-world"])), None, "out-of-world"),
        (annotation(("status", ["unknown-class"]), ("proposed", ["bird"])), "bird", "unknown-class"),
        (annotation(("proposed", ["bird"])), "bird", "unknown-class"),
        (annotation(("label", ["cat"]), was_cancelled=True), None, "skipped"),
        (annotation(was_cancelled=True), None, "skipped"),
        (annotation(), None, None),
    ],
)
def test_an_annotation_is_an_answer(given: dict[str, Any], label: str | None, status: str | None) -> None:
    (answer,) = read(given)
    assert answer == Answer(
        "task 1",
        {"id": "a", "fingerprint": "f", "label": label, "status": status, "annotator": "label-studio:7",
         "at": "2026-05-11T12:30:15.250000Z"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (annotation(("label", ["cat", "dog"])), "label: more than one choice"),
        (annotation(("label", ["cat"]), ("proposed", ["bird"])), "names a class and proposes another"),
        (annotation(("choice", ["cat"])), "results of choice alone, no 'label'"),
        (annotation(("label", [["cat"]])), "label: list where text should be"),  # type: ignore[list-item]
        ({"result": "x"}, "an annotation without a list of results"),
        ("x", "an annotation without a list of results"),
    ],
)
def test_an_annotation_that_is_none_says_why(given: Any, problem: str) -> None:
    (answer,) = read(given)
    assert answer.problem is not None and problem in answer.problem


def test_every_annotation_of_a_task_is_an_answer() -> None:
    first, second = read(
        annotation(("label", ["cat"])), annotation(("label", ["dog"]), completed_by={"email": "x@y"})
    )
    assert (first.where, first.values["annotator"]) == ("task 1, annotation 1", "label-studio:7")
    assert (second.where, second.values["annotator"]) == ("task 1, annotation 2", "x@y")
    assert read() == []


def test_the_short_export_is_read_too() -> None:
    short = [
        {
            "id": 12,
            "image_id": "a",
            "fingerprint": "f",
            "label": "cat",
            "annotator": 7,
            "updated_at": "2026-05-11",
        },
        {"id": 13, "image_id": "b", "status": "unknown-class", "proposed": "bird", "annotator": 7},
        {"id": 14, "image_id": "c", "label": {"choices": ["cat", "dog"]}, "annotator": 7},
    ]
    first, second, third = from_export(json.dumps(short).encode(), "f")
    assert first.values == {
        "id": "a", "fingerprint": "f", "label": "cat", "status": None, "annotator": "label-studio:7", "at": "2026-05-11"
    }  # fmt: skip
    assert (second.values["label"], second.values["status"]) == ("bird", "unknown-class")
    assert third.problem == "label: more than one choice"
