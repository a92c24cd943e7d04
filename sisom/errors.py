"""Errors of the algorithm. Every class survives pickling with its attributes.

SisomError
  InputError             the caller's arrays are impossible
    EmptyInput           no rows where at least one is needed
    ShapeMismatch        arrays that do not fit together
    NonFinite            NaN or infinity; carries .rows
    LabelError           a label that is no class
    BudgetTooLarge       more picks asked for than there are rows
  TooFewLabels           no leave-one-out ratio exists (needs two classes and one class with two points)
  SlopeError             slopes that cannot be used
    DegenerateSlopes     every candidate collapses the feature space; carries .reasons
  LayerError             a layer the model does not have, or that cannot be tapped; carries .layer and
                         .nearest
  UnknownName            a name missing from a catalogue; carries .name and .nearest
  BankFormatError        bytes or arrays that are not a bank
  WeightsError           weights that do not fit the model
"""

from difflib import get_close_matches

__all__ = [
    "BankFormatError",
    "BudgetTooLarge",
    "DegenerateSlopes",
    "EmptyInput",
    "InputError",
    "LabelError",
    "LayerError",
    "NonFinite",
    "ShapeMismatch",
    "SisomError",
    "SlopeError",
    "TooFewLabels",
    "UnknownName",
    "WeightsError",
    "nearest_name",
]


class SisomError(Exception):
    """Root of everything this package raises on purpose."""


class InputError(SisomError, ValueError):
    """The caller's arrays are impossible."""


class EmptyInput(InputError):
    """No rows where at least one is needed."""


class ShapeMismatch(InputError):
    """Arrays that do not fit together; the message says expected and actual."""


class NonFinite(InputError):
    """NaN or infinity in the input; `rows` are the offending rows."""

    def __init__(self, message: str, rows: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.rows = rows


class LabelError(InputError):
    """A label that is not a class of the bank."""


class BudgetTooLarge(InputError):
    """More picks asked for than there are rows."""


class TooFewLabels(SisomError, ValueError):
    """No leave-one-out ratio exists.

    The ratio needs two classes, and one of them with two points.
    """


class SlopeError(SisomError, ValueError):
    """Slopes that cannot be used with these layers."""


class DegenerateSlopes(SlopeError):
    """Every candidate collapses the feature space; `reasons` says how each one does."""

    def __init__(self, message: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons


class LayerError(SisomError, ValueError):
    """A layer that the model lacks or that cannot be tapped."""

    def __init__(self, message: str, layer: str = "", nearest: str | None = None) -> None:
        super().__init__(message)
        self.layer = layer
        self.nearest = nearest


class UnknownName(SisomError, ValueError):
    """A name missing from a catalogue."""

    def __init__(self, message: str, name: str = "", nearest: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.nearest = nearest


class BankFormatError(SisomError, ValueError):
    """Bytes or arrays that are not a feature bank of this version."""


class WeightsError(SisomError, ValueError):
    """Weights that do not fit the model."""


def nearest_name(name: str, known: list[str]) -> str | None:
    """Find the known name most like `name`; None when there is none."""
    if not known:
        return None
    close = get_close_matches(name, known, n=1, cutoff=0.0)
    return close[0] if close else known[0]
