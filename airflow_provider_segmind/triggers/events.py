"""Trigger events as a worker receives them: checked before they are believed."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_segmind.api.models import JobOutcome, Metrics, OutcomeStatus, check_request_id
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindError

TURN = "TURN"
"""The status of the event that sends a limited submit on its way: no job exists yet."""


def read_event(event: object) -> JobOutcome:
    """
    Read a :class:`~airflow_provider_segmind.triggers.segmind.SegmindJobTrigger`'s event.

    :raises SegmindError: it is no such event
    """
    if isinstance(event, Mapping):
        error, output_url = event.get("error"), event.get("output_url")
        try:
            return JobOutcome(
                check_request_id(event.get("request_id")),
                OutcomeStatus(str(event.get("status"))),
                error=redact(error) if error else None,
                metrics=Metrics.parse(event.get("metrics")),
                output_url=output_url if isinstance(output_url, str) else None,
            )
        except ValueError:
            pass
    raise SegmindError(f"The task was resumed with an event that no Segmind trigger fires: {redact(repr(event))}")
