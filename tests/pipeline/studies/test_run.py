"""Studies in places where something else lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.sections import Storage
from pipeline.errors import WorkspaceMismatch
from pipeline.store.opening import open_store
from pipeline.studies.kinds import load_study
from pipeline.studies.run import study
from pipeline.workspace.artefacts import PROJECT, Workspace

CONFIG = Path(__file__).parents[3] / "configs" / "al_digits.yaml"


@pytest.mark.parametrize(
    ("key", "content", "kind"),
    [
        (PROJECT, {}, "project"),
        ("config.json", {"study": "ood"}, "ood"),
        ("config.json", {}, "something else"),
    ],
)
def test_results_of_another_kind_are_left_alone(
    tmp_path: Path, key: str, content: dict[str, Any], kind: str
) -> None:
    config = load_study(CONFIG, [f"workspace={tmp_path / 'work'}"])
    workspace = Workspace(open_store(config.workspace, Storage()))
    workspace.write_json(key, content)
    before = workspace.store.get(key)
    voice: Any = None  # nothing is said before
    with pytest.raises(WorkspaceMismatch, match=f"holds {kind} work; give `workspace` another place"):
        study(config, voice)
    assert workspace.store.get(key) == before
