"""The choice among swept options, which studies use as well."""

import pytest

from sisom import choose_options, errors


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
