"""The OpenOOD adapter."""

import pytest

from sisom import errors, metrics


def test_openood_adapter(trained):
    from sisom.openood import SisomPostprocessor

    model, images, labels, strangers = trained
    loader = [{"data": images[i : i + 100], "label": labels[i : i + 100]} for i in range(0, 300, 100)]
    post = SisomPostprocessor(
        by="sisom", slopes={"layer1": 1.0, "layer2": 1.0, "layer3": 1e3, "avgpool": 30.0}
    )
    with pytest.raises(errors.InputError, match="setup"):
        post.postprocess(model, images[:2])
    post.setup(model, {"train": loader}, {})
    predicted, known = post.postprocess(model, images[600:700])
    assert float((predicted == labels[600:700]).double().mean()) > 0.85
    _, unknown = post.postprocess(model, strangers[:100])
    assert metrics.auroc(-known, -unknown) > 0.75
    assert float(known.mean()) > float(unknown.mean())
    with pytest.raises(errors.InputError):
        SisomPostprocessor(by="energy")
