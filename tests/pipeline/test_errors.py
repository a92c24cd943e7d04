"""Errors come home from workers whole, and end in the right exit status."""

from __future__ import annotations

import pickle

import pytest

from pipeline import errors
from pipeline.errors import PipelineError, SystemFault, UserError, nearest

CLASSES = sorted(
    (c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, PipelineError)),
    key=lambda c: c.__name__,
)
EXIT_CODES = {
    "ConfigError": 2,
    "StorageError": 2,
    "PoolError": 2,
    "LabelError": 2,
    "WorkspaceMismatch": 2,
    "UserError": 2,
    "WaitingForLabels": 3,
    "LeaseHeld": 4,
    "PipelineError": 1,
    "SystemFault": 1,
    "ObjectFault": 1,
    "ArtefactMissing": 1,
    "ArtefactDamaged": 1,
    "ObjectChanged": 1,
    "StoreUnavailable": 1,
    "AccountError": 1,
    "QuarantineOverflow": 1,
    "StageFailed": 1,
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_an_error_survives_pickling_with_its_attributes(kind: type[PipelineError]) -> None:
    error = kind("what happened, where")
    for name in ("path", "uri", "stage"):
        if hasattr(kind, name):
            assert getattr(error, name) is None
            setattr(error, name, "a value")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == "what happened, where"
    assert vars(back) == vars(error)


def test_every_class_has_its_exit_status_and_its_line_in_the_tree() -> None:
    assert {kind.__name__: kind.exit_code for kind in CLASSES} == EXIT_CODES
    for kind in CLASSES:
        assert f"{kind.__name__} " in f"{errors.__doc__} ".replace("\n", " \n")


def test_users_faults_and_the_systems_are_apart() -> None:
    assert not [kind for kind in CLASSES if issubclass(kind, UserError) and issubclass(kind, SystemFault)]


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("trian", ["train", "tune"], "did you mean train?"),
        ("sisomee", ["sisom", "sisome", "energy"], "did you mean sisome?"),
        ("zzz", ["b", "a"], "known: a, b"),
        ("zzz", [], "there are none"),
        ("zzz", [f"{n:02d}" for n in range(21)], f"known: {', '.join(f'{n:02d}' for n in range(20))}, ..."),
    ],
)
def test_the_nearest_word_or_the_list(word: str, known: list[str], hint: str) -> None:
    assert nearest(word, known) == hint


def test_an_error_is_made_with_its_attribute() -> None:
    found = errors.StageFailed.at("train", "training failed")
    assert (str(found), found.stage) == ("training failed", "train")
    assert errors.ConfigError.at("model.layers", "no such layer").path == "model.layers"
    missing = errors.ArtefactMissing.at("s3://bucket/key", "not there")
    assert type(missing) is errors.ArtefactMissing
    assert missing.uri == "s3://bucket/key"
    back = pickle.loads(pickle.dumps(missing))
    assert back.uri == missing.uri
