"""`ray job submit`: a real head node, the job API, with token authentication on and off."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Terminal
from tests.support.progress_wait import run, until

pytestmark = pytest.mark.ray
TOKEN = "b64e0c1f8d3a49d2a7b0c5e6f1029384"
AUTH: dict[str, Mapping[str, str]] = {
    "token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
    "disabled": {"RAY_AUTH_MODE": "disabled"},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("mode", AUTH)
def test_the_quickstart_runs_as_a_job(mode: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    environment = terminal.environment(AUTH[mode])
    ray = str(Path(sys.executable).with_name("ray"))
    dashboard, gcs = free_port(), free_port()
    temporary = Path(tempfile.mkdtemp(prefix="sisom-"))  # Unix sockets want short paths
    head = [ray, "start", "--head", "--num-cpus=4", f"--port={gcs}", f"--dashboard-port={dashboard}"]
    head += [
        "--dashboard-host=127.0.0.1",
        f"--dashboard-agent-listen-port={free_port()}",  # the default is one for all heads of a machine
        "--node-ip-address=127.0.0.1",
        f"--temp-dir={temporary}",
        "--block",
    ]
    log_path = tmp_path / "head.log"
    with log_path.open("w") as log:
        process = subprocess.Popen(head, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            # As the README says, but for the address.
            submit = [ray, "job", "submit", f"--address=http://127.0.0.1:{dashboard}"]
            takes_along = "infra/runtime_env.yaml"
            if mode == "disabled":  # with a variable of the user's that the engine would pass on too
                own = tmp_path / "runtime_env.yaml"
                own.write_text(
                    (ROOT / takes_along).read_text() + "env_vars: {AWS_DEFAULT_REGION: eu-west-1}\n"
                )
                takes_along = str(own)
            submit += ["--runtime-env", takes_along, "--"]
            submit += [sys.executable, "-m", "pipeline", "run", "configs/quickstart.yaml", "--rounds", "1"]
            submit += ["--set", f"workspace={tmp_path}/work", "--set", f"pool.uri={tmp_path}/data/pool"]
            if (
                mode == "disabled"
            ):  # the whole of it is shown with tokens, Ray's default; here, less of the same
                grid = "{layer1: [1.0], layer2: [1.0], layer3: [1.0, 100.0], avgpool: [1.0, 10.0, 100.0]}"
                for less in (
                    "resources.actors=1",
                    "train.epochs=10",
                    "slopes.search=grid",
                    f"slopes.grid={grid}",
                ):
                    submit += ["--set", less]
            until(lambda: answers(dashboard), process, folders=[temporary], words=log_path.read_text)
            done = run(submit, env=environment, cwd=ROOT, folders=[tmp_path, temporary])
            while (
                "No available agent" in done.stdout + done.stderr
            ):  # the dashboard answers before its agent does
                assert process.poll() is None, log_path.read_text()
                time.sleep(1)
                done = run(submit, env=environment, cwd=ROOT, folders=[tmp_path, temporary])
            assert done.returncode == 0, done.stdout + done.stderr
            assert "succeeded" in done.stdout
            assert (tmp_path / "work/rounds/000/round.json").is_file()
            slopes = json.loads((tmp_path / "work/rounds/000/slopes.json").read_text())
            assert len(slopes["trials"]) == {"token": 12, "disabled": 6}[mode]
            if mode == "token":
                stranger = {k: v for k, v in environment.items() if k != "RAY_AUTH_TOKEN"}
                refused = run(submit, env=stranger, cwd=ROOT)
                assert refused.returncode != 0, "a submitter without the token must be refused"
        finally:
            os.killpg(process.pid, 9)
            process.wait()
            shutil.rmtree(temporary, ignore_errors=True)
