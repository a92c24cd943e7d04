"""The table of names and options."""

import math

import pytest

from sisom import build_detector, errors
from tests.support import open_world

HEAD = open_world.head()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("knn", {"k": 0}),
        ("gen", {"gamma": 0.0}),
        ("gen", {"largest": 0}),
        ("react", {"percentile": 101.0}),
        ("scale", {"percentile": -1.0}),
        ("dice", {"percentile": 100.0}),
        ("vim", {"dim": -1}),
        ("odin", {"temperature": 0.0}),
        ("odin", {"noise": -1.0}),
        *(("odin", {"std": std}) for std in (0.0, -1.0, True, "abc", math.nan, math.inf, (0.2, 0.0, 0.3))),
    ],
)
def test_impossible_options(name, options):
    with pytest.raises(errors.InputError):
        build_detector(name, head=HEAD, **options)


def test_detectors_by_name():
    knn = build_detector("knn", k=3, head=open_world.head())
    assert knn.k == 3 and knn.needs == frozenset()
    assert build_detector("vim", head=open_world.head()).head is not None
    with pytest.raises(errors.UnknownName, match="'knn'"):
        build_detector("knm")
    with pytest.raises(errors.InputError, match="nearest is 'k'"):
        build_detector("knn", kk=3)
