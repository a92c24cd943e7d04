"""Read tasks of Ray: workers that read import no torch."""

from __future__ import annotations

import subprocess
import sys


def test_what_reads_needs_no_torch() -> None:
    """Readers start before the first image is scored, and on every node: torch would be most of their start."""
    code = "import sys; import pipeline.pool.read_tasks; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
