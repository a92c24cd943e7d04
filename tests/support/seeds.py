"""The seed of what tests train. SISOM_TRAINED_SEED sets another one, and what tests assert has to hold with any."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path


def trained_seed() -> int:
    """Return SISOM_TRAINED_SEED, 0 when it is not set."""
    return int(os.environ.get("SISOM_TRAINED_SEED", "0"))


def seeded(config: Path) -> Path:
    """Return the config itself, or a copy whose seed is higher by SISOM_TRAINED_SEED."""
    if not trained_seed():
        return config
    text = re.sub(
        r"^seed: (\d+)$",
        lambda found: f"seed: {int(found[1]) + trained_seed()}",
        config.read_text(),
        flags=re.M,
    )
    copy = Path(tempfile.mkdtemp(prefix="sisom-seed-")) / config.name
    copy.write_text(text)
    return copy
