"""The table of kinds of studies."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.studies.kinds import KINDS


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_goes_by_the_name_that_its_config_takes(name: str) -> None:
    field = KINDS[name].config.model_fields["study"]
    assert field.annotation is not None
    assert field.annotation.__args__ == (name,)
    assert callable(KINDS[name].run)


def test_the_table_imports_no_engine() -> None:
    code = "import sys, pipeline.studies.kinds; print([m for m in ('ray', 'mlflow') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
