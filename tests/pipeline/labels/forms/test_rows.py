"""The forms of a hand-off: rows come back to the letter, nothing is a formula."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import LabelError
from pipeline.labels.forms.label_studio import from_export
from pipeline.labels.forms.rows import QUESTIONS, READERS, TAKEN, WRITERS, Answer, to_csv
from pipeline.labels.forms.tables import Columns
from tests.support.questions import one, questions

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
        b"sep=;\r\nid;label\r\na;cat\r\n",
        b"\xef\xbb\xbfSEP=|\nid|label\na|cat\n",
        b" ID , Label \na,cat\n",
        b"id,label\na,cat,,\n",
        "id\tlabel\r\na\tcat\r\n".encode("utf-16"),
        b"\xef\xbb\xbfid;label;note\r\na;cat;x\r\n",
        b'"id"\t"label"\n"a"\t"cat"\n\n',
        b"label,id\ncat,a",
    ):
        assert list(READERS["csv"](data, "f")) == [Answer("row 2", {"id": "a", "label": "cat"})]


def test_a_row_of_another_length_is_refused_alone() -> None:
    first, second, third = READERS["csv"](b"id,label\na\nb,cat\nc,cat,x\n", "f")
    assert (first.where, first.problem) == ("row 2", "1 cells under 2 names")
    assert second == Answer("row 3", {"id": "b", "label": "cat"})
    assert (third.where, third.problem) == ("row 4", "3 cells under 2 names")


def test_a_column_of_the_very_name_comes_before_one_that_looks_alike() -> None:
    (answer,) = READERS["csv"](b"ID,id,Label\nx,a,cat\n", "f")
    assert answer.values == {"id": "a", "label": "cat"}
    with pytest.raises(LabelError, match="f: 2 columns 'id'"):
        list(READERS["csv"](b"ID,Id,label\nx,a,cat\n", "f"))


def test_columns_of_other_tools_are_read_by_name() -> None:
    columns = Columns("FilePath", "ground_truth")
    table = pa.table({"filepath": ["a"], "ground_truth": ["cat"], "id": [7]})
    for form, data in (
        ("csv", b"filepath,ground_truth,id\na,cat,7\n"),
        ("jsonl", b'{"filepath": "a", "ground_truth": "cat", "id": 7}'),
        ("parquet", parquet(table)),
    ):
        (answer,) = READERS[form](data, "f", columns)
        assert answer.values == {"id": "a", "label": "cat"}
    with pytest.raises(LabelError, match="f: no column 'FilePath'"):
        list(READERS["csv"](b"id,ground_truth\na,cat\n", "f", columns))


def test_a_line_may_lack_the_label_where_another_has_one_or_a_status() -> None:
    lines = b'\xef\xbb\xbf{"id": "a", "status": "skipped"}\n{"id": "b"}\n{"id": "c", "label": NaN}\n'
    first, second, third = READERS["jsonl"](lines, "f")
    assert (first.values, second.values) == ({"id": "a", "status": "skipped"}, {"id": "b"})
    assert third.values["label"] != third.values["label"], "nothing, as data frames write it"


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
        ("csv", b'id,label\n"a"b,c\n', "f: not CSV: "),
        ("csv", b'id,label\n"a,c\n', "f: not CSV: "),
        ("csv", "id,label\né,cat\n".encode("latin-1"), "f: not UTF-8; save it as CSV UTF-8"),
        ("csv", b"PK\x03\x04\xff", "f: not UTF-8"),
        ("jsonl", b"{", "f, line 1: not JSON"),
        ("jsonl", b'{"id": "a", "label": null}\n[]', "f, line 2: not a JSON object"),
        ("jsonl", b'{"id": "a", "id": "b", "label": "c"}', "f, line 1: not JSON: a name stands twice"),
        ("jsonl", b'{"id": "a", "label": Infinity}', "f, line 1: not JSON: Infinity is no number"),
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


@pytest.mark.parametrize("value", [["cat"], {"a": 1}])
def test_a_row_that_holds_no_text_is_refused_alone(value: Any) -> None:
    lines = [json.dumps({"id": "a", "label": value}), json.dumps({"id": "b", "label": "cat"})]
    first, second = READERS["jsonl"]("\n".join(lines).encode(), "f")
    assert first.problem is not None and "where text should be" in first.problem
    assert second == Answer("line 2", {"id": "b", "label": "cat"})


def test_half_a_character_is_no_text() -> None:
    (answer,) = READERS["jsonl"](b'{"id": "a\\ud800", "label": "cat"}', "f")
    assert answer.problem == "id: no text, but half a character"


def test_the_limit_of_csv_fields_stays_the_processs_own() -> None:
    before = csv.field_size_limit()
    answers = list(READERS["csv"](to_csv(one(image="x" * 200_000)), "f"))
    assert [answer.values["id"] for answer in answers] == ["a"]
    assert csv.field_size_limit() == before
