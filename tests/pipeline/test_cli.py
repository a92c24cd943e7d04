"""The command line as far as it goes without Ray: exit statuses, and one sentence that names the place."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import yaml
from PIL import Image

from pipeline import __version__, cli
from pipeline.config.load import load, parse
from pipeline.errors import LabelError
from pipeline.store.opening import LocalStore
from pipeline.workspace.artefacts import open_workspace
from pipeline.workspace.keys import round_key
from pipeline.workspace.lease import Lease

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line of a refusal."""
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("sisom: ")
        return line.removeprefix("sisom: ")


Sisom = Callable[..., Said]


@pytest.fixture
def sisom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Sisom:
    """Types a command, in an empty folder, on a terminal of 400 columns without colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["sisom", *arguments])
        status: Any = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        out, err = capsys.readouterr()
        assert not ray.is_initialized()
        return Said(status, out, err)

    return run


def png(value: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def write(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@dataclass(frozen=True)
class Project:
    """A folder with a pool, a test set, truths and a config that is good until a test spoils it."""

    folder: Path

    @property
    def config(self) -> str:
        return str(self.folder / "project.yaml")

    def lay(self, **changes: Any) -> None:
        names = [f"i{n:02d}" for n in range(8)]
        labels = ["cat", "dog"] * 4
        images = [png(20 * n) for n in range(8)]
        write(self.folder / "pool" / "p.parquet", id=names, image=images)
        write(self.folder / "test.parquet", id=["t"], image=images[:1], label=["cat"])
        write(self.folder / "truth.parquet", id=names, label=labels, kind=["known"] * 8)
        data: dict[str, Any] = {
            "workspace": f"{self.folder}/work",
            "rounds": 1,
            "taxonomy": ["cat", "dog"],
            "pool": {"uri": f"{self.folder}/pool"},
            "test": {"uri": f"{self.folder}/test.parquet"},
            "oracle": {"kind": "simulated", "truth": f"{self.folder}/truth.parquet", "initial_per_class": 2},
            "model": {"name": "resnet10_w16", "image_size": 8},
        }
        Path(self.config).write_text(yaml.safe_dump(data | changes))

    def commit(self, index: int) -> None:
        """Leave what a committed round leaves, as far as these commands look at it."""
        workspace = open_workspace(load(self.config))
        metrics = dict.fromkeys(("test_accuracy", "r_avg", "ood_auroc", "ood_fpr95"), 0.5)
        metrics |= dict.fromkeys(("labeled_total", "listed", "scored", "quarantined", "query_size"), 5)
        workspace.write_json(round_key(index, "metrics.json"), metrics)
        workspace.write_table(round_key(index, "query.parquet"), pa.table({"id": ["i00"]}))
        workspace.store.put(round_key(index, "report.html"), b"<p>page")
        workspace.write_json(round_key(index, "tracking.json"), {})
        workspace.write_json(round_key(index, "round.json"), {})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = Project(tmp_path / "project")
    found.folder.mkdir()
    found.lay()
    return found


# ------------------------------------------------------------------------------------------------- plain


def test_version_and_help(sisom: Sisom) -> None:
    assert sisom("--version") == Said(0, f"{__version__}\n", "")
    said = sisom("--help")
    assert said.status == 0
    for command in ("run", "score", "status", "report", "config"):
        assert command in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("run",),
        ("run", "x.yaml", "--rounds", "0"),
        ("run", "x.yaml", "--rounds", "many"),
        ("run", "x.yaml", "--no-such-option"),
        ("score", "x.yaml", "--pool", "p"),
        ("report", "x.yaml", "--round", "-1"),
    ],
)
def test_a_wrong_command_line_is_the_users_mistake(sisom: Sisom, arguments: tuple[str, ...]) -> None:
    said = sisom(*arguments)
    assert (said.status, said.out) == (2, "")
    assert "Usage: sisom" in said.err
    assert "Traceback" not in said.err


def test_python_m_pipeline_is_the_same_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "config", "show", "nothing.yaml"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "sisom: nothing.yaml: no such file\n"


# ------------------------------------------------------------------------------------------------- config


def test_config_show_prints_what_loads_as_the_same(sisom: Sisom, tmp_path: Path) -> None:
    said = sisom("config", "show", str(QUICKSTART), "--set", "query.size=7", "--set", "train.lr=1e-3")
    assert (said.status, said.err) == (0, "")
    config = parse(said.out, "shown")
    assert config == load(QUICKSTART, ["query.size=7", "train.lr=1e-3"])
    assert config.query.size == 7


def test_config_check_says_good(sisom: Sisom, project: Project) -> None:
    said = sisom("config", "check", project.config)
    assert (said.status, said.err) == (0, "")
    assert said.out.endswith(f"{project.config}: good\n") and "FAULT" not in said.out


def test_config_check_tells_all_faults_and_fails(sisom: Sisom, project: Project) -> None:
    (project.folder / "test.parquet").unlink()
    said = sisom("config", "check", project.config, "--set", "model.layers=[layer9]")
    assert said.status == 2
    assert said.out.count("FAULT  ") == 2
    assert said.err == f"sisom: {project.config}: 2 faults, see above\n"


COMMANDS = [("run",), ("status",), ("report",), ("config", "check"), ("config", "show")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_refuses_a_bad_config_alike(
    sisom: Sisom, project: Project, command: tuple[str, ...]
) -> None:
    said = sisom(*command, project.config, "--set", "query.sise=3")
    assert said.status == 2
    assert said.sentence == f"{project.config}: query.sise: unknown key; did you mean size?"
    said = sisom(*command, str(project.folder / "projet.yaml"))
    assert said.status == 2
    assert said.sentence.endswith("projet.yaml: no such file (did you mean project.yaml?)")


# ---------------------------------------------------------------------- mistakes that only a look can find


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["model.layers=[layer1, layr2]"], "layr2"),
        (["model.layers=[layer1, layr2]"], "model.layers: "),
        (["bank.subset_method=radiuss"], "did you mean radius"),
        (["pool.uri=/no/such/pool"], "pool.uri: /no/such/pool does not exist"),
        (["pool.uri=gs://b/p"], "gs:// is reached as S3"),
        (["pool.id_column=idd"], "has no column 'idd'; did you mean id?"),
        (["pool.image_column=images"], "has no column 'images'; did you mean image?"),
        (["pool.image_column=id"], "is string, expected encoded bytes"),
        (["test.uri=/no/such/test"], "test.uri: /no/such/test does not exist"),
        (["test.label_column=lable"], "has no column 'lable'; did you mean label?"),
        (["taxonomy=[dog, cow]"], "label 'cat' is not in the taxonomy"),
        (["oracle.truth=/no/such/truth"], "/no/such/truth"),
        (["oracle.initial_per_class=5"], "oracle.initial_per_class: 5, but class 'cat' has only 4 truths"),
        (["oracle.initial=/no/such/file"], "/no/such/file: does not exist or holds no Parquet file"),
        (["workspace=gs://b/w"], "gs:// is reached as S3"),
        (["demo=digits"], "taxonomy: the digits demo needs"),
    ],
)  # fmt: skip
def test_run_finds_the_users_mistakes_before_anything_starts(
    sisom: Sisom, project: Project, sets: list[str], message: str
) -> None:
    said = sisom("run", project.config, *[part for text in sets for part in ("--set", text)])
    assert said.status == 2, said
    assert message in said.sentence
    assert not (project.folder / "work").exists()


def test_a_workspace_below_a_file_is_the_users_mistake(sisom: Sisom, project: Project) -> None:
    said = sisom("run", project.config, "--set", f"workspace={project.config}/work")
    assert said.status == 2
    assert f"{project.config}/work" in said.sentence


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["i00"], "label": ["cow"]}, "row 0: label 'cow' is not in the taxonomy"),
        ({"idd": ["i00"], "label": ["cat"]}, "no column 'id'; did you mean idd?"),
    ],
)
def test_labels_that_do_not_fit_are_found_at_once(
    sisom: Sisom, project: Project, columns: dict[str, Any], message: str
) -> None:
    write(project.folder / "work/labels/000-initial.parquet", **columns)
    for command in ("run", "status"):
        said = sisom(command, project.config)
        assert said.status == 2
        assert "labels/000-initial.parquet" in said.sentence
        assert message in said.sentence


def test_a_workspace_of_another_config_is_refused(sisom: Sisom, project: Project) -> None:
    open_workspace(load(project.config)).claim(load(project.config, ["pool.id_column=key"]))
    said = sisom("run", project.config)
    assert said.status == 2
    assert 'pool.id_column = "key", but the config says "id"' in said.sentence


def test_a_held_lease_is_exit_four(sisom: Sisom, project: Project) -> None:
    with Lease(LocalStore(f"{project.folder}/work")):
        said = sisom("run", project.config)
    assert said.status == 4
    assert f"another run works here (process {os.getpid()} " in said.sentence


def test_enough_rounds_are_nothing_to_do(sisom: Sisom, project: Project) -> None:
    project.commit(0)
    said = sisom("run", project.config)
    assert said.status == 0
    assert "1 of 1 rounds are committed" in said.err
    assert "nothing to do" in said.err


# ------------------------------------------------------------------------------------------------ looking


def test_status_of_nothing_and_of_something(sisom: Sisom, project: Project) -> None:
    said = sisom("status", project.config)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"{project.folder}/work: 0 of 1 rounds committed")
    assert not (project.folder / "work").exists()
    project.commit(0)
    said = sisom("status", project.config, "--json")
    assert (said.status, said.err) == (0, "")
    found = json.loads(said.out)
    assert (found["committed"], found["wanted"], found["open_questions"]) == (1, 1, 1)
    said = sisom("status", project.config)
    assert "1 of 1 rounds committed" in said.out
    assert "1 questions of the last query are open" in said.out


def test_report_says_where_it_lies_or_copies_it(sisom: Sisom, project: Project) -> None:
    project.commit(0)
    page = project.folder / "work/rounds/000/report.html"
    assert sisom("report", project.config) == Said(0, f"{page}\n", "")
    said = sisom("report", project.config, "--round", "0", "--out", str(project.folder / "copy.html"))
    assert (said.status, said.out) == (0, f"{project.folder}/copy.html\n")
    assert (project.folder / "copy.html").read_bytes() == b"<p>page"


@pytest.mark.parametrize("index", [None, "0", "7"])
@pytest.mark.parametrize("command", [("report",), ("score", "--pool", "p", "--out", "o")])
def test_a_round_that_is_not_committed_is_refused(
    sisom: Sisom, project: Project, command: tuple[str, ...], index: str | None
) -> None:
    arguments = [command[0], project.config, *command[1:], *(["--round", index] if index else [])]
    said = sisom(*arguments)
    assert said.status == 2
    assert f"round {index or 0} is not committed in {project.folder}/work (no round is)" in said.sentence
    project.commit(0)
    if index == "7":
        said = sisom(*arguments)
        assert said.status == 2
        assert "round 7 is not committed" in said.sentence
        assert "(rounds 0 to 0 are)" in said.sentence


# ---------------------------------------------------------------------------------------- ends of all kinds


def ending(error: BaseException, monkeypatch: pytest.MonkeyPatch, sisom: Sisom) -> Said:
    """How the program ends when a command raises."""

    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_load", raises)
    return sisom("status", "x.yaml")


def test_an_error_that_came_home_from_a_worker_is_still_ours(
    sisom: Sisom, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = pickle.loads(pickle.dumps(LabelError("row 3: label 'cow'")))
    wrapped = ray.exceptions.RayTaskError("read", "Traceback ...", ours).as_instanceof_cause()
    assert ending(wrapped, monkeypatch, sisom) == Said(2, "", "sisom: row 3: label 'cow'\n")
    outer = RuntimeError("the job failed")
    outer.__cause__ = wrapped
    assert ending(outer, monkeypatch, sisom).status == 2


def test_an_error_that_is_not_ours_keeps_its_traceback(sisom: Sisom, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        ending(ZeroDivisionError(), monkeypatch, sisom)


def test_an_interrupt_is_130(sisom: Sisom, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ending(KeyboardInterrupt(), monkeypatch, sisom)
    assert (said.status, said.out) == (130, "")
    assert "run the same command again" in said.err
    assert "Traceback" not in said.err
