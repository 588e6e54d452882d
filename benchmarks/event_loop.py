"""
How long a waiting SegmindJobTrigger blocks the triggerer's event loop, which all triggers share.

The pause that a trigger makes before its event is left out, as nothing happens in it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.tables import spread, table

TICK = 0.01
MEGABYTES = 10
PIECES, PIECE_PAUSE = 40, 0.05
METRICS = {"inference_time": 11.4, "queue_time": 0.6, "total_time": 12.0, "cost": 0.03}
CASES = {
    "first": "normal responses, the first trigger of its process (imports, the connection, the HTTP client)",
    "normal": "normal responses",
    "large": f"responses of {MEGABYTES} MB: a COMPLETED with as many empty images as fit",
    "slow": f"responses in {PIECES} pieces, {PIECE_PAUSE:g} s apart",
}


@dataclass(frozen=True)
class Row:
    """How long one wait blocked the loop, in milliseconds, and how it ended."""

    case: str
    blocked_ms: float
    status: str
    seconds: float


def body(case: str, base_url: str, path: str) -> bytes:
    """Return the body of the response to a path."""
    if "request-history" in path:
        return json.dumps({"data": []}).encode()
    if case == "large":
        start, end = b'{"status":"COMPLETED","images":[', b"{}]}"
        return start + b"{}," * ((MEGABYTES * 1_000_000 - len(start) - len(end)) // 3) + end
    response: dict[str, Any] = {"status": "COMPLETED", "error": None, "metrics": METRICS}
    if not path.endswith("/status"):
        response["output"] = f"{base_url}/generations/x.png"
    return json.dumps(response).encode()


def serve(case: str, ready: Connection) -> None:
    """Serve responses, in a process of its own, so that its work does not block our loop."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = body(case, base_url, self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            size = -(-len(content) // PIECES) if case == "slow" else len(content)
            for start in range(0, len(content), size):
                self.wfile.write(content[start : start + size])
                self.wfile.flush()
                if case == "slow":
                    time.sleep(PIECE_PAUSE)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        base_url = f"http://127.0.0.1:{server.server_port}"
        ready.send(base_url)
        server.serve_forever()


async def wait_once() -> tuple[float, float, str]:
    """Return the longest time without a tick, the duration of the wait (both in seconds) and the event's status."""
    from airflow_provider_segmind.triggers import segmind

    segmind.EARLIEST_EVENT = 0.0
    longest, last = 0.0, time.perf_counter()

    async def tick() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(TICK)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    ticker = asyncio.create_task(tick())
    began, now = time.perf_counter(), time.time()
    trigger = segmind.SegmindJobTrigger(
        "id", "bria-erase-foreground", "segmind_default", now - 60, now + 60, poll_interval=0.5
    )
    event = await anext(trigger.run())
    ticker.cancel()
    return longest, time.perf_counter() - began, event.payload["status"]


def measure() -> list[Row]:
    """Measure each case once; all triggers run in this process."""
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    processes = multiprocessing.get_context("spawn")
    rows = []
    for case in CASES:
        ours, theirs = processes.Pipe()
        server = processes.Process(target=serve, args=(case, theirs), daemon=True)
        server.start()
        connection = {"conn_type": "segmind", "host": ours.recv(), "password": "SG_0123456789abcdef"}
        os.environ["AIRFLOW_CONN_SEGMIND_DEFAULT"] = json.dumps(connection)
        longest, took, status = asyncio.run(wait_once())
        rows.append(Row(case, longest * 1000, status, took))
        server.kill()
    return rows


def as_markdown(runs: Iterable[list[Row]]) -> str:
    """Return the runs as a table."""
    cases = [
        (CASES[rows[0].case], rows[0].status, spread((row.blocked_ms for row in rows), 0))
        for rows in zip(*runs, strict=True)
    ]
    return table(["responses", "event", f"longest time without a tick of {TICK * 1000:g} ms, ms"], cases)


def main() -> None:
    """Measure once and print."""
    print(as_markdown([measure()]))


if __name__ == "__main__":
    main()
