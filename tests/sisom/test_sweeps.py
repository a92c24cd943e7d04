"""The choice among swept options."""

import pytest

from sisom import SWEEPS, Labeled, build_detector, choose_options, errors, metrics, search_options
from sisom.detectors.neighbors import KnnDetector
from tests.support import open_world


def test_the_highest_wins_and_the_first_of_equals():
    tried = []

    def judge(options):
        tried.append(options)
        return {(1, "x"): 0.5, (2, "x"): 0.9, (2, "y"): 0.9}.get((options["a"], options["b"]), 0.0)

    chosen = choose_options({"a": (1, 2), "b": ("x", "y")}, judge)
    assert chosen == ({"a": 2, "b": "x"}, 0.9)
    assert [(each["a"], each["b"]) for each in tried] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


@pytest.mark.parametrize("sweep", [{}, {"a": ()}])
def test_nothing_to_choose_from(sweep):
    with pytest.raises(errors.InputError, match="values to choose from"):
        choose_options(sweep, lambda options: 0.0)


HEAD = open_world.head()


@pytest.fixture(scope="module")
def fitted():
    return open_world.make(60, seed=0, noise=1.2)


def test_sweeps_choose_the_best_option(fitted):
    validation = {
        "known": open_world.make(40, seed=8, noise=2.0)[0],
        "unknown": open_world.make(40, seed=8, far=True, noise=2.0)[0],
    }
    labeled = Labeled(*fitted, fitted[0].logits.shape[1])
    sweep = {"k": (1, 5, 59)}
    options, best = search_options("knn", labeled, **validation, sweep=sweep)
    by_hand = {}
    for k in sweep["k"]:
        detector = KnnDetector(k=k)
        state = detector.fit(*fitted)
        by_hand[k] = metrics.auroc(*(detector.score(state, part) for part in validation.values()))
    assert best == max(by_hand.values()) and options == {"k": max(by_hand, key=by_hand.get)}
    # Equal candidates: the first. All of these are the farthest fitted row.
    assert search_options("knn", labeled, **validation, sweep={"k": (90, 60, 75)})[0] == {"k": 90}
    chosen, value = search_options("vim", labeled, **validation, head=HEAD)
    assert chosen["dim"] in SWEEPS["vim"]["dim"] and 0 <= value <= 1
    for name, fields in SWEEPS.items():
        for field, values in fields.items():
            assert all(getattr(build_detector(name, **{field: value}), field) == value for value in values)
    with pytest.raises(errors.InputError, match="images"):
        search_options("odin", labeled, **validation)
    with pytest.raises(errors.InputError, match="no sweep"):
        search_options("energy", labeled, **validation)
