"""Score a pool on a cluster of several raylets, and perhaps lose one of them on the way, or get another one.

    python -m tests.support.raylets POOL OUT --nodes 3 [--lose] [--grow]

Prints the digest of what was written. Everything is in processes of its own, as on a cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

from pipeline.score import job as scoring
from pipeline.score.job import Scored, score_pool
from pipeline.voice import Voice
from tests.support.scoring_lab import Lab, config_of, files


def actors(nodes: Iterable[Any]) -> int:
    """How many worker processes of some raylets are scoring actors."""
    found = 0
    for node in nodes:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for child in raylet.children():
            with contextlib.suppress(psutil.Error):
                found += "_ScoringActor" in " ".join(child.cmdline())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--lose", action="store_true")
    parser.add_argument("--grow", action="store_true")
    options = parser.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    scoring.TASK_ROWS = 1  # as many tasks as can be
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(options.nodes):
        nodes.add_node(num_cpus=2)
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        lab = Lab.build(options.out / "bank")
        job = lab.job(config_of(options.pool), options.out / "scored")
        done: list[Scored] = []
        work = threading.Thread(target=lambda: done.append(score_pool(job, Voice())), daemon=True)
        work.start()
        parts = options.out / "scored/parts"
        while (options.lose or options.grow) and work.is_alive():
            if parts.is_dir() and len(list(parts.iterdir())) > 2:
                break
            time.sleep(0.02)
        if options.lose:  # only the main thread may, so the work is in another one
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        if options.grow:
            new = nodes.add_node(num_cpus=2)
            # More than fit on the nodes before: an actor that was still waiting for them is none that came by growth.
            while work.is_alive() and not (actors([new]) and actors(nodes.worker_nodes) > job.memory.actors):
                time.sleep(0.1)
            if not work.is_alive():
                raise SystemExit("no actor on the new node while there was work")
        work.join()  # whoever started this script looks whether it hangs
        if not done:
            raise SystemExit("scoring failed")
        print(done[0].account.scored, hashlib.sha256(repr(sorted(files(job).items())).encode()).hexdigest())
    finally:
        ray.shutdown()
        nodes.shutdown()


if __name__ == "__main__":
    main()
