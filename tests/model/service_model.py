"""Segmind in a hundred lines: jobs, records, files, the history and the rate limit, on a clock that only tests move."""

from __future__ import annotations

import base64
import io
import json
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from typing import Any

from PIL import Image

from airflow_provider_segmind.api.operation import BASE_URL, HISTORY_URL, Request, Response

MODEL = "bria-erase-foreground"
RECORD_SECONDS = 3600.0
FILE_SECONDS = 7 * 86_400.0
FILES = "https://images.segmind.com/generations/"
LATENCY = 0.2
"""Seconds that a request takes."""

Fault = Callable[["ServiceModel", Callable[[], Response]], Response]


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 22, tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def reach(self, moment: float) -> None:
        self.now = max(self.now, moment)


@dataclass(frozen=True)
class Fate:
    """What becomes of a job: seconds until its end, whether it fails, how late its row lands, its result's shape."""

    seconds: float = 12.0
    fails: bool = False
    row_late: float = 0.0
    shape: str = "images"


@cache
def picture(image: int, job: int) -> bytes:
    """The erased photo: its first pixel tells whose it is."""
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (image, job % 256, job // 256)).save(buffer, "PNG")
    return buffer.getvalue()


def image_in(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as opened:
        return opened.getpixel((0, 0))[0]


def number_in(content: bytes) -> int:
    """Read which job has made a picture."""
    with Image.open(io.BytesIO(content)) as opened:
        _, low, high = opened.getpixel((0, 0))
    return high * 256 + low


@dataclass
class Job:
    """One accepted POST. ``sender`` is who made it, which the service does not know."""

    number: int
    sender: Any
    life: int
    account: str
    image: int
    body: dict[str, Any]
    at: float
    fate: Fate
    expired: bool = False
    told_gone: bool = False
    forgiven: bool = False

    @property
    def id(self) -> str:
        return f"req-{self.number}"

    @property
    def url(self) -> str:
        return f"{FILES}{self.id}.png"

    @property
    def content(self) -> bytes:
        return picture(self.image, self.number)

    def ended(self, now: float) -> bool:
        return now >= self.at + self.fate.seconds

    def state(self, now: float) -> str:
        if not self.ended(now):
            return "QUEUED" if now < self.at + 1.0 else "PROCESSING"
        return "FAILED" if self.fate.fails else "COMPLETED"

    def has_record(self, now: float) -> bool:
        return not self.expired and now < self.at + RECORD_SECONDS

    def has_file(self, now: float) -> bool:
        done = self.ended(now) and not self.fate.fails
        return done and not self.told_gone and now < self.at + self.fate.seconds + FILE_SECONDS

    def worth_money(self, now: float) -> bool:
        """Whether another POST for the same image would pay twice: it runs, or its file is there."""
        return not self.ended(now) or self.has_file(now)


def as_json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(status, {"content-type": "application/json", **(headers or {})}, json.dumps(body).encode())


class ServiceModel:
    """
    Answers the operations' requests. Each account sees only its own jobs; files are public.

    :ivar faults: what happens instead, by kind of request: the next of its queue
    :ivar fate: of the jobs accepted from now on
    :ivar skew: seconds by which the service's clock is ahead
    :ivar limit: requests a minute that the gateway takes
    :ivar page_size: rows on a page of the history, whatever is asked for
    """

    def __init__(self, clock: Clock, identify: Callable[[dict[str, Any]], int]) -> None:
        self.clock = clock
        self.identify = identify
        self.jobs: list[Job] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.fate = Fate()
        self.skew = 0.0
        self.limit: int | None = None
        self.page_size = 100
        self.accepted: Callable[[Job], None] = lambda job: None
        self.requests = 0
        self._recent: deque[float] = deque()

    def handle(self, request: Request, sender: Any = None) -> Response:
        """Answer, or raise what a driver raises; a file goes into the request's receiver as a driver does it."""
        self.requests += 1
        kind, name = self.kind_of(request)
        assert request.with_key == (kind != "file")
        if kind != "submit":
            assert request.json is None

        def go() -> Response:
            limited = kind in ("submit", "status", "result") and self._limited()
            return limited or getattr(self, f"_{kind}")(request, name, sender)

        queue = self.faults[kind]
        try:
            answer = queue.popleft()(self, go) if queue else go()
        finally:
            self.clock.advance(LATENCY)
        date = format_datetime(datetime.fromtimestamp(self.clock() + self.skew, UTC), usegmt=True)
        answer = replace(answer, headers={**answer.headers, "date": date})
        if request.into is not None and answer.ok:
            request.into.begin(answer.headers)
            for at in range(0, len(answer.body), 50):
                request.into.write(answer.body[at : at + 50])
        return answer

    def kind_of(self, request: Request) -> tuple[str, str]:
        url, name = request.url, request.url.rpartition("/")[2]
        if url == HISTORY_URL:
            return "history", name
        if url == f"{HISTORY_URL}/{name}":
            return "record", name
        if url.startswith("https://images.segmind.com/"):
            return "file", name.removesuffix(".png")
        if request.method == "POST":
            assert url == f"{BASE_URL}/v2/{MODEL}"
            return "submit", name
        parts = url.removeprefix(f"{BASE_URL}/v2/requests/").split("/")
        assert parts[1:] in ([], ["status"]), url
        return ("status" if parts[1:] else "result"), parts[0]

    def job(self, name: str, sender: Any) -> Job | None:
        return next((job for job in self._own(sender) if job.id == name), None)

    def _own(self, sender: Any) -> list[Job]:
        return [job for job in self.jobs if job.account == getattr(sender, "account", "")]

    def _limited(self) -> Response | None:
        now = self.clock()
        while self._recent and self._recent[0] <= now - 60.0:
            self._recent.popleft()
        if self.limit is not None and len(self._recent) >= self.limit:
            reset = datetime.fromtimestamp(self._recent[0] + 61.0, UTC).isoformat()
            return as_json({"error": "rate limit"}, 429, {"x-rate-limit-reset-at-utc": reset})
        self._recent.append(now)
        return None

    def _submit(self, request: Request, name: str, sender: Any) -> Response:
        body = json.loads(json.dumps(request.json))
        image, life = self.identify(body), getattr(sender, "life", 0)
        account = getattr(sender, "account", "")
        job = Job(len(self.jobs), sender, life, account, image, body, self.clock(), self.fate)
        self.accepted(job)
        self.jobs.append(job)
        return as_json({"request_id": job.id, "status": "QUEUED", "status_url": "https://elsewhere.example/status"})

    def _status(self, request: Request, name: str, sender: Any) -> Response:
        job, now = self.job(name, sender), self.clock()
        if job is None or not job.has_record(now):
            return as_json({"error": "unknown request"}, 404)
        state = job.state(now)
        metrics = {"total_time": job.fate.seconds} if job.ended(now) else {}
        body: dict[str, Any] = {"status": state, "request_id": job.id, "metrics": metrics}
        return as_json({**body, "error": "bad luck"}, 422) if state == "FAILED" else as_json(body)

    def _result(self, request: Request, name: str, sender: Any) -> Response:
        answer, job = self._status(request, name, sender), self.job(name, sender)
        body = json.loads(answer.body)
        if body.get("status") != "COMPLETED" or job is None:
            return answer
        if job.fate.shape == "images":
            body["images"] = [{"url": job.url, "content_type": "image/png", "file_size": len(job.content)}]
        body["output"] = {
            "images": job.url,
            "text": json.dumps([job.url]),
            "inline": base64.b64encode(job.content).decode(),
            "signed": f"{job.url}?X-Amz-Signature=feed",
            "nothing": None,
        }[job.fate.shape]
        return as_json(body)

    def row(self, job: Job) -> dict[str, Any]:
        now = self.clock()
        state = job.state(now)
        created = datetime.fromtimestamp(job.at + self.skew, UTC).replace(tzinfo=None)
        return {
            "request_id": job.id,
            "model_name": MODEL,
            "model_status": state if job.ended(now) else "PENDING",
            "request_body": job.body,
            "generation_url": job.url if state == "COMPLETED" else None,
            "model_created": created.isoformat(),
            "error": "bad luck" if state == "FAILED" else None,
        }

    def _listed(self, sender: Any) -> list[Job]:
        return [job for job in self._own(sender) if self.clock() >= job.at + job.fate.row_late]

    def _history(self, request: Request, name: str, sender: Any) -> Response:
        asked = dict(request.params or {})
        first, last = date.fromisoformat(asked["from_date"]), date.fromisoformat(asked["to_date"])
        if last - first > timedelta(days=31):
            return as_json({"error": "at most 31 days"}, 400)
        rows = [self.row(job) for job in reversed(self._listed(sender))]
        rows = [row for row in rows if first <= datetime.fromisoformat(row["model_created"]).date() <= last]
        per_page = min(int(asked["per_page"]), self.page_size)
        start = (int(asked["page"]) - 1) * per_page
        return as_json({"data": rows[start : start + per_page]})

    def _record(self, request: Request, name: str, sender: Any) -> Response:
        job = next((job for job in self._listed(sender) if job.id == name), None)
        return as_json({"error": "no such request"}, 404) if job is None else as_json({"data": self.row(job)})

    def _file(self, request: Request, name: str, sender: Any) -> Response:
        job = next((job for job in self.jobs if job.id == name), None)
        if job is None or job.told_gone:
            return Response(404, {"content-type": "application/xml"}, b"<Error>NoSuchKey</Error>")
        if not job.has_file(self.clock()):
            return Response(403, {"content-type": "application/xml"}, b"<Error>AccessDenied</Error>")
        headers = {"content-type": "image/png", "content-length": str(len(job.content))}
        return Response(200, headers, job.content)
