"""What the lease costs: taking it, renewing it before a commit, giving it back.

    python tests/benchmarks/bench_lease.py
    tests/support/radosgw.sh run .venv/bin/python tests/benchmarks/bench_lease.py      against Ceph's gateway

On disk, and on S3 over loopback (moto, or the server that SISOM_S3_ENDPOINT names), with the requests counted on the
line. Beside it, in the same run, one plain put of as many bytes: what any artefact costs there.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from pipeline.config.sections import Storage  # noqa: E402
from pipeline.store.opening import LocalStore, Store, open_store  # noqa: E402
from pipeline.workspace.keys import LEASE  # noqa: E402
from pipeline.workspace.lease import Lease  # noqa: E402
from tests.support.fault_proxy import FaultProxy  # noqa: E402

TIMES = 200


def measure(store: Store, asked: Callable[[], int]) -> None:
    """Print medians in milliseconds, and requests."""
    spent: dict[str, list[float]] = {"take": [], "renew": [], "give back": [], "plain put": []}
    requests = dict.fromkeys(spent, 0)

    def timed(name: str, work: Callable[[], Any]) -> None:
        before, began = asked(), time.perf_counter()
        work()
        spent[name].append(1000 * (time.perf_counter() - began))
        requests[name] += asked() - before

    for _ in range(TIMES):
        lease = Lease(store)
        timed("take", lease.__enter__)
        timed("renew", lease.hold)
        timed("give back", lambda lease=lease: lease.__exit__(None, None, None))
        data = store.get(LEASE)
        timed("plain put", lambda data=data: store.put("other.json", data))
    for name, found in spent.items():
        told = f", {requests[name] / TIMES:.0f} requests" if requests[name] else ""
        print(f"  {name:<10} {statistics.median(found):6.2f} ms{told}")


def main() -> None:
    """On disk, then on S3."""
    print(f"median of {TIMES}; a run takes the lease once, renews it every 15 s and before each commit")
    with tempfile.TemporaryDirectory() as folder:
        print("local disk")
        measure(LocalStore(folder), lambda: 0)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "canary-d41d8cd98f",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = None
    endpoint = os.environ.get("SISOM_S3_ENDPOINT")
    if endpoint is None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
    bare: Any = open_store("s3://bench-lease", Storage(endpoint=endpoint))
    bare.client.create_bucket(Bucket=bare.bucket)
    print(f"S3 ({'moto' if server else 'as SISOM_S3_ENDPOINT says'})")
    measure(bare, lambda: 0)
    with FaultProxy(endpoint) as line:
        print("S3 over a line that counts")
        measure(open_store(bare.uri, Storage(endpoint=line.url)), lambda: sum(line.requests.values()))
    if server is not None:
        server.stop()


if __name__ == "__main__":
    main()
