"""Seeds of rounds and of committees, the same in rounds and studies."""

from __future__ import annotations

import hashlib


def round_seed(seed: int, index: int) -> int:
    """Return the seed of a round: below 2^31, different for every round."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:4], "big") >> 1


def member_seed(seed: int, member: int) -> int:
    """Return the seed of a committee's member.

    Member 0 has the seed of the round.
    """
    return round_seed(seed, member) if member else seed
