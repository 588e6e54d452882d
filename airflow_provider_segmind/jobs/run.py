"""
One job from its description to its stored result, in the parts that a worker runs: *submit* and *store*.

Between the two a job is waited for, on the triggerer or here. A part that has to wait on the triggerer returns what to
wait for, so nothing in here knows Airflow, and one image's work can be called without a task instance.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_segmind.api.gateway import MAX_SUBMIT_WAIT, upload
from airflow_provider_segmind.api.models import JobOutcome, SegmindJob
from airflow_provider_segmind.api.operation import pause
from airflow_provider_segmind.api.polling import watch
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindInputError,
    SegmindJobTimeoutError,
    SegmindRateLimitError,
    SegmindStorageError,
    SegmindSubmitPendingError,
)
from airflow_provider_segmind.files.s3_client import read_connections_once
from airflow_provider_segmind.files.source import ImageFacts, data_uri
from airflow_provider_segmind.jobs.acquire import AcquiredJob, Submission, acquire_job
from airflow_provider_segmind.jobs.checkpoint import (
    SUBMIT_AGAIN,
    Checkpoint,
    CheckpointStore,
    ResumeEvent,
    input_digest,
)
from airflow_provider_segmind.jobs.collect import collect
from airflow_provider_segmind.jobs.delivery import Delivery, Facts, JobDescription, OperationRunner, content_digest

MAX_STORE_ATTEMPTS = 10
STORE_RETRY_SECONDS = 30.0
"""Where no checkpoint lasts, storing a result is tried this often: first after these seconds, then after twice as many
each time, over about an hour in all."""

PRESIGNED_MARGIN = 3600.0
"""Seconds past the deadline for which a presigned source stays valid: Segmind reads it when the job runs."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WaitForJob:
    """The job is submitted: wait for its end."""

    job: SegmindJob
    deadline: float
    checkpoint: Checkpoint


@dataclass(frozen=True)
class WaitUntil:
    """
    Wait until a moment, then go on with an event.

    :param moment: epoch seconds
    :param deadline: epoch seconds by which a submit must have succeeded; ``None`` where the result is to be stored
    :param for_slot: whether the submit waits for the rate limit, and so for a slot after that moment
    """

    moment: float
    event: ResumeEvent
    deadline: float | None = None
    for_slot: bool = True


Wait = WaitForJob | WaitUntil


