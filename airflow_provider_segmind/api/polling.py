"""
A job after its submit: its state, its result, and the wait for its end.

How a wait ends on time
-----------------------

A wait ends within ten seconds after its deadline, whatever the server does: every pause and every wait for a slot ends
by the deadline, and every exchange has a limit (``max_seconds``). A poll that begins before the deadline ends by then,
or ``POLL_SECONDS`` after its begin. The last poll, at the deadline, ends ``LAST_POLL_OVERTIME`` after it, and the
look-up of the result, where that poll says COMPLETED, ``RESULT_OVERTIME`` after it. The rest is for the drivers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from airflow_provider_segmind.api.download import public_outputs
from airflow_provider_segmind.api.gateway import GET_ATTEMPTS, GET_SECONDS, MIN_GET_SECONDS, backoff, get, submit
from airflow_provider_segmind.api.history import get_record
from airflow_provider_segmind.api.models import (
    JobOutcome,
    JobState,
    Metrics,
    OutcomeStatus,
    SegmindResult,
    SegmindStatus,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation, Pause, pause
from airflow_provider_segmind.api.parsing import (
    ResponseTooLargeError,
    error_text,
    job_failure,
    parse_result,
    parse_status,
)
from airflow_provider_segmind.api.poll_schedule import REQUEST_COST
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindJobExpiredError,
    SegmindJobTimeoutError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
)

POLL_SECONDS = 3.0
LAST_POLL_OVERTIME = 6.0
RESULT_OVERTIME = 9.0
NOT_FOUND_GRACE = 10.0  # a 404 in the first seconds after a submit is replication lag, not expiry
RESULT_ATTEMPTS = 3  # while the status says COMPLETED and the endpoint of the result that the job runs
_ERRORS: dict[OutcomeStatus, type[SegmindError]] = {
    OutcomeStatus.TIMEOUT: SegmindJobTimeoutError,
    OutcomeStatus.EXPIRED: SegmindJobExpiredError,
    OutcomeStatus.ERROR: SegmindRequestError,
}
_MIN_DELAY = 0.05  # Airflow 3.1 has failed tasks whose event came at the very instant of their deferral


def get_status(
    api: ApiContext, request_id: str, *, attempts: int = GET_ATTEMPTS, until: float | None = None
) -> Operation[SegmindStatus]:
    """Return a job's state. A FAILED is a state here, not an exception."""
    url, read = f"{api.request_url(request_id)}/status", partial(parse_status, request_id=request_id)
    return get(api, url, "a status request", read, request_id=request_id, attempts=attempts, until=until)


def get_result(api: ApiContext, request_id: str, *, until: float | None = None) -> Operation[SegmindResult]:
    """
    Return a job's result; it has no outputs while the job still runs, and a FAILED raises.

    Where a COMPLETED job has no outputs in it, or inline ones that are too large to read, the request history is asked
    for the files' addresses.
    """
    url, read = api.request_url(request_id), partial(parse_result, request_id=request_id)
    too_large = None
    try:
        result = yield from get(api, url, "a result request", read, request_id=request_id, until=until)
    except ResponseTooLargeError as error:
        result, too_large = SegmindResult(request_id, JobState.COMPLETED), error
    if result.status is JobState.FAILED:
        raise job_failure(api, request_id, error_text(result.raw))
    if result.status is JobState.COMPLETED and not result.outputs:
        record = yield from get_record(api, request_id, until=until)
        if record is not None and record.output_urls:
            return replace(result, outputs=record.as_result().outputs)
        if too_large is not None:
            raise too_large
    return result


def watch(
    api: ApiContext,
    request_id: str,
    model: str | None,
    *,
    submitted_at: float,
    deadline: float,
    poll_interval: float | None = None,
) -> Operation[JobOutcome]:
    """
    Wait for a job's end and learn where its files are. It ends with an outcome, never with a :class:`SegmindError`.

    The result is looked up at once: whoever stores it may come an hour later, when Segmind has dropped the record.
    If that fails, the outcome is COMPLETED without a result, and whoever stores it asks again and reports why.

    :param model: how long its jobs took shapes the poll schedule; ``None``: unknown
    :param deadline: epoch seconds; one that has passed, in a restarted triggerer, still gets a last poll
    :param poll_interval: in seconds; by default the adaptive schedule
    """
    wait = JobWait(api, request_id, model, submitted_at, max(deadline, api.clock()), poll_interval)
    try:
        status = yield from wait.poll()
    except tuple(_ERRORS.values()) as error:
        ended = next(ended for ended, kind in _ERRORS.items() if isinstance(error, kind))
        return JobOutcome(request_id, ended, str(error))
    if status.state is JobState.FAILED:
        words = api.redact(status.error or "no reason given")
        return JobOutcome(request_id, OutcomeStatus.FAILED, words, status.metrics)
    try:
        return completed_outcome(api, (yield from wait.fetch_result(status)))
    except SegmindError:
        return JobOutcome(request_id, OutcomeStatus.COMPLETED, metrics=status.metrics)


def completed_outcome(api: ApiContext, result: SegmindResult) -> JobOutcome:
    """Return the outcome of a completed job whose result is known."""
    urls = public_outputs(api, result)
    return JobOutcome(result.request_id, OutcomeStatus.COMPLETED, None, result.metrics, urls, result)


def raise_for_outcome(api: ApiContext, outcome: JobOutcome) -> None:
    """Raise the exception of an outcome that is not COMPLETED. Its words may come from an event, and are redacted."""
    request_id, status = outcome.request_id, outcome.status
    if status is OutcomeStatus.FAILED:
        raise job_failure(api, request_id, outcome.error)
    if status in _ERRORS:
        words = api.redact(outcome.error or f"The wait for Segmind's job {request_id} has ended with {status}.")
        raise _ERRORS[status](words, request_id=request_id)


