"""Keys of a workspace."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline
from pipeline.workspace import keys
from pipeline.workspace.keys import round_key


def test_keys_are_the_contracts() -> None:
    assert round_key(0, "round.json") == "rounds/000/round.json"
    assert round_key(42, "pool/00000.parquet") == "rounds/042/pool/00000.parquet"


SOURCES = Path(pipeline.__file__).parent
ELSEWHERE = {SOURCES / "studies", SOURCES / "workspace/keys.py"}  # a study keeps cells in a folder of its own


def test_keys_are_those_of_the_contract() -> None:
    assert keys.round_key(7, keys.PLAN) == "rounds/007/plan.json"
    assert keys.round_key(0, keys.listing_part_key(3)) == "rounds/000/pool/00003.parquet"
    assert keys.round_key(12, keys.score_file_key(0)) == "rounds/012/scores/00000.parquet"
    assert keys.round_key(12, keys.quarantine_file_key(41)) == "rounds/012/quarantine/00041.parquet"
    assert keys.weights_key() == keys.weights_key(0) == "model/model.safetensors"
    assert keys.weights_key(2) == "model/member-002.safetensors"
    assert keys.scored_part_key(5) == "parts/00000005.parquet"
    assert keys.together_key(5) == "together/00000005.parquet"
    assert keys.oracle_answers_key(3) == "labels/004-round-003.parquet"
    assert keys.people_answers_key(3) == "labels/004-answers.parquet"
    assert keys.INITIAL_LABELS == "labels/000-initial.parquet"


def test_batches_sort_as_they_were_made() -> None:
    made = [
        keys.INITIAL_LABELS,
        keys.people_answers_key(0),
        keys.import_key(1, 0, "b"),
        keys.import_key(1, 1, "a"),
        keys.oracle_answers_key(0),
        keys.import_key(2, 0, "a"),
    ]
    assert made == sorted(made)
    assert [keys.batch_number(key) for key in made] == [0, 1, 1, 1, 1, 2]
    assert keys.import_key(2, 0, "a").startswith(keys.imports_prefix(2))


@pytest.mark.parametrize("name", ["labels/mine.parquet", "labels/12-x.parquet", "rounds/001/query.parquet"])
def test_a_name_that_was_chosen_freely_has_no_number(name: str) -> None:
    assert keys.batch_number(name) is None


def test_keys_are_made_in_one_file() -> None:
    made = [value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)]
    words = {value for value in made if "." in value or value.endswith("/")}
    forms = re.compile(r"^(rounds|labels|parts|together|scores|quarantine|pool|plots|timings|mlflow|model)/")
    found = [
        (str(path.relative_to(SOURCES)), text)
        for path in sorted(SOURCES.rglob("*.py"))
        if path not in ELSEWHERE and not ELSEWHERE & set(path.parents)
        for text in _texts(path)
        if text in words or forms.match(text)
    ]
    assert found == [("track/session.py", "model/")], "a folder of MLflow's run, not of the workspace"


def _texts(path: Path) -> Iterator[str]:
    """The text constants that are no docstrings, f-strings in pieces."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
