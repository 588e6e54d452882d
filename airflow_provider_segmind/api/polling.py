"""A job after its submit: its state, its result, the wait for its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from airflow_provider_segmind.api.download import public_output
from airflow_provider_segmind.api.errors import job_failure
from airflow_provider_segmind.api.gateway import GET_ATTEMPTS, backoff, get, submit
from airflow_provider_segmind.api.history import get_record
from airflow_provider_segmind.api.models import (
    JobOutcome,
    JobState,
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

LAST_POLL_SECONDS = 300.0
"""A last look waits so long for its turn, where many come to their deadline at once and the limit is low."""

NOT_FOUND_GRACE = 10.0
"""A 404 in the first seconds after a submit is replication lag, not expiry."""

_BEFORE_FIRST_LOOK = 0.05  # Airflow 3.1 has failed tasks whose event came at the instant of their deferral


def get_status(
    api: ApiContext, request_id: str, *, attempts: int = GET_ATTEMPTS, patience: float | None = None
) -> Operation[SegmindStatus]:
    """Ask for a job's state. A FAILED is a state, not an exception."""
    return (
        yield from get(
            api,
            api.request_url(request_id) + "/status",
            "a status request",
            lambda answer: parse_status(answer, request_id),
            request_id=request_id,
            attempts=attempts,
            patience=patience,
        )
    )


