"""
From a response, a transport failure or a job's end to the exception that says what to do.

What proves that nothing was queued
-----------------------------------

Segmind has no idempotency key: each POST that it accepts is a job, and is billed when the job completes. A submit may
therefore be repeated only after proof that the last one queued nothing. These are proof:

* a 4xx, 429 included: the gateway refused the request;
* a 500, 502 or 503 in the gateway's own envelope, ``{"error": "<text>"}``: the gateway answered and accepted nothing;
* a failure before the request can have left: DNS, a refused connection, a failed TLS handshake, a connect timeout.

These are not: a 504, or a 5xx in HTML, which a proxy sends while the gateway may still work on the request; a redirect;
a 2xx without a usable request id; a connection that broke or fell silent after sending. There the outcome is unknown.

A GET needs no proof: every GET may be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_segmind.api.operation import ApiContext, Response, TransportFailure
from airflow_provider_segmind.api.parsing import error_text
from airflow_provider_segmind.api.rate_limit import reset_at
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
    r"\b(moderation|moderated|nsfw|content[ _]policy|safety|responsible ai|rai|flagged|prohibited)\b", re.IGNORECASE
)
"""Only its text tells a block by content moderation from other failures. Source: Segmind's API page."""

_CREDITS_WORDS = re.compile(r"credit|balance|spend|insufficient|quota|top.?up|billing", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ResponseKind:
    """
    A row of :data:`ANSWERS`.

    :param what: the kind of response, in the words of docs/reliability.md
    :param matches: whether a response is of this kind
    :param submit: the error on a submit
    :param other: the error on any other request
    """

    what: str
    matches: Callable[[Response], bool]
    submit: type[SegmindError]
    other: type[SegmindError]


def _has_status(*statuses: int) -> Callable[[Response], bool]:
    return lambda response: response.status in statuses


ANSWERS = (
    ResponseKind("401, 403", _has_status(401, 403), SegmindAuthError, SegmindAuthError),
    ResponseKind(
        "404 in JSON",
        lambda response: response.status == 404 and bool(response.object),
        SegmindModelNotFoundError,
        SegmindJobExpiredError,
    ),
    # A proxy's own page says nothing about a job, and a job that is wrongly taken for unknown is paid for again.
    ResponseKind("any other 404", _has_status(404), SegmindModelNotFoundError, SegmindServiceError),
    ResponseKind("408, 425", _has_status(408, 425), SegmindServiceError, SegmindServiceError),
    ResponseKind("410", _has_status(410), SegmindModelNotFoundError, SegmindRequestError),
    ResponseKind("429", _has_status(429), SegmindRateLimitError, SegmindRateLimitError),
    ResponseKind(
        "400, 405, 406, any other 4xx",
        lambda response: 400 <= response.status < 500,
        SegmindRequestError,
        SegmindRequestError,
    ),
    ResponseKind(
        "500, 502, 503 in the gateway's own JSON",
        lambda response: response.status in (500, 502, 503) and isinstance(response.object.get("error"), str),
        SegmindServiceError,
        SegmindServiceError,
    ),
    ResponseKind(
        "504, any other 5xx, 3xx, an unusable 2xx (no valid request id, HTML, empty, malformed)",
        lambda _: True,
        SegmindSubmitUnknownError,
        SegmindServiceError,
    ),
)
"""
What a response that is not a plain success means; the first row that matches counts.

Where no response came, a submit that may have been sent counts as the last row, and one that cannot have been sent as a
:class:`SegmindServiceError`; so does any other request.
"""


def error_class(response: Response, *, submit: bool = False) -> type[SegmindError]:
    """Return the error that a response stands for, on a submit or on any other request."""
    row = next(row for row in ANSWERS if row.matches(response))
    return row.submit if submit else row.other


def refusal(
    api: ApiContext, response: Response, action: str, *, request_id: str | None = None, gateway: bool = True
) -> SegmindError:
    """
    Return the error for the response to anything but a submit.

    :param action: the request in words, for the text
    :param gateway: whether the response is the gateway's; only its 429 holds back the connection's other requests
    """
    kind = error_class(response)
    if kind is SegmindJobExpiredError and request_id is None:
        kind = SegmindRequestError
    return _error(api, response, kind, action, request_id=request_id, gateway=gateway)


def submit_refusal(api: ApiContext, response: Response, model: str) -> SegmindError:
    """Return the error for a submit's response without a request id."""
    kind, status = error_class(response, submit=True), response.status
    if kind is SegmindModelNotFoundError:
        reason = "has retired the model" if status == 410 else "has no model"
        return SegmindModelNotFoundError(
            f"Segmind {reason} {model!r} (HTTP {status}): {_words(api, response)} Check `model`.", status_code=status
        )
    if kind is SegmindSubmitUnknownError:
        return SegmindSubmitUnknownError(
            f"Segmind answered the submit to {model} with HTTP {status} and no request id, so the job may be queued "
            f"and billed: {_words(api, response)}",
            status_code=status,
        )
    return _error(api, response, kind, f"the submit to {model}")


def submit_failure(api: ApiContext, failure: TransportFailure, model: str) -> SegmindError:
    """Return the error for a submit without a response."""
    reason = api.redact(failure)
    if failure.sent:
        return SegmindSubmitUnknownError(
            f"The submit to {model} was sent and got no response ({reason}), so the job may be queued and billed."
        )
    return SegmindServiceError(f"Segmind could not be reached, and nothing was sent: {reason}")


def job_failure(api: ApiContext, request_id: str, detail: str | None) -> SegmindJobFailedError:
    """Return the error for a job that FAILED, with Segmind's own words in ``detail``."""
    words = api.redact(detail or "no reason given")
    kind = SegmindModerationError if MODERATION_WORDS.search(words) else SegmindJobFailedError
    return kind(
        f"Segmind's job {request_id} failed: {words} (a failed job is not billed)", detail=words, request_id=request_id
    )


def as_service_error(error: SegmindError) -> SegmindError:
    """
    Return an error of a host other than the gateway, with a rate limit made an ordinary outage.

    An operator defers a submit when it meets a :class:`SegmindRateLimitError`; another host's limit is no reason to.
    """
    if isinstance(error, SegmindRateLimitError):
        return SegmindServiceError(str(error), status_code=429, request_id=error.request_id)
    return error


def _error(
    api: ApiContext,
    response: Response,
    kind: type[SegmindError],
    action: str,
    *,
    request_id: str | None = None,
    gateway: bool = True,
) -> SegmindError:
    status = response.status
    if kind is SegmindRateLimitError:
        moment = reset_at(response.headers, api.clock())
        if gateway:
            api.limiter.close_until(moment)
        return SegmindRateLimitError(
            f"Segmind's rate limit is used up (HTTP 429 on {action}) and resets in {moment - api.clock():.0f} s. Set "
            "'requests_per_minute' in the connection's extra to stay below it.",
            reset_at=moment,
            status_code=status,
            request_id=request_id,
        )
    if kind is SegmindJobExpiredError:
        return SegmindJobExpiredError(
            f"Segmind does not know request {request_id} (HTTP 404). It keeps the record for one hour; its request "
            "history keeps it longer.",
            status_code=status,
            request_id=request_id,
        )
    words, verb, fix = _words(api, response), "could not serve", ""
    if kind is SegmindAuthError:
        fix = " Check the password (the API key) of the connection, and what the account may use."
    elif status == 406 and _CREDITS_WORDS.search(words):
        kind, fix = SegmindCreditsError, " Add credits, or raise the team's spend limit."
    if issubclass(kind, SegmindRequestError):
        verb = "refused"
    elif 300 <= status < 400:
        words = "it redirects elsewhere, which is not followed. Check the connection's host."
    return kind(f"Segmind {verb} {action} (HTTP {status}): {words}{fix}", status_code=status, request_id=request_id)


def _words(api: ApiContext, response: Response) -> str:
    """Return Segmind's own words as a sentence, or what came in their place."""
    words = error_text(response.object)
    if words is None:
        kind = api.redact(response.content_type or "no declared type")
        return f"the response has no message ({len(response.body)} bytes of {kind})."
    words = api.redact(words)
    return words if words.endswith((".", "!", "?")) else f"{words}."
