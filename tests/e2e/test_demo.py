"""The demo leaves what the design promises: three rounds, every row accounted for, MLflow told once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import sisom
from tests.e2e.conftest import QUICKSTART, Demo

pytestmark = pytest.mark.ray
ROUNDS = (0, 1, 2)


def metrics(demo: Demo, index: int) -> dict[str, Any]:
    return json.loads((demo.workspace / f"rounds/{index:03d}/metrics.json").read_text())


def column(folder: Path, name: str) -> list[Any]:
    return ds.dataset(folder, format="parquet").to_table(columns=[name])[name].to_pylist()


@pytest.mark.parametrize("index", ROUNDS)
def test_every_artefact_of_the_contract_is_there(demo: Demo, index: int) -> None:
    folder = demo.workspace / f"rounds/{index:03d}"
    names = ["plan.json", "model/model.safetensors", "model/model.json", "bank.safetensors", "slopes.json"]
    for name in [*names, "query.parquet", "metrics.json", "report.html", "round.json"]:
        assert (folder / name).is_file(), name
    schema = pq.read_schema(next((folder / "scores").glob("*.parquet")))
    assert schema.names == [
        "id", "uri", "shard", "predicted", "inner", "outer", "ratio", "energy", "sisom", "sisome", "is_ood",
    ]  # fmt: skip
    assert pq.read_schema(folder / "query.parquet").names == [
        "rank",
        "id",
        "uri",
        "score",
        "predicted",
        "reason",
    ]
    snapshot = pq.read_schema(next((folder / "pool").glob("*.parquet"))).names
    assert {"shard", "uri", "rows", "size", "etag"} <= set(snapshot)
    assert [path.name for path in (folder / "scores").iterdir()] == ["00000.parquet"], "few and large"
    assert not any((folder / "parts").glob("*")), "what the score files replaced is gone"


@pytest.mark.parametrize("index", ROUNDS)
def test_every_listed_id_is_scored_or_quarantined(demo: Demo, index: int) -> None:
    folder = demo.workspace / f"rounds/{index:03d}"
    listed = column(demo.data / "pool", "id")
    scored, quarantined = column(folder / "scores", "id"), column(folder / "quarantine", "id")
    assert sorted([*scored, *quarantined]) == sorted(listed)
    truth = set(column(demo.data / "truth", "id"))
    assert set(quarantined) == set(listed) - truth, "exactly the broken rows are in quarantine"
    assert all(column(folder / "quarantine", "reason"))
    found = metrics(demo, index)
    assert (found["listed"], found["scored"], found["quarantined"]) == (
        len(listed),
        len(scored),
        len(quarantined),
    )


def test_it_learns_and_tells_unknown_from_known(demo: Demo) -> None:
    first, last = metrics(demo, 0), metrics(demo, 2)
    assert last["test_accuracy"] > 0.8
    assert last["ood_auroc"] > 0.8
    assert 0 <= last["ood_fpr95"] < first["ood_fpr95"]
    # Any one of the three may stand still for a round; what is wrong altogether may not.
    wrong = [
        3 - found["test_accuracy"] - found["ood_auroc"] - (1 - found["ood_fpr95"]) for found in (first, last)
    ]
    assert wrong[1] < wrong[0] - 0.1


def test_the_pool_has_no_labels_and_at_least_eight_shards(demo: Demo) -> None:
    files = sorted((demo.data / "pool").glob("*.parquet"))
    assert len(files) >= 8
    assert all(pq.read_schema(file).names == ["id", "image"] for file in files)


def test_answers_grow_and_nothing_is_asked_twice(demo: Demo) -> None:
    asked: list[str] = []
    known = set(column(demo.workspace / "labels/000-initial.parquet", "id"))
    for index in ROUNDS:
        query = pq.read_table(demo.workspace / f"rounds/{index:03d}/query.parquet")
        ids = query["id"].to_pylist()
        assert query["rank"].to_pylist() == list(range(len(ids)))
        assert not known & set(ids)
        assert len(ids) == metrics(demo, index)["query_size"] == 60
        reasons = [reason.partition(":")[0] for reason in query["reason"].to_pylist()]
        far_from = json.loads((demo.workspace / f"rounds/{index:03d}/triage.json").read_text())["far_from"]
        rows = pq.read_table(demo.workspace / f"rounds/{index:03d}/scores/00000.parquet").to_pylist()
        odd = [row["energy"] for row in rows if row["is_ood"] and row["id"] not in known]
        if far_from is None:  # six of sixty places are for what is strange
            assert reasons.count("strange") == min(6, len(odd))
        else:  # one of them for what is far, the others for what is novel
            assert reasons.count("far") == min(1, sum(energy >= far_from for energy in odd))
            assert reasons.count("novel") == min(5, sum(energy < far_from for energy in odd))
        assert reasons.count("informative") == 60 - sum(reasons.count(n) for n in ("strange", "novel", "far"))
        known |= set(ids)
        asked += ids
    assert len(set(asked)) == len(asked)
    answers = ds.dataset(demo.workspace / "labels", format="parquet").to_table()
    assert set(answers["status"].to_pylist()) <= {"labeled", "unknown-class", "out-of-world"}
    for label, status in zip(answers["label"].to_pylist(), answers["status"].to_pylist(), strict=True):
        assert (label is not None) == (status == "labeled")


def test_only_classes_enter_training_and_bank(demo: Demo) -> None:
    for index in ROUNDS:
        plan = json.loads((demo.workspace / f"rounds/{index:03d}/plan.json").read_text())
        labels = [pq.read_table(demo.workspace / key) for key in plan["labels"]]
        labeled = {
            name
            for table in labels
            for name, status in zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True)
            if status == "labeled"
        }
        used = pq.read_table(demo.workspace / f"rounds/{index:03d}/labeled.parquet")
        assert set(used["id"].to_pylist()) == labeled
        bank = sisom.load_bank(demo.workspace / f"rounds/{index:03d}/bank.safetensors")
        assert len(bank.labels) <= len(labeled)
        assert set(bank.labels.tolist()) <= set(used["target"].to_pylist())
        assert bank.threshold is not None


def test_slopes_record_all_trials_and_the_default(demo: Demo) -> None:
    for index in ROUNDS:
        found = json.loads((demo.workspace / f"rounds/{index:03d}/slopes.json").read_text())
        assert len(found["trials"]) == 12
        best = min(trial["r_avg"] for trial in found["trials"])
        assert found["r_avg"] == pytest.approx(min(best, found["default_r_avg"]))
        assert set(found["slopes"]) == {"layer1", "layer2", "layer3", "avgpool"}


def test_mlflow_has_one_parent_and_three_nested_runs(demo: Demo) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{demo.workspace}/mlflow/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 1
    assert sorted(run.data.tags["sisom.round"] for run in nested) == ["000", "001", "002"]
    for run in nested:
        index = int(run.data.tags["sisom.round"])
        assert run.info.status == "FINISHED"
        found = metrics(demo, index)
        for name in ("test_accuracy", "r_avg", "ood_auroc", "ood_fpr95", "listed", "scored", "quarantined"):
            assert run.data.metrics[name] == pytest.approx(found[name])
        assert run.data.metrics["live/scored"] == found["scored"], "told while the stage ran"
        assert {"labels/0", "seconds/score", "images_per_s/score", "slope/avgpool"} <= set(run.data.metrics)
        assert run.data.params["query/size"] == "60"
        artefacts = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert {"query.parquet", "slopes.json", "report.html", "plots"} <= artefacts
    models = client.search_registered_models()
    assert len(models) == 1
    champion = client.get_model_version_by_alias(models[0].name, "champion")
    best = max(ROUNDS, key=lambda i: (metrics(demo, i)["test_accuracy"], -i))
    assert champion.run_id == next(
        r.info.run_id for r in nested if r.data.tags["sisom.round"] == f"{best:03d}"
    )


def test_again_does_nothing(demo: Demo) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.workspace.rglob("*") if path.is_file()}
    for command in ("run", "tick"):
        assert "nothing to do" in demo.terminal.run(command, str(QUICKSTART)).stderr
    after = {path: path.stat().st_mtime_ns for path in demo.workspace.rglob("*") if path.is_file()}
    changed = {path.name for path in after if before.get(path) != after[path]}
    assert changed <= {"lease.json", ".lease.json.lock"}


def test_status_and_report(demo: Demo, tmp_path: Path) -> None:
    found = json.loads(demo.terminal.run("status", str(QUICKSTART), "--json").stdout)
    assert found["committed"] == 3
    assert [line["round"] for line in found["rounds"]] == [0, 1, 2]
    assert found["in_progress"] is None and found["lease"] is None and found["open_questions"] == 0
    shown = demo.terminal.run("status", str(QUICKSTART)).stdout
    assert "3 of 3 rounds committed" in shown
    page = tmp_path / "page.html"
    demo.terminal.run("report", str(QUICKSTART), "--round", "1", "--out", str(page))
    assert page.read_text() == (demo.workspace / "rounds/001/report.html").read_text()
    assert "img-" in page.read_text()


def test_verdicts_for_any_pool(demo: Demo, tmp_path: Path) -> None:
    """The test digits are all known: few are marked, and of the pool's unknown images at least twice that share."""
    out = tmp_path / "verdicts"
    arguments = ["score", str(QUICKSTART), "--pool", str(demo.data / "test"), "--out", str(out)]
    summary = json.loads(demo.terminal.run(*arguments).stdout)
    ids = column(demo.data / "test", "id")
    assert sorted(column(out / "scores", "id")) == sorted(ids)
    assert summary["listed"] == summary["scored"] == len(ids)
    assert summary["round"] == 2
    assert sum(column(out / "scores", "is_ood")) == summary["is_ood"]
    truth = pq.read_table(demo.data / "truth").to_pylist()
    unknown = {row["id"] for row in truth if row["kind"] != "known"}
    scored = pq.read_table(demo.workspace / "rounds/002/scores").to_pylist()
    marked = sum(row["is_ood"] for row in scored if row["id"] in unknown) / len(unknown)
    assert summary["is_ood"] / len(ids) <= min(0.2, marked / 2)
    again = demo.terminal.run(*arguments)
    assert json.loads(again.stdout) == summary and "holds the finished scores" in again.stderr
    other = demo.terminal.run(*arguments[:-1], str(out), "--round", "0", expect=2)
    assert "another pool or round" in other.stderr
    missing = demo.terminal.run(*arguments, "--round", "7", expect=2)
    assert "round 7 is not committed" in missing.stderr


