"""
How many requests and how much time a batch of 1000 images takes, with the provider's own limiter and wave.

Simulates an account and a batch on a simulated clock: the operations are the real ones, and what sends their requests
is not. Worker parts, each in a process of its own, store the results of jobs that have ended and submit new ones in 8
threads; between them a triggerer watches the wave with 16 watchers. It takes ``HAND_OVER`` from a worker part to the
triggerer and back. A request takes 0.05 to 0.4 s, half of it until the account counts it.

The bound is what no client can beat with the requests it makes: images x requests / limit, and one job.

Run it from the root of the repository: ``python -m benchmarks.wave``. It takes about half a minute.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

from airflow_provider_segmind.api.gateway import submit
from airflow_provider_segmind.api.history_pages import records_of
from airflow_provider_segmind.api.models import SegmindJob, Watch
from airflow_provider_segmind.api.operation import ApiContext, Operation, Pause, Request, Response
from airflow_provider_segmind.api.poll_schedule import LatencyMemory
from airflow_provider_segmind.api.polling import get_result
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.wave import Wave, WaveJob
from airflow_provider_segmind.api.wave_pacing import WavePacing
from airflow_provider_segmind.exceptions import SegmindRateLimitError
from airflow_provider_segmind.jobs.batch_submits import MAX_GAP, SUBMIT_WAIT
from airflow_provider_segmind.triggers.wave import WATCHERS, WATCHERS_WITHOUT_LIMIT
from benchmarks.tables import table

MODEL = "bria-erase-foreground"
START = 1_800_000_000.0
HAND_OVER = 3.0
THREADS = 8
WAVE = 500
TIMEOUT = 600.0
REQUESTS_PER_JOB: dict[Watch, float] = {"status": 3.1, "history": 1.1}

T = TypeVar("T")
Process = Generator[float, None, T]
"""A simulated process or thread. It yields the moment at which it goes on, and returns its result."""


@dataclass
class Account:
    """
    An account at Segmind.

    :param limit: requests a minute, ``None`` for no limit
    :param window: ``sliding``: no 60 s may hold more; ``fixed``: a minute begins with its first request
    """

    limit: int | None
    window: str = "sliding"
    median: float = 12.0
    sigma: float = 0.15
    listed_after: float = 2.0  # seconds after a submit at which the history lists it
    seed: int = 1
    requests: Counter[str] = field(default_factory=Counter)
    refused: list[float] = field(default_factory=list)
    jobs: dict[str, tuple[float, float]] = field(default_factory=dict)  # submitted at, ends at

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._recent: deque[float] = deque()
        self._begin = 0.0

    def answer(self, request: Request, now: float) -> Response:
        """Answer a request that arrives now."""
        if request.params is not None:
            self.requests["history"] += 1
            return self._json(200, {"data": list(self._rows(request.params, now))})
        reset = self._reset(now)
        if reset is not None:
            self.refused.append(now)
            self.requests["refused"] += 1
            return self._json(429, {"error": "rate limit"}, **{"retry-after": f"{reset - now:.3f}"})
        if request.method == "POST":
            self.requests["submit"] += 1
            request_id = f"00000000-0000-4000-8000-{len(self.jobs):012}"
            self.jobs[request_id] = (now, now + self.median * self._dice.lognormvariate(0, self.sigma))
            return self._json(200, {"request_id": request_id, "status": "QUEUED"})
        polled = request.url.endswith("/status")
        self.requests["status" if polled else "result"] += 1
        begin, end = self.jobs[request.url.removesuffix("/status").rpartition("/")[2]]
        if now < end:
            return self._json(200, {"status": "PROCESSING"})
        output = {} if polled else {"output": "https://images.segmind.com/a.png"}
        return self._json(200, {"status": "COMPLETED", "metrics": {"total_time": end - begin}, **output})

    def _reset(self, now: float) -> float | None:
        if self.limit is None:
            return None
        if self.window == "fixed":
            if now >= self._begin + 60:
                self._begin = now
                self._recent.clear()
            if len(self._recent) >= self.limit:
                return self._begin + 60
        else:
            while self._recent and self._recent[0] <= now - 60:
                self._recent.popleft()
            if len(self._recent) >= self.limit:
                return self._recent[0] + 60
        self._recent.append(now)
        return None

    def _rows(self, query: Any, now: float) -> Iterator[dict[str, Any]]:
        listed = [(begin, end, each) for each, (begin, end) in self.jobs.items() if begin + self.listed_after <= now]
        listed.sort(reverse=True)
        first = (int(query["page"]) - 1) * int(query["per_page"])
        for begin, end, request_id in listed[first : first + int(query["per_page"])]:
            yield {
                "request_id": request_id,
                "model_name": MODEL,
                "model_status": "COMPLETED" if end <= now else "PENDING",
                "generation_url": "https://images.segmind.com/a.png" if end <= now else None,
                "model_created": datetime.fromtimestamp(begin, UTC).isoformat(),
            }

    @staticmethod
    def _json(status: int, body: dict[str, Any], **headers: str) -> Response:
        return Response(status, {"content-type": "application/json", **headers}, json.dumps(body).encode())


class World:
    """A simulated clock, and the threads that run on it."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.now = START
        self._dice = random.Random(account.seed + 100)
        self._order = count()

    def context(self, limiter: RateLimiter, latencies: LatencyMemory) -> ApiContext:
        """Return the context of a process."""
        return ApiContext(
            clock=lambda: self.now, jitter=self._dice.uniform, limiter=limiter, latencies=latencies, secrets=[]
        )

    def perform(self, operation: Operation[T]) -> Process[T]:
        """Run an operation in one thread."""
        outcome: Response | None = None
        try:
            while True:
                step = operation.send(outcome)
                if isinstance(step, Pause):
                    outcome = None
                    yield self.now + step.seconds
                    continue
                assert isinstance(step, Request)
                yield self.now + self._dice.uniform(0.025, 0.2)
                outcome = self.account.answer(step, self.now)
                yield self.now + self._dice.uniform(0.025, 0.2)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def run(self, threads: list[Process[Any]]) -> None:
        """Run threads until all have ended."""
        agenda = [(self.now, next(self._order), thread) for thread in threads]
        heapq.heapify(agenda)
        while agenda:
            at, _, thread = heapq.heappop(agenda)
            self.now = max(self.now, at)
            try:
                heapq.heappush(agenda, (next(thread), next(self._order), thread))
            except StopIteration:
                continue


