"""
The wait for many jobs of a batch, in as few requests as possible. Sans-IO: it owns no clock and no thread.

A wave is watched by several watchers at once, coroutines or threads. Each takes the next job that is due, polls it
once, and goes on with the next. Lag costs nothing here, since a worker stores the results of a whole wave at once. So a
job is polled when it is almost certainly over (``WAVE_REQUEST_COST``).

The request history
-------------------

With ``watch="history"``, pages of the request history are read instead, once the newest job is almost certainly over:
100 jobs a page. The history is not trusted with more than it can know. A job that it shows as COMPLETED or FAILED has
something to fetch, which whoever fetches it checks. Jobs that it shows as pending are looked for again when they are
almost certainly over. Status requests take over for these jobs:

* those that are missing on two readings, or a minute after their submit, or whose rows stay pending for
  ``MAX_READINGS`` readings: the history is late, or shows them in a way that cannot be read;
* all of them, once the history cannot be read or takes too long;
* those that are left, if they are fewer than the pages that would be read to find them.

How it ends on time
-------------------

Each job gets a last poll at its deadline, as in :mod:`~airflow_provider_segmind.api.polling`. Where many jobs have the
same deadline there may be no time for all these polls: one begins within ``LAST_POLL_WITHIN`` after the deadline or not
at all, and so all end within ten seconds. Where the wave ends at ``resume_at``, jobs that are still running are left to
the next wave.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_segmind.api.history_pages import READ_SECONDS, HistoryReading, read_history
from airflow_provider_segmind.api.models import JobState, Watch, parse_number
from airflow_provider_segmind.api.operation import ApiContext, Operation, counting_requests, pause
from airflow_provider_segmind.api.poll_schedule import WAVE_REQUEST_COST
from airflow_provider_segmind.api.polling import LAST_POLL_OVERTIME, POLL_SECONDS, JobWait
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindJobExpiredError,
    SegmindJobTimeoutError,
    SegmindRequestError,
)

VERSION = 1  # of the event
LAST_POLL_WITHIN = LAST_POLL_OVERTIME - POLL_SECONDS + 1.0
IDLE_SECONDS = 2.0  # a watcher that has nothing to do looks for work so often at least
LISTED_WITHIN = 60.0  # seconds after a submit, at which one that the history does not list is polled
MAX_READINGS = 4
READ_AGAIN = 8.0  # seconds after a reading that did not show a job, until the next one
_MIN_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class WaveJob:
    """A job of a wave; both times are epoch seconds."""

    request_id: str
    submitted_at: float
    deadline: float


@dataclass(frozen=True, slots=True)
class WaveEvent:
    """
    What a watch has seen, as its trigger's event says it.

    :param ended: positions of the jobs for which there is something to do, in the list that was watched
    :param timed_out: positions of the jobs that had not ended by their deadline
    :param limiter: what the next process's limiter takes over
    :param requests: how many requests the watch has made
    :param error: why it ended before its time, ``None`` if it did not
    """

    ended: tuple[int, ...] = ()
    timed_out: tuple[int, ...] = ()
    limiter: Any = None
    requests: int = 0
    error: str | None = None

    @classmethod
    def parse(cls, value: object) -> WaveEvent:
        """Read an event. What is damaged counts as not seen: the jobs are still in the ledger, and watched again."""
        event = value if isinstance(value, Mapping) else {}
        error = event.get("error")
        return cls(
            _positions(event.get("ended")),
            _positions(event.get("timed_out")),
            event.get("limiter"),
            max(int(parse_number(event.get("requests")) or 0), 0),
            error if isinstance(error, str) else None,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the event: plain JSON, less than 8 KB for a thousand jobs."""
        return {
            "version": VERSION,
            "status": "WAVE",
            "ended": list(self.ended),
            "timed_out": list(self.timed_out),
            "limiter": self.limiter,
            "requests": self.requests,
            "error": self.error,
        }


def _positions(value: object) -> tuple[int, ...]:
    return tuple(each for each in value if type(each) is int and each >= 0) if isinstance(value, list) else ()