def get_result(api: ApiContext, request_id: str) -> Operation[SegmindResult]:
    """
    Ask for a job's result; without outputs while it still runs. A COMPLETED without any: the history is asked.

    :raises SegmindJobFailedError: the job FAILED
    """
    too_large = None
    try:
        result = yield from get(
            api,
            api.request_url(request_id),
            "a result request",
            lambda answer: parse_result(answer, request_id),
            request_id=request_id,
        )
    except ResponseTooLargeError as error:  # an inline result: its file has an address too
        result, too_large = SegmindResult(request_id, JobState.COMPLETED), error
    if result.status is JobState.FAILED:
        raise job_failure(api, request_id, error_text(result.raw))
    if result.status is JobState.COMPLETED and not result.outputs:
        record = yield from get_record(api, request_id)
        if record is not None and record.output_url:
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
    Wait for a job's end and learn where its file is. Ends with an outcome, never with a :class:`SegmindError`.

    Outages and rate limits are waited out within the deadline; a last look precedes a TIMEOUT, unless a 429 keeps the
    gate closed then.

    :param model: whose typical latency shapes the schedule; ``None``: unknown, the looks start early
    :param submitted_at: epoch seconds
    :param deadline: epoch seconds
    :param poll_interval: seconds between looks, ``None`` for the adaptive schedule
    """
    looks = failures = 0
    trouble: str | None = None
    not_before = 0.0
    while True:
        now = api.clock()
        if failures:
            delay = backoff(api, failures, cap=30.0)
        elif poll_interval is not None:
            delay = poll_interval
        elif model is None:
            delay = min(1.5 ** min(looks, 10), 15.0)
        else:
            delay = next_poll_delay(api.latencies.typical(model), now - submitted_at, looks)
        delay = max(delay, not_before - now, _BEFORE_FIRST_LOOK)
        yield from pause(min(delay, max(deadline - now, _BEFORE_FIRST_LOOK)))
        last = api.clock() >= deadline
        if last and api.limiter.is_closed(api.clock() + 1.0):
            return _timed_out(request_id, deadline - submitted_at, "the rate limit is used up")
        looks += 1
        try:
            status = yield from get_status(
                api, request_id, attempts=1, patience=max(deadline - api.clock(), LAST_POLL_SECONDS)
            )
        except SegmindRateLimitError as limited:
            failures += 1
            # Where the header's moment proves too early time and again, the pause grows all the same.
            not_before = max(limited.reset_at, api.clock() + min(2.0 ** min(failures, 6), 60.0))
            trouble = str(limited)
        except SegmindServiceError as outage:
            failures += 1
            trouble = str(outage)
        except SegmindJobExpiredError as expired:
            failures = 0
            if api.clock() - submitted_at >= NOT_FOUND_GRACE:
                return JobOutcome(request_id, OutcomeStatus.EXPIRED, str(expired))
        except SegmindRequestError as refused:
            return JobOutcome(request_id, OutcomeStatus.ERROR, str(refused))
        else:
            failures, trouble = 0, None
            if status.state is JobState.COMPLETED:
                return (yield from _completed(api, status, model))
            if status.state is JobState.FAILED:
                said = api.redact(status.error or "no reason given")
                return JobOutcome(request_id, OutcomeStatus.FAILED, said, status.metrics)
        if last:
            return _timed_out(request_id, deadline - submitted_at, trouble)


def _completed(api: ApiContext, status: SegmindStatus, model: str | None) -> Operation[JobOutcome]:
    """Ask at once where the file is: a worker may come an hour later, when Segmind has forgotten."""
    result: SegmindResult | None = None
    for failures in range(1, 4):
        try:
            result = yield from get_result(api, status.request_id)
        except SegmindError:
            break  # leg 2 asks again, and says what is wrong
        if result.status is JobState.COMPLETED:
            break
        result = None  # this endpoint lags behind the other
        yield from pause(backoff(api, failures))
    metrics = result.metrics if result is not None and result.metrics.total_time is not None else status.metrics
    if model is not None:
        api.latencies.observe(model, metrics.total_time)
    if result is None:
        return JobOutcome(status.request_id, OutcomeStatus.COMPLETED, metrics=metrics)
    return replace(completed_outcome(api, result), metrics=metrics)


def completed_outcome(api: ApiContext, result: SegmindResult) -> JobOutcome:
    """Return the outcome of a job whose result is at hand."""
    return JobOutcome(
        result.request_id,
        OutcomeStatus.COMPLETED,
        metrics=result.metrics,
        output_url=public_output(api, result),
        result=result,
    )


def _timed_out(request_id: str, seconds: float, trouble: str | None) -> JobOutcome:
    why = f"; last: {trouble}" if trouble else ""
    return JobOutcome(request_id, OutcomeStatus.TIMEOUT, f"not ended {seconds:.0f} s after its submit{why}")


def raise_for_outcome(api: ApiContext, outcome: JobOutcome) -> None:
    """Raise what an outcome other than COMPLETED means."""
    request_id = outcome.request_id
    if outcome.status is OutcomeStatus.COMPLETED:
        return
    if outcome.status is OutcomeStatus.FAILED:
        raise job_failure(api, request_id, outcome.error)
    if outcome.status is OutcomeStatus.TIMEOUT:
        raise SegmindJobTimeoutError(
            f"Segmind's job {request_id} has {api.redact(outcome.error or 'not ended')}. It still runs and will be "
            "billed; `timeout` sets how long to wait, and a retry goes on with the same job.",
            request_id=request_id,
        )
    if outcome.status is OutcomeStatus.EXPIRED:
        raise SegmindJobExpiredError(api.redact(outcome.error or "expired"), request_id=request_id)
    raise SegmindRequestError(api.redact(outcome.error or "refused"), request_id=request_id)


def wait_for_job(
    api: ApiContext,
    request_id: str,
    *,
    timeout: float,
    model: str | None = None,
    poll_interval: float | None = None,
) -> Operation[SegmindResult]:
    """Wait for a job's end, at most ``timeout`` seconds from now, and return its result."""
    now = api.clock()
    outcome = yield from watch(
        api, request_id, model, submitted_at=now, deadline=now + timeout, poll_interval=poll_interval
    )
    if outcome.status is OutcomeStatus.ERROR:
        yield from get_result(api, request_id)  # raises what the outcome only has in words
    raise_for_outcome(api, outcome)
    return outcome.result if outcome.result is not None else (yield from get_result(api, request_id))


def run(
    api: ApiContext,
    model: str,
    payload: Mapping[str, object],
    *,
    timeout: float,
    poll_interval: float | None = None,
) -> Operation[SegmindResult]:
    """Submit and wait: what the official client's ``run`` does."""
    job = yield from submit(api, model, payload)
    return (yield from wait_for_job(api, job.request_id, timeout=timeout, model=model, poll_interval=poll_interval))
