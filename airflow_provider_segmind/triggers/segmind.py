"""Waiting on the triggerer, where it costs no worker slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_segmind.api.gateway import wait_for_slot
from airflow_provider_segmind.api.models import JobOutcome, OutcomeStatus, SegmindJob
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindError
from airflow_provider_segmind.hooks.flows import check_moment, check_wait
from airflow_provider_segmind.hooks.segmind import SegmindHook

EARLIEST_EVENT = 7.0
"""
Seconds after its start before which no trigger fires.

The supervisor of a task's first leg can outlive it by ``[workers] min_heartbeat_interval`` (5 s). If the second leg has
begun by then, Airflow's scheduler (3.3) takes the first one's end for the task's and fails it.
"""


async def _not_too_early(started: float) -> None:
    await asyncio.sleep(max(started + EARLIEST_EVENT - time.time(), 0.0))


class SegmindJobTrigger(BaseTrigger):
    """
    Wait for a job's end and fire one event that says how it ended.

    The event is ``{"request_id", "status", "error", "metrics", "output_url"}``, its status ``COMPLETED``, ``FAILED``,
    ``TIMEOUT`` (the job still runs), ``EXPIRED`` (Segmind has forgotten it) or ``ERROR`` (refused, such as a key that
    was revoked). ``output_url`` is the file's public address, ``None`` where the result came inline or could not be
    asked for. When the triggerer stops, nothing is cancelled at Segmind: another one goes on with the same job.

    :param request_id: the job's id
    :param model: the model's slug; its typical latency shapes the poll schedule
    :param segmind_conn_id: the connection's id
    :param submitted_at: epoch seconds of the submit
    :param deadline: epoch seconds at which the wait ends, after a last look; at most eight days ahead
    :param poll_interval: seconds between two looks, ``None`` for the adaptive schedule
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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        check_wait(SegmindJob(request_id, model, submitted_at), deadline, poll_interval)
        self.request_id = request_id
        self.model = model
        self.segmind_conn_id = segmind_conn_id
        self.submitted_at = submitted_at
        self.deadline = deadline
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: no key, no image, no signed URL among them."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "request_id": self.request_id,
                "model": self.model,
                "segmind_conn_id": self.segmind_conn_id,
                "submitted_at": self.submitted_at,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire the event."""
        started = time.time()
        event = await self._event()
        await _not_too_early(started)
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _event(self) -> dict[str, Any]:
        """Wait for the event alone: the outcome's result, megabytes where it is inline, is not kept past here."""
        job = SegmindJob(self.request_id, self.model, self.submitted_at)
        try:
            hook = SegmindHook(self.segmind_conn_id)
            outcome = await hook.awatch(job, deadline=self.deadline, poll_interval=self.poll_interval)
        except Exception as error:
            # A trigger that dies leaves its task without a word: whatever happened is told, and the note stays.
            if not isinstance(error, SegmindError):
                self.log.exception("Waiting for request %s has failed.", self.request_id)
            outcome = JobOutcome(self.request_id, OutcomeStatus.ERROR, redact(f"{type(error).__name__}: {error}"))
        return outcome.as_event()


class SegmindPauseTrigger(BaseTrigger):
    """
    Wait for a moment, then fire a given event: a submit at a closed gate, or a storage that is down, waits so.

    :param moment: epoch seconds
    :param event: what to fire; plain JSON, fit for logs
    :param segmind_conn_id: take a turn at this connection's limiter besides, so that those who waited for the same
        moment leave one after another; the triggerer is where they all are
    :param deadline: epoch seconds at which the event fires even if the turn has not come
    :raises SegmindInputError: a moment that is none, or is more than eight days ahead
    """

    def __init__(
        self,
        moment: float,
        event: dict[str, Any],
        segmind_conn_id: str | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
        except Exception as error:  # noqa: BLE001 - a connection that is not there among them: the worker meets it itself
            self.log.warning("Took no turn at the limiter: %s", redact(f"{type(error).__name__}: {error}"))
        await _not_too_early(started)
        yield TriggerEvent(self.event)  # type: ignore[no-untyped-call]

    async def _wait(self) -> None:
        if self.segmind_conn_id is None:
            await asyncio.sleep(max(self.moment - time.time(), 0.05))
            return
        hook = SegmindHook(self.segmind_conn_id)
        await hook.asettings()
        hook.api.limiter.close_until(self.moment)
        await hook.arun_operation(wait_for_slot)
