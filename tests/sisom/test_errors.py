"""Errors that survive pickling."""

import pickle

import pytest

import sisom
from sisom import errors


@pytest.mark.parametrize(
    "error",
    [
        errors.NonFinite("bad", (1, 2)),
        errors.LayerError("bad", "layr", "layer"),
        errors.UnknownName("bad", "x", "y"),
        errors.DegenerateSlopes("bad", ("why",)),
        *(getattr(errors, name)("bad") for name in errors.__all__ if name[0].isupper()),
    ],
    ids=lambda e: type(e).__name__,
)
def test_errors_travel(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error) and str(back) == str(error) and vars(back) == vars(error)
    assert isinstance(back, sisom.SisomError)
    assert type(error).__name__ in errors.__doc__
