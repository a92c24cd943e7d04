"""Every key of a workspace, here and nowhere else."""

from __future__ import annotations


def part_key(prefix: str, shard: int) -> str:
    """Key of a finished shard's rows."""
    return f"{prefix}parts/{shard:08d}.parquet"


def together_key(prefix: str, shard: int) -> str:
    """Key of a finished shard's rows for a query that looks at them together."""
    return f"{prefix}together/{shard:08d}.parquet"


PREFIX = "labels/"


def answers_key(index: int) -> str:
    """Where the simulated oracle's answers to a round's query go."""
    return f"{PREFIX}{index + 1:03d}-round-{index:03d}.parquet"


def member_key(index: int, member: int) -> str:
    """Where the weights lie of a network that a round trains for its committee; the first is the round's own."""
    return round_key(index, f"model/member-{member:03d}.safetensors" if member else "model/model.safetensors")


DUPLICATES_KEY = "duplicates.parquet"


def shards_key(prefix: str) -> str:
    """Key of the table of shards."""
    return f"{prefix}shards.parquet"


def round_key(index: int, name: str) -> str:
    """Key of an artefact of a round."""
    return f"rounds/{index:03d}/{name}"
