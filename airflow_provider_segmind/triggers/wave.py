"""Watching the jobs of a batch on the triggerer, many of them in one trigger."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_segmind.api.models import (
    Watch,
    check_choice,
    check_model,
    check_moment,
    check_request_id,
    check_timeout,
    check_whole,
)
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.api.wave import Wave, WaveEvent, WaveJob
from airflow_provider_segmind.exceptions import SegmindError, SegmindInputError, SegmindJobTimeoutError
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.triggers.segmind import LATEST_EVENT, not_too_early

VERSION = 1
"""The version of the arguments, which Airflow keeps in its database."""

MAX_JOBS = 1000
MAX_BYTES = 64 * 1024
"""Of the arguments as JSON, and as Airflow encrypts them, which takes a third more."""

WATCHERS = 16
"""How many requests a wave has under way at once. More would be faster than any limit of Segmind's."""

WATCHERS_WITHOUT_LIMIT = 8
"""The same while no limit is known, since all that are under way when it is met are refused. With 0.3 s for a request,
these are 1,600 a minute."""


class SegmindWaveTrigger(BaseTrigger):
    """
    Watch the jobs of a batch, and fire one event when there is something to do for a worker.

    That is when no more than ``leave_running`` jobs are running, though not before ``opens_at``, or at ``resume_at``.
    The event has ``ended`` and ``timed_out``, positions in ``jobs``; ``limiter``, what is known of the rate limit;
    ``requests``, how many the watch has made; and ``error``. It comes at most 10 s after ``resume_at`` and after the
    last deadline. When the triggerer stops, nothing is cancelled at Segmind: another one goes on with the same jobs.

    :param jobs: ``[request_id, submitted_at]`` or ``[request_id, submitted_at, deadline]`` of each job, times in epoch
        seconds, at most 1000; or the text that :func:`write_jobs` makes of them
    :param model: the model's slug, of all jobs
    :param segmind_conn_id: the connection's id
    :param timeout: seconds from a job's submit to its deadline, where it has none of its own
    :param resume_at: epoch seconds at which the event fires at the latest; ``None``: no such moment
    :param opens_at: epoch seconds before which the event does not fire, even if all jobs have ended
    :param leave_running: how many jobs may still be running when the event fires; by default none
    :param watch: ``"status"``: by status requests; ``"history"``: by pages of the request history, where possible
    :param poll_interval: seconds between status requests for a job, ``None`` for the adaptive schedule
    :param limiter: what the rate limiter of the process that defers has handed over
    :param version: of these arguments
    :raises SegmindInputError: one of them is unusable
    """

    def __init__(
        self,
        jobs: Sequence[Sequence[Any]] | str,
        model: str,
        segmind_conn_id: str,
        timeout: float,
        resume_at: float | None = None,
        opens_at: float = 0.0,
        leave_running: int = 0,
        watch: Watch = "status",
        poll_interval: float | None = None,
        limiter: dict[str, Any] | None = None,
        version: int = VERSION,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if version != VERSION:
            raise SegmindInputError(
                f"This trigger was written by another version of the provider (version={version!r}; this one reads "
                f"{VERSION}). Install the same version of the provider on all workers and triggerers."
            )
        check_model(model)
        check_timeout(timeout)
        if resume_at is not None:
            check_moment(resume_at, "resume_at")
        check_moment(opens_at, "opens_at")
        check_whole("leave_running", leave_running, 0, MAX_JOBS)
        check_choice("watch", watch, Watch)
        if poll_interval is not None:
            check_timeout(poll_interval, "poll_interval")
        self.jobs = read_jobs(jobs, timeout)
        if len(self.jobs) > MAX_JOBS:
            raise SegmindInputError(f"A wave of {len(self.jobs)} jobs is too large. Watch at most {MAX_JOBS} at once.")
        self.model = model
        self.segmind_conn_id = segmind_conn_id
        self.timeout = timeout
        self.resume_at = resume_at
        self.opens_at = opens_at
        self.leave_running = leave_running
        self.watch = watch
        self.poll_interval = poll_interval
        self.limiter = limiter

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, which hold no key, address or image."""
        arguments = {
            "jobs": write_jobs(self.jobs, self.timeout),
            "model": self.model,
            "segmind_conn_id": self.segmind_conn_id,
            "timeout": self.timeout,
            "resume_at": self.resume_at,
            "opens_at": self.opens_at,
            "leave_running": self.leave_running,
            "watch": self.watch,
            "poll_interval": self.poll_interval,
            "limiter": self.limiter,
            "version": VERSION,
        }
        size = len(json.dumps(arguments)) * 4 // 3
        if size > MAX_BYTES:
            raise SegmindInputError(
                f"A wave of {len(self.jobs)} jobs takes {size} bytes in Airflow's database, more than {MAX_BYTES}. "
                "Use a smaller wave."
            )
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch, then fire the event."""
        started = time.time()
        event = await self._event()
        await not_too_early(started)
        yield TriggerEvent(event.as_json())  # type: ignore[no-untyped-call]

    async def _event(self) -> WaveEvent:
        """Watch. Any error becomes an event with what is known by then, since a trigger that dies tells nothing."""
        wave: Wave | None = None
        failure: Exception
        try:
            with await SegmindHook(self.segmind_conn_id).asession() as session:
                session.api.limiter.expect_bursts(WATCHERS_WITHOUT_LIMIT)
                session.api.limiter.take_over(self.limiter, time.time())
                wave = Wave(
                    session.api,
                    self.model,
                    self.jobs,
                    resume_at=self.resume_at,
                    opens_at=self.opens_at,
                    leave_running=self.leave_running,
                    watch=self.watch,
                    poll_interval=self.poll_interval,
                )
                async with asyncio.timeout(self._seconds_left()), asyncio.TaskGroup() as watchers:
                    for _ in range(min(WATCHERS, max(len(self.jobs), 1))):
                        watchers.create_task(session.driver.run(wave.watcher()))
                return wave.event()
        except TimeoutError:
            failure = SegmindJobTimeoutError("The watch was cut off because requests were still under way at its end.")
        except ExceptionGroup as group:
            failure = group.exceptions[0]
        except Exception as error:  # noqa: BLE001 - the docstring says why
            failure = error
        text = str(failure)
        if not isinstance(failure, SegmindError):
            self.log.error("Watching %d jobs failed.", len(self.jobs), exc_info=failure)
            text = f"{type(failure).__name__}: {text}"
        text = redact(text)
        return WaveEvent(limiter=self.limiter, error=text) if wave is None else wave.event(text)

    def _seconds_left(self) -> float:
        """Return after how many seconds the event fires, even where a request is still under way."""
        ends = self.resume_at
        if ends is None:
            ends = max([self.opens_at, *(job.deadline for job in self.jobs)])
        return max(ends - time.time(), 0.0) + LATEST_EVENT


def write_jobs(jobs: Sequence[WaveJob], timeout: float) -> str:
    """
    Return jobs as a short text, ``"1700000000000 id,0 id,12 id,15,900000"``.

    The first number is the first submit in milliseconds. Each job has its id, how many milliseconds later it was
    submitted, and how many later than that its deadline is, unless that is ``timeout`` seconds.
    """
    first = round(min((job.submitted_at for job in jobs), default=0.0) * 1000)
    words = [str(first)]
    for job in jobs:
        submitted, left = round(job.submitted_at * 1000), round((job.deadline - job.submitted_at) * 1000)
        own_deadline = "" if left == round(timeout * 1000) else f",{left}"
        words.append(f"{job.request_id},{submitted - first}{own_deadline}")
    return " ".join(words)


def read_jobs(value: Sequence[Sequence[Any]] | str, timeout: float) -> tuple[WaveJob, ...]:
    """
    Read jobs from a list or from what :func:`write_jobs` returned.

    :param timeout: seconds from the submit to the deadline of a job that has none of its own
    """
    try:
        rows = list(_rows(value, timeout)) if isinstance(value, str) else value
        return tuple(_job(*row, timeout=timeout) for row in rows)
    except (ValueError, TypeError, IndexError) as error:
        if isinstance(error, SegmindInputError):
            raise
        raise SegmindInputError(
            f"Invalid jobs {redact(repr(value), limit=80)}. Use a list of [request_id, submitted_at]."
        ) from None


def _rows(text: str, timeout: float) -> Iterator[tuple[str, float, float]]:
    first, *words = text.split(" ")
    for word in words:
        request_id, *numbers = word.split(",")
        after, left = int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else timeout * 1000
        submitted = int(first) + after
        yield request_id, submitted / 1000, (submitted + left) / 1000


def _job(request_id: object, submitted_at: object, deadline: object = None, *, timeout: float) -> WaveJob:
    submitted = check_moment(submitted_at, "submitted_at")
    ends = submitted + timeout if deadline is None else check_moment(deadline, "deadline")
    return WaveJob(check_request_id(request_id), submitted, ends)