@dataclass
class Batch:
    """A batch operator, as far as its requests go."""

    world: World
    images: int
    declared: float | None
    watch: Watch = "status"
    lead: float = HAND_OVER
    parts: int = 0
    worker_seconds: float = 0.0
    stored: set[str] = field(default_factory=set)
    running: list[SegmindJob] = field(default_factory=list)
    ended: list[SegmindJob] = field(default_factory=list)
    submits: list[tuple[float, int]] = field(default_factory=list)
    asked: int = 0
    _hand_over: Any = None
    _refused: bool = False
    _submitting: int = 0

    def __post_init__(self) -> None:
        self._triggerer = self.world.context(RateLimiter(self.declared), LatencyMemory())

    def run(self) -> None:
        """Run worker parts and waves in turn until all images are stored."""
        while True:
            began = self.world.now
            opens = self._worker_part()
            self.worker_seconds += self.world.now - began
            if len(self.stored) == self.images:
                return
            self.world.now += HAND_OVER
            self._wave(opens)
            self.world.now += HAND_OVER

    def _enter(self, api: ApiContext, unanswered: int) -> None:
        api.limiter.expect_bursts(unanswered)
        api.limiter.take_over(self._hand_over, self.world.now)

    def _leave(self, api: ApiContext) -> None:
        self._hand_over = json.loads(json.dumps(api.limiter.hand_over(self.world.now)))
        assert len(json.dumps(self._hand_over)) < 2048

    def _worker_part(self) -> float | None:
        """Store and submit; return when the next submits may go, ``None`` if there are none."""
        self.parts += 1
        world = self.world
        api = world.context(RateLimiter(self.declared), LatencyMemory())
        self._enter(api, THREADS)
        # The jobs of the next wave run while the results of the last one are stored.
        pacing = WavePacing(api.limiter, REQUESTS_PER_JOB[self.watch], self.submits)
        self._refused, self._submitting = False, 0
        world.run([self._submit(api, pacing) for _ in range(THREADS)])
        if self.watch == "history" and self.ended:
            world.run([self._read_records(api)])
        world.run([self._store(api) for _ in range(THREADS)])
        self._leave(api)
        room = min(self.images - self.asked, WAVE - len(self.running))
        if not room or api.limiter.requests_per_minute is None:
            return None
        quarter = round(api.limiter.requests_per_minute / REQUESTS_PER_JOB[self.watch] / 4)
        return max(pacing.opens_at(world.now, quarter) - self.lead, world.now)

    def _read_records(self, api: ApiContext) -> Process[None]:
        since = min(job.submitted_at for job in self.ended)
        ids = [job.request_id for job in self.ended]
        records = yield from self.world.perform(records_of(api, MODEL, ids, since))
        known = {each for each, record in records.items() if record.output_url}
        self.stored |= known
        self.ended = [job for job in self.ended if job.request_id not in known]

    def _store(self, api: ApiContext) -> Process[None]:
        while self.ended:
            job = self.ended.pop()
            result = yield from self.world.perform(get_result(api, job.request_id))
            assert result.output_url
            self.stored.add(job.request_id)

    def _submit(self, api: ApiContext, pacing: WavePacing) -> Process[None]:
        """One thread's submits, as ``jobs/batch_submits.py`` makes them."""
        while not self._refused:
            now = self.world.now
            is_spaced = api.limiter.is_recovering(now) and not api.limiter.is_closed(now)
            patience = SUBMIT_WAIT if is_spaced else 0.0
            room = min(self.images - self.asked, WAVE - len(self.running) - self._submitting)
            if room <= 0:
                return
            if self._submitting >= pacing.submits_now(now, room + self._submitting, patience):
                seconds = pacing.opens_at(now) - now
                if self._submitting or seconds > MAX_GAP:
                    return
                yield now + max(seconds, 0.01)
                continue
            self.asked += 1
            self._submitting += 1
            try:
                job = yield from self.world.perform(submit(api, MODEL, {"image": "x"}, patience=SUBMIT_WAIT))
            except SegmindRateLimitError:
                self.asked -= 1
                self._refused = True
                return
            finally:
                self._submitting -= 1
            self.running.append(job)
            self.submits.append((int(job.submitted_at), 1))

    def _wave(self, opens: float | None) -> None:
        self._enter(self._triggerer, WATCHERS_WITHOUT_LIMIT)
        jobs = [WaveJob(job.request_id, job.submitted_at, job.submitted_at + TIMEOUT) for job in self.running]
        is_full = opens is None and self.asked < self.images
        leave_running = len(jobs) // 10 if is_full else 0
        wave = Wave(
            self._triggerer,
            MODEL,
            jobs,
            resume_at=opens,
            opens_at=opens or 0.0,
            leave_running=leave_running,
            watch=self.watch,
        )
        self.world.run([self.world.perform(wave.watcher()) for _ in range(WATCHERS)])
        assert not wave.timed_out
        assert wave.error is None
        self.ended += [job for job in self.running if job.request_id in wave.ended]
        self.running = [job for job in self.running if job.request_id not in wave.ended]
        self._leave(self._triggerer)


