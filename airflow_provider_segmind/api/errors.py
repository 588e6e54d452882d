"""
From an answer to the exception that says what to do: one table for every status code.

=================  ==============================  =========================================
status             on a submit                     on a request id
=================  ==============================  =========================================
401, 403           SegmindAuthError                SegmindAuthError
404                SegmindModelNotFoundError       SegmindJobExpiredError
406                SegmindCreditsError where the text speaks of credits or a limit, else SegmindRequestError
410                SegmindModelNotFoundError       SegmindRequestError
429                SegmindRateLimitError           SegmindRateLimitError
other 4xx          SegmindRequestError             SegmindRequestError
500, 502, 503      SegmindServiceError in the      SegmindServiceError
                   gateway's own envelope, else
                   SegmindSubmitUnknownError
anything else      SegmindSubmitUnknownError       SegmindServiceError
=================  ==============================  =========================================
"""

from __future__ import annotations

import re

from airflow_provider_segmind.api.flow import Answer
from airflow_provider_segmind.api.rate_limit import reset_at
from airflow_provider_segmind.api.responses import error_text, parse_object
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
    """Return the error for an answer to anything but a submit. A 429 of the gateway closes its gate for all besides."""
    status = answer.status
    said = _said(service, answer)
    if status in (401, 403):
        return SegmindAuthError(
            f"Segmind refused {doing} (HTTP {status}): {said} Check the password (the API key) of the connection "
            "and what the account may use.",
            status_code=status,
            request_id=request_id,
        )
    if status == 429:
        moment = reset_at(answer.headers, service.clock())
        if gateway:
            service.limiter.close_until(moment)
        return SegmindRateLimitError(
            f"Segmind's rate limit is used up (HTTP 429 on {doing}); it resets in "
            f"{moment - service.clock():.0f} s. 'requests_per_minute' in the connection's extra keeps below it.",
            reset_at=moment,
            request_id=request_id,
        )
    if status == 404 and request_id is not None:
        return SegmindJobExpiredError(
            f"Segmind does not know request {request_id} (HTTP 404): it keeps a record for one hour.",
            request_id=request_id,
        )
    if status == 406 and _CREDITS.search(said):
        return SegmindCreditsError(
            f"Segmind refused {doing} (HTTP 406): {said} Add credits or raise the team's limit.",
            status_code=status,
            request_id=request_id,
        )
    if 400 <= status < 500:
        return SegmindRequestError(
            f"Segmind refused {doing} (HTTP {status}): {said}", status_code=status, request_id=request_id
        )
    why = "a redirect, which is not followed: check the connection's host" if 300 <= status < 400 else said
    return SegmindServiceError(
        f"Segmind failed at {doing} (HTTP {status}): {why}", status_code=status, request_id=request_id
    )


def submit_refusal(service: Service, answer: Answer, model: str) -> SegmindError:
    """Return the error for a submit's answer that has no request id; told apart by whether a job may be queued."""
    doing = f"the submit to {model}"
    status = answer.status
    if status in (404, 410):
        gone = "has no model" if status == 404 else "has retired the model"
        return SegmindModelNotFoundError(
            f"Segmind {gone} {model!r} (HTTP {status}): {_said(service, answer)} Check `model`.",
            status_code=status,
        )
    if 400 <= status < 500 or (status in (500, 502, 503) and _is_gateways_own(answer)):
        return refusal(service, answer, doing)
    return SegmindSubmitUnknownError(
        f"Segmind answered {doing} with HTTP {status} and no request id: the job may be queued and billed. "
        f"({_said(service, answer)})"
    )


def job_failure(service: Service, request_id: str, detail: str | None) -> SegmindJobFailedError:
    """Return the error for a job that FAILED."""
    said = service.clean(detail or "no reason given")
    kind = SegmindModerationError if MODERATION_WORDS.search(said) else SegmindJobFailedError
    return kind(
        f"Segmind's job {request_id} failed: {said} (a failed job is not billed)",
        detail=said,
        request_id=request_id,
    )


def _is_gateways_own(answer: Answer) -> bool:
    """Whether the gateway itself speaks; only then does a 5xx prove that nothing was queued."""
    return isinstance(parse_object(answer).get("error"), str)


def _said(service: Service, answer: Answer) -> str:
    said = error_text(parse_object(answer))
    if said is None:
        kind = answer.headers.get("content-type", "").partition(";")[0] or "no declared type"
        return service.clean(f"the answer has no message ({len(answer.body)} bytes, {kind}).")
    text = service.clean(said)
    return text if text.endswith((".", "!", "?")) else f"{text}."
