"""Pictures of a report: of every form that is decoded, what the model sees; none of what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.sections import Pool
from pipeline.report.thumbnails import _make
from pipeline.store.opening import LocalStore
from pipeline.workspace.artefacts import Workspace
from tests.support.corpus import MAX_PIXELS, as_parquet, cases
from tests.support.pools import snapshot_of
from tests.support.scoring_lab import config_of
from tests.support.shown_pictures import check_shown

pytestmark = pytest.mark.slow

SIDE = 96


def made(folder: Path, names: frozenset[str]) -> dict[str, bytes]:
    """The pictures of a pool that is the whole corpus, without Ray."""
    as_parquet(cases(0), folder / "pool" / "corpus.parquet", 500)
    config = config_of(folder / "pool")
    assert config.scoring.max_pixels == MAX_PIXELS
    snapshot = snapshot_of(Pool(uri=str(folder / "pool")), Workspace(LocalStore(str(folder / "work"))))
    assert len(snapshot.numbers) == 1
    return _make(snapshot, names, config)


def test_a_report_shows_what_the_model_sees(tmp_path: Path) -> None:
    corpus = cases(0)
    pictures = made(tmp_path, frozenset(case.name for case in corpus))
    assert set(pictures) == {case.name for case in corpus if case.fate == "scored"}
    compared = [
        case.name
        for case in corpus
        if case.name in pictures and check_shown(case.data, pictures[case.name], SIDE)
    ]
    assert len(compared) > 150


@pytest.mark.parametrize("name", ["plain PNG.png", "mode I 16 PNG.png"])
def test_only_images_that_are_asked_about_are_drawn(tmp_path: Path, name: str) -> None:
    assert set(made(tmp_path, frozenset({name, "nobody"}))) == {name}
