"""
A Segmind with several accounts, each with a rate limit, for whole runs in Airflow. One process serves all of them.

The API key names the account, so that runs at the same time are counted apart. The limit counts submits, status and
result requests in a sliding minute, the strictest reading of what Segmind publishes. The request history is on another
host and not limited, as in the emulator. Every result is the same file, so an answer takes a fraction of a millisecond.
The emulator, which reads each photo and computes its result, takes 20 ms of CPU for a quarter of a megapixel, and would
be a large part of what is measured.

Not Segmind's are ``PUT /accounts/<key>``, which opens an account, and ``GET /accounts/<key>``, which tells what it saw.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, ClassVar

from benchmarks.fake_service import MODEL, noise_png
from benchmarks.http_server import HttpConnection, HttpRequest, HttpResponse

MINUTE = 60.0
COST = 0.03


@dataclass(slots=True)
class ServedJob:
    """One accepted POST; times are epoch seconds."""

    request_id: str
    image: str
    inputs: Mapping[str, Any]
    submitted: float
    ends: float


@dataclass
class Account:
    """
    What one API key may do, and what it did.

    :param limit: requests in a sliding minute, ``None`` for as many as come
    :param seconds: the median time of a job
    :param sigma: how jobs scatter (log-normal)
    """

    key: str
    limit: int | None = None
    seconds: float = 12.0
    sigma: float = 0.15
    requests: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[float]] = field(default_factory=dict)  # of accepted requests that count, by kind
    refused: list[float] = field(default_factory=list)
    jobs: list[ServedJob] = field(default_factory=list)
    by_id: dict[str, ServedJob] = field(default_factory=dict)
    _minute: deque[float] = field(default_factory=deque)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def refuse(self, kind: str, now: float) -> float | None:
        """Count a request; if it exceeds the limit, return when the next one will be accepted."""
        if self.limit is not None:
            while self._minute and self._minute[0] <= now - MINUTE:
                self._minute.popleft()
            if len(self._minute) >= self.limit:
                self.refused.append(now)
                return self._minute[0] + MINUTE
            self._minute.append(now)
        self.times.setdefault(kind, []).append(now)
        return None

    def accept(self, inputs: Mapping[str, Any], now: float) -> ServedJob:
        """Accept a job."""
        seconds = self.seconds * self._random.lognormvariate(0, self.sigma)
        image = str(inputs.get("image", "")).partition("?")[0]
        job = ServedJob(f"{self.key.lower()}-{len(self.jobs):06}", image, inputs, now, now + seconds)
        self.jobs.append(job)
        self.by_id[job.request_id] = job
        return job

    def as_dict(self) -> dict[str, Any]:
        """Return what it saw, as JSON takes it."""
        return {
            "requests": dict(self.requests),
            "refused": self.refused,
            "times": self.times,
            "posts": dict(Counter(job.image for job in self.jobs)),
            "first_post": self.jobs[0].submitted if self.jobs else 0.0,
        }


class SegmindService(HttpConnection):
    """One connection to the service."""

    accounts: ClassVar[dict[str, Account]] = {}  # shared, as all connections lead to one service
    port = 0
    file = b""

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer as Segmind would."""
        now = time.time()
        match request.path.strip("/").split("/"):
            case ["generations", _]:
                return HttpResponse(200, self.file, "image/png")
            case ["accounts", key]:
                return self._account(request, key)
            case parts:
                if (account := self.accounts.get(request.headers.get("x-api-key", ""))) is None:
                    return HttpResponse.of_json({"error": "The API key is not valid"}, 401)
                return self._of_account(account, request, parts, now)

    def _account(self, request: HttpRequest, key: str) -> HttpResponse:
        if request.method == "PUT":
            self.accounts[key] = Account(key, **json.loads(request.body))
        described = self.accounts[key].as_dict() | {"file_sha256": hashlib.sha256(self.file).hexdigest()}
        return HttpResponse.of_json(described)

    def _of_account(self, account: Account, request: HttpRequest, parts: list[str], now: float) -> HttpResponse:
        match parts:
            case ["inference-request", "request-history"]:
                account.requests["history"] += 1
                return self._history(account, request.query, now)
            case ["inference-request", "request-history", job] if job in account.by_id:
                account.requests["history"] += 1
                return HttpResponse.of_json(self._row(account.by_id[job], now))
            case ["v1", "get-user-credits"]:
                account.requests["credits"] += 1
                return HttpResponse.of_json({"credits": 100.0})
            case ["v2", "requests", job, "status"]:
                kind = "status"
            case ["v1" | "v2", "requests", job]:
                kind = "result"
            case ["v2", _] if request.method == "POST":
                kind, job = "submit", ""
            case _:
                account.requests["unknown"] += 1
                return HttpResponse.of_json({"error": f"Not found: {request.path}"}, 404)
        account.requests[kind] += 1
        if (reset := account.refuse(kind, now)) is not None:
            headers = {"x-rate-limit-reset-at-utc": _iso(reset + 0.001)}
            return HttpResponse.of_json({"error": "Rate limit exceeded"}, 429, headers)
        if kind == "submit":
            return self._queued(account.accept(json.loads(request.body), now))
        if job not in account.by_id:
            return HttpResponse.of_json({"error": "Request not found"}, 404)
        return self._state(account.by_id[job], now, with_output=kind == "result")

    def _queued(self, job: ServedJob) -> HttpResponse:
        url = f"{self._base()}/v2/requests/{job.request_id}"
        return HttpResponse.of_json(
            {"request_id": job.request_id, "status": "QUEUED", "status_url": f"{url}/status", "response_url": url}
        )

    def _state(self, job: ServedJob, now: float, *, with_output: bool) -> HttpResponse:
        if now < job.ends:
            return HttpResponse.of_json({"status": "PROCESSING", "request_id": job.request_id, "error": None})
        total = round(job.ends - job.submitted, 3)
        metrics: dict[str, float] = {"inference_time": total, "queue_time": 0.0, "total_time": total, "cost": COST}
        body: dict[str, Any] = {
            "status": "COMPLETED",
            "request_id": job.request_id,
            "error": None,
            "metrics": metrics,
        }
        if with_output:
            url = self._file_url(job)
            body |= {"images": [{"url": url, "content_type": "image/png"}], "output": url}
        return HttpResponse.of_json(body)

    def _history(self, account: Account, query: Mapping[str, str], now: float) -> HttpResponse:
        """Return a page, newest first unless the oldest is asked for."""
        page, size = int(query.get("page", 1)), min(int(query.get("per_page", 20)), 100)
        status, oldest_first = query.get("status"), query.get("sort_order") == "asc"
        if status is None:
            total, jobs = len(account.jobs), account.jobs
        else:
            jobs = [job for job in account.jobs if (now >= job.ends) == (status == "COMPLETED")]
            total = len(jobs)
        begin = (page - 1) * size
        shown = (
            jobs[begin : begin + size] if oldest_first else jobs[max(total - begin - size, 0) : max(total - begin, 0)]
        )
        rows = [self._row(job, now) for job in (shown if oldest_first else reversed(shown))]
        pages = {"page": page, "per_page": size, "total": total, "total_pages": -(-total // size)}
        return HttpResponse.of_json({"data": rows, **pages}, headers={"date": formatdate(now, usegmt=True)})

    def _row(self, job: ServedJob, now: float) -> dict[str, Any]:
        ended = now >= job.ends
        return {
            "request_id": job.request_id,
            "model_name": MODEL,
            "model_status": "COMPLETED" if ended else "PENDING",
            "credits_deduction": COST if ended else 0.0,
            "request_body": job.inputs,
            "generation_url": self._file_url(job) if ended else None,
            "latency_ms": round((job.ends - job.submitted) * 1000) if ended else None,
            "model_created": _iso(job.submitted),
            "model_finished": _iso(job.ends) if ended else None,
            "error": None,
        }

    def _file_url(self, job: ServedJob) -> str:
        return f"{self._base()}/generations/{job.request_id}.png"

    def _base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def serve(file_bytes: int) -> None:
    """Serve until the process is stopped."""
    SegmindService.file = noise_png(file_bytes)
    server = await asyncio.get_running_loop().create_server(SegmindService, "127.0.0.1", 0, backlog=1024)
    SegmindService.port = server.sockets[0].getsockname()[1]
    print(f"Segmind at http://127.0.0.1:{SegmindService.port}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file-bytes", type=int, default=1_500_000, help="size of each result")
    asyncio.run(serve(parser.parse_args().file_bytes))


if __name__ == "__main__":
    main()
