"""A bad line to a good server: a proxy on loopback that breaks the answers which its rules pick.

In a test:            with FaultProxy(endpoint, [Rule("truncate", share=0.2)], seed=1) as proxy: ... proxy.url
On the command line:  python -m tests.support.fault_proxy http://127.0.0.1:9000 503=0.05 reset=0.05 --seed 1

What happens to a request depends on the seed, the request and how often it was made before, not on the order in which
threads arrive. One request a connection, so that a reset breaks nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

Kind = Literal["503", "500", "reset", "slow", "truncate", "lost"]
_ERRORS = {"503": ("503 Slow Down", "SlowDown"), "500": ("500 Internal Server Error", "InternalError")}
_LIMIT = 1 << 20  # bytes of a request's head


@dataclass(frozen=True)
class Rule:
    """One fault: `503` and `500` answer with S3's errors, unasked; `reset` drops the connection, unasked; `slow` holds
    back half of the body for `seconds`; `truncate` ends the connection after half of it; `lost` asks, and drops it.
    """

    kind: Kind
    share: float = 1.0  # of the requests that the rule is for
    method: str = ""  # for requests of this method alone
    holds: str = ""  # for requests alone whose target holds this text
    first: int | None = None  # for the first so many tries of the same request
    seconds: float = 0.2


class FaultProxy:
    """Listens while entered. `requests` counts what was asked by method, `faults` what was broken by kind."""

    def __init__(self, upstream: str, rules: Sequence[Rule] = (), *, seed: int = 0, port: int = 0) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname, parts.port or 80
        self._asked: Counter[bytes] = Counter()
        self.rules, self.seed, self.port = list(rules), seed, port
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultProxy:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._listen(ready)), name="fault-proxy", daemon=True
        )
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _listen(self, ready: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(
                self._connected, "127.0.0.1", self.port, limit=_LIMIT, backlog=256
            )
            self.port = server.sockets[0].getsockname()[1]
        finally:
            ready.set()
        await self._over.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *headers = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        named = {
            name.strip().lower(): value.strip() for name, _, value in (h.partition(b":") for h in headers)
        }
        if named.get(b"expect", b"").lower() == b"100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(int(named.get(b"content-length", 0)))
        self.requests[line.split()[0].decode()] += 1
        rule = self._pick(line + named.get(b"range", b""))
        if rule is None or rule.kind in ("slow", "truncate", "lost"):
            dropped = (b"connection", b"expect")
            kept = [h for h in headers if h.partition(b":")[0].strip().lower() not in dropped]
            asked = b"\r\n".join([line, *kept, b"Connection: close", b"", body])
            answer = await self._ask(asked)
            if rule and rule.kind == "lost":
                writer.transport.abort()
            else:
                await self._answer(answer, rule, writer)
        elif rule.kind == "reset":
            writer.transport.abort()
        else:
            await self._refuse(rule.kind, writer, bare=line.startswith(b"HEAD"))

    def _pick(self, request: bytes) -> Rule | None:
        times = self._asked[request]
        self._asked[request] += 1
        draw = random.Random(f"{self.seed} {times} {request!r}")
        method, target = request.decode("latin1").split(" ")[:2]
        for rule in self.rules:
            fits = rule.method in ("", method) and rule.holds in target
            if fits and (rule.first is None or times < rule.first) and draw.random() < rule.share:
                self.faults[rule.kind] += 1
                return rule
        return None

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._upstream)
        writer.write(request)
        answer = await reader.read(-1)
        writer.close()
        return answer

    async def _answer(self, answer: bytes, rule: Rule | None, writer: asyncio.StreamWriter) -> None:
        head = answer.find(b"\r\n\r\n") + 4
        half = head + (len(answer) - head) // 2
        writer.write(answer[: half if rule else None])
        await writer.drain()
        if rule and rule.kind == "truncate":
            if half == head:  # without a body there is only the answer to lose
                writer.transport.abort()
        elif rule:
            await asyncio.sleep(rule.seconds)
            writer.write(answer[half:])
            await writer.drain()

    async def _refuse(self, kind: str, writer: asyncio.StreamWriter, *, bare: bool) -> None:
        status, code = _ERRORS[kind]
        text = f"<Error><Code>{code}</Code><Message>planned</Message></Error>"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}\r\nConnection: close"
        writer.write(f"{head}\r\n\r\n{'' if bare else text}".encode())
        await writer.drain()


def main() -> None:
    """Stand between until interrupted, and say what was done."""
    parser = argparse.ArgumentParser(description="A bad line to a good S3 server.")
    parser.add_argument("upstream", help="the server's URL")
    parser.add_argument("faults", nargs="*", metavar="KIND=SHARE", help=f"kinds: {', '.join(get_args(Kind))}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    told = parser.parse_args()
    rules = []
    for kind, _, share in (fault.partition("=") for fault in told.faults):
        if kind not in get_args(Kind):
            parser.error(f"no fault is called {kind!r}")
        rules.append(Rule(kind, float(share or 1)))
    with FaultProxy(told.upstream, rules, seed=told.seed, port=told.port) as proxy:
        print(proxy.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
        print("requests", dict(proxy.requests), "faults", dict(proxy.faults))


if __name__ == "__main__":
    main()