def test_decisions_are_remembered(demo: Demo) -> None:
    """Why an image was asked about, what it lay next to, and the same scores again."""
    query = pq.read_table(demo.workspace / "rounds/001/query.parquet").to_pylist()
    asked, strange = query[4], query[-1]
    told = json.loads(demo.terminal.run("explain", str(QUICKSTART), asked["id"], "--round", "1").stdout)
    assert (told["asked"], told["rank"], told["same_scores"]) == (True, 4, True)
    assert told["why"] == f"rank 4 of the query: {asked['reason']}"
    assert told["priority"] == pytest.approx(asked["score"])
    assert told["inside"][0]["distance"] == told["scores"]["inner"]
    assert told["outside"][0]["distance"] == told["scores"]["outer"]
    assert {point["label"] for point in told["inside"]} == {told["scores"]["predicted"]}
    assert told["scores"]["predicted"] not in {point["label"] for point in told["outside"]}
    labeled = pq.read_table(demo.workspace / "rounds/001/labeled.parquet")
    classes = dict(zip(labeled["id"].to_pylist(), labeled["target"].to_pylist(), strict=True))
    assert all(str(classes[point["id"]]) == point["label"] for point in [*told["inside"], *told["outside"]])
    later = json.loads(demo.terminal.run("explain", str(QUICKSTART), strange["id"]).stdout)
    assert (later["asked"], later["why"]) == (False, "it had an answer already")
    nobody = demo.terminal.run("explain", str(QUICKSTART), "nobody", expect=2)
    assert "has no id 'nobody'" in nobody.stderr
    again = json.loads(demo.terminal.run("replay", str(QUICKSTART), "--sample", "80").stdout)
    assert (again["compared"], again["equal"], again["differ"], again["gone"]) == (80, 80, {}, {})


def test_the_memory_plan_is_told_before_anything_is_trained(demo: Demo) -> None:
    lines = [line.split() for line in demo.first.stderr.splitlines()]
    first = {
        word: next(i for i, line in enumerate(lines) if line[:1] == [word]) for word in ("memory:", "train")
    }
    assert first["memory:"] < first["train"]


def test_too_little_memory_is_refused_before_anything_is_trained(demo: Demo) -> None:
    options = ("--rounds", "1", "--set", "workspace=too-little", "--set", "resources.memory=300MiB")
    refused = demo.terminal.run("run", str(QUICKSTART), *options, expect=2)
    assert "resources.memory: 300 MiB a node are too little; the least that would do is" in refused.stderr
    assert not (demo.terminal.folder / "too-little/rounds/000/plan.json").exists()
