"""
Never pay twice: from a note of what was done before to a job that is paid for once.

The note says *submitting* before a POST and has the request id after it. Windows that stay open: a crash after the
POST was accepted and before its id is noted leaves *submitting*, which the request history resolves; a crash between
the note and the POST leaves the same, and costs a look into the history.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from airflow_provider_segmind.api.download import file_is_gone
from airflow_provider_segmind.api.flow import Flow
from airflow_provider_segmind.api.history import SETTLED, find_request, fingerprint, get_record
from airflow_provider_segmind.api.inputs import OnUnknownSubmit, check_model, check_payload, valid_request_id
from airflow_provider_segmind.api.jobs import LAG, get_result, get_status
from airflow_provider_segmind.api.redaction import public_link
from airflow_provider_segmind.api.requests import submit
from airflow_provider_segmind.api.service import Service
from airflow_provider_segmind.api.values import (
    JobOutcome,
    JobState,
    Metrics,
    OutcomeStatus,
    SegmindJob,
    SegmindOutput,
    SegmindRecord,
    SegmindResult,
    read_number,
)
from airflow_provider_segmind.exceptions import (
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

MAX_POSTS = 3
"""POSTs of unknown outcome in one go, each resolved before the next, before the task fails instead."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """
    What the note says. Plain JSON, without image data or signatures.

    :param digest: of the inputs as the DAG gives them
    :param at: epoch seconds of the submit
    :param request_id: ``None`` while *submitting*
    :param wanted: the fingerprint of the payload, to find it in the history
    """

    model: str
    digest: str
    at: float
    request_id: str | None = None
    wanted: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"state": "submitted" if self.request_id else "submitting", **asdict(self)}

    @classmethod
    def read(cls, value: object) -> Entry | None:
        """Read what was stored, by this or another version; ``None`` where it cannot be understood."""
        if not isinstance(value, Mapping):
            return None
        model, digest, request_id = value.get("model"), value.get("digest"), value.get("request_id")
        at, wanted = read_number(value.get("at")), value.get("wanted")
        if not isinstance(model, str) or not isinstance(digest, str) or at is None or not 0 <= at < 1e11:
            return None
        return cls(
            model,
            digest,
            at,
            request_id if isinstance(request_id, str) and valid_request_id(request_id) else None,
            dict(wanted) if isinstance(wanted, Mapping) else {},
        )


class Note(Protocol):
    """Where a task keeps its entry across tries."""

    def read(self) -> Entry | None:
        """Return the entry, ``None`` where there is none."""

    def write(self, entry: Entry) -> None:
        """Keep an entry; only when this has returned may a POST follow."""

    def forget(self) -> None:
        """Drop the entry."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """A job to go on with. ``outcome`` is set where it has ended already: then there is nothing to wait for."""

    job: SegmindJob
    outcome: JobOutcome | None = None


def digest_of(model: str, inputs: Mapping[str, object]) -> str:
    """Return the digest of a job's inputs as the DAG gives them."""
    plain = json.dumps([model, inputs], sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()


def acquire_job(
    service: Service,
    note: Note,
    model: str,
    digest: str,
    payload: Callable[[], Mapping[str, object]],
    *,
    on_unknown_submit: OnUnknownSubmit = "reconcile",
) -> Flow[Acquired]:
    """
    Return the job for these inputs: the noted one while it is any good, else a new one.

    :param digest: from :func:`digest_of`
    :param payload: makes the payload; only called where a POST is needed, and before the note is written
    :raises SegmindRateLimitError: nothing was sent; come back after ``reset_at``
    :raises SegmindSubmitUnknownError: a job may be queued and billed; the note stays
    :raises SegmindJobExpiredError: gone from the gateway and still pending in the history; the note stays
    """
    check_model(model)
    entry = note.read()
    if entry is not None and (entry.digest != digest or entry.model != model):
        log.warning(
            "The inputs have changed since %s was submitted: a new job. The earlier one is left to itself.",
            f"request {entry.request_id}" if entry.request_id else "an unanswered request",
        )
        entry = None
    if entry is not None and entry.request_id is not None:
        found = yield from _revive(service, entry, entry.request_id)
        if found is not None:
            return found
        note.forget()
        entry = None
    if entry is not None:
        log.warning("An earlier try was cut off while submitting; on_unknown_submit=%r.", on_unknown_submit)
        found = yield from _resolve(service, note, entry, on_unknown_submit, None)
        if found is not None:
            return found
    body = check_payload(payload())
    wanted = fingerprint(body)

    def about_to_post() -> None:
        """Note each POST with its own moment: rows that land late are waited for from the last one on."""
        nonlocal entry
        entry = Entry(model, digest, service.clock(), wanted=wanted)
        note.write(entry)

    for attempt in range(1, MAX_POSTS + 1):
        try:
            job = yield from submit(service, model, body, before=about_to_post)
        except SegmindSubmitUnknownError as unknown:
            log.warning("%s on_unknown_submit=%r.", unknown, on_unknown_submit)
            if attempt == MAX_POSTS or entry is None:
                raise
            found = yield from _resolve(service, note, entry, on_unknown_submit, unknown)
            if found is not None:
                return found
        except (SegmindRequestError, SegmindRateLimitError, SegmindServiceError):
            note.forget()  # surely nothing was queued
            raise
        else:
            # A crash here leaves *submitting*, though the job runs: the history resolves it.
            _keep(note, Entry(model, digest, job.submitted_at, job.request_id, wanted))
            log.info("Segmind has accepted request %s for %s.", job.request_id, model)
            return Acquired(job)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _keep(note: Note, entry: Entry) -> None:
    """Note an id. The job is paid for: if the note fails it goes on, and a later try resolves *submitting*."""
    try:
        note.write(entry)
    except Exception:
        log.exception("Request %s could not be noted; going on with it.", entry.request_id)


def _resolve(
    service: Service,
    note: Note,
    entry: Entry,
    on_unknown_submit: OnUnknownSubmit,
    unknown: SegmindSubmitUnknownError | None,
) -> Flow[Acquired | None]:
    """Find the job of an unanswered submit; ``None``: submit (again)."""
    if on_unknown_submit == "resubmit":
        return None
    if on_unknown_submit == "fail":
        raise SegmindSubmitUnknownError(
            f"A submit to {entry.model} has an unknown outcome: its job may run and be billed. Look into Segmind's "
            "request history; then clear the task with on_unknown_submit='reconcile' (adopt it) or 'resubmit'."
        ) from unknown
    record = yield from find_request(service, entry.model, entry.wanted, since=entry.at)
    if record is None:
        log.info("The request history has no such request: nothing was queued.")
        return None
    log.warning("Found it in the request history: request %s is adopted, nothing is paid again.", record.request_id)
    adopted = Entry(entry.model, entry.digest, record.created_at or entry.at, record.request_id, entry.wanted)
    _keep(note, adopted)
    found = yield from _revive(service, adopted, record.request_id)
    if found is None:
        note.forget()
    return found


def _revive(service: Service, entry: Entry, request_id: str) -> Flow[Acquired | None]:
    """Ask what became of a noted job; ``None``: it is no good any more (and cost nothing, or is lost)."""
    job = SegmindJob(request_id, entry.model, entry.at)
    try:
        status = yield from get_status(service, request_id)
    except SegmindJobExpiredError:
        if service.clock() - entry.at < LAG:
            return Acquired(job)
        outcome = yield from recover_expired(service, request_id, submitted_at=entry.at)
        if outcome is None:
            return None
        return Acquired(job, outcome)
    if status.state is JobState.FAILED:
        log.info(
            "Request %s has failed and was not billed (%s): a new job.",
            request_id,
            service.clean(status.error),
        )
        return None
    if status.state is not JobState.COMPLETED:
        log.info("Request %s of an earlier try is %s: waiting for it.", request_id, status.state.value)
        return Acquired(job)
    log.info("Request %s of an earlier try has completed: fetching its result.", request_id)
    try:
        result = yield from get_result(service, request_id)
    except SegmindJobFailedError:
        return None
    if result.status is not JobState.COMPLETED:
        return Acquired(job)
    return Acquired(job, completed_outcome(result))


def completed_outcome(result: SegmindResult) -> JobOutcome:
    """Return the outcome of a job whose result is at hand."""
    return JobOutcome(
        result.request_id,
        OutcomeStatus.COMPLETED,
        metrics=result.metrics,
        output_url=public_link(result.output_url),
        result=result,
    )


def recover_expired(service: Service, request_id: str, *, submitted_at: float | None = None) -> Flow[JobOutcome | None]:
    """
    Look a job that the gateway has forgotten up in the history, where its file's address is kept for seven days.

    :param submitted_at: epoch seconds; a record may still land for a job as young as ``SETTLED``
    :return: COMPLETED, or ``None`` where there is nothing left to fetch (a failed job, no record, a file that is gone)
    :raises SegmindJobExpiredError: the history says that it is still pending, or may not list it yet; the next retry
        looks again
    """
    record: SegmindRecord | None = yield from get_record(service, request_id)
    if record is None and submitted_at is not None and service.clock() < submitted_at + SETTLED:
        raise SegmindJobExpiredError(
            f"Segmind does not know request {request_id}, and its history may list it late: a retry looks again.",
            request_id=request_id,
        )
    if record is None:
        log.error("Request %s is lost: neither the gateway nor the request history knows it.", request_id)
        return None
    if record.state is JobState.FAILED:
        log.info("Request %s has failed and was not billed.", request_id)
        return None
    if record.state is None:
        raise SegmindJobExpiredError(
            f"Segmind has forgotten request {request_id}, and its history still says pending: a retry looks again.",
            request_id=request_id,
        )
    if record.output_url is None or (yield from file_is_gone(service, record.output_url)):
        log.error("The result of request %s is lost: its file is gone (Segmind keeps files for 7 days).", request_id)
        return None
    log.info("Request %s has expired; its file is fetched by the address that the history kept.", request_id)
    return completed_outcome(
        SegmindResult(
            request_id,
            JobState.COMPLETED,
            (SegmindOutput(url=record.output_url),),
            Metrics(cost=record.cost),
        )
    )
