"""Waiting on the triggerer, where it takes no worker slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_segmind.api.gateway import wait_for_slot
from airflow_provider_segmind.api.models import (
    JobOutcome,
    OutcomeStatus,
    SegmindJob,
    check_model,
    check_moment,
    check_request_id,
    check_timeout,
)
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindError, SegmindInputError
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.jobs.checkpoint import VERSION, Checkpoint, ResumeEvent

EARLIEST_EVENT = 7.0
"""
Seconds after its start before which no trigger fires.

The supervisor of the task process that deferred can outlive it by ``[workers] min_heartbeat_interval`` (5 s). If the
task has resumed by then, Airflow's scheduler (3.3) takes that supervisor's end for the task's end and fails the task.
"""

LATEST_EVENT = 9.0
"""Seconds after its deadline by which a wait fires its event, even where a request is still under way."""


async def not_too_early(started: float) -> None:
    """Wait until a trigger that started at an epoch second may fire."""
    await asyncio.sleep(max(started + EARLIEST_EVENT - time.time(), 0.0))


def _check_version(version: int) -> None:
    if version != VERSION:
        raise SegmindInputError(
            f"This trigger was written by another version of the provider (version={version!r}; this one reads "
            f"{VERSION}). Install the same version of the provider on all workers and triggerers."
        )


class SegmindJobTrigger(BaseTrigger):
    """
    Wait for a job's end and fire one event that says how it ended.

    The event has ``request_id``, ``status``, ``error``, ``metrics``, ``output_url`` and ``output_urls``, ``model`` and
    ``submitted_at``. The status is ``COMPLETED``, ``FAILED``, ``TIMEOUT`` (the job is still running), ``EXPIRED``
    (Segmind has forgotten the job) or ``ERROR`` (the request was refused, as with a revoked key). ``output_url`` is the
    first file's public address, ``None`` where the result came inline or could not be asked for. The event comes at
    most 10 s after the deadline. When the triggerer stops, nothing is cancelled at Segmind: another one goes on with
    the same job.

    :param request_id: the job's id
    :param model: the model's slug; how long its jobs take shapes the poll schedule
    :param segmind_conn_id: the connection's id
    :param submitted_at: epoch seconds of the submit
    :param deadline: epoch seconds at which the wait ends, after a last poll; at most eight days ahead
    :param poll_interval: seconds between polls, ``None`` for the adaptive schedule
    :param checkpoint: a task's checkpoint, which the event carries back
    :param version: of these arguments
    :raises SegmindInputError: one of them is unusable
    """

    def __init__(
        self,
        request_id: str,
        model: str,
        segmind_conn_id: str,
        submitted_at: float,
        deadline: float,
        poll_interval: float | None = None,
        checkpoint: dict[str, Any] | None = None,
        version: int = VERSION,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _check_version(version)
        check_request_id(request_id)
        check_model(model)
        check_moment(submitted_at, "submitted_at")
        check_moment(deadline, "deadline")
        if poll_interval is not None:
            check_timeout(poll_interval, "poll_interval")
        self.request_id = request_id
        self.model = model
        self.segmind_conn_id = segmind_conn_id
        self.submitted_at = submitted_at
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.checkpoint = checkpoint

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, which hold no key, image or signed URL."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "request_id": self.request_id,
                "model": self.model,
                "segmind_conn_id": self.segmind_conn_id,
                "submitted_at": self.submitted_at,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "checkpoint": self.checkpoint,
                "version": VERSION,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire the event."""
        started = time.time()
        event = await self._event()
        await not_too_early(started)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _event(self) -> dict[str, Any]:
        """Wait for the event; an inline result, which can be megabytes, is not kept past here."""
        try:
            async with asyncio.timeout(max(self.deadline - time.time(), 0.0) + LATEST_EVENT):
                job = SegmindJob(self.request_id, self.model, self.submitted_at)
                hook = SegmindHook(self.segmind_conn_id)
                outcome = await hook.awatch(job, deadline=self.deadline, poll_interval=self.poll_interval)
        except TimeoutError:
            seconds = self.deadline - self.submitted_at
            outcome = self._ended(OutcomeStatus.TIMEOUT, f"not ended {seconds:.0f} s after its submit")
        except Exception as error:
            # A trigger that dies tells its task nothing. So any error becomes an event, and the checkpoint stays.
            if not isinstance(error, SegmindError):
                self.log.exception("Waiting for request %s failed.", self.request_id)
            outcome = self._ended(OutcomeStatus.ERROR, redact(f"{type(error).__name__}: {error}"))
        if self.checkpoint is not None:
            return ResumeEvent.of(outcome, Checkpoint.parse(self.checkpoint)).as_json()
        return ResumeEvent.of(outcome, SegmindJob(self.request_id, self.model, self.submitted_at)).as_json()

    def _ended(self, status: OutcomeStatus, error: str) -> JobOutcome:
        return JobOutcome(self.request_id, status, error)


class SegmindPauseTrigger(BaseTrigger):
    """
    Wait for a moment, then fire a given event: for a submit without a slot, and for a result that could not be stored.

    :param moment: epoch seconds
    :param event: what to fire; plain JSON, fit for logs
    :param segmind_conn_id: wait for a slot of this connection's rate limiter too, so that tasks that waited for the
        same reset go on one after another. They are all in the same process only on the triggerer
    :param deadline: epoch seconds at which the event fires even without a slot
    :param version: of these arguments
    :raises SegmindInputError: a moment is not an epoch in seconds, or is more than eight days ahead
    """

    def __init__(
        self,
        moment: float,
        event: dict[str, Any],
        segmind_conn_id: str | None = None,
        deadline: float | None = None,
        version: int = VERSION,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        _check_version(version)
        check_moment(moment, "moment")
        if deadline is not None:
            check_moment(deadline, "deadline")
        self.moment = moment
        self.event = event
        self.segmind_conn_id = segmind_conn_id
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "moment": self.moment,
                "event": self.event,
                "segmind_conn_id": self.segmind_conn_id,
                "deadline": self.deadline,
                "version": VERSION,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire the event."""
        started = time.time()
        try:
            async with asyncio.timeout(None if self.deadline is None else max(self.deadline - time.time(), 0.05)):
                await self._wait()
        except TimeoutError:
            pass
        except Exception as error:  # noqa: BLE001 - the worker meets it itself, such as a connection that is missing
            self.log.warning("Did not wait for a slot: %s", redact(f"{type(error).__name__}: {error}"))
        await not_too_early(started)
        yield TriggerEvent(self.event)  # type: ignore[no-untyped-call]

    async def _wait(self) -> None:
        if self.segmind_conn_id is None:
            await asyncio.sleep(max(self.moment - time.time(), 0.05))
            return
        with await SegmindHook(self.segmind_conn_id).asession() as session:
            session.api.limiter.close_until(self.moment)
            await session.driver.run(wait_for_slot(session.api))
