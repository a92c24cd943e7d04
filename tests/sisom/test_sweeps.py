"""The choice among swept options, by hand."""

import pytest

from sisom.errors import InputError
from sisom.sweeps import best_options


def test_the_best_combination_is_chosen_and_ties_go_to_the_first():
    sweep = {"a": (1, 2), "b": (10, 20, 30)}
    seen = []

    def goodness(options):
        seen.append((options["a"], options["b"]))
        return {20: 0.9, 30: 0.9}.get(options["b"], 0.1)

    assert best_options(sweep, goodness) == ({"a": 1, "b": 20}, 0.9)
    assert seen == [(1, 10), (1, 20), (1, 30), (2, 10), (2, 20), (2, 30)]
    assert best_options(sweep, lambda options: -1.0 * options["a"] * options["b"]) == (
        {"a": 1, "b": 10},
        -10.0,
    )
    assert best_options({}, lambda _: 0.5) == ({}, 0.5)


def test_an_option_without_values_is_refused():
    with pytest.raises(InputError, match="at least one value"):
        best_options({"a": (1,), "b": ()}, lambda _: 0.0)
