"""A month of a project: files arrive daily, answers late, out of order and twice, and machines fail.

A tick every hour of a clock that jumps. What each tick does, and how the project ends, is predicted from the inputs
alone, by a few lines that know the rules of `sisom tick` and nothing of its code.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest
import ray
from moto.server import ThreadedMotoServer
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.commands.tick import tick
from pipeline.config.project import Config
from pipeline.config.sections import Storage
from pipeline.encoding import to_parquet
from pipeline.errors import StorageError, StoreUnavailable, WaitingForLabels
from pipeline.store.opening import open_store
from pipeline.voice import Voice
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.keys import round_key
from tests.support.mlflow_server import mlflow_server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.ray,
    pytest.mark.s3,
    pytest.mark.usefixtures("patient_mlflow"),
]

DAYS, A_DAY = 30, 14
KNOWN, NEW, NEW_FROM = ["0", "1", "2", "3"], "4", 10  # a class appears on day 10
ASK, PROMOTE_AT, WAIT_H = 24, 5, 36.0
EPOCH = 1_800_000_000.0
STORAGE_OUT = range(5 * 24 + 3, 5 * 24 + 6)  # hours
MLFLOW_OUT = range(15 * 24, 18 * 24)


# ------------------------------------------------------------------------------------------------- the inputs


@dataclass(frozen=True)
class Row:
    """An image of the pool; the truth of a broken one is None."""

    id: str
    data: bytes
    truth: str | None


def world() -> dict[int, list[Row]]:
    """The rows that arrive each day: digits of the known classes, from day 10 on of a new one, and junk."""
    digits: Any = load_digits()
    rng = np.random.default_rng(3)
    order = rng.permutation(len(digits.target)).tolist()
    of = {label: [i for i in order if str(digits.target[i]) == label] for label in [*KNOWN, NEW]}
    days = {}
    for day in range(DAYS):
        classes = [*KNOWN, NEW] if day >= NEW_FROM else KNOWN
        rows = []
        for n in range(A_DAY):
            name = f"day-{day:02d}-{n:02d}"
            if n == 0 and day % 5 == 4:
                rows.append(Row(name, b"no image", None))
            elif n == 1 and day % 3 == 2:
                rows.append(Row(name, png(rng.integers(0, 256, (16, 16)).astype(np.uint8)), "noise"))
            else:
                label = classes[n % len(classes)]
                rows.append(
                    Row(name, png(np.kron(digits.images[of[label].pop()] * 15.9, np.ones((2, 2)))), label)
                )
        days[day] = rows
    return days


def png(pixels: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def delay(rank: int) -> int:
    """Hours until a person answers the question of this rank."""
    return 2 + (rank * 7) % 40


# --------------------------------------------------------------------------------------------- the prediction


@dataclass
class Oracle:
    """The rules of a tick, on counts: which image is asked about does not change how many are."""

    readable: list[int]  # a day
    first: int
    rounds: list[tuple[int, int]] = field(default_factory=list)  # hour of the commit, questions
    asked: int = 0

    def tick(self, hour: int) -> str:
        if hour in STORAGE_OUT:
            return "storage"
        if not self.rounds:
            return self.begin(hour)
        since, questions = self.rounds[-1]
        if questions:
            got = self.answered(len(self.rounds) - 1, hour)
            if got >= math.ceil(0.8 * questions) or (got and hour - since >= WAIT_H):
                return self.begin(hour)
            return "waiting"
        if any(arrived > since for arrived in self.arrivals(hour)):
            return self.begin(hour)
        old = sum(A_DAY > 0 for day in range(DAYS) if day * 24 <= since)
        new = sum(A_DAY > 0 for day in range(DAYS) if since < day * 24 <= hour)
        return self.begin(hour) if new / old >= 0.1 else "nothing"

    def answered(self, index: int, hour: int) -> int:
        since, questions = self.rounds[index]
        return sum(self.flushed(since + delay(rank)) <= hour for rank in range(questions))

    @staticmethod
    def flushed(hour: int) -> int:
        """Answers are handed in twice a day, and nobody can hand in while the storage is out."""
        at = -(-hour // 12) * 12
        return at + 12 if at in STORAGE_OUT else at

    def arrivals(self, hour: int) -> list[int]:
        return [
            at
            for since, questions in self.rounds
            for rank in range(questions)
            if (at := self.flushed(since + delay(rank))) <= hour
        ]

    def begin(self, hour: int) -> str:
        here = sum(count for day, count in enumerate(self.readable) if day * 24 <= hour)
        questions = min(ASK, here - self.first - self.asked)
        self.rounds.append((hour, questions))
        self.asked += questions
        return "round"


# -------------------------------------------------------------------------------------------------- the people


class People:
    """Answer what was asked, each question in its time; they hand in twice a day, sometimes twice the same."""

    def __init__(self, workspace: Workspace, truths: dict[str, str]) -> None:
        self._workspace, self._truths = workspace, truths
        self._open: list[tuple[int, str]] = []
        self._known = 0
        self._batches = 0

    def see(self, hour: int) -> None:
        """Look whether there is a new query."""
        while self._workspace.exists(round_key(self._known, "round.json")):
            ids = self._workspace.read_table(round_key(self._known, "query.parquet"), ["id"])[
                "id"
            ].to_pylist()
            self._open += [(Oracle.flushed(hour + delay(rank)), name) for rank, name in enumerate(ids)]
            self._known += 1

    def hand_in(self, hour: int) -> None:
        """Late, out of order: a file's name says nothing about when it came."""
        done = sorted((name for at, name in self._open if at <= hour), reverse=self._batches % 2 == 0)
        if not done:
            return
        self._open = [(at, name) for at, name in self._open if at > hour]
        rows = [self._answer(name) for name in done]
        table = pa.Table.from_pylist(rows, pa.schema([(n, pa.string()) for n in ("id", "label", "status")]))
        self._batches += 1
        self._workspace.write_table(f"labels/{(self._batches * 37) % 900 + 1:03d}-people.parquet", table)
        if self._batches % 4 == 0:  # the same answers once more
            self._workspace.write_table(f"labels/{(self._batches * 53) % 900 + 1:03d}-again.parquet", table)

    def _answer(self, name: str) -> dict[str, str | None]:
        truth = self._truths[name]
        if truth == "noise":
            return {"id": name, "label": None, "status": "out-of-world"}
        if truth == NEW:
            return {"id": name, "label": truth, "status": "unknown-class"}
        return {"id": name, "label": truth, "status": "labeled"}