def wait_for_job(api: ApiContext, request_id: str, *, timeout: float) -> Operation[SegmindResult]:
    """Wait for a job's end and return its result."""
    now = api.clock()
    return (yield from JobWait(api, request_id, None, now, now + timeout).poll_and_fetch())


def run(api: ApiContext, model: str, payload: Mapping[str, object], *, timeout: float) -> Operation[SegmindResult]:
    """Submit a job, wait for its end and return its result: what the official client's ``run`` does."""
    deadline = api.clock() + timeout
    job = yield from submit(api, model, payload, until=deadline)
    return (yield from JobWait(api, job.request_id, model, job.submitted_at, deadline).poll_and_fetch())


@dataclass(eq=False, slots=True)
class JobWait:
    """
    A wait for a job's end.

    :param model: how long its jobs took shapes the poll schedule; ``None``: unknown
    :param poll_interval: in seconds; by default the adaptive schedule
    :param request_cost: seconds of lag that one request is worth, for the adaptive schedule
    """

    api: ApiContext
    request_id: str
    model: str | None
    submitted_at: float
    deadline: float
    poll_interval: float | None = None
    request_cost: float = REQUEST_COST
    running: float = field(default=0.0, init=False)  # seconds after the submit, when a poll last saw the job running
    failures: int = field(default=0, init=False)  # of polls, in a row
    _not_before: float = field(default=0.0, init=False)
    _problem: str | None = field(default=None, init=False)

    def delay(self, now: float) -> float:
        """Return the seconds until the next poll; the last one is at the deadline."""
        if self.failures:
            delay = backoff(self.api, self.failures, cap=30.0)
        elif self.poll_interval is not None:
            delay = self.poll_interval
        else:
            due = self.api.latencies.next_poll(self.model, self.running, self.request_cost)
            delay = self.submitted_at + due - now
        return min(max(delay, self._not_before - now, _MIN_DELAY), max(self.deadline - now, _MIN_DELAY))

    def poll_once(self, *, until: float = math.inf) -> Operation[SegmindStatus | None]:
        """
        Poll once; return how the job ended, or ``None`` if it is still running or did not answer.

        :param until: epoch seconds at which a poll that begins now has ended, though not within ``POLL_SECONDS``
        :raises SegmindJobTimeoutError: this was the poll at the deadline, and the job has not ended
        :raises SegmindJobExpiredError: Segmind does not know the job, which it does not say by mistake any more
        :raises SegmindRequestError: it refused the poll
        """
        api, deadline = self.api, self.deadline
        now = api.clock()
        last = now >= deadline
        poll_until = deadline + LAST_POLL_OVERTIME if last else min(deadline, until)
        try:
            status = yield from get_status(api, self.request_id, attempts=1, until=max(poll_until, now + POLL_SECONDS))
        except (SegmindRateLimitError, SegmindServiceError) as error:
            self.failures += 1
            self._problem = str(error)
            if isinstance(error, SegmindRateLimitError):
                # If the limit refuses again after the reset that it announced, wait longer each time.
                self._not_before = max(error.reset_at, api.clock() + min(2.0 ** min(self.failures, 6), 60.0))
        except SegmindJobExpiredError:
            self.failures = 0
            self.running = api.clock() - self.submitted_at
            if self.running >= NOT_FOUND_GRACE:
                raise
        else:
            self.failures, self._problem = 0, None
            self.running = api.clock() - self.submitted_at
            if status.state is JobState.COMPLETED:
                api.latencies.observe(self.model, status.metrics.total_time)
            if status.state.terminal:
                return status
        if last:
            problem = f" (last problem: {self._problem})" if self._problem else ""
            raise SegmindJobTimeoutError(
                f"Segmind's job {self.request_id} has not ended within {deadline - self.submitted_at:.0f} s{problem}. "
                "It still runs and will be billed; a retry waits for the same job, and `timeout` sets how long.",
                request_id=self.request_id,
            )
        return None

    def poll(self) -> Operation[SegmindStatus]:
        """Poll until the job has ended, through outages and rate limits; else raise one of ``_ERRORS``."""
        while True:
            yield Pause(self.delay(self.api.clock()))
            if (status := (yield from self.poll_once())) is not None:
                return status

    def fetch_result(self, status: SegmindStatus) -> Operation[SegmindResult]:
        """Return the result of the job, whose status is COMPLETED; its endpoint may lag behind."""
        now = self.api.clock()
        until = min(max(self.deadline + RESULT_OVERTIME, now + MIN_GET_SECONDS), now + GET_SECONDS)
        for attempt in range(1, RESULT_ATTEMPTS + 1):
            result = yield from get_result(self.api, self.request_id, until=until)
            if result.status is JobState.COMPLETED:
                if status.metrics.total_time is None:
                    self.api.latencies.observe(self.model, result.metrics.total_time)
                return result if result.metrics != Metrics() else replace(result, metrics=status.metrics)
            yield from pause(backoff(self.api, attempt))
        text = (
            f"Segmind has completed request {self.request_id}, but has no result of it yet. A retry asks for it again."
        )
        raise SegmindServiceError(text, request_id=self.request_id)

    def poll_and_fetch(self) -> Operation[SegmindResult]:
        """Poll, and return the result of a job that completed."""
        status = yield from self.poll()
        if status.state is JobState.FAILED:
            raise job_failure(self.api, self.request_id, status.error)
        return (yield from self.fetch_result(status))
