"""
One input of a batch: its submit and its store, and what an error says about it.

Both are the same as for a single image (:mod:`~airflow_provider_segmind.jobs.run`). What differs is what follows from
the outcome: a single task fails where a batch writes a row and goes on with the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_segmind.api.models import JobOutcome, Metrics, OutcomeStatus, SegmindRecord
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindCheckpointError,
    SegmindCreditsError,
    SegmindError,
    SegmindMissingFileError,
    SegmindModelNotFoundError,
    SegmindModerationError,
    SegmindRateLimitError,
    SegmindServiceError,
    SegmindSubmitPendingError,
    SegmindSubmitUnknownError,
)
from airflow_provider_segmind.jobs.batch_plan import BatchItem
from airflow_provider_segmind.jobs.batch_state import InFlight
from airflow_provider_segmind.jobs.checkpoint import Checkpoint
from airflow_provider_segmind.jobs.delivery import Facts, JobDescription, OperationRunner
from airflow_provider_segmind.jobs.journal import Row, RowStatus
from airflow_provider_segmind.jobs.ledger import Ledger, LedgerCheckpoints
from airflow_provider_segmind.jobs.run import JobRun, WaitForJob, WaitUntil

MAX_STORE_ATTEMPTS = 3
"""How many parts of a try store a result in vain before its row says so. The result stays paid for in the ledger."""

log = logging.getLogger(__name__)

FATAL = (SegmindAuthError, SegmindCreditsError, SegmindModelNotFoundError)
"""Refusals that meet every other input too. Nothing more is submitted, and what is in flight is collected."""


@dataclass(frozen=True, slots=True)
class NoSlot:
    """The rate limit left no slot for the submit before ``moment`` (epoch seconds)."""

    moment: float


@dataclass(frozen=True, slots=True)
class Postponed:
    """Another task is submitting this image, or the outcome of its submit is not known before ``moment``."""

    moment: float


@dataclass(frozen=True, slots=True)
class Outage:
    """Segmind could not be reached. Nothing was queued."""

    error: SegmindError


SubmitOutcome = Row | InFlight | NoSlot | Postponed | Outage
Describe = Callable[[BatchItem, Collection[str] | None], JobDescription]


@dataclass(frozen=True, slots=True)
class ItemWorker:
    """
    Works on single inputs, in any thread of a worker part.

    :param describe: returns the job of an input, with what is known of the results that are there
    :param existing: the names of these results, ``None``: ask for each
    :param consumer: what the ledger knows the task by
    :param max_tries: Airflow's, of the task
    :param retries_since: when the run began (epoch seconds), in its retries: a result that it has stored since then is
        completed and not skipped, and counts with its cost. ``None``: in the first try
    """

    describe: Describe
    runner: OperationRunner
    ledger: Ledger
    consumer: str
    max_tries: int | None
    existing: Collection[str] | None = None
    retries_since: float | None = None

    def submit(self, item: BatchItem) -> SubmitOutcome:
        """
        Get a job for the input: its result may be there, its job may be paid for, or a new one is submitted.

        :raises SegmindCheckpointError: its ledger entry cannot be read
        :raises SegmindAuthError: one of ``FATAL``
        """
        if item.problem is not None:
            return Row(item.key, item.label, RowStatus.FAILED, error=item.problem)
        checkpoints = self._checkpoints()
        try:
            run = self._run(item, checkpoints)
            result = run.submit()
            is_skipped = run.skipped
            if is_skipped and isinstance(result, dict) and self.retries_since is not None:
                is_skipped = not checkpoints.settle_stored(result["request_id"], self.retries_since)
        except SegmindCheckpointError:
            raise
        except FATAL:
            raise
        except SegmindServiceError as outage:
            return Outage(outage)
        except SegmindError as error:
            return row_of_error(item, error)
        if isinstance(result, WaitForJob):
            job, checkpoint = result.job, result.checkpoint
            return InFlight(
                item.key,
                job.request_id,
                job.submitted_at,
                result.deadline,
                checkpoint.input_digest,
                checkpoint.image_identity,
            )
        if isinstance(result, WaitUntil):
            return NoSlot(result.moment) if result.for_slot else Postponed(result.moment)
        return row_of_facts(item, result, RowStatus.SKIPPED if is_skipped else RowStatus.COMPLETED)

    def store(self, item: BatchItem, job: InFlight, record: SegmindRecord | None) -> Row | InFlight:
        """
        Fetch and store the result of a job that has ended; return the job where a later part has to do it.

        :param record: what the request history says of the job, if it was asked
        """
        urls = record.output_urls if record is not None else ()
        cost = Metrics(cost=record.cost) if record is not None else Metrics()
        checkpoints = self._checkpoints()
        run = self._run(item, checkpoints)
        checkpoints.about(job.input_digest, job.image_identity or "", self.runner.api.account)
        try:
            checkpoint = _checkpoint_of(job, checkpoints.read())
            try:
                result = run.store(JobOutcome(job.request_id, OutcomeStatus.COMPLETED, None, cost, urls), checkpoint)
            except SegmindError as error:
                if not urls or not error.policy.may_recover:
                    raise
                # The history may name a wrong file. The gateway's own answer counts.
                log.warning("%s The result is asked for again.", error)
                result = run.store(JobOutcome(job.request_id, OutcomeStatus.COMPLETED), checkpoint)
        except SegmindCheckpointError:
            raise
        except (SegmindRateLimitError, SegmindSubmitPendingError):
            return job
        except SegmindError as error:
            job.store_attempts += 1
            if error.policy.may_recover and job.store_attempts < MAX_STORE_ATTEMPTS:
                log.warning("Request %s: %s It is tried again later.", job.request_id, error)
                return job
            return row_of_error(item, error, job.request_id)
        assert isinstance(result, Mapping), "a ledger is durable, so storing waits for nothing"  # noqa: S101
        return row_of_facts(item, result, RowStatus.COMPLETED)

    def timed_out(self, item: BatchItem, job: InFlight) -> Row:
        """Return the row of a job that has not ended in time. Its ledger entry stays."""
        seconds = time.time() - job.submitted_at
        error = (
            f"Segmind's job {job.request_id} has not ended within {seconds:.0f} s. It still runs and will be billed; a "
            "retry waits for the same job, and `timeout` sets how long."
        )
        return Row(item.key, item.label, RowStatus.FAILED, request_id=job.request_id, error=error)

    def _checkpoints(self) -> LedgerCheckpoints:
        return self.ledger.checkpoints(consumer=self.consumer, max_tries=self.max_tries)

    def _run(self, item: BatchItem, checkpoints: LedgerCheckpoints) -> JobRun:
        description = self.describe(item, self.existing)
        return JobRun(description, self.runner, checkpoints, lambda job: None)  # noqa: ARG005


def _checkpoint_of(job: InFlight, known: Checkpoint | None) -> Checkpoint | None:
    """
    Return what the ledger knows of a job in flight, ``None`` where its entry is about another job by now.

    An entry without a request id is about this job's submit, if it was made then: the write of the id has failed.
    """
    if known is not None and known.request_id is None and known.submitted_at == job.submitted_at:
        return replace(known, request_id=job.request_id)
    return known if known is not None and known.request_id == job.request_id else None


def row_of_facts(item: BatchItem, facts: Facts | Mapping[str, Any], status: RowStatus) -> Row:
    """Return the row of a stored result."""
    metrics = facts["metrics"]
    return Row(
        item.key,
        item.label,
        status,
        facts["uri"],
        facts["request_id"],
        metrics.get("cost") if status is RowStatus.COMPLETED else None,
        metrics.get("total_time"),
    )


def row_of_error(item: BatchItem, error: SegmindError, request_id: str | None = None) -> Row:
    """Return the row of an input that failed."""
    status = RowStatus.FAILED
    if isinstance(error, SegmindModerationError):
        status = RowStatus.BLOCKED
    elif isinstance(error, SegmindMissingFileError):
        status = RowStatus.MISSING
    elif isinstance(error, SegmindSubmitUnknownError):
        log.warning("%s: %s", item.label, error)
    return Row(item.key, item.label, status, request_id=error.request_id or request_id, error=str(error))
