"""
Never pay twice: from a note of what was done before to a job that is paid for once.

The note says *submitting* before a POST and has the request id after it. Windows that stay open: a crash after the
POST was accepted and before its id is noted leaves *submitting*, which the request history resolves; a crash between
the note and the POST leaves the same, and costs a look into the history.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from airflow_provider_segmind.api.download import file_is_gone
from airflow_provider_segmind.api.errors import job_failure, then
from airflow_provider_segmind.api.gateway import MAX_SUBMIT_WAIT, backoff, check_rate_limit, submit
from airflow_provider_segmind.api.history import LISTED_WITHIN, find_request, fingerprint, get_record
from airflow_provider_segmind.api.models import (
    JobOutcome,
    JobState,
    Metrics,
    OnUnknownSubmit,
    OutcomeStatus,
    SegmindJob,
    SegmindOutput,
    SegmindRecord,
    SegmindResult,
    check_model,
    check_payload,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation, pause
from airflow_provider_segmind.api.polling import (
    NOT_FOUND_GRACE,
    completed_outcome,
    get_result,
    get_status,
    raise_for_outcome,
)
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)
from airflow_provider_segmind.jobs.checkpoint import Checkpoint, CheckpointStore

MAX_POSTS = 3
"""POSTs of unknown outcome in one go, each resolved before the next, before the task fails instead."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Acquired:
    """A job to go on with. ``outcome`` is set where it has ended already: then there is nothing to wait for."""

    job: SegmindJob
    outcome: JobOutcome | None = None


def acquire_job(
    api: ApiContext,
    note: CheckpointStore,
    model: str,
    digest: str,
    payload: Callable[[], Mapping[str, object]],
    *,
    on_unknown_submit: OnUnknownSubmit = "reconcile",
    deadline: float = math.inf,
) -> Operation[Acquired]:
    """
    Return the job for these inputs: the noted one while it is any good, else a new one.

    :param digest: from :func:`~airflow_provider_segmind.jobs.checkpoint.digest_of`
    :param payload: makes the payload; only called where a POST is needed, and before the note is written
    :param deadline: epoch seconds after which nothing is submitted any more
    :raises SegmindRateLimitError: nothing was sent; come back after ``reset_at``
    :raises SegmindSubmitUnknownError: a job may be queued and billed; the note stays
    :raises SegmindJobExpiredError: gone from the gateway and still pending in the history; the note stays
    """
    check_model(model)
    entry = note.read()
    if entry is not None and (entry.digest != digest or entry.model != model):
        log.warning(
            "The inputs have changed since %s was submitted: a new job. The earlier one is left to itself.",
            f"request {entry.request_id}" if entry.request_id else "an unanswered request",
        )
        entry = None
    if entry is not None and entry.request_id is not None:
        found = yield from _revive(api, entry, entry.request_id)
        if found is not None:
            return found
        note.forget()
        entry = None
    elif entry is not None:
        log.warning("An earlier try was cut off while submitting; on_unknown_submit=%r.", on_unknown_submit)
        found = yield from _resolve(api, note, entry, on_unknown_submit, None)
        if found is not None:
            return found
    # Of a submit that its user gave up as unknown: the note goes back to it where the next one surely queues nothing.
    given_up = entry if entry is not None and on_unknown_submit == "resubmit" else None
    _check_deadline(api, deadline)
    check_rate_limit(api, MAX_SUBMIT_WAIT)  # before a payload is made in vain: it may be read, encoded and uploaded
    body = check_payload(payload())
    wanted = fingerprint(body)

    def about_to_post() -> None:
        """Note each POST with its own moment: rows that land late are waited for from the last one on."""
        nonlocal entry
        _check_deadline(api, deadline)
        entry = Checkpoint(model, digest, api.clock(), wanted=wanted)
        note.write(entry)

    for attempt in range(1, MAX_POSTS + 1):
        try:
            job = yield from submit(api, model, body, before=about_to_post)
        except SegmindSubmitUnknownError as unknown:
            log.warning("%s on_unknown_submit=%r.", unknown, on_unknown_submit)
            if attempt == MAX_POSTS or entry is None:
                raise
            found = yield from _resolve(api, note, entry, on_unknown_submit, unknown)
            if found is not None:
                return found
            given_up = entry if on_unknown_submit == "resubmit" else None
            yield from pause(backoff(api, attempt))
        except SegmindError as error:
            if then(error).unpaid:
                note.write(given_up) if given_up is not None else note.forget()
            raise
        else:
            # A crash here leaves *submitting*, though the job runs: the history resolves it.
            _keep(note, Checkpoint(model, digest, job.submitted_at, job.request_id, wanted))
            log.info("Segmind has accepted request %s for %s.", job.request_id, model)
            return Acquired(job)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _check_deadline(api: ApiContext, deadline: float) -> None:
    if api.clock() >= deadline:
        raise SegmindServiceError(
            "Nothing was submitted within `timeout`, and nothing is any more: raise `timeout`, or run fewer of these "
            "tasks at a time (a pool)."
        )


def _keep(note: CheckpointStore, entry: Checkpoint) -> None:
    """Note an id. The job is paid for: if the note fails it goes on, and a later try resolves *submitting*."""
    try:
        note.write(entry)
    except Exception:
        log.exception("Request %s could not be noted; going on with it.", entry.request_id)


