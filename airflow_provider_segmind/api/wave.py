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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from airflow_provider_segmind.api.history_pages import READ_SECONDS, read_history
from airflow_provider_segmind.api.models import JobState
from airflow_provider_segmind.api.operation import ApiContext, Operation, counting_requests, pause
from airflow_provider_segmind.api.poll_schedule import WAVE_REQUEST_COST
from airflow_provider_segmind.api.polling import LAST_POLL_OVERTIME, POLL_SECONDS, JobWait
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindJobExpiredError,
    SegmindJobTimeoutError,
    SegmindRequestError,
)

Watch = Literal["status", "history"]
LAST_POLL_WITHIN = LAST_POLL_OVERTIME - POLL_SECONDS + 1.0
IDLE_SECONDS = 2.0  # a watcher that has nothing to do looks for work so often at least
LISTED_WITHIN = 60.0  # seconds after a submit, at which one that the history does not list is polled
MAX_READINGS = 4
_MIN_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class WaveJob:
    """A job of a wave; both times are epoch seconds."""

    request_id: str
    submitted_at: float
    deadline: float


class Wave:
    """
    The jobs that are watched together. Thread-safe.

    :param jobs: each with another request id; a deadline that has passed, in a restarted process, still gets a poll
    :param resume_at: epoch seconds at which the wave is over, whatever is still running, because more jobs are to be
        submitted then. ``None``: it is over when all jobs have ended
    :param opens_at: epoch seconds before which it is not over even if all jobs have ended: nothing can be submitted
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
        watch: Watch = "status",
        poll_interval: float | None = None,
    ) -> None:
        now = api.clock()
        self._api, self._model = api, model
        self._resume_at, self._opens_at = resume_at, opens_at
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
        self._in_history = set(self._waits) if watch == "history" and poll_interval is None else set()
        self._absences: dict[str, int] = {}  # readings that did not show a job
        self._readings = 0
        self._reads = False
        self._first_poll = 0.0
        for request_id in self._waits:
            self._schedule(request_id, now)

    def over(self, now: float) -> bool:
        """Return whether the wave is over."""
        if self.error is not None or (self._resume_at is not None and now >= self._resume_at):
            return True
        return not self._running and now >= self._opens_at

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
        next_at = min(
            now + IDLE_SECONDS, *(moment for moment in (self._resume_at, self._opens_at) if moment and moment > now)
        )
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
            read_at = self._read_at(now)
            if read_at <= now:
                self._reads = True
                return None, 0.0
            next_at = min(next_at, read_at)
        return None, max(next_at - now, _MIN_PAUSE)

    def _schedule(self, request_id: str, now: float) -> None:
        """Put a job that is not being polled on the agenda; one that is looked for in the history at its deadline."""
        wait = self._waits[request_id]
        due = max(wait.deadline, now) if request_id in self._in_history else now + wait.delay(now)
        self._due[request_id] = due
        heapq.heappush(self._agenda, (due, request_id))

    def _follow_schedule(self, now: float) -> None:
        """Schedule jobs again that have not been polled yet, if the first poll of such jobs now comes at another age."""
        first_poll = self._api.latencies.next_poll(self._model, 0.0, WAVE_REQUEST_COST)
        if first_poll != self._first_poll:
            self._first_poll = first_poll
            for request_id in list(self._due):
                wait = self._waits[request_id]
                if wait.running == wait.failures == 0 and wait.poll_interval is None:
                    self._schedule(request_id, now)

    def _end(self, request_id: str, group: set[str]) -> None:
        group.add(request_id)
        self._running.discard(request_id)
        self._in_history.discard(request_id)
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

    def _read_at(self, now: float) -> float:
        """Return when the history is read: when the newest job there is almost certainly over, and before it is late."""
        waits = [self._waits[request_id] for request_id in self._in_history]
        over = [
            wait.submitted_at + self._api.latencies.next_poll(self._model, wait.running, WAVE_REQUEST_COST)
            for wait in waits
        ]
        latest = min(wait.deadline for wait in waits) - READ_SECONDS
        if self._resume_at is not None:
            latest = min(latest, self._resume_at - POLL_SECONDS)
        return max(over) if max(over) <= latest or min(over) > now else max(latest, min(over))

    def _read_history(self) -> Operation[None]:
        with self._lock:
            wanted = set(self._in_history)
            waits = [self._waits[request_id] for request_id in wanted]
        until = self._api.clock() + READ_SECONDS
        if self._resume_at is not None:
            until = min(until, max(self._resume_at, self._api.clock() + POLL_SECONDS))
        since = min(wait.submitted_at for wait in waits)
        reading = None
        try:
            operation = read_history(self._api, self._model, wanted, since, until=until)
            reading = yield from counting_requests(operation, self._count)
        finally:
            with self._lock:
                self._reads = False
                now = self._api.clock()
                if reading is not None:
                    self._readings += 1
                    for request_id in wanted & self._in_history:
                        record = reading.records.get(request_id)
                        if record is not None and record.state in (JobState.COMPLETED, JobState.FAILED):
                            self._end(request_id, self.ended)
                        else:
                            self._not_ended(request_id, listed=record is not None, now=now)
                    few = len(self._in_history) <= reading.pages
                    if reading.failure is not None or few or self._readings >= MAX_READINGS:
                        self._leave_history(set(self._in_history), now)

    def _not_ended(self, request_id: str, *, listed: bool, now: float) -> None:
        """Note that a job was pending in the history, or absent."""
        wait = self._waits[request_id]
        age = now - wait.submitted_at
        if not listed:
            self._absences[request_id] = self._absences.get(request_id, 0) + 1
            if self._absences[request_id] >= 2 or age >= LISTED_WITHIN:
                self._leave_history({request_id}, now)
                return
        wait.running = max(age, wait.running)

    def _leave_history(self, request_ids: set[str], now: float) -> None:
        """Watch jobs by status requests from now on."""
        self._in_history -= request_ids
        for request_id in request_ids & set(self._due):
            self._schedule(request_id, now)