@dataclass
class Row:
    """One simulated batch."""

    account: Account
    batch: Batch
    seconds: float
    ratio: float  # of the makespan to the bound
    requests: float  # for each image


def simulate(
    images: int, limit: int, *, window: str = "sliding", declared: bool = True, watch: Watch = "status", **options: Any
) -> Row:
    """Simulate one batch."""
    account = Account(limit, window, **options)
    world = World(account)
    batch = Batch(world, images, limit if declared else None, watch)
    batch.run()
    assert account.requests["submit"] == images
    seconds, requests = world.now - START, sum(account.requests.values()) / images
    bound = images * requests / limit * 60 + account.median
    return Row(account, batch, seconds, seconds / bound, requests)


def rows(make: Callable[..., Row] = simulate) -> Iterator[list[str]]:
    """Simulate all batches of the table."""
    for images, limit in ((1000, 600), (150, 50)):
        for watch in ("status", "history"):
            for declared in (True, False):
                for window in ("sliding", "fixed"):
                    row = make(images, limit, window=window, declared=declared, watch=watch)
                    asked = row.account.requests
                    yield [
                        f"{images}, {limit} a minute, {window}",
                        "declared" if declared else "not declared",
                        watch,
                        f"{row.requests:.3f}",
                        f"{asked['status']}, {asked['result']}, {asked['history']}",
                        str(asked["refused"]),
                        f"{row.seconds:.0f}",
                        f"{row.ratio:.2f}",
                        f"{images / row.seconds * 60:.1f}",
                        str(row.batch.parts),
                    ]


def main() -> None:
    """Print the table."""
    headings = ["images, limit, window", "limit", "watch", "requests an image", "status, result, history requests"]
    print(table([*headings, "429s", "seconds", "of the bound", "images a minute", "worker parts"], rows()))


if __name__ == "__main__":
    main()
