"""Score a pool on a cluster of several raylets, and perhaps lose one of them on the way.

    python tests/support/raylets.py POOL OUT --nodes 3 [--lose]

Prints the digest of what was written. Everything is in processes of its own, as on a cluster.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from scoring_lab import Lab, config_of, files

from pipeline import scoring
from pipeline.progress import Voice
from pipeline.scoring import Account, score_pool


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--lose", action="store_true")
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
        done: list[Account] = []
        work = threading.Thread(target=lambda: done.append(score_pool(job, Voice())), daemon=True)
        work.start()
        if options.lose:  # only the main thread may, so the work is in another one
            parts = options.out / "scored/parts"
            while work.is_alive() and not (parts.is_dir() and len(list(parts.iterdir())) > 2):
                time.sleep(0.02)
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        work.join(timeout=400)
        if not done:
            raise SystemExit("scoring failed, or stalled")
        print(done[0].scored, hashlib.sha256(repr(sorted(files(job).items())).encode()).hexdigest())
    finally:
        ray.shutdown()
        nodes.shutdown()


if __name__ == "__main__":
    main()
