"""
The two worker legs of every Segmind operator.

Leg 1 gets a job that is paid for once, and defers to the wait for it; leg 2 stores its result.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_segmind.api.flow import pause
from airflow_provider_segmind.api.jobs import raise_for_outcome
from airflow_provider_segmind.api.media import extension_of
from airflow_provider_segmind.api.redaction import public_link
from airflow_provider_segmind.api.submission import acquire_job, completed_outcome, digest_of, recover_expired
from airflow_provider_segmind.api.values import (
    JobOutcome,
    JobState,
    OutcomeStatus,
    SegmindJob,
    SegmindOutput,
    SegmindResult,
)
from airflow_provider_segmind.exceptions import (
    SegmindInputError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindJobTimeoutError,
    SegmindOutputError,
    SegmindRateLimitError,
    SegmindServiceError,
    SegmindStorageError,
)
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.operators.note import TaskNote
from airflow_provider_segmind.storage.destinations import check_destination, parse_destination, store
from airflow_provider_segmind.triggers.events import TURN, read_event
from airflow_provider_segmind.triggers.segmind import SegmindJobTrigger, SegmindPauseTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segmind.operators.job import SegmindJobOperator

BACKSTOP = timedelta(hours=1)
"""Airflow's own deferral timeout comes this long after our deadline, which the trigger keeps: it is for the case that
no triggerer runs at all."""

LATER = (
    SegmindInputError,  # a bucket that is not there any more can be made
    SegmindOutputError,
    SegmindRateLimitError,
    SegmindServiceError,
    SegmindStorageError,
)
"""What of leg 2 time or its user may mend."""

MAX_DEFERRED_STORES = 10
DEFERRED_STORE_SECONDS = 30.0
"""Where no note lasts, leg 2 is tried so often, first after these seconds and then ever later, over an hour in all."""


def begin(operator: SegmindJobOperator, context: Context) -> dict[str, Any]:
    """Run leg 1 from its start."""
    with closing(SegmindHook(operator.segmind_conn_id)) as hook:
        return _Legs(operator, context, hook).begin(time.time() + operator.timeout)


def resume(operator: SegmindJobOperator, context: Context, event: object) -> dict[str, Any]:
    """Go on after a deferral: with leg 2, or with leg 1 where the rate limit had no room for the submit."""
    with closing(SegmindHook(operator.segmind_conn_id)) as hook:
        legs = _Legs(operator, context, hook)
        if isinstance(event, Mapping) and event.get("status") == TURN:
            return legs.begin(float(event.get("deadline") or time.time() + operator.timeout))
        return legs.finish_or_defer(read_event(event), cast("Mapping[str, Any]", event))


class _Legs:
    def __init__(self, operator: SegmindJobOperator, context: Context, hook: SegmindHook) -> None:
        self.operator = operator
        self.context = context
        self.hook = hook
        self.note = TaskNote.of(context)
        self.log = operator.log

    # ------------------------------------------------------------------ leg 1

    def begin(self, deadline: float) -> dict[str, Any]:
        operator, hook = self.operator, self.hook
        model = operator.job_model()
        digest = digest_of(model, operator.job_inputs())
        destination = None if operator.destination is None else parse_destination(operator.destination)

        def payload() -> Mapping[str, Any]:
            if destination is not None:
                check_destination(destination, aws_conn_id=operator.aws_conn_id)  # before anything is paid for
            return operator.job_payload(hook, deadline - time.time() + BACKSTOP.total_seconds())

        while True:
            try:
                acquired = hook.run_flow(
                    acquire_job(
                        hook.service,
                        self.note,
                        model,
                        digest,
                        payload,
                        on_unknown_submit=operator.on_unknown_submit,
                    )
                )
                break
            except SegmindRateLimitError as limited:
                self._wait_at_gate(limited, deadline)
        self.context["ti"].xcom_push(key="request_id", value=acquired.job.request_id)
        if acquired.outcome is not None:
            return self.finish(acquired.outcome)
        if operator.deferrable:
            self._defer_to(acquired.job, deadline)
        return self.finish(hook.watch(acquired.job, deadline=deadline, poll_interval=operator.poll_interval))

    def _wait_at_gate(self, limited: SegmindRateLimitError, deadline: float) -> None:
        """Wait until the rate limit leaves room for a submit: on the triggerer, or here where that is asked for."""
        operator = self.operator
        if limited.reset_at >= deadline:
            raise SegmindJobTimeoutError(
                f"Nothing was submitted within timeout={operator.timeout:g} s, for want of room in the rate limit: "
                f"{limited} Raise `timeout`, or run fewer of these tasks at a time (a pool)."
            ) from limited
        self.log.info("%s Waiting for a turn.", limited)
        if operator.deferrable:
            event = {"status": TURN, "deadline": deadline}
            operator.defer(
                trigger=SegmindPauseTrigger(limited.reset_at, event, operator.segmind_conn_id, deadline),
                method_name="execute_complete",
                timeout=_until(deadline) + BACKSTOP,
            )
        limiter = self.hook.service.limiter
        self.hook.run_flow(pause(min(limiter.next_free(time.time()), deadline) - time.time() + 0.01))

    def _defer_to(self, job: SegmindJob, deadline: float) -> NoReturn:
        operator = self.operator
        operator.defer(
            trigger=SegmindJobTrigger(
                job.request_id, job.model, operator.segmind_conn_id, job.submitted_at, deadline, operator.poll_interval
            ),
            method_name="execute_complete",
            # Without a lasting note a timeout of Airflow's would end in a retry that pays again: then there is none.
            timeout=_until(deadline) + BACKSTOP if self.note.lasts else None,
        )
        raise AssertionError("defer() raises")

    # ------------------------------------------------------------------ leg 2

    def finish_or_defer(self, outcome: JobOutcome, event: Mapping[str, Any]) -> dict[str, Any]:
        """Finish; where no note lasts, a failure that time may mend waits here instead of paying again in a retry."""
        try:
            return self.finish(outcome)
        except LATER as error:
            if self.note.lasts:
                raise  # the retry finds the note, and pays nothing
            deferrals = int(event.get("deferrals") or 0) + 1
            if deferrals > MAX_DEFERRED_STORES:
                raise AirflowFailException(
                    f"{error} Given up after {MAX_DEFERRED_STORES} tries. Request {outcome.request_id} is paid for "
                    "and its file stays at Segmind for 7 days. A retry would pay again, so there is none."
                ) from error
            self.log.warning("%s Trying again later (%d of %d).", error, deferrals, MAX_DEFERRED_STORES)
            self.operator.defer(
                trigger=SegmindPauseTrigger(
                    time.time() + min(DEFERRED_STORE_SECONDS * 2 ** (deferrals - 1), 600.0),
                    {**outcome.as_event(), "deferrals": deferrals},
                ),
                method_name="execute_complete",
            )
            raise AssertionError("defer() raises") from error

    def finish(self, outcome: JobOutcome) -> dict[str, Any]:
        """Store what a job gave, or raise what became of it."""
        if outcome.status is OutcomeStatus.ERROR:
            outcome = self._ask_again(outcome)
        if outcome.status is OutcomeStatus.EXPIRED:
            outcome = self.hook.run_flow(recover_expired(self.hook.service, outcome.request_id)) or outcome
        try:
            raise_for_outcome(self.hook.service, outcome)
        except SegmindJobFailedError:
            self.note.forget()  # it cost nothing: the next try is a new job
            raise
        except SegmindJobTimeoutError as timeout:
            if self.note.lasts:
                raise
            raise AirflowFailException(
                f"{timeout} Without a task state store (Airflow 3.3+) a retry would pay again, so there is none."
            ) from timeout
        facts = self._store(outcome)
        self.note.finish()  # a crash before this, or after it, fetches the same result again and pays nothing
        return facts

    def _ask_again(self, outcome: JobOutcome) -> JobOutcome:
        """A trigger that met an error says so in words only: ask here, for the exception that says what to do."""
        self.log.warning("The trigger could not go on: %s", outcome.error)
        result = self.hook.get_result(outcome.request_id)
        if result.status is not JobState.COMPLETED:
            raise SegmindServiceError(
                f"The wait for request {outcome.request_id} broke off ({outcome.error}); the job still runs, and a "
                "retry goes on with it.",
                request_id=outcome.request_id,
            )
        return completed_outcome(result)

    def _store(self, outcome: JobOutcome) -> dict[str, Any]:
        operator = self.operator
        model, source = operator.job_model(), operator.job_source()
        result = self._result(outcome)
        facts: dict[str, Any] = {
            "request_id": outcome.request_id,
            "model": model,
            "status": outcome.status.value,
            **({"image": source.label} if source else {}),
            "output_url": public_link(result.output_url),
            **dict.fromkeys(("uri", "content_type", "size", "sha256", "width", "height")),
            "metrics": outcome.metrics.as_dict(),
        }
        if operator.destination is None:
            facts["output_url"] = facts["output_url"] or self._link_of_record(outcome)
            return facts
        destination = parse_destination(operator.destination)
        with tempfile.TemporaryFile(prefix="segmind-") as unnamed:  # nothing stays behind, whatever happens
            spool = cast(BinaryIO, unnamed)
            file = self.hook.download(result, spool, image=operator.must_be_image)
            stem = (source.stem if source else None) or outcome.request_id
            uri = destination.locate(stem=stem, extension=extension_of(file.content_type))
            metadata = {"segmind-request-id": outcome.request_id, "segmind-model": model}
            if source:
                metadata["segmind-source"] = source.label
            store(spool, uri, content_type=file.content_type, metadata=metadata, aws_conn_id=operator.aws_conn_id)
        self.log.info("Stored %s (%d bytes, %s).", uri, file.size, file.content_type)
        return facts | {
            "uri": uri,
            "content_type": file.content_type,
            "size": file.size,
            "sha256": file.sha256,
            "width": file.width,
            "height": file.height,
        }

    def _result(self, outcome: JobOutcome) -> SegmindResult:
        """Return the result: as the wait has brought it, by the event's address, or asked for (inline, signed)."""
        if outcome.result is not None:
            return outcome.result
        if outcome.output_url is not None:
            return SegmindResult(
                outcome.request_id, JobState.COMPLETED, (SegmindOutput(url=outcome.output_url),), outcome.metrics
            )
        try:
            return self.hook.get_result(outcome.request_id)
        except SegmindJobExpiredError:
            recovered = self.hook.run_flow(recover_expired(self.hook.service, outcome.request_id))
            if recovered is None or recovered.result is None:
                raise
            return recovered.result

    def _link_of_record(self, outcome: JobOutcome) -> str | None:
        """An inline result without a destination: the history may know a public address of it."""
        record = self.hook.get_record(outcome.request_id)
        link = public_link(record.output_url) if record else None
        if link is None:
            self.log.warning(
                "The result of request %s has no public address; give a `destination` to store it.", outcome.request_id
            )
        return link


def _until(deadline: float) -> timedelta:
    return timedelta(seconds=max(deadline - time.time(), 0.0))
