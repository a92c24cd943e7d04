"""SISOM: one score for labeling and for out-of-distribution detection (arXiv 2405.11337).

    features = extract(model, images, layers=("layer1", "layer2", "layer3", "avgpool"))
    bank = fit_bank(features, labels, slopes={"layer1": 1e-3, "layer2": 1e-3, "layer3": 1e3, "avgpool": 1e2})
    scores = score(bank, extract(model, other_images, layers=bank.layers))

Tensors in, tensors out: nothing here knows where it runs. A name is imported when it is first used, so that a command
which only reads a config loads no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