class Wave:
    """
    The jobs that are watched together. Thread-safe.

    :param jobs: each with another request id; a deadline that has passed, in a restarted process, still gets a poll
    :param resume_at: epoch seconds at which the wave is over, whatever is still running, because more jobs are to be
        submitted then. ``None``: it is over when all jobs have ended
    :param opens_at: epoch seconds before which it is not over even if all jobs have ended: nothing can be submitted
    :param leave_running: how many jobs may still be running when it is over
    :param watch: how jobs are watched
    :param poll_interval: seconds between two polls of a job; by default as the schedule for batches says
    """

    def __init__(
        self,
        api: ApiContext,
        model: str,
        jobs: Sequence[WaveJob],
        *,
        resume_at: float | None = None,
        opens_at: float = 0.0,
        leave_running: int = 0,
        watch: Watch = "status",
        poll_interval: float | None = None,
    ) -> None:
        now = api.clock()
        self._api, self._model = api, model
        self.jobs = tuple(jobs)
        self._resume_at, self._opens_at, self._leave_running = resume_at, opens_at, leave_running
        self._lock = threading.RLock()
        self._waits = {
            job.request_id: JobWait(
                api,
                job.request_id,
                model,
                job.submitted_at,
                max(job.deadline, now),
                poll_interval,
                request_cost=WAVE_REQUEST_COST,
            )
            for job in jobs
        }
        self.ended: set[str] = set()
        """Request ids of jobs for which there is something to do: they completed, failed, or are unknown to Segmind."""
        self.timed_out: set[str] = set()
        """Request ids of jobs that had not ended by their deadline."""
        self.requests = 0
        """How many requests were sent, pages of the history included."""
        self.error: str | None = None
        """Why the wave has ended before its time, such as a refused key."""
        self._watchers = 0
        self._running = set(self._waits)
        self._due: dict[str, float] = {}  # when jobs are polled next that are not being polled now
        self._agenda: list[tuple[float, str]] = []  # a heap of the same; entries that are not in _due are void
        self._in_history: dict[str, float] = {}  # when each job is almost certainly over and listed
        self._absent: set[str] = set()  # jobs that a reading did not show
        self._readings = 0
        self._reads = False  # whether a watcher reads the history now
        self._read_at = 0.0
        self._first_poll = 0.0
        if watch == "history":
            self._in_history = dict.fromkeys(self._waits, now)
        for request_id in self._waits:
            self._schedule(request_id, now)
        self._follow_schedule(now)

    def over(self, now: float) -> bool:
        """Return whether the wave is over."""
        if self.error is not None or (self._resume_at is not None and now >= self._resume_at):
            return True
        return len(self._running) <= self._leave_running and now >= self._opens_at

    def event(self, error: str | None = None) -> WaveEvent:
        """Return what the watch has seen by now; ``error`` says why it has not gone on."""
        with self._lock:
            ended, timed_out = (
                tuple(position for position, job in enumerate(self.jobs) if job.request_id in group)
                for group in (self.ended, self.timed_out)
            )
            limiter = self._api.limiter.hand_over(self._api.clock())
            return WaveEvent(ended, timed_out, limiter, self.requests, error or self.error)

    def watcher(self) -> Operation[None]:
        """Watch until the wave is over, or the other watchers are enough for the jobs that are left."""
        with self._lock:
            self._watchers += 1
        try:
            while True:
                with self._lock:
                    now = self._api.clock()
                    if self.over(now) or self._watchers > max(len(self._running), 1):
                        return
                    job, seconds = self._next_work(now)
                if seconds > 0:
                    yield from pause(max(seconds, _MIN_PAUSE))
                elif job is None:
                    yield from self._read_history()
                else:
                    yield from self._poll(job)
        finally:
            with self._lock:
                self._watchers -= 1

    def _next_work(self, now: float) -> tuple[JobWait | None, float]:
        """Take the job that is due, or ``None`` and 0 for the history, or ``None`` and the seconds until either is."""
        self._follow_schedule(now)
        ends = [moment for moment in (self._resume_at, self._opens_at) if moment is not None and moment > now]
        next_at = min([now + IDLE_SECONDS, *ends])
        while self._agenda:
            due, request_id = self._agenda[0]
            if self._due.get(request_id) == due:
                if due > now:
                    next_at = min(next_at, due)
                    break
                wait = self._waits[request_id]
                if now <= wait.deadline + LAST_POLL_WITHIN:
                    heapq.heappop(self._agenda)
                    del self._due[request_id]
                    return wait, 0.0
                self._end(request_id, self.timed_out)
            heapq.heappop(self._agenda)
        if self._in_history and not self._reads:
            if self._read_at <= now:
                self._reads = True
                return None, 0.0
            next_at = min(next_at, self._read_at)
        return None, max(next_at - now, _MIN_PAUSE)

    def _schedule(self, request_id: str, now: float) -> None:
        """Put a job on the agenda, at its deadline if it is looked for in the history until then."""
        wait = self._waits[request_id]
        due = max(wait.deadline, now) if request_id in self._in_history else now + wait.delay(now)
        self._due[request_id] = due
        heapq.heappush(self._agenda, (due, request_id))

    def _follow_schedule(self, now: float) -> None:
        """Schedule jobs that were not polled yet again, if the first poll of such jobs now comes at another age."""
        first_poll = self._api.latencies.next_poll(self._model, 0.0, WAVE_REQUEST_COST)
        if first_poll == self._first_poll:
            return
        self._first_poll = first_poll
        for request_id in self._due:
            wait = self._waits[request_id]
            if wait.running == wait.failures == 0 and wait.poll_interval is None:
                self._schedule(request_id, now)
        self._agenda = [(due, request_id) for request_id, due in self._due.items()]
        heapq.heapify(self._agenda)
        if not self._readings:
            for request_id in self._in_history:
                self._in_history[request_id] = self._waits[request_id].submitted_at + first_poll
        self._plan_reading()

    def _plan_reading(self) -> None:
        """Read the history when all of its jobs are almost certainly over, or some of them if time runs out."""
        if not self._in_history:
            return
        first, last = min(self._in_history.values()), max(self._in_history.values())
        latest = min(self._waits[request_id].deadline for request_id in self._in_history) - READ_SECONDS
        if self._resume_at is not None:
            latest = min(latest, self._resume_at - POLL_SECONDS)
        self._read_at = latest if first <= latest < last else last

    def _end(self, request_id: str, group: set[str]) -> None:
        if request_id in self._running:
            group.add(request_id)
            self._running.discard(request_id)
            self._in_history.pop(request_id, None)
            self._due.pop(request_id, None)

    def _count(self) -> None:
        with self._lock:
            self.requests += 1

    def _poll(self, wait: JobWait) -> Operation[None]:
        group, refused = None, None
        try:
            until = wait.deadline if self._resume_at is None else self._resume_at
            if (yield from counting_requests(wait.poll_once(until=until), self._count)) is not None:
                group = self.ended
        except SegmindJobTimeoutError:
            group = self.timed_out
        except SegmindAuthError as error:  # the other jobs would be refused too
            refused = str(error)
        except (SegmindJobExpiredError, SegmindRequestError):
            group = self.ended
        finally:  # also if the watcher is cancelled
            with self._lock:
                self.error = self.error or refused
                if group is not None:
                    self._end(wait.request_id, group)
                else:
                    self._schedule(wait.request_id, self._api.clock())

    def _read_history(self) -> Operation[None]:
        with self._lock:
            wanted, now = set(self._in_history), self._api.clock()
            waits = [self._waits[request_id] for request_id in wanted]
        since = min(wait.submitted_at for wait in waits)
        latest = min(wait.deadline for wait in waits)
        if self._resume_at is not None:
            latest = min(latest, self._resume_at)
        until = min(now + READ_SECONDS, max(latest, now + POLL_SECONDS))
        reading = None
        try:
            operation = read_history(self._api, self._model, wanted, since, until=until)
            reading = yield from counting_requests(operation, self._count)
        finally:  # also if the watcher is cancelled
            with self._lock:
                self._reads = False
                if reading is not None:
                    self._use_reading(reading, wanted & set(self._in_history), self._api.clock())

    def _use_reading(self, reading: HistoryReading, wanted: set[str], now: float) -> None:
        """End the jobs that have ended, and decide how the others are watched on."""
        self._readings += 1
        for request_id in wanted:
            record, wait = reading.records.get(request_id), self._waits[request_id]
            age = now - wait.submitted_at
            if record is None:
                if request_id in self._absent or age >= LISTED_WITHIN:
                    self._leave_history({request_id}, now)
                else:
                    self._absent.add(request_id)
                    self._in_history[request_id] = now + READ_AGAIN
            elif record.state in (JobState.COMPLETED, JobState.FAILED):
                self._end(request_id, self.ended)
            else:
                wait.running = max(age, wait.running)
                next_poll = self._api.latencies.next_poll(self._model, wait.running, WAVE_REQUEST_COST)
                self._in_history[request_id] = wait.submitted_at + next_poll
        few = len(self._in_history) <= reading.pages
        if reading.failure is not None or few or self._readings >= MAX_READINGS:
            self._leave_history(set(self._in_history), now)
        self._plan_reading()

    def _leave_history(self, request_ids: set[str], now: float) -> None:
        """Watch jobs by status requests from now on."""
        for request_id in request_ids:
            self._in_history.pop(request_id, None)
            if request_id in self._due:
                self._schedule(request_id, now)
