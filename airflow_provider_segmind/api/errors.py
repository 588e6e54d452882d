"""From an answer, or a job's end, to the exception that says what to do; which one it is, ``outcomes.py`` says."""

from __future__ import annotations

import re

from airflow_provider_segmind.api.flow import Answer, TransportFailure
from airflow_provider_segmind.api.outcomes import error_of
from airflow_provider_segmind.api.rate_limit import reset_at
from airflow_provider_segmind.api.responses import error_text
from airflow_provider_segmind.api.service import Service
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindCreditsError,
    SegmindError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindModelNotFoundError,
    SegmindModerationError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

MODERATION_WORDS = re.compile(
    r"\b(moderation|moderated|nsfw|content[ _]policy|safety|responsible ai|rai|flagged|prohibited)\b",
    re.IGNORECASE,
)
"""A block by content moderation is told from other failures by its text alone: these words."""

_CREDITS = re.compile(r"credit|balance|spend|insufficient|quota|top.?up|billing", re.IGNORECASE)


def refusal(
    service: Service, answer: Answer, doing: str, *, request_id: str | None = None, gateway: bool = True
) -> SegmindError:
    """
    Return the error for an answer to anything but a submit.

    :param doing: what was asked, for the text
    :param gateway: whether the gateway has answered; its 429 closes its gate for all
    """
    kind = error_of(answer)
    if kind is SegmindJobExpiredError and request_id is None:
        kind = SegmindRequestError
    return _error(service, answer, kind, doing, request_id=request_id, gateway=gateway)


def other_hosts(error: SegmindError) -> SegmindError:
    """Return another host's error: its limit is trouble, and not the closed gate at which a submit waits its turn."""
    if isinstance(error, SegmindRateLimitError):
        return SegmindServiceError(str(error), status_code=429, request_id=error.request_id)
    return error


def submit_refusal(service: Service, answer: Answer, model: str) -> SegmindError:
    """Return the error for a submit's answer that has no request id; told apart by whether a job may be queued."""
    kind, status = error_of(answer, submit=True), answer.status
    if kind is SegmindModelNotFoundError:
        gone = "has retired the model" if status == 410 else "has no model"
        return SegmindModelNotFoundError(
            f"Segmind {gone} {model!r} (HTTP {status}): {_said(service, answer)} Check `model`.", status_code=status
        )
    if kind is SegmindSubmitUnknownError:
        return SegmindSubmitUnknownError(
            f"Segmind answered the submit to {model} with HTTP {status} and no request id: the job may be queued and "
            f"billed. ({_said(service, answer)})"
        )
    return _error(service, answer, kind, f"the submit to {model}")


def submit_failure(service: Service, failure: TransportFailure, model: str) -> SegmindError:
    """Return the error for a submit that got no answer."""
    said = service.clean(failure)
    if failure.sent:
        return SegmindSubmitUnknownError(
            f"The call to {model} broke off after it was sent ({said}): the job may be queued and billed."
        )
    return SegmindServiceError(f"Segmind could not be reached, nothing was sent: {said}")


def job_failure(service: Service, request_id: str, detail: str | None) -> SegmindJobFailedError:
    """Return the error for a job that FAILED."""
    said = service.clean(detail or "no reason given")
    kind = SegmindModerationError if MODERATION_WORDS.search(said) else SegmindJobFailedError
    return kind(
        f"Segmind's job {request_id} failed: {said} (a failed job is not billed)",
        detail=said,
        request_id=request_id,
    )


def _error(
    service: Service,
    answer: Answer,
    kind: type[SegmindError],
    doing: str,
    *,
    request_id: str | None = None,
    gateway: bool = True,
) -> SegmindError:
    status, said = answer.status, _said(service, answer)
    if kind is SegmindRateLimitError:
        moment = reset_at(answer.headers, service.clock())
        if gateway:
            service.limiter.close_until(moment)
        return SegmindRateLimitError(
            f"Segmind's rate limit is used up (HTTP 429 on {doing}); it resets in "
            f"{moment - service.clock():.0f} s. 'requests_per_minute' in the connection's extra keeps below it.",
            reset_at=moment,
            request_id=request_id,
        )
    if kind is SegmindJobExpiredError:
        return SegmindJobExpiredError(
            f"Segmind does not know request {request_id} (HTTP 404): it keeps a record for one hour. Its request "
            "history knows it longer.",
            request_id=request_id,
        )
    remedy = ""
    if kind is SegmindAuthError:
        remedy = " Check the password (the API key) of the connection and what the account may use."
    elif status == 406 and _CREDITS.search(said):
        kind, remedy = SegmindCreditsError, " Add credits or raise the team's limit."
    if issubclass(kind, SegmindRequestError):
        return kind(
            f"Segmind refused {doing} (HTTP {status}): {said}{remedy}", status_code=status, request_id=request_id
        )
    why = "a redirect, which is not followed: check the connection's host" if 300 <= status < 400 else said
    return SegmindServiceError(
        f"Segmind failed at {doing} (HTTP {status}): {why}", status_code=status, request_id=request_id
    )


def _said(service: Service, answer: Answer) -> str:
    said = error_text(answer.object)
    if said is None:
        kind = answer.headers.get("content-type", "").partition(";")[0] or "no declared type"
        return service.clean(f"the answer has no message ({len(answer.body)} bytes, {kind}).")
    text = service.clean(said)
    return text if text.endswith((".", "!", "?")) else f"{text}."
