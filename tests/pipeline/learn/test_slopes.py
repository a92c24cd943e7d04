"""The slope search on Ray Tune: finished trials are not repeated."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from rich.console import Console

import sisom
from pipeline.cluster.layout import Cluster
from pipeline.config.project import Config
from pipeline.learn import slopes as tune
from pipeline.learn.attempt import Attempt
from pipeline.voice import Voice

MakeConfig = Callable[..., Config]


@pytest.mark.ray
def test_a_search_that_was_cut_off_computes_only_what_is_missing(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig
) -> None:
    torch.manual_seed(0)
    dims = (("layer1", 3), ("avgpool", 4))
    features = sisom.Features(torch.randn(40, 7), dims, torch.randn(40, 4), torch.randn(40, 2))
    targets = torch.arange(40) % 2
    config = make_config(
        model={"layers": ["layer1", "avgpool"]},
        slopes={
            "search": "grid",
            "parallel": 2,
            "grid": {"layer1": [1.0, 10.0], "avgpool": [1.0, 10.0]},
        },
    )
    sink = io.StringIO()
    voice = Voice(Console(file=sink, soft_wrap=True))

    def found() -> dict[str, Any]:
        return tune.search(
            features, targets, config, cluster=cluster, attempt=Attempt(str(tmp_path), "s", 3), voice=voice
        )

    whole = found()
    assert sink.getvalue() == ""
    results = sorted((tmp_path / "s-finished").iterdir())
    assert len(whole["trials"]) == len(results) == 4
    assert found() == whole
    assert "4 trials were finished before" in sink.getvalue()

    first, last = results[0], results[-1]
    told = json.loads(first.read_text())
    first.write_text(json.dumps(told | {"r_avg": 1e-6}))  # a result that nobody would compute
    last.unlink()
    again = found()
    assert "3 trials were finished before" in sink.getvalue()
    assert (again["r_avg"], again["slopes"]) == (1e-6, told["slopes"]), "it was taken, not computed"
    assert json.loads(last.read_text())["slopes"] in [trial["slopes"] for trial in again["trials"]]


@pytest.mark.ray
def test_as_many_processes_as_trials_at_once(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three batches of two trials need two processes; each leaves its number beside the results."""
    torch.manual_seed(0)
    features = sisom.Features(torch.randn(20, 3), (("avgpool", 3),), torch.randn(20, 3), torch.randn(20, 2))
    config = make_config(
        model={"layers": ["avgpool"]}, slopes={"search": "optuna", "parallel": 2, "trials": 6}
    )

    def noted(space: dict[str, float], **given: Any) -> None:
        (tmp_path / f"process-{os.getpid()}").touch()
        ray.tune.report({"r_avg": space["avgpool"]})

    monkeypatch.setattr(tune, "_trial", noted)
    found = tune.search(
        features, torch.arange(20) % 2, config, cluster=cluster, attempt=Attempt(str(tmp_path), "s", 0),
        voice=Voice(Console(file=io.StringIO())),
    )  # fmt: skip
    assert len(found["trials"]) == 6
    assert len(list(tmp_path.glob("process-*"))) == 2


@pytest.mark.ray
def test_a_search_hands_no_credentials_to_ray(
    cluster: Cluster, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's agent writes runtime environments into its log, and Tune puts credentials into them."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-1f0d77")
    torch.manual_seed(0)
    features = sisom.Features(torch.randn(20, 3), (("avgpool", 3),), torch.randn(20, 3), torch.randn(20, 2))
    config = make_config(
        model={"layers": ["avgpool"]}, slopes={"search": "grid", "parallel": 1, "grid": {"avgpool": [1.0]}}
    )
    voice = Voice(Console(file=io.StringIO()))
    tune.search(
        features,
        torch.arange(20) % 2,
        config,
        cluster=cluster,
        attempt=Attempt(str(tmp_path), "s", 0),
        voice=voice,
    )
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    logs = [path for path in (session / "logs").rglob("*") if path.is_file()]
    assert any("runtime_env_agent" in path.name and b"PL_DISABLE_FORK" in path.read_bytes() for path in logs)
    assert not [path for path in logs if b"canary-1f0d77" in path.read_bytes()]
