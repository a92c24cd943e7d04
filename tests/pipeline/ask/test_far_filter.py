"""The filter that tells novel from far, tuned on answers."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.ask.far_filter import tune_filter
from pipeline.config.sections import Storage
from pipeline.labels.forms.tables import label_table
from pipeline.labels.tally import Labels
from pipeline.store.opening import open_store
from pipeline.types import SCORES, Label, LabelStatus
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder


def workspace(folder: Path, energies: dict[str, float], files: int = 1) -> Workspace:
    found = Workspace(open_store(str(folder), Storage()))
    rows = [{"id": name, "energy": energy} for name, energy in energies.items()]
    for number in range(files):
        table = pa.Table.from_pylist(rows[number::files], schema=SCORES)
        found.write_table(f"scores/{number:05d}.parquet", table)
    return found


def answers(**status: LabelStatus) -> Labels:
    label = {"labeled": "cat"}
    return Labels(label_table(Label(name, label.get(s), s, "x") for name, s in status.items()))


def test_answers_meet_the_energies_of_this_round(tmp_path: Path) -> None:
    energies = (
        {f"f{i}": 10.0 + i for i in range(5)} | {f"k{i}": float(i) for i in range(6)} | {"s": 99.0, "p": 50.0}
    )
    found = workspace(tmp_path, energies)
    given: dict[str, LabelStatus] = {f"f{i}": "out-of-world" for i in range(5)}
    given |= {f"k{i}": "labeled" if i < 3 else "unknown-class" for i in range(6)}
    given |= {"s": "skipped", "gone": "out-of-world"}  # neither side, and no longer in the pool
    assert tune_filter(Folder(found), answers(**given)).model_dump() == {
        "far_from": 10.0,
        "far": 5,
        "rest": 6,
        "youden": 1.0,
    }
    del given["f0"]
    assert tune_filter(Folder(found), answers(**given)).model_dump() == {
        "far_from": None,
        "far": 4,
        "rest": 6,
        "youden": None,
    }
    assert tune_filter(Folder(found), answers()).model_dump() == {
        "far_from": None,
        "far": 0,
        "rest": 0,
        "youden": None,
    }
