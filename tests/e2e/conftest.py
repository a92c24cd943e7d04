"""The command line in processes of its own, on real Ray: what a person at a terminal does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from tests.faults.victims import sweep
from tests.support.progress_wait import finished
from tests.support.seeds import seeded

ROOT = Path(__file__).parents[2]
QUICKSTART = seeded(ROOT / "configs" / "quickstart.yaml")


@dataclass(frozen=True)
class Terminal:
    """A working folder with an empty home; `run` types a command into it."""

    folder: Path

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RAY_", "MLFLOW_"))}
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        return {**kept, "HOME": str(home), **(extra or {})}

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=self.folder,
            env={**self.environment(env), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, expect: int = 0
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, env=env)
        out, err = finished(process, folders=[self.folder])
        assert process.returncode == expect, f"{arguments} -> {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@dataclass(frozen=True)
class Demo:
    """What a run of the quickstart left."""

    terminal: Terminal
    workspace: Path
    data: Path
    first: subprocess.CompletedProcess[str]


def run_once(factory: pytest.TempPathFactory, rounds: int) -> Demo:
    """Run rounds of the quickstart once for all tests, in however many processes these run.

    Whoever wants fewer rounds than there are by then gets these: a round does not depend on those after it.
    """
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with FileLock(shared / "demo.lock"):
        for made in (3, 1):
            folder = shared / f"demo-{made}"
            told = folder / "told.json"
            if made == rounds and not told.exists():
                first = Terminal(folder).run("run", str(QUICKSTART), "--rounds", str(rounds))
                told.write_text(json.dumps([first.args, first.returncode, first.stdout, first.stderr]))
            if told.exists() and made >= rounds:
                break
    first = subprocess.CompletedProcess(*json.loads(told.read_text()))
    return Demo(Terminal(folder), folder / "runs/quickstart", folder / "runs/quickstart-data", first)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo as a newcomer runs it: three rounds."""
    return run_once(tmp_path_factory, 3)


@pytest.fixture(scope="session")
def first_round(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo's first round, and maybe the others."""
    return run_once(tmp_path_factory, 1)


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """What tells our processes from all others; a short name, since Ray's sockets lie there."""
    folder = Path(tempfile.mkdtemp(prefix="sk-", dir="/tmp"))
    yield folder
    sweep(folder)
    shutil.rmtree(folder, ignore_errors=True)
