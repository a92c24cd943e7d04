"""Refusals that entry points share."""

import pytest
import torch

from sisom import Features, errors, fit_bank, score
from tests.support.corners import two_classes


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("field", ["saliency", "penultimate", "logits"])
def test_non_finite_rows_are_named(bad, field):
    fit, labels = two_classes()
    bank = fit_bank(fit, labels, slopes=0.1)
    parts = {name: getattr(fit, name).clone() for name in ("saliency", "penultimate", "logits")}
    parts[field][1, 0] = bad
    broken = Features(parts["saliency"], fit.layer_dims, parts["penultimate"], parts["logits"])
    for call in (lambda: score(bank, broken), lambda: fit_bank(broken, labels, slopes=0.1)):
        with pytest.raises(errors.NonFinite, match="rows 1") as caught:
            call()
        assert caught.value.rows == (1,)
