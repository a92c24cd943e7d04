"""Candidates from faiss's exhaustive flat search, by class: an alternative first pass for very large banks.

faiss sees float32 and rounds as its own product does, so its answers are candidates like any others: measured
again and proved by the caller.
"""

import torch
from torch import Tensor

from sisom.nearest.gallery import Gallery
from sisom.nearest.tiles import SPARE, Candidates

__all__ = ["flat_candidates"]


def flat_candidates(
    queries: Tensor, classes: Tensor, gallery: Gallery, exclude: Tensor | None, inner: int, outer: int
) -> tuple[Candidates, Candidates]:
    """As `tiles.candidates`. One search of the class's block and one of what lies before and behind it, per class."""
    hidden = 0 if exclude is None else 1  # the excluded point may be among the answers, on either side
    inside = _Answers(queries, inner, hidden)
    outside = _Answers(queries, outer, hidden)
    present = torch.unique(classes)
    for c, start, stop in zip(present, *(side.tolist() for side in gallery.span(present)), strict=True):
        rows = (classes == c).nonzero().flatten()
        inside.search(rows, gallery, [(start, stop)])
        outside.search(rows, gallery, [(0, start), (stop, len(gallery))])
    return inside.candidates(exclude), outside.candidates(exclude)


class _Answers:
    """The nearest points of one side as they come in."""

    def __init__(self, queries: Tensor, need: int, hidden: int) -> None:
        self.queries = queries
        self.take = need + SPARE + hidden + 1 if need else 0
        self.values = queries.new_full((len(queries), self.take), torch.inf)
        self.index = torch.full((len(queries), self.take), -1, dtype=torch.int64)

    def search(self, rows: Tensor, gallery: Gallery, spans: list[tuple[int, int]]) -> None:
        if self.take == 0:
            return
        import faiss  # here, because it is slow to load and most runs never need it

        values, index = [self.values[rows]], [self.index[rows]]
        for start, stop in spans:
            if start < stop:
                near: faiss.Index = faiss.IndexFlatL2(gallery.points.shape[1])
                near.add(gallery.points[start:stop].cpu().numpy())
                if gallery.points.is_cuda and hasattr(faiss, "index_cpu_to_all_gpus"):
                    near = faiss.index_cpu_to_all_gpus(near)
                distance, place = near.search(self.queries[rows].cpu().numpy(), min(self.take, stop - start))
                values.append(torch.from_numpy(distance))
                index.append(torch.from_numpy(place) + start)
        best, where = torch.cat(values, dim=1).topk(self.take, dim=1, largest=False)
        self.values[rows], self.index[rows] = best, torch.cat(index, dim=1).gather(1, where)

    def candidates(self, exclude: Tensor | None) -> Candidates:
        if self.take == 0:
            return Candidates(self.index, self.values.new_full((len(self.values),), torch.inf))
        index, values = (
            self.index,
            self.values - self.queries.double().square().sum(dim=1, keepdim=True).float(),
        )
        floor = values[:, -1]
        index, values = index[:, :-1], values[:, :-1]
        if exclude is not None:
            index = torch.where((index == exclude[:, None]), -1, index)
        return Candidates(torch.where(torch.isfinite(values), index, -1), floor)
