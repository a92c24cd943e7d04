"""Print the processor seconds of every process that starts while a command runs.

python tests/benchmarks/process_seconds.py .venv/bin/sisom run configs/quickstart.yaml --rounds 1
"""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

PAUSE_S = 0.3  # between two looks; what ends within it is missed
LEAST_S = 0.5  # that are printed


def seconds() -> dict[tuple[int, float], tuple[str, float]]:
    """Return name and processor seconds by process; a number may come again with another start."""
    found = {}
    for process in psutil.process_iter(["pid", "create_time", "cpu_times", "cmdline", "name"]):
        told = process.info
        if told["cpu_times"] is not None:
            name = " ".join(told["cmdline"] or [told["name"]])
            found[told["pid"], told["create_time"]] = (
                name if name.startswith("ray::") else name.rpartition("/")[2],
                told["cpu_times"].user + told["cpu_times"].system,
            )
    return found


def main(command: list[str]) -> int:
    """Run a command and print what it cost."""
    before, cost = seconds().keys(), dict[tuple[int, float], tuple[list[str], float]]()
    began = time.monotonic()
    with subprocess.Popen(command) as run:
        while run.poll() is None:
            for process, (name, spent) in seconds().items():
                if process not in before:
                    names, _ = cost.get(process, ([], 0.0))
                    cost[process] = (names if names[-1:] == [name] else [*names, name], spent)
            time.sleep(PAUSE_S)
    wall = time.monotonic() - began
    for names, spent in sorted(cost.values(), key=lambda each: -each[1]):
        if spent >= LEAST_S:
            print(f"{spent:7.1f} s  {' > '.join(name[:40].strip() for name in names[-4:])}")
    print(f"{sum(spent for _, spent in cost.values()):7.1f} s of processors in {wall:.1f} s")
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
