"""Features as bytes."""

from __future__ import annotations

import pytest
import torch

from pipeline.score.feature_rows import pack, unpack
from tests.support.random_rows import DIMS, random_features

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("deep", [False, True])
def test_features_come_back_from_bytes(deep: bool) -> None:
    features = random_features(7, 3)
    again = unpack(pack(features, deep=deep), features, deep=deep)
    assert torch.equal(again.logits, features.logits)
    assert torch.equal(again.penultimate, features.penultimate)
    assert again.saliency.shape[1] == (13 if deep else 0)
    if deep:
        assert torch.equal(again.saliency, features.saliency)
        assert again.layer_dims == DIMS
    assert len(unpack([], features, deep=deep)) == 0