def _resolve(
    api: ApiContext,
    note: CheckpointStore,
    entry: Checkpoint,
    on_unknown_submit: OnUnknownSubmit,
    unknown: SegmindSubmitUnknownError | None,
) -> Operation[Acquired | None]:
    """Find the job of an unanswered submit; ``None``: submit (again)."""
    if on_unknown_submit == "resubmit":
        return None
    if on_unknown_submit == "fail":
        raise SegmindSubmitUnknownError(
            f"A submit to {entry.model} has an unknown outcome: its job may run and be billed. Look into Segmind's "
            "request history; then clear the task with on_unknown_submit='reconcile' (adopt it) or 'resubmit'."
        ) from unknown
    until = api.clock() if unknown is not None else None
    record = yield from find_request(api, entry.model, entry.wanted, since=entry.at, until=until)
    if record is None:
        log.info("The request history has no such request: nothing was queued.")
        return None
    log.warning("Found it in the request history: request %s is adopted, nothing is paid again.", record.request_id)
    made_at = min(record.created_at or entry.at, api.clock())  # a row without a zone can seem to be of the future
    adopted = Checkpoint(entry.model, entry.digest, made_at, record.request_id, entry.wanted)
    _keep(note, adopted)
    found = yield from _revive(api, adopted, record.request_id)
    if found is None:
        note.forget()
    return found


def _revive(api: ApiContext, entry: Checkpoint, request_id: str) -> Operation[Acquired | None]:
    """Ask what became of a noted job; ``None``: it is no good any more (and cost nothing, or is lost)."""
    job = SegmindJob(request_id, entry.model, entry.at)
    try:
        status = yield from get_status(api, request_id)
        if status.state is JobState.COMPLETED:
            log.info("Request %s of an earlier try has completed: fetching its result.", request_id)
            result = yield from get_result(api, request_id)
            if result.status is JobState.COMPLETED:
                return Acquired(job, completed_outcome(api, result))
        elif status.state is JobState.FAILED:
            raise job_failure(api, request_id, status.error)
    except SegmindJobFailedError as failed:
        log.info("%s: a new job.", failed)
        return None
    except SegmindJobExpiredError:
        if api.clock() - entry.at >= NOT_FOUND_GRACE:
            outcome = yield from recover_expired(api, request_id, submitted_at=entry.at)
            return None if outcome is None else Acquired(job, outcome)
    log.info("Request %s of an earlier try goes on: waiting for it.", request_id)
    return Acquired(job)


def collect(api: ApiContext, note: CheckpointStore, outcome: JobOutcome) -> Operation[JobOutcome]:
    """
    Return a wait's outcome with its result: as the wait has brought it, by its address, or asked for.

    What is no good any more, a job that FAILED or one that is lost, is forgotten: the next try is a new job.

    :raises SegmindError: what became of the job
    """
    request_id = outcome.request_id
    ask = outcome.status is OutcomeStatus.ERROR or (
        outcome.status is OutcomeStatus.COMPLETED and outcome.result is None and outcome.output_url is None
    )
    try:
        if ask:  # inline, signed, or a trigger that met an error, which it can only say in words
            result = yield from get_result(api, request_id)
            if result.status is not JobState.COMPLETED:
                raise SegmindServiceError(
                    f"The wait for request {request_id} broke off ({api.redact(outcome.error)}); the job still "
                    "runs, and a retry goes on with it.",
                    request_id=request_id,
                )
            return completed_outcome(api, result)
        raise_for_outcome(api, outcome)
    except SegmindJobFailedError:
        note.forget()
        raise
    except SegmindJobExpiredError:
        entry = note.read()
        recovered = yield from recover_expired(api, request_id, submitted_at=entry.at if entry else None)
        if recovered is None:
            note.forget()
            raise
        return replace(recovered, metrics=outcome.metrics) if outcome.metrics != Metrics() else recovered
    if outcome.result is not None:
        return outcome
    outputs = (SegmindOutput(url=outcome.output_url),)
    return replace(outcome, result=SegmindResult(request_id, JobState.COMPLETED, outputs, outcome.metrics))


def recover_expired(
    api: ApiContext, request_id: str, *, submitted_at: float | None = None
) -> Operation[JobOutcome | None]:
    """
    Look a job that the gateway has forgotten up in the history, where its file's address is kept for seven days.

    :param submitted_at: epoch seconds; a record may still land for a job as young as ``SETTLED``
    :return: COMPLETED, or ``None`` where there is nothing left to fetch (a failed job, no record, a file that is gone)
    :raises SegmindJobExpiredError: the history says that it is still pending, or may not list it yet; the next retry
        looks again
    """
    record: SegmindRecord | None = yield from get_record(api, request_id)
    if record is None and submitted_at is not None and api.clock() < submitted_at + LISTED_WITHIN:
        raise SegmindJobExpiredError(
            f"Segmind does not know request {request_id}, and its history may list it late: a retry looks again.",
            request_id=request_id,
        )
    if record is None:
        log.error("Request %s is lost: neither the gateway nor the request history knows it.", request_id)
        return None
    if record.state is JobState.FAILED:
        log.info("Request %s has failed and was not billed.", request_id)
        return None
    if record.state is None:
        raise SegmindJobExpiredError(
            f"Segmind has forgotten request {request_id}, and its history still says pending: a retry looks again.",
            request_id=request_id,
        )
    made_at = record.created_at or submitted_at
    if record.output_url is None or (yield from file_is_gone(api, record.output_url, made_at)):
        log.error("The result of request %s is lost: its file is gone (Segmind keeps files for 7 days).", request_id)
        return None
    log.info("Request %s has expired; its file is fetched by the address that the history kept.", request_id)
    return completed_outcome(api, record.as_result())
