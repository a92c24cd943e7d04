"""Records of rounds, and what MLflow shows of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.project import Config
from pipeline.track.session import RoundRecord

RECORD = RoundRecord(
    index=0,
    params={"train/lr": "0.1", "taxonomy": '["cat","dog"]'},
    metrics={
        "test_accuracy": 0.5,
        "r_avg": None,
        "ood_auroc": float("nan"),
        "labels/cat": 3,
        "seconds/train": 1.5,
    },
    artefacts={"query.parquet": b"query", "plots/scores.png": b"plot"},
    model={"model.safetensors": b"weights", "model.json": b"{}"},
    best=True,
)


def config_at(workspace: str, **tracking: str) -> Config:
    return Config.model_validate_json(
        json.dumps(
            {
                "workspace": workspace,
                "taxonomy": ["cat", "dog"],
                "demo": "digits",
                "pool": {"uri": f"{workspace}/pool"},
                "tracking": tracking,
            }
        )
    )


@dataclass(frozen=True)
class Seen:
    """What somebody sees who opens the store with MLflow alone."""

    client: Any
    parent: Any
    rounds: list[Any]
    versions: list[Any]
    champion: int | None


def look_at(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def look(uri: str) -> Seen:
    client = look_at(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    rounds = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(rounds) == len(runs) - 1
    versions = list(client.search_model_versions())
    models = client.search_registered_models()
    champion = models[0].aliases.get("champion") if models else None
    rounds.sort(key=lambda run: run.data.tags["sisom.round"])
    return Seen(client, parent, rounds, versions, int(champion) if champion else None)


def history(seen: Seen, run: Any) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(m.step, m.value) for m in seen.client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def files(client: Any, run_id: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    root = Path(client.download_artifacts(run_id, "", str(folder)))
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def assert_whole(seen: Seen, folder: Path) -> None:
    """One run with one value for each metric, all files, one version."""
    (run,) = seen.rounds
    assert run.info.status == seen.parent.info.status == "FINISHED"
    assert run.data.params == dict(RECORD.params)
    assert history(seen, run) == {
        "test_accuracy": [(0, 0.5)],
        "labels/cat": [(0, 3.0)],
        "seconds/train": [(0, 1.5)],
    }
    assert history(seen, seen.parent) == {"test_accuracy": [(0, 0.5)]}
    model = {f"model/{name}": data for name, data in RECORD.model.items()}
    assert files(seen.client, run.info.run_id, folder) == {**RECORD.artefacts, **model}
    (version,) = seen.versions
    assert version.run_id == run.info.run_id
    assert version.source == f"{run.info.artifact_uri}/model"
    assert "s3cret" not in repr((run, seen.parent, version))
    assert seen.champion == 1


def live(seen: Seen, run: Any) -> dict[str, list[tuple[int, float]]]:
    return {name: steps for name, steps in history(seen, run).items() if name.startswith("live/")}
