"""From the end of a wait to the job's result: as the wait has brought it, asked for again, or from the history."""

from __future__ import annotations

import logging
from dataclasses import replace

from airflow_provider_segmind.api.download import file_is_gone
from airflow_provider_segmind.api.history import LISTED_WITHIN, get_record
from airflow_provider_segmind.api.models import (
    JobOutcome,
    JobState,
    Metrics,
    OutcomeStatus,
    SegmindOutput,
    SegmindResult,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation
from airflow_provider_segmind.api.polling import completed_outcome, get_result, raise_for_outcome
from airflow_provider_segmind.exceptions import (
    SegmindInputError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindServiceError,
)
from airflow_provider_segmind.jobs.checkpoint import Checkpoint, CheckpointStore

log = logging.getLogger(__name__)


def refuse_other_account(api: ApiContext, checkpoints: CheckpointStore, checkpoint: Checkpoint, what: str) -> None:
    """Refuse to call a job lost that nobody knows here: it may be known to the account that paid for it."""
    if checkpoint.account != api.account:
        raise SegmindInputError(
            f"{what[0].upper()}{what[1:]} was submitted with another API key or base URL than the connection has now, "
            "and the present account does not know it. Point the connection back to the account that paid and clear "
            f"the task. To pay for a new job instead, {checkpoints.how_to_forget}.",
            request_id=checkpoint.request_id,
        )


def collect(
    api: ApiContext, checkpoints: CheckpointStore, outcome: JobOutcome, checkpoint: Checkpoint | None
) -> Operation[JobOutcome]:
    """
    Return the outcome of a wait with its result: as the wait has brought it, by its address, or asked for again.

    The checkpoint of a job that FAILED or is lost is forgotten, so that the next try submits a new one.
    """
    request_id = outcome.request_id
    has_result = outcome.result is not None or bool(outcome.output_urls)
    try:
        if outcome.status is OutcomeStatus.ERROR or (outcome.status is OutcomeStatus.COMPLETED and not has_result):
            # The result is inline or signed, or the trigger met an error that it can only put into words.
            return (yield from _ask_for_result(api, outcome))
        raise_for_outcome(api, outcome)
    except SegmindJobFailedError:
        checkpoints.forget()
        raise
    except SegmindJobExpiredError:
        recovered = yield from recover_expired(api, checkpoints, request_id, checkpoint)
        if recovered is None:
            checkpoints.forget()
            raise
        return replace(recovered, metrics=outcome.metrics) if outcome.metrics != Metrics() else recovered
    if outcome.result is not None:
        return outcome
    outputs = tuple(SegmindOutput(url=url) for url in outcome.output_urls)
    return replace(outcome, result=SegmindResult(request_id, JobState.COMPLETED, outputs, outcome.metrics))


def _ask_for_result(api: ApiContext, outcome: JobOutcome) -> Operation[JobOutcome]:
    result = yield from get_result(api, outcome.request_id)
    if result.status is JobState.COMPLETED:
        return completed_outcome(api, result)
    raise SegmindServiceError(
        f"The wait for request {outcome.request_id} ended early ({api.redact(outcome.error)}). The job is still "
        "running, and a retry goes on with it.",
        request_id=outcome.request_id,
    )


def recover_expired(
    api: ApiContext, checkpoints: CheckpointStore, request_id: str, checkpoint: Checkpoint | None
) -> Operation[JobOutcome | None]:
    """
    Look up a job that the gateway has forgotten in the request history, which keeps its file's address for seven days.

    Without the job's checkpoint the time of its submit is not known, and a job without a record is not called lost.

    :return: COMPLETED, or ``None`` where there is nothing to fetch (a failed job, no record, a file that is gone)
    """
    record = yield from get_record(api, request_id)
    if record is None:
        if checkpoint is not None:
            refuse_other_account(api, checkpoints, checkpoint, f"request {request_id}")
        if checkpoint is None or api.clock() < checkpoint.submitted_at + LISTED_WITHIN:
            raise SegmindJobExpiredError(
                f"Segmind does not know request {request_id}, and its history may list it late. A retry looks again.",
                request_id=request_id,
            )
        log.error("Request %s is lost: neither the gateway nor the request history knows it.", request_id)
        return None
    if record.state is JobState.FAILED:
        log.info("Request %s failed and was not billed.", request_id)
        return None
    if record.state is None:
        raise SegmindJobExpiredError(
            f"Segmind has forgotten request {request_id}, and its history still says pending. A retry looks again.",
            request_id=request_id,
        )
    made_at = record.created_at or (checkpoint.submitted_at if checkpoint else None)
    if record.output_url is None or (yield from file_is_gone(api, record.output_url, made_at)):
        log.error("The result of request %s is lost: its file is gone (Segmind keeps files for 7 days).", request_id)
        return None
    log.info("The record of request %s has expired. Its file is fetched by the address in the history.", request_id)
    return completed_outcome(api, record.as_result())
