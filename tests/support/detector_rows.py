"""Features and scores of detectors that fit on one line."""

import math

import torch

from sisom import Features, build_detector


def energy(logits):
    return -math.log(sum(math.exp(value) for value in logits))


def features(penultimate, logits=None, saliency=None):
    h = torch.tensor(penultimate, dtype=torch.float32)
    given = torch.zeros(len(h), 2) if logits is None else torch.tensor(logits, dtype=torch.float32)
    parts = h if saliency is None else torch.tensor(saliency, dtype=torch.float32)
    return Features(parts, (("a", parts.shape[1]),), h, given)


def score(name, fit, labels, rows, **options):
    detector = build_detector(name, **options)
    return detector.score(detector.fit(fit, torch.tensor(labels)), rows).tolist()
