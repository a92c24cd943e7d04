"""Seeds of rounds and members."""

from __future__ import annotations

import hashlib

from pipeline.learn.seeds import member_seed, round_seed


def test_seeds_by_hand() -> None:
    first = hashlib.sha256(b"7/3").digest()
    assert round_seed(7, 3) == int.from_bytes(first[:4], "big") // 2
    assert member_seed(round_seed(7, 3), 0) == round_seed(7, 3)
    assert member_seed(5, 2) == round_seed(5, 2)


def test_every_round_and_member_has_a_seed_of_its_own() -> None:
    seeds = {member_seed(round_seed(s, r), m) for s in range(5) for r in range(20) for m in range(5)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**31 for seed in seeds)
