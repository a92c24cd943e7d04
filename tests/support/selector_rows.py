"""Candidates and labeled rows that fit on one line."""

import torch

from sisom import SELECTORS, Candidates, Features, Labeled

NOTHING = Labeled(None, torch.empty(0, dtype=torch.int64), 4)


def features(penultimate, logits=None):
    h = torch.as_tensor(penultimate, dtype=torch.float32)
    given = torch.zeros(len(h), 2) if logits is None else torch.as_tensor(logits, dtype=torch.float32)
    return Features(torch.zeros(len(h), 0), (), h, given)


def rows(penultimate, logits=None, ids=None):
    found = features(penultimate, logits)
    return Candidates(ids or [f"{i:04d}" for i in range(len(found))], features=found)


def known(penultimate, labels, classes=2):
    return Labeled(features(penultimate, torch.zeros(len(labels), classes)), torch.tensor(labels), classes)


def gaussian(n, width, seed):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def picks(name, pool, labeled=NOTHING, k=1, seed=0, **options):
    return SELECTORS[name](**options).select(pool, labeled, k, seed=seed).tolist()
