"""`sisom labels` as a person types it: what is printed, and the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import cli
from pipeline.config.load import load
from pipeline.types import QUERY, SCORES
from pipeline.workspace.artefacts import open_workspace
from pipeline.workspace.keys import round_key
from tests.support.pools import png

ODD = "odd\x1b[2J\u202eid"


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


Labels = Callable[..., Said]


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Labels:
    """Types `sisom labels ...` for a project whose round 0 has asked about two images of three."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    ids = ["a", ODD, "c"]
    Path("pool").mkdir()
    pq.write_table(pa.table({"id": ids, "image": [png(i) for i in range(3)]}), "pool/p.parquet")
    data: dict[str, Any] = {
        "workspace": "work",
        "taxonomy": ["cat", "dog"],
        "pool": {"uri": "pool"},
        "oracle": {"kind": "simulated", "truth": "truth"},
    }
    Path("project.yaml").write_text(yaml.safe_dump(data))
    workspace = open_workspace(load("project.yaml"))
    query = [
        {
            "rank": i,
            "id": name,
            "uri": str(Path("pool/p.parquet").absolute()),
            "score": 0.5,
            "predicted": "cat",
        }
        for i, name in enumerate(ids[:2])
    ]
    workspace.write_table(round_key(0, "query.parquet"), pa.Table.from_pylist(query, schema=QUERY))
    scored = pa.Table.from_pylist([{"id": name} for name in ids], schema=SCORES)
    workspace.write_table(round_key(0, "scores/00000.parquet"), scored)
    workspace.write_json(round_key(0, "round.json"), {})

    def run(command: str, *arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["sisom", "labels", command, "project.yaml", *arguments])
        status: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        return Said(status, *capsys.readouterr())

    return run


def test_out_and_in(labels: Labels, tmp_path: Path) -> None:
    place = tmp_path / "q.jsonl"
    said = labels("export", "--to", "jsonl", "--out", "q.jsonl")
    assert said == Said(0, f"2 questions of round 000 (0 more are answered): {place}\n", "")
    said = labels("export", "--to", "jsonl", "--out", "q.jsonl")
    assert said == Said(2, "", f"sisom: {place} exists already and may hold answers; give another name\n")
    assert labels("import", "q.jsonl").out == "0 taken, 0 known already, 2 left open, 0 refused\n"

    rows = [json.loads(line) for line in place.read_text().splitlines()]
    place.write_text("\n".join(json.dumps({**row, "label": "dog"}) for row in rows))
    said = labels("import", "q.jsonl", "--annotator", "ann", "--dry-run")
    assert said.out == "2 taken (not written: a dry run), 0 known already, 0 left open, 0 refused\n"
    said = labels("import", "q.jsonl", "--annotator", "ann")
    batches = tmp_path / "work" / "labels"
    assert said.out.startswith(f"2 taken -> {batches}/001-import-0000-")
    assert (
        labels("import", "q.jsonl", "--annotator", "ann").out
        == "0 taken, 2 known already, 0 left open, 0 refused\n"
    )
    said = labels("import", "q.jsonl", "--annotator", "bob", "--json")
    assert json.loads(said.out)["taken"] == 2
    assert labels("export", "--to", "csv", "--out", "r.csv").out.startswith(
        "0 questions of round 000 (2 more"
    )
    assert labels("export", "--to", "csv", "--out", "s.csv", "--all").out.startswith(
        "2 questions of round 000: "
    )


def test_refusals_are_told_row_by_row_and_nothing_is_taken(labels: Labels, tmp_path: Path) -> None:
    Path("x.csv").write_text(f'id,label,annotator\na,cat,ann\na,dog,bob\nb,cat,ann\n"{ODD}",dgo,ann\n')
    said = labels("import", "x.csv")
    assert said.status == 2
    assert (
        said.err
        == "sisom: 2 rows are refused and none is taken; mend them, or take the others by --partial\n"
    )
    assert "refused: x.csv, row 4, 'b': unknown id" in said.out
    assert "label 'dgo' is not in the taxonomy; did you mean dog?" in said.out
    assert said.out.endswith("0 taken, 0 known already, 0 left open, 2 refused\n")
    assert "\x1b" not in said.out and "\u202e" not in said.out
    assert not (tmp_path / "work/labels").exists()
    said = labels("import", "x.csv", "--json")
    assert said.status == 2
    assert [row["id"] for row in json.loads(said.out)["refused"]] == [ODD, "b"]
    said = labels("import", "x.csv", "--partial")
    assert said.status == 0
    assert "disagreement: 'a': ann says 'cat', bob says 'dog'; it comes to a tie" in said.out
    assert "2 taken -> " in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("export",),
        ("export", "--to", "xls", "--out", "q.xls"),
        ("export", "--to", "csv", "--out", "q.csv", "--images", "drawn"),
        ("export", "--to", "csv", "--out", "q.csv", "--hours", "169"),
        ("export", "--to", "csv", "--out", "q.csv", "--round", "1"),
        ("export", "--to", "csv", "--out", "q.txt"),
        ("import",),
        ("import", "none.csv"),
    ],
)
def test_a_wrong_command_line_is_the_users_mistake(labels: Labels, arguments: tuple[str, ...]) -> None:
    said = labels(*arguments)
    assert (said.status, said.out) == (2, "")
    assert "Traceback" not in said.err


def test_out_again_and_away(labels: Labels, tmp_path: Path) -> None:
    Path("x.csv").write_text("Key,class\na,cat\nc,dog\n")
    said = labels("import", "x.csv", "--id-column", "key", "--label-column", "class", "--unasked")
    assert (said.status, said.out.startswith("2 taken -> ")) == (0, True)
    Path("y.csv").write_text("id,label\na,dog\n")
    assert "correction: 'a' was 'cat' and is 'dog'\n" in labels("import", "y.csv").out
    said = labels("dump", "--out", "all.csv")
    assert said.out == f"2 answers to 2 images: {tmp_path}/all.csv\n"
    (tmp_path / "work/rounds/000/report.html").write_text("x")
    said = labels("withdraw", "a", "--dry-run")
    report = tmp_path / "work/rounds/000/report.html"
    assert said.out.startswith(
        f"would be deleted: {report}\n1 images would be withdrawn (a dry run), 0 of them before."
    )
    said = labels("withdraw", "a")
    assert said.out.startswith(
        f"deleted: {report}\n1 images withdrawn -> {tmp_path / 'work'}/labels/001-withdrawn-"
    )
    assert (
        "of no round have seen one of them, and the report of 000 has shown one; later rounds do neither."
        in said.out
    )
    assert json.loads(labels("withdraw", "a", "--json").out)["known"] == 1
    assert labels("dump", "--out", "b.csv").out.startswith(
        "1 answers to 1 images (1 withdrawn images are left out)"
    )
    assert labels("withdraw", "nobody").status == 2
