"""A project to hand questions out of, and answers as tools write them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.config.project import Config
from pipeline.labels.export_questions import ENDS, export
from pipeline.labels.files import LabelFiles
from pipeline.labels.forms.rows import QUESTIONS, READERS, WRITERS
from pipeline.labels.import_answers import take_in
from pipeline.labels.tally import Labels
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


def why(found: Mapping[str, Any]) -> dict[str, str]:
    return {row["id"]: row["why"] for row in found["refused"]}


@dataclass(frozen=True)
class Said:
    """What an annotator says about one image."""

    status: str
    label: str | None
    annotator: str
    at: datetime | None


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
