"""
From a checkpoint to a job that is paid for once.

Segmind has no idempotency key, so a POST may be repeated only after proof that the one before queued nothing. Two
windows stay open for a crash. A process that dies after the POST was accepted and before its request id is written
leaves *submitting*: the request history finds the job. A process that dies between the write of *submitting* and the
POST leaves the same, and costs a search of the history that finds nothing.

Where several tasks share a ledger, another one judges a submit by the time in its *submitting*: until
``SUBMIT_ENDS_WITHIN`` after that the POST may still be accepted. A process that is stopped for longer between the two
(a suspended machine) is the window that stays open there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from airflow_provider_segmind.api.gateway import MAX_SUBMIT_WAIT, SUBMIT_SECONDS, backoff, check_rate_limit, submit
from airflow_provider_segmind.api.history import LISTED_WITHIN, find_request, payload_fingerprint
from airflow_provider_segmind.api.models import (
    JobOutcome,
    JobState,
    OnUnknownSubmit,
    SegmindJob,
    SegmindRecord,
    check_payload,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation, pause
from airflow_provider_segmind.api.parsing import job_failure
from airflow_provider_segmind.api.polling import (
    NOT_FOUND_GRACE,
    completed_outcome,
    get_result,
    get_status,
)
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindServiceError,
    SegmindSubmitPendingError,
    SegmindSubmitUnknownError,
)
from airflow_provider_segmind.jobs.checkpoint import Checkpoint, CheckpointStore
from airflow_provider_segmind.jobs.collect import recover_expired, refuse_other_account

MAX_SUBMITS = 3
"""Submits of unknown outcome in one try, each reconciled before the next, before the task fails instead."""

MAX_INTENT_SECONDS = 20.0
"""A write of *submitting* that took longer is written again with the present time before its POST is sent."""

SUBMIT_ENDS_WITHIN = MAX_INTENT_SECONDS + SUBMIT_SECONDS + 10.0
"""Seconds after the time in a *submitting* by which its POST has ended; ten of them are for clocks that differ."""

SEARCH_AGAIN_SECONDS = 20.0
"""After so long a submit of unknown outcome is looked for again, where the caller has other things to do meanwhile."""

LISTED_MARGIN = 5.0
"""Seconds after the moment at which an absence in the history counts; one search of it is then enough."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """
    A job that a task asks for.

    :param build_payload: returns what is posted; called only where a POST follows, before the checkpoint is written
    :param image_identity: of the image as it is now, ``None`` where it is not known
    :param image_size: width and height in pixels, ``None`` where they were not read
    :param deadline: epoch seconds after which nothing is submitted
    :param patience: seconds to wait for a slot in line with other submits of this process, before the rate limit counts
        as used up
    :param reconcile_later: where only the request history can tell what became of a submit, raise
        :class:`SegmindSubmitPendingError` until one search of it is enough, instead of searching for up to a minute
    """

    model: str
    input_digest: str
    build_payload: Callable[[], Mapping[str, object]]
    image_identity: str | None = None
    image_size: tuple[int | None, int | None] = (None, None)
    on_unknown_submit: OnUnknownSubmit = "reconcile"
    deadline: float = math.inf
    patience: float = MAX_SUBMIT_WAIT
    reconcile_later: bool = False

    def match(self, checkpoint: Checkpoint | None) -> Checkpoint | None:
        """Return a checkpoint that is about this very job; for another one log what has changed and return ``None``."""
        if checkpoint is None:
            return None
        same_inputs = checkpoint.model == self.model and checkpoint.input_digest == self.input_digest
        identities = (checkpoint.image_identity, self.image_identity)
        if same_inputs and (None in identities or identities[0] == identities[1]):
            return checkpoint
        log.warning(
            "%s since %s was submitted. A new job is submitted, and the earlier one is left alone.",
            "The image has been replaced" if same_inputs else "The task's inputs have changed",
            f"request {checkpoint.request_id}" if checkpoint.request_id else "an unanswered request",
        )
        return None


@dataclass(frozen=True, slots=True)
class AcquiredJob:
    """A job to go on with, and its checkpoint. ``outcome`` is set where the job has ended already."""

    job: SegmindJob
    checkpoint: Checkpoint
    outcome: JobOutcome | None = None


def acquire_job(
    api: ApiContext, checkpoints: CheckpointStore, submission: Submission, checkpoint: Checkpoint | None
) -> Operation[AcquiredJob]:
    """
    Return the job of the checkpoint while it has something to give, else a new one.

    :param checkpoint: what ``checkpoints`` holds, ``None`` where that is about another job
    :raises SegmindRateLimitError: nothing was sent; come back after ``reset_at``
    :raises SegmindSubmitUnknownError: a job may be queued and billed; the checkpoint stays
    :raises SegmindSubmitPendingError: a job may be queued, and what became of it is to be seen later
    :raises SegmindJobExpiredError: the gateway has forgotten the job and it is still pending in the history; the
        checkpoint stays
    :raises SegmindInputError: the job is unknown and the connection's account has changed; the checkpoint stays
    """
    if checkpoint is not None:
        if checkpoint.request_id is not None:
            found = yield from _resume_submitted(api, checkpoints, checkpoint, checkpoint.request_id)
        else:
            log.warning("An earlier try ended while it submitted; on_unknown_submit=%r.", submission.on_unknown_submit)
            if _may_be_put_off(api, submission, checkpoint):
                found = yield from _reconcile_now_or_later(api, checkpoints, submission, checkpoint)
            else:
                found = yield from _reconcile(api, checkpoints, checkpoint, submission.on_unknown_submit)
        if found is not None:
            return found
        if checkpoint.request_id is not None:
            checkpoints.forget()
            checkpoint = None
    return (yield from _submit_new(api, checkpoints, submission, checkpoint))


def _submit_new(
    api: ApiContext, checkpoints: CheckpointStore, submission: Submission, unresolved: Checkpoint | None
) -> Operation[AcquiredJob]:
    """
    Submit a job, writing *submitting* before each POST and the request id after it.

    :param unresolved: an earlier submit of unknown outcome. With ``on_unknown_submit="resubmit"`` it is put back where
        the new submit queues nothing: its job may still be billed
    """
    _check_deadline(api, submission)
    # Checked before the payload is built: it may be read, encoded and uploaded for that.
    check_rate_limit(api, min(submission.patience, submission.deadline - api.clock()))
    payload = check_payload(submission.build_payload())
    keep_unresolved = submission.on_unknown_submit == "resubmit"
    intent = Checkpoint(
        submission.model,
        submission.input_digest,
        api.clock(),
        api.account,
        payload_fingerprint(payload),
        None,
        submission.image_identity,
        *submission.image_size,
    )
    posted_at = [intent.submitted_at]

    def write_intent() -> None:
        """Give each POST its own time: the search of the history waits for rows that land after the last one."""
        while True:
            _check_deadline(api, submission)
            posted_at[0] = api.clock()
            checkpoints.write(replace(intent, submitted_at=posted_at[0]))
            if api.clock() - posted_at[0] <= MAX_INTENT_SECONDS:
                return  # A crash here leaves *submitting* although nothing was sent.

    for attempt in range(1, MAX_SUBMITS + 1):
        try:
            job = yield from submit(
                api,
                submission.model,
                payload,
                before=write_intent,
                until=submission.deadline,
                patience=submission.patience,
            )
        except SegmindSubmitUnknownError as unknown:
            log.warning("%s on_unknown_submit=%r.", unknown, submission.on_unknown_submit)
            if attempt == MAX_SUBMITS:
                raise
            unresolved = replace(intent, submitted_at=posted_at[0])
            if _may_be_put_off(api, submission, unresolved):
                raise _put_off(api, submission, unresolved) from unknown
            found = yield from _reconcile(api, checkpoints, unresolved, submission.on_unknown_submit, unknown)
            if found is not None:
                return found
            yield from pause(backoff(api, attempt))
        except SegmindError as error:
            if error.policy.not_queued and unresolved is not None and keep_unresolved:
                checkpoints.write(unresolved)
            elif error.policy.not_queued:
                checkpoints.forget()
            raise
        else:
            # A crash here leaves *submitting* although the job runs. The history finds it.
            job = replace(job, submitted_at=posted_at[0])
            submitted = replace(intent, submitted_at=job.submitted_at, request_id=job.request_id)
            _write_submitted(checkpoints, submitted)
            log.info("Segmind accepted request %s for %s.", job.request_id, submission.model)
            return AcquiredJob(job, submitted)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _check_deadline(api: ApiContext, submission: Submission) -> None:
    if api.clock() >= submission.deadline:
        raise SegmindServiceError(
            "Nothing was submitted within `timeout`. Raise `timeout`, or run fewer of these tasks at a time (a pool)."
        )


def _absence_counts_at(unanswered: Checkpoint) -> float:
    """Return the epoch seconds from which one search of the history can tell that a submit was not accepted."""
    return unanswered.submitted_at + SUBMIT_ENDS_WITHIN + LISTED_WITHIN + LISTED_MARGIN


def _may_be_put_off(api: ApiContext, submission: Submission, unanswered: Checkpoint) -> bool:
    """Whether a search of the history may have to be repeated, and the caller has other things to do meanwhile."""
    is_early = api.clock() < _absence_counts_at(unanswered)
    return submission.reconcile_later and submission.on_unknown_submit == "reconcile" and is_early


def _put_off(api: ApiContext, submission: Submission, unanswered: Checkpoint) -> SegmindSubmitPendingError:
    until = _absence_counts_at(unanswered)
    return SegmindSubmitPendingError(
        f"The outcome of a submit to {submission.model} is unknown. The request history is searched again, for another "
        f"{until - api.clock():.0f} s.",
        until=until,
        look_at=min(api.clock() + SEARCH_AGAIN_SECONDS, until),
    )


def _reconcile_now_or_later(
    api: ApiContext, checkpoints: CheckpointStore, submission: Submission, unanswered: Checkpoint
) -> Operation[AcquiredJob | None]:
    """Search the history once, where a row that is there decides and one that is not does not yet."""
    try:
        record = yield from find_request(
            api, unanswered.model, unanswered.payload_fingerprint, since=unanswered.submitted_at, once=True
        )
    except SegmindSubmitUnknownError as unknown:
        raise _put_off(api, submission, unanswered) from unknown
    if record is None:
        raise _put_off(api, submission, unanswered)
    return (yield from _adopt(api, checkpoints, unanswered, record))


def _write_submitted(checkpoints: CheckpointStore, submitted: Checkpoint) -> None:
    """Write a request id. The job is paid for: where the write fails it goes on, and a later try reconciles it."""
    try:
        checkpoints.write(submitted)
    except Exception:
        log.exception("The checkpoint of request %s could not be written. The task goes on.", submitted.request_id)


def _reconcile(
    api: ApiContext,
    checkpoints: CheckpointStore,
    checkpoint: Checkpoint,
    on_unknown_submit: OnUnknownSubmit,
    unknown: SegmindSubmitUnknownError | None = None,
) -> Operation[AcquiredJob | None]:
    """
    Find the job of a submit whose outcome is unknown; ``None`` means that it may be submitted again.

    :param unknown: how the submit failed in this process, ``None`` where an earlier process died
    """
    if on_unknown_submit == "resubmit":
        return None
    if on_unknown_submit == "fail":
        raise SegmindSubmitUnknownError(
            f"A submit to {checkpoint.model} has an unknown outcome: its job may run and be billed. Look for it in "
            "Segmind's request history. Then clear the task with on_unknown_submit='reconcile' to adopt it, or with "
            "'resubmit' to pay again."
        ) from unknown
    record = yield from find_request(
        api,
        checkpoint.model,
        checkpoint.payload_fingerprint,
        since=checkpoint.submitted_at,
        until=api.clock() if unknown is not None else checkpoints.submit_ended_by(checkpoint),
    )
    if record is None:
        refuse_other_account(api, checkpoints, checkpoint, "an unanswered request")
        log.info("The request history does not list the request: nothing was queued.")
        return None
    return (yield from _adopt(api, checkpoints, checkpoint, record))


def _adopt(
    api: ApiContext, checkpoints: CheckpointStore, checkpoint: Checkpoint, record: SegmindRecord
) -> Operation[AcquiredJob | None]:
    """Go on with the request that the history lists; ``None`` means that its job has nothing to give."""
    log.warning("The request history lists it as request %s: adopted, nothing is paid again.", record.request_id)
    # A row without a time zone can seem to be of the future.
    made_at = min(record.created_at or checkpoint.submitted_at, api.clock())
    adopted = replace(checkpoint, submitted_at=made_at, request_id=record.request_id, account=api.account)
    _write_submitted(checkpoints, adopted)
    found = yield from _resume_submitted(api, checkpoints, adopted, record.request_id)
    if found is None:
        checkpoints.forget()
    return found


def _resume_submitted(
    api: ApiContext, checkpoints: CheckpointStore, checkpoint: Checkpoint, request_id: str
) -> Operation[AcquiredJob | None]:
    """Ask what became of a submitted job; ``None`` means that it has nothing to give (it failed, or is lost)."""
    job = SegmindJob(request_id, checkpoint.model, checkpoint.submitted_at)
    try:
        status = yield from get_status(api, request_id)
        if status.state is JobState.COMPLETED:
            log.info("Request %s of an earlier try has completed. Its result is fetched.", request_id)
            result = yield from get_result(api, request_id)
            if result.status is JobState.COMPLETED:
                return AcquiredJob(job, checkpoint, completed_outcome(api, result))
        elif status.state is JobState.FAILED:
            raise job_failure(api, request_id, status.error)
    except SegmindJobFailedError as failed:
        log.info("%s A new job is submitted.", failed)
        return None
    except SegmindJobExpiredError:
        if api.clock() - checkpoint.submitted_at >= NOT_FOUND_GRACE:
            outcome = yield from recover_expired(api, checkpoints, request_id, checkpoint)
            return None if outcome is None else AcquiredJob(job, checkpoint, outcome)
    log.info("Request %s of an earlier try is still running. The task waits for it.", request_id)
    return AcquiredJob(job, checkpoint)
