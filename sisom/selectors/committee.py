"""Selectors that ask where the members of a committee disagree (section 14)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sisom.errors import InputError
from sisom.network.head import Head
from sisom.rowwise import rowwise
from sisom.selectors.base import RowSelector, committee_of
from sisom.types import Candidates

__all__ = ["BaldSelector", "KlSelector", "VoteEntropySelector", "dropout_votes", "ensemble_votes"]


class _CommitteeSelector(RowSelector):
    """Selector that asks a committee of "dropout" passes or an "ensemble".

    The members are passes of one model with dropout on, or several models.
    """

    needs = frozenset({"committee"})
    committee = "ensemble"


@dataclass(frozen=True)
class KlSelector(_CommitteeSelector):
    """Query by committee: mean divergence of members from their mean.

    That is `mean KL(p_m || mean p)`.
    """

    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Rank by the committee; see `RowSelector`."""
        return rowwise(_disagreement, committee_of(pool).transpose(0, 1))


@dataclass(frozen=True)
class BaldSelector(KlSelector):
    """BALD: mutual information of label and weights, by passes with dropout.

    `H(mean p) - mean H(p_m)` is the mean divergence from the mean, written differently: only the committee is another.
    """

    committee = "dropout"


@dataclass(frozen=True)
class VoteEntropySelector(_CommitteeSelector):
    """Query by committee: the entropy of the members' votes, in nats."""

    def priority_of(self, pool: Candidates, *, seed: int) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Rank by the committee; see `RowSelector`."""
        return rowwise(_vote_entropy, committee_of(pool).transpose(0, 1))


def ensemble_votes(logits: Sequence[Float[Tensor, "n K"]]) -> Float[Tensor, "members n K"]:
    """Compute class probabilities of networks from their logits of the same rows."""
    return torch.stack([rowwise(lambda rows: torch.softmax(rows, dim=1), each) for each in logits]).float()


def dropout_votes(
    head: Head, penultimate: Float[Tensor, "n p"], *, members: int, dropout: float, seed: int
) -> Float[Tensor, "members n K"]:
    """Compute class probabilities of one network with dropout, `members` times.

    Dropout is before its last layer.

    A member drops the same units in all rows, as one network would that was sampled once. So what is said of a row
    depends on that row, the seed and the member alone. Inverted dropout: what stays is divided by `1 - dropout`.

    Raises `InputError` for fewer than two members, or a share outside of [0, 1).
    """
    if members < 2 or not 0 <= dropout < 1:
        raise InputError(
            f"a committee has two members or more and a dropout in [0, 1), got {members}, {dropout}"
        )
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(members, penultimate.shape[1], generator=generator) >= dropout
    masks = kept.double() / (1 - dropout)
    votes = [
        rowwise(lambda h, mask=mask: torch.softmax(head.logits(h * mask.to(h.device)), dim=1), penultimate)
        for mask in masks
    ]
    return torch.stack(votes).float()


def _disagreement(probabilities: Tensor) -> Tensor:
    """Measure disagreement, (n, members, K) to (n,).

    Rounding may not make it negative.
    """
    return (_entropy(probabilities.mean(dim=1)) - _entropy(probabilities).mean(dim=1)).clamp(min=0)


def _vote_entropy(probabilities: Tensor) -> Tensor:
    votes = torch.nn.functional.one_hot(probabilities.argmax(dim=2), probabilities.shape[2])
    return _entropy(votes.double().mean(dim=1))


def _entropy(probabilities: Tensor) -> Tensor:
    parts: Tensor = torch.special.entr(probabilities)  # zero for zero
    return parts.sum(dim=-1)
