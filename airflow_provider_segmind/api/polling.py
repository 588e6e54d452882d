"""
A job after its submit: its state, its result, and the wait for its end.

How a wait ends on time
-----------------------

A wait ends within ten seconds after its deadline, whatever the server does, because every request of it has a limit
(``max_seconds``) for the whole exchange, and every pause and every wait for a slot ends by the deadline:

* a poll that begins before the deadline ends by then, or, begun just before it, ``POLL_SECONDS`` after its begin;
* the last poll, at the deadline, ends ``LAST_POLL_OVERTIME`` after it;
* the look-up of the result, where that poll says COMPLETED, ends ``RESULT_OVERTIME`` after it.

The rest of the ten seconds is for the drivers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from airflow_provider_segmind.api.download import public_outputs
from airflow_provider_segmind.api.errors import job_failure
from airflow_provider_segmind.api.gateway import GET_ATTEMPTS, GET_SECONDS, MIN_REQUEST_SECONDS, backoff, get, submit
from airflow_provider_segmind.api.history import get_record
from airflow_provider_segmind.api.models import (
    JobOutcome,
    JobState,
    Metrics,
    OutcomeStatus,
    SegmindResult,
    SegmindStatus,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation, pause
from airflow_provider_segmind.api.parsing import ResponseTooLargeError, error_text, parse_result, parse_status
from airflow_provider_segmind.api.schedule import next_poll_delay
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

NOT_FOUND_GRACE = 10.0
"""A 404 in the first seconds after a submit is replication lag, not expiry."""

RESULT_ATTEMPTS = 3
"""How often a result is asked for while its endpoint still says that the job runs and the status says COMPLETED."""

_MIN_DELAY = 0.05  # Airflow 3.1 has failed tasks whose event came at the very instant of their deferral


def get_status(
    api: ApiContext, request_id: str, *, attempts: int = GET_ATTEMPTS, until: float | None = None
) -> Operation[SegmindStatus]:
    """
    Return a job's state. A FAILED is a state here, not an exception.

    Source: Segmind's API page. ``GET /v2/requests/<id>/status`` answers ``{"status", "request_id", "metrics"}``, with
    HTTP 422 for a FAILED, and with 404 for an unknown id or one older than an hour.

    :param attempts: how often it is asked at most
    :param until: epoch seconds at which all of it has ended; by default a minute from now
    """
    return (
        yield from get(
            api,
            api.request_url(request_id) + "/status",
            "a status request",
            lambda response: parse_status(response, request_id),
            request_id=request_id,
            attempts=attempts,
            until=until,
        )
    )


def get_result(api: ApiContext, request_id: str, *, until: float | None = None) -> Operation[SegmindResult]:
    """
    Return a job's result; it has no outputs while the job still runs.

    Source: Segmind's API page. ``GET /v2/requests/<id>`` answers ``{"status", "images": [...], "output", "metrics"}``.
    Where a COMPLETED job has no outputs in it, or inline ones that are too large to read, the request history is asked
    for the files' addresses.

    :param until: epoch seconds at which it has ended; by default each of the two requests has a minute
    :raises SegmindJobFailedError: the job has failed
    """
    too_large = None
    try:
        result = yield from get(
            api,
            api.request_url(request_id),
            "a result request",
            lambda response: parse_result(response, request_id),
            request_id=request_id,
            until=until,
        )
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
    Where that fails the outcome is COMPLETED without a result, and whoever stores it asks again and reports why.

    :param model: its typical latency shapes the poll schedule; ``None``: unknown, so the polls start early
    :param submitted_at: epoch seconds
    :param deadline: epoch seconds; one that has passed, in a restarted triggerer, still gets a last poll
    :param poll_interval: seconds between polls; ``None``: the adaptive schedule
    """
    deadline = max(deadline, api.clock())
    try:
        status = yield from _wait_for_end(api, request_id, model, submitted_at, deadline, poll_interval)
    except SegmindJobTimeoutError as error:
        return JobOutcome(request_id, OutcomeStatus.TIMEOUT, str(error))
    except SegmindJobExpiredError as error:
        return JobOutcome(request_id, OutcomeStatus.EXPIRED, str(error))
    except SegmindRequestError as error:
        return JobOutcome(request_id, OutcomeStatus.ERROR, str(error))
    if status.state is JobState.FAILED:
        words = api.redact(status.error or "no reason given")
        return JobOutcome(request_id, OutcomeStatus.FAILED, words, status.metrics)
    try:
        result = yield from _get_completed_result(api, status, model, deadline)
    except SegmindError:
        return JobOutcome(request_id, OutcomeStatus.COMPLETED, metrics=status.metrics)
    return completed_outcome(api, result)


def _wait_for_end(
    api: ApiContext,
    request_id: str,
    model: str | None,
    submitted_at: float,
    deadline: float,
    poll_interval: float | None,
) -> Operation[SegmindStatus]:
    """
    Poll until the job has ended, sitting out outages and rate limits.

    :raises SegmindJobTimeoutError: the deadline has passed
    :raises SegmindJobExpiredError: Segmind does not know the job
    :raises SegmindRequestError: a poll was refused
    """
    polls = failures = 0
    not_before = 0.0
    problem: str | None = None
    while True:
        now = api.clock()
        delay = _next_delay(api, model, now - submitted_at, polls, failures, poll_interval)
        delay = max(delay, not_before - now, _MIN_DELAY)
        yield from pause(min(delay, max(deadline - now, _MIN_DELAY)))
        now = api.clock()
        last = now >= deadline
        poll_until = max(deadline + LAST_POLL_OVERTIME if last else deadline, now + POLL_SECONDS)
        polls += 1
        try:
            status = yield from get_status(api, request_id, attempts=1, until=poll_until)
        except SegmindRateLimitError as error:
            failures += 1
            # A limit that refuses again after the reset that it announced is asked ever more rarely.
            not_before = max(error.reset_at, api.clock() + min(2.0 ** min(failures, 6), 60.0))
            problem = str(error)
        except SegmindServiceError as error:
            failures += 1
            problem = str(error)
        except SegmindJobExpiredError:
            failures = 0
            if api.clock() - submitted_at >= NOT_FOUND_GRACE:
                raise
        else:
            failures, problem = 0, None
            if status.state.terminal:
                return status
        if last:
            raise SegmindJobTimeoutError(
                f"Segmind's job {request_id} has not ended {deadline - submitted_at:.0f} s after its submit"
                f"{f' (last problem: {problem})' if problem else ''}. It still runs and will be billed; a retry waits "
                "for the same job, and `timeout` sets how long.",
                request_id=request_id,
            )


