"""Any detector of the catalogue in the place of the bank."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.errors import LabelError
from pipeline.model.detector import fit
from pipeline.rounds.stored import stored_detector
from pipeline.store.opening import LocalStore
from pipeline.workspace.artefacts import Workspace
from pipeline.workspace.folder import Folder
from tests.support.judging import judged_by, labeled
from tests.support.scoring_lab import Lab

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_banks_own_scores_need_no_detector(lab: Lab, tmp_path: Path) -> None:
    features, targets = labeled(lab)
    for name in ("sisome", "sisom", "energy"):
        assert fit(judged_by(name), lab.network.build("cpu"), features, targets=targets) is None
        assert (
            stored_detector(Folder(Workspace(LocalStore(str(tmp_path)))), lab.network, judged_by(name))
            is None
        )


def test_too_few_labels_are_told_with_what_would_do(lab: Lab) -> None:
    features, _ = labeled(lab)
    model = lab.network.build("cpu")
    with pytest.raises(LabelError, match=r"sisom-fused: .*; label more, or let sisome judge"):
        fit(judged_by("sisom-fused"), model, features.select([0, 1]), targets=torch.tensor([0, 1]))