# --------------------------------------------------------------------------------------------------- the month


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield
    ray.shutdown()


def config_of(endpoint: str, tracking: str) -> Config:
    plain = {
        "workspace": "s3://month/project",
        "rounds": 999,
        "taxonomy": KNOWN,
        "pool": {"uri": "s3://month/pool"},
        "oracle": {"kind": "people", "initial": "s3://month/initial.parquet"},
        "model": {"name": "resnet10_w16", "image_size": 16, "layers": ["layer2", "avgpool"]},
        "train": {"epochs": 2, "batch_size": 16, "start": "last", "checkpoint_every": 2},
        "slopes": {"search": "none", "default": 10.0},
        "bank": {"subset": 1.0},
        "scoring": {"batch_size": 32, "max_quarantined": 0.05},
        "query": {"size": ASK, "ood_share": 1.0, "far_share": 1.0},
        "open_world": {"promote_at": PROMOTE_AT},
        "tick": {"answered": 0.8, "wait_h": WAIT_H, "pool_growth": 0.1, "drift_p": None},
        "tracking": {"uri": tracking},
        "storage": {"endpoint": endpoint},
        "resources": {"actors": 2},
    }
    return Config.model_validate_json(json.dumps(plain))


def test_a_month_ends_as_predicted(tmp_path: Path, account: None) -> None:
    days = world()
    truths = {row.id: row.truth for rows in days.values() for row in rows if row.truth is not None}
    first = [row for row in days[0] if row.truth in KNOWN][:8]
    predicted = Oracle([sum(row.truth is not None for row in days[day]) for day in days], len(first))
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with mlflow_server(tmp_path / "mlflow") as tracking:
        config = config_of(f"http://{host}:{port}", tracking.url)
        store: Any = open_store("s3://month", Storage(endpoint=config.storage.endpoint))
        store.client.create_bucket(Bucket="month")
        initial = pa.table({"id": [row.id for row in first], "label": [row.truth for row in first]})
        store.put("initial.parquet", to_parquet(initial))
        workspace = Workspace(open_store(config.workspace, config.storage))
        people = People(workspace, truths)
        wrong = []
        for hour in range(DAYS * 24):
            if hour % 24 == 0:
                rows = days[hour // 24]
                table = pa.table({"id": [r.id for r in rows], "image": [r.data for r in rows]})
                store.put(f"pool/day-{hour // 24:02d}.parquet", to_parquet(table))
            if hour == STORAGE_OUT.start:
                server.stop()
            if hour == STORAGE_OUT.stop:
                server = ThreadedMotoServer(host, port, verbose=False)
                server.start()
            if hour == MLFLOW_OUT.start:
                tracking.kill()
            if hour == MLFLOW_OUT.stop:
                tracking.start()
            if hour % 12 == 0 and hour not in STORAGE_OUT:
                people.hand_in(hour)
            found, expected = step(config, hour), predicted.tick(hour)
            if found != expected:
                wrong.append((hour, found, expected))
            if found == "round":
                people.see(hour)
        assert not wrong
        final(workspace, config, predicted, days, truths)
        client: Any = mlflow.MlflowClient(tracking.url)
        experiment = client.get_experiment_by_name(config.tracking.experiment).experiment_id
        runs = client.search_runs([experiment])
        count = len(predicted.rounds)
        own = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        (parent,) = [run for run in runs if run not in own]
        assert sorted(run.data.tags["sisom.round"] for run in own) == [f"{i:03d}" for i in range(count)]
        for told in ([parent], own):  # the curve of the project, and each round's own value
            steps = [m.step for run in told for m in client.get_metric_history(run.info.run_id, "listed")]
            assert sorted(steps) == list(range(count)), "each round is told once"
        assert all(workspace.exists(round_key(i, "tracking.json")) for i in range(len(predicted.rounds)))
    server.stop()


def step(config: Config, hour: int) -> str:
    try:
        return "round" if tick(config, Voice(), lambda: EPOCH + hour * 3600.0) else "nothing"
    except WaitingForLabels:
        return "waiting"
    except (StorageError, StoreUnavailable):
        return "storage"


def final(
    workspace: Workspace,
    config: Config,
    predicted: Oracle,
    days: dict[int, list[Row]],
    truths: dict[str, str],
) -> None:
    """Rounds, questions, labels, classes and quarantine, against the inputs."""
    count = len(predicted.rounds)
    assert workspace.committed() == count
    asked: list[str] = []
    for index in range(count):
        ids = workspace.read_table(round_key(index, "query.parquet"), ["id"])["id"].to_pylist()
        assert len(ids) == predicted.rounds[index][1]
        asked += ids
    assert len(asked) == len(set(asked)) == predicted.asked, "nobody is asked twice"
    plan = workspace.read_json(round_key(count - 1, "plan.json"))
    assert plan["taxonomy"] == [*KNOWN, NEW]
    joined = [workspace.read_json(round_key(i, "plan.json"))["taxonomy"] for i in range(count)]
    assert all(NEW not in taxonomy for taxonomy in joined if not any(r == NEW for r in taxonomy[4:]))
    last_hour = predicted.rounds[-1][0]
    listed = {row.id for day, rows in days.items() if day * 24 <= last_hour for row in rows}
    metrics = workspace.read_json(round_key(count - 1, "metrics.json"))
    assert metrics["listed"] == len(listed)
    assert metrics["quarantined"] == len(listed - truths.keys())
    labels = {}
    for table in workspace.tables("labels/"):
        for row in table.to_pylist():
            labels[row["id"]] = row["label"] if row["status"] != "out-of-world" else "noise"
    assert labels == {name: truths[name] for name in labels}
    due = [
        name
        for index, (since, _) in enumerate(predicted.rounds)
        for rank, name in enumerate(
            workspace.read_table(round_key(index, "query.parquet"), ["id"])["id"].to_pylist()
        )
        if Oracle.flushed(since + delay(rank)) < DAYS * 24
    ]
    assert set(due) <= labels.keys(), "no label is lost"
    assert len(labels) == len(due) + predicted.first
