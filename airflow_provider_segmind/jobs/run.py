"""
The two worker legs of every Segmind operator.

Leg 1 gets a job that is paid for once, and defers to the wait for it; leg 2 stores its result.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_segmind.api.download import public_output
from airflow_provider_segmind.api.errors import then
from airflow_provider_segmind.api.models import JobOutcome, SegmindFile, SegmindJob, SegmindResult
from airflow_provider_segmind.api.operation import pause
from airflow_provider_segmind.exceptions import (
    SegmindError,
    SegmindInputError,
    SegmindJobTimeoutError,
    SegmindRateLimitError,
    SegmindStorageError,
)
from airflow_provider_segmind.files.destination import (
    Destination,
    check_destination,
    parse_destination,
    refuse_same_place,
    store,
)
from airflow_provider_segmind.files.formats import extension_of
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.jobs.acquire import acquire_job, collect
from airflow_provider_segmind.jobs.checkpoint import Checkpoint, TaskCheckpoints, input_digest
from airflow_provider_segmind.triggers.events import TURN, read_event
from airflow_provider_segmind.triggers.segmind import SegmindJobTrigger, SegmindPauseTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_segmind.operators.job import SegmindJobOperator

BACKSTOP = timedelta(hours=1)
"""Airflow's own deferral timeout comes this long after our deadline, which the trigger keeps: it is for the case that
no triggerer runs at all."""

MAX_STORES = 10
STORE_SECONDS = 30.0
"""Where no note lasts, leg 2 is tried so often, first after these seconds and then ever later, over an hour in all."""


def begin(operator: SegmindJobOperator, context: Context) -> dict[str, Any]:
    """Run leg 1 from its start."""
    with _legs(operator, context, {}) as legs:
        return legs.begin(time.time() + operator.timeout)


def resume(operator: SegmindJobOperator, context: Context, event: object) -> dict[str, Any]:
    """Go on after a deferral: with leg 2, or with leg 1 where the rate limit had no room for the submit."""
    facts = cast("Mapping[str, Any]", event) if isinstance(event, Mapping) else {}
    with _legs(operator, context, facts) as legs:
        if facts.get("status") == TURN:
            return legs.begin(float(facts.get("deadline") or time.time() + operator.timeout))
        outcome = read_event(event)
        legs.note.remember(Checkpoint(operator.job_model(), "", 0.0, outcome.request_id))
        return legs.finish(outcome)


@contextmanager
def _legs(operator: SegmindJobOperator, context: Context, event: Mapping[str, Any]) -> Iterator[_Legs]:
    """Lend the legs; where no note lasts, no failure with a job behind it ends in a retry, which would pay again."""
    with closing(SegmindHook(operator.segmind_conn_id)) as hook:
        legs = _Legs(operator, context, hook, event)
        try:
            yield legs
        except (AirflowFailException, AirflowSkipException):
            raise
        except Exception as error:
            entry = None if legs.note.lasts else legs.note.read()
            if entry is None:
                raise
            raise AirflowFailException(
                f"{error} But this Airflow (before 3.3) has no task state store: a retry would not know of "
                f"{f'request {entry.request_id}' if entry.request_id else 'the submit'} and pay again, so there is "
                "none. Segmind keeps a result's file for 7 days."
            ) from error


class _Legs:
    """
    One worker process's part.

    :param event: what it was resumed with
    """

    def __init__(
        self, operator: SegmindJobOperator, context: Context, hook: SegmindHook, event: Mapping[str, Any]
    ) -> None:
        self.operator = operator
        self.context = context
        self.hook = hook
        self.note = TaskCheckpoints.of(context)
        self.note.remember(Checkpoint.read(event.get("entry")))
        self.uploaded: str | None = event.get("uploaded")
        self.turns = int(event.get("turns") or 0)
        self.stores = int(event.get("deferrals") or 0)
        self.log = operator.log

    # ------------------------------------------------------------------ leg 1

    def begin(self, deadline: float) -> dict[str, Any]:
        operator, hook = self.operator, self.hook
        model = operator.job_model()
        digest = input_digest(model, operator.job_inputs())
        destination = None if operator.destination is None else parse_destination(operator.destination)

        def payload() -> Mapping[str, Any]:
            if destination is not None:  # before anything is paid for
                self._locate(destination, ".png", model)
                check_destination(destination, aws_conn_id=operator.aws_conn_id)
            return operator.job_payload(self._upload, deadline - time.time() + BACKSTOP.total_seconds())

        while True:
            try:
                acquired = hook.run_operation(
                    acquire_job(
                        hook.api,
                        self.note,
                        model,
                        digest,
                        payload,
                        on_unknown_submit=operator.on_unknown_submit,
                        deadline=deadline,
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

    def _upload(self, image: bytes) -> str:
        """Upload once, however often the submit waits for its turn: nothing can be deleted at Segmind's storage."""
        if self.uploaded is None:
            self.uploaded = self.hook.upload(image)
        return self.uploaded

    def _wait_at_gate(self, limited: SegmindRateLimitError, deadline: float) -> None:
        """Wait until the rate limit leaves room: on the triggerer, or here where that is asked for."""
        operator = self.operator
        # Where the limit's own moment proves too early time and again, the wait grows all the same.
        moment = max(limited.reset_at, time.time() + min(2.0**self.turns, 60.0) if self.turns else 0.0)
        self.turns += 1
        entry = self.note.read()
        if moment >= deadline:
            if entry is not None and entry.request_id is not None:
                raise SegmindJobTimeoutError(
                    f"What became of request {entry.request_id} could not be asked within "
                    f"timeout={operator.timeout:g} s: {limited} It is paid for, and a retry goes on with it.",
                    request_id=entry.request_id,
                ) from limited
            raise SegmindRateLimitError(
                f"Nothing was submitted within timeout={operator.timeout:g} s, for want of room in the rate limit: "
                f"{limited} Raise `timeout`, or run fewer of these tasks at a time (a pool).",
                reset_at=limited.reset_at,
            ) from limited
        self.log.info("%s Waiting for a turn.", limited)
        if operator.deferrable:
            event = {
                "status": TURN,
                "deadline": deadline,
                "turns": self.turns,
                "entry": None if self.note.lasts or entry is None else entry.as_json(),
                "uploaded": self.uploaded,
            }
            operator.defer(
                trigger=SegmindPauseTrigger(moment, event, operator.segmind_conn_id, deadline),
                method_name="execute_complete",
                timeout=_until(deadline) + BACKSTOP,
            )
        now = time.time()
        free = max(self.hook.api.limiter.next_free(now), moment)
        self.hook.run_operation(pause(min(free, deadline) - now + 0.01))

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

    def finish(self, outcome: JobOutcome) -> dict[str, Any]:
        """Store what a job gave, or raise what became of it; the note stays until the result is stored."""
        while True:
            try:
                outcome = self.hook.run_operation(collect(self.hook.api, self.note, outcome))
                facts = self._store(outcome)
            except SegmindError as error:
                if self.note.lasts or self.note.read() is None or not then(error).may_mend or self.stores == MAX_STORES:
                    raise  # a retry finds the note and pays nothing, or there is nothing to find
                self._wait_for_storage(outcome, error)
            else:
                self.note.finish()  # a crash before this, or after it, fetches the same result again and pays nothing
                return facts

    def _wait_for_storage(self, outcome: JobOutcome, error: SegmindError) -> None:
        """Where no note lasts, a failure that time may mend waits here: a retry would pay again."""
        moment = time.time() + min(STORE_SECONDS * 2**self.stores, 600.0)
        self.stores += 1
        self.log.warning("%s Trying again later (%d of %d).", error, self.stores, MAX_STORES)
        if self.operator.deferrable:
            self.operator.defer(
                trigger=SegmindPauseTrigger(moment, {**outcome.as_event(), "deferrals": self.stores}),
                method_name="execute_complete",
            )
        self.hook.run_operation(pause(moment - time.time()))

    def _store(self, outcome: JobOutcome) -> dict[str, Any]:
        operator, source, result = self.operator, self.operator.job_source(), cast(SegmindResult, outcome.result)
        facts: dict[str, Any] = {
            "request_id": outcome.request_id,
            "model": operator.job_model(),
            "status": outcome.status.value,
            **({"image": source.label} if source else {}),
            "output_url": public_output(self.hook.api, result),
            **dict.fromkeys(("uri", "content_type", "size", "sha256", "width", "height")),
            "metrics": outcome.metrics.as_dict(),
        }
        if operator.destination is None:
            return facts | {"output_url": facts["output_url"] or self._link_of_record(outcome)}
        metadata = {"segmind-request-id": outcome.request_id, "segmind-model": facts["model"]}
        if source:
            metadata["segmind-source"] = source.label
        uri, file = self._fetch_and_store(result, parse_destination(operator.destination), metadata)
        self.log.info("Stored %s (%d bytes, %s).", uri, file.size, file.content_type)
        return facts | {
            "uri": uri,
            "content_type": file.content_type,
            "size": file.size,
            "sha256": file.sha256,
            "width": file.width,
            "height": file.height,
        }

    def _fetch_and_store(
        self, result: SegmindResult, destination: Destination, metadata: Mapping[str, str]
    ) -> tuple[str, SegmindFile]:
        operator = self.operator
        try:
            with tempfile.TemporaryFile(prefix="segmind-") as unnamed:  # nothing stays behind, whatever happens
                spool = cast(BinaryIO, unnamed)
                file = self.hook.download(result, spool, image=operator.must_be_image)
                uri = self._locate(destination, extension_of(file.content_type), result.request_id)
                store(spool, uri, content_type=file.content_type, metadata=metadata, aws_conn_id=operator.aws_conn_id)
        except OSError as full:
            raise SegmindStorageError(f"The worker's temporary folder failed ({full.strerror or full}).") from full
        return uri, file

    def _locate(self, destination: Destination, extension: str, name: str) -> str:
        """Return the result's URI; ``name`` is for one whose source has none."""
        source = self.operator.job_source()
        uri = destination.locate(stem=(source.stem if source else None) or name, extension=extension)
        if source is not None:
            refuse_same_place(source, uri)
        return uri

    def _link_of_record(self, outcome: JobOutcome) -> str:
        """An inline or signed result without a destination: the history may know a public address of it."""
        record = self.hook.get_record(outcome.request_id)
        link = public_output(self.hook.api, record.as_result()) if record else None
        if link is None:
            raise SegmindInputError(
                f"destination=None leaves the result at Segmind, but that of request {outcome.request_id} has no "
                "public address there: give a `destination` and clear the task; nothing is paid again.",
                request_id=outcome.request_id,
            )
        return link


def _until(deadline: float) -> timedelta:
    return timedelta(seconds=max(deadline - time.time(), 0.0))