def _next_delay(
    api: ApiContext, model: str | None, elapsed: float, polls: int, failures: int, poll_interval: float | None
) -> float:
    """Return the seconds to wait before the next poll."""
    if failures:
        return backoff(api, failures, cap=30.0)
    if poll_interval is not None:
        return poll_interval
    if model is None:
        return min(1.5 ** min(polls, 10), 15.0)
    return next_poll_delay(api.latencies.typical(model), elapsed, polls)


def _get_completed_result(
    api: ApiContext, status: SegmindStatus, model: str | None, deadline: float
) -> Operation[SegmindResult]:
    """Return the result of a job whose status is COMPLETED, and learn from how long it took."""
    now = api.clock()
    until = min(max(deadline + RESULT_OVERTIME, now + MIN_REQUEST_SECONDS), now + GET_SECONDS)
    _observe(api, model, status.metrics)
    for attempt in range(1, RESULT_ATTEMPTS + 1):
        result = yield from get_result(api, status.request_id, until=until)
        if result.status is JobState.COMPLETED:
            if status.metrics.total_time is None:
                _observe(api, model, result.metrics)
            return result if result.metrics != Metrics() else replace(result, metrics=status.metrics)
        yield from pause(backoff(api, attempt))
    raise SegmindServiceError(
        f"Segmind says that request {status.request_id} is COMPLETED, but has no result of it yet. A retry asks again "
        "and pays nothing.",
        request_id=status.request_id,
    )


def _observe(api: ApiContext, model: str | None, metrics: Metrics) -> None:
    if model is not None:
        api.latencies.observe(model, metrics.total_time)


def completed_outcome(api: ApiContext, result: SegmindResult) -> JobOutcome:
    """Return the outcome of a completed job whose result is known."""
    return JobOutcome(
        result.request_id,
        OutcomeStatus.COMPLETED,
        metrics=result.metrics,
        output_urls=public_outputs(api, result),
        result=result,
    )


def raise_for_outcome(api: ApiContext, outcome: JobOutcome) -> None:
    """
    Raise what an outcome stands for, unless it is COMPLETED. The outcome may come from an event, so it is redacted.

    :raises SegmindJobFailedError: FAILED
    :raises SegmindJobTimeoutError: TIMEOUT
    :raises SegmindJobExpiredError: EXPIRED
    :raises SegmindRequestError: ERROR
    """
    request_id, words = outcome.request_id, api.redact(outcome.error or "")
    match outcome.status:
        case OutcomeStatus.COMPLETED:
            return
        case OutcomeStatus.FAILED:
            raise job_failure(api, request_id, words)
        case OutcomeStatus.TIMEOUT:
            raise SegmindJobTimeoutError(words or f"Segmind's job {request_id} has not ended.", request_id=request_id)
        case OutcomeStatus.EXPIRED:
            raise SegmindJobExpiredError(words or f"Segmind no longer knows {request_id}.", request_id=request_id)
        case OutcomeStatus.ERROR:
            raise SegmindRequestError(words or f"The wait for {request_id} has failed.", request_id=request_id)


def wait_for_job(
    api: ApiContext,
    request_id: str,
    *,
    timeout: float,
    model: str | None = None,
    poll_interval: float | None = None,
) -> Operation[SegmindResult]:
    """
    Wait for a job's end and return its result.

    :param timeout: seconds from now; the wait ends at most ten seconds later
    :param model: as for :func:`watch`
    :param poll_interval: as for :func:`watch`
    :raises SegmindJobTimeoutError: the job still runs
    :raises SegmindJobFailedError: it has failed
    :raises SegmindJobExpiredError: Segmind does not know it
    """
    now = api.clock()
    return (yield from _wait_for_result(api, request_id, model, now, now + timeout, poll_interval))


def run(
    api: ApiContext,
    model: str,
    payload: Mapping[str, object],
    *,
    timeout: float,
    poll_interval: float | None = None,
) -> Operation[SegmindResult]:
    """
    Submit a job, wait for its end and return its result: what the official client's ``run`` does.

    :param timeout: seconds for all of it; it ends at most ten seconds later
    :raises SegmindError: what :func:`~.gateway.submit` and :func:`wait_for_job` raise
    """
    deadline = api.clock() + timeout
    job = yield from submit(api, model, payload, until=deadline)
    return (yield from _wait_for_result(api, job.request_id, model, job.submitted_at, deadline, poll_interval))


def _wait_for_result(
    api: ApiContext,
    request_id: str,
    model: str | None,
    submitted_at: float,
    deadline: float,
    poll_interval: float | None,
) -> Operation[SegmindResult]:
    status = yield from _wait_for_end(api, request_id, model, submitted_at, deadline, poll_interval)
    if status.state is JobState.FAILED:
        raise job_failure(api, request_id, status.error)
    return (yield from _get_completed_result(api, status, model, deadline))
