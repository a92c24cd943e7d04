"""Another detector and another strategy in SISOM's place, for a whole round and for verdicts."""

from __future__ import annotations

import json
import os
import signal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

import sisom
from tests.e2e.conftest import QUICKSTART, Terminal
from tests.faults.victims import sweep
from tests.support.progress_wait import finished, until

pytestmark = pytest.mark.ray


def apart(one: Path, other: Path) -> float:
    """How far the convolutions of two networks are from each other."""
    a, b = load_file(one), load_file(other)
    kernels = [name for name, value in a.items() if value.ndim == 4]
    assert kernels
    return sum(float(((a[name] - b[name]) ** 2).sum()) for name in kernels) ** 0.5


def auroc_by_hand(runs: Path, scores: dict[str, dict[str, Any]]) -> float:
    """How well strangeness tells unknown from known among the images that had no label yet."""
    labeled = pq.read_table(runs / "quickstart/labels/000-initial.parquet")["id"].to_pylist()
    known, unknown = list[float](), list[float]()
    for row in pq.read_table(runs / "quickstart-data/truth").to_pylist():
        if row["id"] not in labeled:
            (known if row["kind"] == "known" else unknown).append(scores[row["id"]]["strangeness"])
    return sisom.metrics.auroc(torch.tensor(known), torch.tensor(unknown))


def test_a_round_judged_by_odin_that_asks_a_committee(ray_folder: Path, tmp_path: Path) -> None:
    """Images moved before they are judged, the labeled ones too; two networks that vote, neither trained twice."""
    terminal = Terminal(tmp_path)
    sets = [
        "oracle.initial_per_class=20",  # enough to know the classes by
        "train.epochs=12",
        "train.start=last",
        "slopes.search=none",
        "scoring.score=odin",
        "scoring.options={temperature: 10.0, noise: 0.01}",
        "query.strategy=qbc-kl",
        "query.committee.members=2",
        "resources.actors=1",
    ]
    arguments = [str(QUICKSTART), *(word for text in sets for word in ("--set", text))]
    workspace, later = (tmp_path / f"runs/quickstart/rounds/{n}" for n in ("000", "001"))
    second = workspace / "model/member-001.safetensors"
    killed = terminal.start("run", *arguments, "--rounds", "2", env={"RAY_TMPDIR": str(ray_folder)})
    until(second.exists, killed, folders=[tmp_path])
    os.kill(killed.pid, signal.SIGKILL)
    finished(killed)
    sweep(ray_folder)
    written = second.stat().st_mtime_ns
    assert not (workspace / "model/model.json").exists()
    terminal.run("run", *arguments, "--rounds", "2")
    assert second.stat().st_mtime_ns == written
    scores = pq.read_table(workspace / "scores/00000.parquet")
    assert scores.column_names[-2:] == ["strangeness", "priority"]
    by_id = {row["id"]: row for row in scores.to_pylist()}
    query = pq.read_table(workspace / "query.parquet").to_pylist()
    usual = [row for row in query if row["reason"] == "informative: high qbc-kl"]
    assert len(usual) == 54
    assert [by_id[row["id"]]["priority"] for row in usual] == sorted(
        (by_id[row["id"]]["priority"] for row in usual), reverse=True
    )
    metrics = json.loads((workspace / "metrics.json").read_text())
    strange = [row["strangeness"] > metrics["threshold"] for row in by_id.values()]
    assert strange == [row["is_ood"] for row in by_id.values()]
    assert metrics["ood_auroc"] == auroc_by_hand(tmp_path / "runs", by_id)
    assert metrics["ood_auroc"] > 0.8, "at least 0.9 over six seeds with AVX2 and four with SSE"
    held = sum(strange) / len(strange)
    assert 0.01 < held < 0.6, "a threshold from images that were moved too"
    manifest = json.loads((workspace / "round.json").read_text())
    assert manifest["artefacts"]["model/member-001.safetensors"] == sha256(second.read_bytes()).hexdigest()
    first = workspace / "model/model.safetensors"
    for own, other in ((first, second), (second, first)):  # each goes on from its own weights
        now = later / "model" / own.name
        assert apart(own, now) < 0.7 * apart(other, now)

    out = tmp_path / "verdicts"
    terminal.run(
        "score",
        *arguments,
        "--pool",
        str(tmp_path / "runs/quickstart-data/pool"),
        "--out",
        str(out),
        "--round",
        "0",
    )
    again = pq.read_table(out / "scores/00000.parquet")
    assert again.column_names[-1] == "strangeness"
    for name in ("id", "strangeness", "is_ood"):
        assert again[name].to_pylist() == scores[name].to_pylist()
    told = json.loads(terminal.run("explain", *arguments, usual[0]["id"], "--round", "0").stdout)
    assert told["asked"]
    assert told["rank"] == 0
    replayed = json.loads(terminal.run("replay", *arguments, "--round", "0", "--sample", "20").stdout)
    assert replayed["equal"] == 20
