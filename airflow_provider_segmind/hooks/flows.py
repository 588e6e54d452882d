"""Flows of the hook's methods that check or prepare something first: written once, run by both twins."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

from airflow_provider_segmind.api import gateway, history, polling
from airflow_provider_segmind.api.download import download as download_into
from airflow_provider_segmind.api.models import (
    JobOutcome,
    SegmindFile,
    SegmindJob,
    SegmindResult,
    check_model,
    check_payload,
    check_request_id,
    check_timeout,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.local import appearing, data_uri

DAYS_AHEAD = 8
"""No moment may be farther away: a deadline is at most a week ahead, and milliseconds are thousands of years."""


def check_moment(moment: object, name: str) -> None:
    """
    Refuse what is no epoch in seconds.

    :raises SegmindInputError: no finite number, negative, or too far ahead
    """
    number = isinstance(moment, int | float) and not isinstance(moment, bool)
    if not number or not 0 <= moment <= time.time() + DAYS_AHEAD * 86_400:  # type: ignore[operator]
        raise SegmindInputError(
            f"{name}={redact(repr(moment), limit=60)}: give epoch seconds, as time.time() does, "
            f"at most {DAYS_AHEAD} days ahead."
        )


def check_wait(job: SegmindJob, deadline: float, poll_interval: float | None) -> None:
    """
    Check all that a wait for a job is given.

    :raises SegmindInputError: names what is unusable
    """
    check_request_id(job.request_id)
    check_model(job.model)
    check_moment(job.submitted_at, "submitted_at")
    check_moment(deadline, "deadline")
    if poll_interval is not None:
        check_timeout(poll_interval, "poll_interval")


def watch(api: ApiContext, job: SegmindJob, deadline: float, poll_interval: float | None) -> Operation[JobOutcome]:
    """Wait for a job's end and return how it ended."""
    check_wait(job, deadline, poll_interval)
    return (
        yield from polling.watch(
            api,
            job.request_id,
            job.model,
            submitted_at=job.submitted_at,
            deadline=deadline,
            poll_interval=poll_interval,
        )
    )


def find_request(api: ApiContext, model: str, payload: Mapping[str, Any], since: float) -> Operation[str | None]:
    """Look for the request of a submit whose outcome is unknown and return its id."""
    check_moment(since, "since")
    wanted = history.fingerprint(check_payload(payload))
    record = yield from history.find_request(api, model, wanted, since=since)
    return record.request_id if record else None


def upload(api: ApiContext, path_or_bytes: str | os.PathLike[str] | bytes) -> Operation[str]:
    """Store a file at Segmind and return its address."""
    if not isinstance(path_or_bytes, str | os.PathLike | bytes):
        raise SegmindInputError(f"upload of {redact(repr(path_or_bytes), limit=60)}: give a file's path, or bytes.")
    return (yield from gateway.upload(api, data_uri(path_or_bytes)))


def download(
    api: ApiContext, result: SegmindResult, target: str | os.PathLike[str] | BinaryIO, image: bool
) -> Operation[SegmindFile]:
    """Fetch a result's first output to a path or into an open file."""
    if not isinstance(result, SegmindResult):
        raise SegmindInputError(
            f"result={redact(repr(result), limit=60)}: give what get_result, wait_for_job or run returned."
        )
    if isinstance(target, str | os.PathLike):
        with appearing(target) as file:
            return (yield from download_into(api, result, file, image=image))
    try:
        target.seek(0)
        target.write(b"")
    except (AttributeError, TypeError, ValueError, OSError):  # no file, of text, closed, to be read only, a pipe
        raise SegmindInputError(
            f"target={redact(repr(target), limit=60)}: give a path, or a seekable file opened for binary writing."
        ) from None
    return (yield from download_into(api, result, target, image=image))
