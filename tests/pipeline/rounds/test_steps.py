"""The steps of a round are written once: what does them, what they leave, and what is told of them."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.config.project import Config
from pipeline.rounds import round as room
from pipeline.rounds.steps import ASK, STEPS, steps_of
from pipeline.workspace import keys

ROOT = Path(__file__).parents[3]
NAMES = [step.name for step in STEPS]


def test_a_round_calls_the_steps_in_their_order() -> None:
    body = ast.parse(inspect.getsource(room.run_round))
    calls = [
        node.func.id
        for node in ast.walk(body)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    functions = [step.function.rpartition(".")[2] for step in STEPS]
    assert [name for name in calls if name in functions] == functions


def test_every_step_has_its_function_and_an_artefact_of_its_own() -> None:
    for step in STEPS:
        module, _, name = step.function.rpartition(".")
        function = getattr(importlib.import_module(f"pipeline.rounds.{module}"), name)
        assert getattr(room, name) is function
        assert f"steps.{step.name.upper()}" in inspect.getsource(function) or name == "commit"
    assert len({step.artefact(4) for step in STEPS}) == len(STEPS)
    assert [step.artefact(4) for step in STEPS if step is not ASK] == [
        f"rounds/004/{name}"
        for name in (
            keys.PLAN, keys.MODEL_RECORD, keys.EVALUATION, keys.SLOPES, keys.BANK, keys.ACCOUNT, keys.QUERY,
            keys.REPORT, keys.ROUND,
        )
    ]  # fmt: skip
    assert ASK.artefact(4) == "labels/005-round-004.parquet"


def test_people_answer_in_their_own_time(make_config: Callable[..., Config]) -> None:
    people = make_config(oracle={"kind": "people", "initial": "labels.parquet"})
    assert [step.name for step in steps_of(people)] == [name for name in NAMES if name != "ask"]


def test_the_manifest_holds_what_decides() -> None:
    assert [name for step in STEPS for name in step.manifest] == [
        "plan.json", "labeled.parquet", "shards.parquet", "model/model.safetensors", "slopes.json",
        "bank.safetensors", "account.json", "triage.json", "query.parquet",
    ]  # fmt: skip


def test_documents_tell_the_same_steps() -> None:
    architecture = (ROOT / "docs/architecture.md").read_text()
    assert f"reads: {', '.join(NAMES)}." in architecture
    table = architecture[architecture.index("| step | artefact |") :].partition("\n\n")[0]
    assert re.findall(r"^\| (\w+) \|", table, re.MULTILINE) == ["step", *NAMES]


def test_the_steps_are_told_without_torch() -> None:
    code = (
        "import sys; import pipeline.rounds.steps;"
        "print([n for n in ('ray', 'mlflow', 'torch', 'sisom') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