class JobRun:
    """
    One worker process's part of a job.

    :param on_submitted: called with the job as soon as it is known
    :param event: what the process was resumed with, ``None`` at the start of a try
    """

    def __init__(
        self,
        description: JobDescription,
        runner: OperationRunner,
        checkpoints: CheckpointStore,
        on_submitted: Callable[[SegmindJob], None],
        event: ResumeEvent | None = None,
    ) -> None:
        self.description = description
        self.runner = runner
        self.checkpoints = checkpoints
        self.delivery = Delivery(description, runner)
        self.on_submitted = on_submitted
        self.event = event or ResumeEvent(SUBMIT_AGAIN)
        self.uploaded_url = self.event.uploaded_url
        self.skipped = False  # whether the result was there already
        checkpoints.remember(self.event.checkpoint)

    # ------------------------------------------------------------------ submit

    @read_connections_once()
    def submit(self) -> Facts | Wait:
        """
        Get a job for the inputs, the one that an earlier try has paid for or a new one.

        :return: the facts where the result is stored already, else what to wait for
        """
        description = self.description
        deadline = self.event.deadline or time.time() + description.timeout
        facts, unreadable = self._inspect()
        submission = self._submission(facts, unreadable, deadline)
        self.checkpoints.about(submission.input_digest, None if unreadable else facts.identity, self.runner.api.account)
        if self.delivery.is_listed and (facts_of_stored := self._skip(submission)) is not None:
            return facts_of_stored
        waits = self.event.submit_waits
        while True:
            try:
                checkpoint = submission.match(self.checkpoints.read())
                if checkpoint is None and unreadable is not None:
                    raise unreadable
                if checkpoint is None and self.checkpoints.delivered_before:
                    self.delivery.forget_listing()
                if checkpoint is None and (facts_of_stored := self._skip(submission)) is not None:
                    return facts_of_stored
                operation = acquire_job(self.runner.api, self.checkpoints, submission, checkpoint)
                acquired = self.runner.run_operation(operation)
                break
            except SegmindSubmitPendingError as pending:
                if pending.look_at >= deadline and not description.reconcile_later:
                    raise
                log.info("%s Looking again in %.0f s.", pending, pending.look_at - time.time())
                moment, for_slot = pending.look_at, False
            except SegmindRateLimitError as limited:
                # Where the reset that Segmind names proves too early time and again, the waits grow all the same.
                moment = max(limited.reset_at, time.time() + min(2.0**waits, 60.0) if waits else 0.0)
                waits += 1
                if moment >= deadline:
                    raise self._no_slot(limited, submission.match(self.checkpoints.read())) from limited
                log.info("%s Waiting for a slot.", limited)
                for_slot = True
            if not description.wait_here:
                event = ResumeEvent(
                    SUBMIT_AGAIN,
                    deadline=deadline,
                    submit_waits=waits,
                    uploaded_url=self.uploaded_url,
                    checkpoint=None if self.checkpoints.durable else submission.match(self.checkpoints.read()),
                )
                return WaitUntil(moment, event, deadline, for_slot)
            self.runner.run_operation(pause(moment - time.time() + 0.01))
        self.on_submitted(acquired.job)
        if acquired.outcome is not None:
            return self.store(acquired.outcome, acquired.checkpoint)
        if not description.wait_here:
            return WaitForJob(acquired.job, deadline, acquired.checkpoint)
        return self.store(self._wait_for_end(acquired, deadline), acquired.checkpoint)

    def _skip(self, submission: Submission) -> Facts | None:
        """Return the facts of a result that is there already, ``None`` if there is none or it is to be replaced."""
        stored = self.delivery.already_made(submission)
        if stored is None:
            return None
        self.skipped = True
        return self.delivery.facts_of_stored(stored, submission)

    def _inspect(self) -> tuple[ImageFacts, SegmindError | None]:
        """
        Look at the image as it is now, and return the error where it cannot be read.

        That does not stop a job that is paid for: the image may have been moved away since.
        """
        try:
            return self.description.inspect(), None
        except (SegmindInputError, SegmindStorageError) as error:
            return ImageFacts("", None, None), error

    def _submission(self, facts: ImageFacts, unreadable: SegmindError | None, deadline: float) -> Submission:
        """Describe the job to submit."""
        description = self.description
        digest = input_digest(description.model, description.inputs)

        def build_payload() -> Mapping[str, Any]:
            if unreadable is not None:
                raise unreadable
            self.delivery.check(content_digest(digest, facts.identity))
            valid_for = deadline - time.time() + PRESIGNED_MARGIN
            return description.build_payload(self._upload, self.runner.run_operation, valid_for, facts)

        return Submission(
            description.model,
            digest,
            build_payload,
            facts.identity or None,
            (facts.width, facts.height),
            description.on_unknown_submit,
            deadline,
            # Where the worker waits it keeps its place in line: coming back later, it would find the slot taken. So it
            # would after a wait on the triggerer where both are one process (`airflow dags test`), as the wait itself
            # took the slot. In a worker process of its own, nothing has taken a slot before.
            patience=math.inf
            if description.wait_here or self.event.submit_waits
            else description.patience or MAX_SUBMIT_WAIT,
            reconcile_later=description.reconcile_later,
        )

    def _upload(self, image: bytes) -> str:
        """Upload once, however often the submit waits for a slot: files in Segmind's storage cannot be deleted."""
        if self.uploaded_url is None:
            self.uploaded_url = self.runner.run_operation(upload(self.runner.api, data_uri(image)))
        return self.uploaded_url

    def _no_slot(self, limited: SegmindRateLimitError, checkpoint: Checkpoint | None) -> SegmindError:
        """Return the error of a deadline that comes before the next slot."""
        timeout = self.description.timeout
        if checkpoint is not None and checkpoint.request_id is not None:
            return SegmindJobTimeoutError(
                f"The rate limit left no slot within timeout={timeout:g} s to ask about request "
                f"{checkpoint.request_id}: {limited} The job is paid for, and a retry goes on with it.",
                request_id=checkpoint.request_id,
            )
        return SegmindRateLimitError(
            f"Nothing was submitted within timeout={timeout:g} s, since the rate limit left no slot: {limited} Raise "
            "`timeout`, or run fewer of these tasks at a time (a pool).",
            reset_at=limited.reset_at,
        )

    def _wait_for_end(self, acquired: AcquiredJob, deadline: float) -> JobOutcome:
        """Wait for a job in this process. Chaos seam: checkpoint_to_wait, while_waiting."""
        job = acquired.job
        return self.runner.run_operation(
            watch(
                self.runner.api,
                job.request_id,
                job.model,
                submitted_at=job.submitted_at,
                deadline=deadline,
                poll_interval=self.description.poll_interval,
            )
        )

    # ------------------------------------------------------------------ store

    @read_connections_once()
    def store(self, outcome: JobOutcome, checkpoint: Checkpoint | None) -> Facts | Wait:
        """Store what a job gave, or raise what became of it. The checkpoint stays until the result is stored."""
        if checkpoint is None and (kept := self.checkpoints.read()) and kept.request_id == outcome.request_id:
            checkpoint = kept
        attempts = self.event.store_attempts
        while True:
            try:
                outcome = self.runner.run_operation(collect(self.runner.api, self.checkpoints, outcome, checkpoint))
                facts = self.delivery.deliver(outcome, checkpoint)
                break
            except SegmindError as error:
                # A retry with a durable checkpoint pays nothing. Without one it would pay again, so this waits.
                known = None if self.checkpoints.durable else self.checkpoints.read()
                if known is None or not error.policy.may_recover or attempts == MAX_STORE_ATTEMPTS:
                    raise
                moment = time.time() + min(STORE_RETRY_SECONDS * 2**attempts, 600.0)
                attempts += 1
                log.warning("%s Trying again later (%d of %d).", error, attempts, MAX_STORE_ATTEMPTS)
                if not self.description.wait_here:
                    return WaitUntil(moment, ResumeEvent.of(outcome, known, attempts))
                self.runner.run_operation(pause(moment - time.time()))
        self.checkpoints.mark_delivered(checkpoint)
        return facts
