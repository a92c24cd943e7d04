"""BASE by hand."""

import torch

from sisom import Head
from tests.support.selector_rows import gaussian, picks, rows


def test_base_by_hand():
    logits = [[3.0, 2.0, 0.0], [3.0, 0.0, 2.5], [0.0, 5.0, 1.0], [0.0, 1.0, 4.0], [9.0, 0.0, 0.0]]
    # Distances to class 0: 1, .5, 5, 4, 9; to 1: 1, 3, 4, 3, 9; to 2: 3, .5, 4, 3, 9.
    assert picks("base", rows(torch.zeros(5, 1), logits), k=3) == [1, 0, 3]
    assert picks("base", rows(torch.zeros(5, 1), logits), k=5) == [1, 0, 3, 2, 4]
    # Weights ten times as far apart bring class 1 near for rows of class 0.
    head = Head(torch.tensor([[0.0, 0.0], [0.0, 10.0], [1.0, 0.0]]), torch.zeros(3))
    assert picks("base", rows(torch.zeros(5, 2), logits), k=1, head=head) == [0]


def test_base_with_a_head_measures_in_feature_space():
    h, head = gaussian(40, 6, 20), Head(gaussian(3, 6, 21), gaussian(3, 1, 22)[:, 0])
    logits = head.logits(h.double()).float()
    found = picks("base", rows(h, logits), k=6, head=head)
    w, expected = head.weight.double(), []
    for c in range(3):

        def distance(i, c=c):
            top = int(logits[i].argmax())
            to = lambda j: float((logits[i, top] - logits[i, j]) / (w[top] - w[j]).norm())  # noqa: E731
            return min(to(j) for j in range(3) if j != top) if top == c else to(c)

        order = sorted((i for i in range(40) if i not in expected), key=distance)
        expected += order[:2]
    assert found == expected
