"""
A Segmind that answers thousands of requests a second, so that a benchmark measures the client.

A request id says when its job was submitted and when it ends, so the service remembers no jobs. It counts requests and
connections, and records when each job was polled. One path is not Segmind's: ``/v2/requests/<id>/unfinished`` answers
404 until the job's end, for clients that can wait for nothing else.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.http_server import HttpConnection, HttpRequest, HttpResponse

MODEL = "bria-erase-foreground"
FILE_BYTES = 1_500_000


def request_id(submitted_at: float, seconds: float, number: int) -> str:
    """Return the id of a job that ends ``seconds`` after its submit."""
    return f"{submitted_at * 1000:.0f}-{seconds * 1000:.0f}-{number}"


def end_of(job: str) -> float:
    """Return the epoch seconds at which the job with an id ends."""
    submitted, seconds, _ = job.split("-")
    return (int(submitted) + int(seconds)) / 1000


def noise_png(size: int) -> bytes:
    """Return a PNG of about ``size`` bytes that no compression makes smaller."""
    width = 1000
    rows = max(size // (3 * width), 1)
    pixels = b"".join(b"\0" + os.urandom(3 * width) for _ in range(rows))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, rows, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels, 0)) + chunk(b"IEND", b"")
    )


@dataclass
class Statistics:
    """What the service has seen: requests and connections since the last reset, polls since its start."""

    requests: Counter[str] = field(default_factory=Counter)
    open_connections: int = 0
    most_connections: int = 0
    polls: dict[str, list[float]] = field(default_factory=dict)  # request id -> epoch seconds

    def reset(self) -> None:
        """Count from here on; connections stay open."""
        self.requests.clear()
        self.most_connections = self.open_connections


class Service(HttpConnection):
    """One connection to the service."""

    statistics = Statistics()
    job_seconds, sigma, port = 12.0, 0.15, 0
    file = b""
    numbers = iter(range(10**9))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        super().connection_made(transport)
        statistics = self.statistics
        statistics.open_connections += 1
        statistics.most_connections = max(statistics.most_connections, statistics.open_connections)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Count the connection no longer."""
        self.statistics.open_connections -= 1

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer as Segmind would."""
        parts = request.path.strip("/").split("/")
        if parts[0] == "files":
            self.statistics.requests["file"] += 1
            return HttpResponse(200, self.file, "image/png")
        status, body = self._json(request.method, parts)
        return HttpResponse.of_json(body, status)

    def _json(self, method: str, parts: list[str]) -> tuple[int, dict[str, Any]]:
        statistics = self.statistics
        match parts:
            case ["v2", "requests", job]:
                statistics.requests["result"] += 1
                ended, body = self._job(job)
                return 200, body | ({"output": f"{self._address()}/files/result.png"} if ended else {})
            case ["v2", "requests", job, "status" | "unfinished" as path]:
                statistics.requests["status"] += 1
                statistics.polls.setdefault(job, []).append(time.time())
                ended, body = self._job(job)
                return (404 if path == "unfinished" and not ended else 200), body
            case ["v2", _] if method == "POST":
                statistics.requests["submit"] += 1
                seconds = random.lognormvariate(0, self.sigma) * self.job_seconds
                job = request_id(time.time(), seconds, next(self.numbers))
                url = f"{self._address()}/v2/requests/{job}"
                return 200, {
                    "request_id": job,
                    "status": "QUEUED",
                    "status_url": f"{url}/status",
                    "response_url": url,
                }
            case ["statistics"]:
                counted = {"requests": dict(statistics.requests), "connections": statistics.most_connections}
                return 200, {**counted, "polls": statistics.polls}
            case ["reset"]:
                statistics.reset()
                return 200, {}
        statistics.requests["other"] += 1
        return 200, {"data": []}

    def _job(self, job: str) -> tuple[bool, dict[str, Any]]:
        """Return whether a job has ended, and what its status is."""
        if time.time() < end_of(job):
            return False, {"status": "PROCESSING", "request_id": job, "error": None}
        total = int(job.split("-")[1]) / 1000
        metrics = {"inference_time": total, "queue_time": 0.0, "total_time": total, "cost": 0.03}
        return True, {"status": "COMPLETED", "request_id": job, "error": None, "metrics": metrics}

    def _address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def serve(ready: Connection, job_seconds: float, sigma: float) -> None:
    """Serve until the process is killed; send the port when ready."""
    Service.job_seconds, Service.sigma = job_seconds, sigma
    Service.file = noise_png(FILE_BYTES)
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", 0, backlog=4096)
    Service.port = server.sockets[0].getsockname()[1]
    ready.send(Service.port)
    await server.serve_forever()


def _run(ready: Connection, job_seconds: float, sigma: float) -> None:
    asyncio.run(serve(ready, job_seconds, sigma))


@contextmanager
def fake_service(job_seconds: float = 12.0, sigma: float = 0.15) -> Iterator[str]:
    """Run the service in a process of its own and give its base URL."""
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    process = processes.Process(target=_run, args=(theirs, job_seconds, sigma), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def ask(base_url: str, path: str) -> Any:
    """Return the JSON of ``/statistics``, or ``/reset`` the statistics."""
    with urlopen(Request(f"{base_url}{path}"), timeout=60) as response:
        return json.load(response)
