"""From an answer, or a job's end, to the exception that says what to do; which one it is, ``outcomes.py`` says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from airflow_provider_segmind.api.operation import ApiContext, Response, TransportFailure
from airflow_provider_segmind.api.parsing import error_text
from airflow_provider_segmind.api.rate_limit import reset_at
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindCreditsError,
    SegmindError,
    SegmindInputError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindJobTimeoutError,
    SegmindModelNotFoundError,
    SegmindModerationError,
    SegmindOutputError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindStorageError,
    SegmindSubmitUnknownError,
)

MODERATION_WORDS = re.compile(
    r"\b(moderation|moderated|nsfw|content[ _]policy|safety|responsible ai|rai|flagged|prohibited)\b",
    re.IGNORECASE,
)
"""A block by content moderation is told from other failures by its text alone: these words."""

_CREDITS = re.compile(r"credit|balance|spend|insufficient|quota|top.?up|billing", re.IGNORECASE)


def refusal(
    api: ApiContext, answer: Response, doing: str, *, request_id: str | None = None, gateway: bool = True
) -> SegmindError:
    """
    Return the error for an answer to anything but a submit.

    :param doing: what was asked, for the text
    :param gateway: whether the gateway has answered; its 429 closes its gate for all
    """
    kind = error_of(answer)
    if kind is SegmindJobExpiredError and request_id is None:
        kind = SegmindRequestError
    return _error(api, answer, kind, doing, request_id=request_id, gateway=gateway)


def other_hosts(error: SegmindError) -> SegmindError:
    """Return another host's error: its limit is trouble, and not the closed gate at which a submit waits its turn."""
    if isinstance(error, SegmindRateLimitError):
        return SegmindServiceError(str(error), status_code=429, request_id=error.request_id)
    return error


def submit_refusal(api: ApiContext, answer: Response, model: str) -> SegmindError:
    """Return the error for a submit's answer that has no request id; told apart by whether a job may be queued."""
    kind, status = error_of(answer, submit=True), answer.status
    if kind is SegmindModelNotFoundError:
        gone = "has retired the model" if status == 410 else "has no model"
        return SegmindModelNotFoundError(
            f"Segmind {gone} {model!r} (HTTP {status}): {_said(api, answer)} Check `model`.", status_code=status
        )
    if kind is SegmindSubmitUnknownError:
        return SegmindSubmitUnknownError(
            f"Segmind answered the submit to {model} with HTTP {status} and no request id: the job may be queued and "
            f"billed. ({_said(api, answer)})"
        )
    return _error(api, answer, kind, f"the submit to {model}")


def submit_failure(api: ApiContext, failure: TransportFailure, model: str) -> SegmindError:
    """Return the error for a submit that got no answer."""
    said = api.redact(failure)
    if failure.sent:
        return SegmindSubmitUnknownError(
            f"The call to {model} broke off after it was sent ({said}): the job may be queued and billed."
        )
    return SegmindServiceError(f"Segmind could not be reached, nothing was sent: {said}")


def job_failure(api: ApiContext, request_id: str, detail: str | None) -> SegmindJobFailedError:
    """Return the error for a job that FAILED."""
    said = api.redact(detail or "no reason given")
    kind = SegmindModerationError if MODERATION_WORDS.search(said) else SegmindJobFailedError
    return kind(
        f"Segmind's job {request_id} failed: {said} (a failed job is not billed)",
        detail=said,
        request_id=request_id,
    )


def _error(
    api: ApiContext,
    answer: Response,
    kind: type[SegmindError],
    doing: str,
    *,
    request_id: str | None = None,
    gateway: bool = True,
) -> SegmindError:
    status, said = answer.status, _said(api, answer)
    if kind is SegmindRateLimitError:
        moment = reset_at(answer.headers, api.clock())
        if gateway:
            api.limiter.close_until(moment)
        return SegmindRateLimitError(
            f"Segmind's rate limit is used up (HTTP 429 on {doing}); it resets in "
            f"{moment - api.clock():.0f} s. 'requests_per_minute' in the connection's extra keeps below it.",
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


def _said(api: ApiContext, answer: Response) -> str:
    said = error_text(answer.object)
    if said is None:
        kind = answer.headers.get("content-type", "").partition(";")[0] or "no declared type"
        return api.redact(f"the answer has no message ({len(answer.body)} bytes, {kind}).")
    text = api.redact(said)
    return text if text.endswith((".", "!", "?")) else f"{text}."


@dataclass(frozen=True, slots=True)
class ResponseKind:
    """
    A kind of answer.

    :param what: as the documentation says it
    :param matches: whether an answer is of this kind; the first row that matches counts
    :param submit: what it is on a submit
    :param other: what it is on any other request
    """

    what: str
    matches: Callable[[Response], bool]
    submit: type[SegmindError]
    other: type[SegmindError]


def _status(*statuses: int) -> Callable[[Response], bool]:
    return lambda answer: answer.status in statuses


def gateways_own(answer: Response) -> bool:
    """Whether the gateway itself speaks, in its envelope: of a 5xx only that proves that nothing was queued."""
    return isinstance(answer.object.get("error"), str)


ANSWERS = (
    ResponseKind("401, 403", _status(401, 403), SegmindAuthError, SegmindAuthError),
    ResponseKind(
        "404 in JSON",
        lambda answer: answer.status == 404 and bool(answer.object),
        SegmindModelNotFoundError,
        SegmindJobExpiredError,
    ),
    # Some proxy's own page: no word about a job, of which a wrong "unknown" would cost a second one.
    ResponseKind("404 otherwise", _status(404), SegmindModelNotFoundError, SegmindServiceError),
    ResponseKind("408, 425", _status(408, 425), SegmindServiceError, SegmindServiceError),
    ResponseKind("410", _status(410), SegmindModelNotFoundError, SegmindRequestError),
    ResponseKind("429", _status(429), SegmindRateLimitError, SegmindRateLimitError),
    ResponseKind(
        "400, 405, 406, other 4xx",
        lambda answer: 400 <= answer.status < 500,
        SegmindRequestError,
        SegmindRequestError,
    ),
    ResponseKind(
        "500, 502, 503 in the gateway's own JSON",
        lambda answer: answer.status in (500, 502, 503) and gateways_own(answer),
        SegmindServiceError,
        SegmindServiceError,
    ),
    ResponseKind(
        "504, other 5xx, 3xx, a 2xx that is no answer (no usable id, HTML, empty, malformed)",
        lambda _: True,
        SegmindSubmitUnknownError,
        SegmindServiceError,
    ),
)
"""
What an answer is that is no plain success. No answer at all counts on a submit as the last row where the request may
have been sent, and as a SegmindServiceError where it cannot have been, or on any other request.
"""


def error_of(answer: Response, *, submit: bool = False) -> type[SegmindError]:
    """Return the error that an answer stands for."""
    row = next(row for row in ANSWERS if row.matches(answer))
    return row.submit if submit else row.other


class Task(StrEnum):
    """What Airflow is told."""

    FAIL = "fails for good"
    RETRY = "fails, retried"


@dataclass(frozen=True, slots=True)
class Then:
    """
    What is done about an error.

    :param flow: what the flow does by itself, as the documentation says it
    :param task: what Airflow is told once the flow has given up
    :param repeat: whether the flow repeats the request, a submit excepted
    :param resubmit: whether it repeats a submit
    :param unpaid: whether it proves, on a submit, that nothing was queued
    :param may_mend: whether time or the user may mend it, so that fetching a result is worth another try
    :param delay: how soon Airflow retries; ``None``: the task's own ``retry_delay``
    :param why: of the delay
    """

    operation: str
    task: Task
    repeat: bool = False
    resubmit: bool = False
    unpaid: bool = False
    may_mend: bool = False
    delay: timedelta | None = None
    why: str = ""


ERRORS: dict[type[SegmindError], Then] = {
    SegmindInputError: Then("ends", Task.FAIL, may_mend=True),
    SegmindRequestError: Then("ends", Task.FAIL, unpaid=True),
    SegmindRateLimitError: Then(
        "a submit defers until the reset; any other request waits for it",
        Task.RETRY,
        repeat=True,
        unpaid=True,
        may_mend=True,
    ),
    SegmindServiceError: Then(
        "repeats the request: 5 times within a minute, polls until the deadline",
        Task.RETRY,
        repeat=True,
        resubmit=True,
        unpaid=True,
        may_mend=True,
    ),
    SegmindSubmitUnknownError: Then(
        "looks into the request history",
        Task.RETRY,
        delay=timedelta(minutes=2),
        why="look into the request history again",
    ),
    SegmindJobFailedError: Then("ends; the note is forgotten, for a failed job is not billed", Task.RETRY),
    SegmindModerationError: Then("ends; the note is forgotten", Task.FAIL),
    SegmindJobExpiredError: Then(
        "looks into the request history",
        Task.RETRY,
        may_mend=True,
        delay=timedelta(minutes=2),
        why="look into the request history again",
    ),
    SegmindJobTimeoutError: Then(
        "ends, after a last look",
        Task.RETRY,
        delay=timedelta(seconds=5),
        why="the job still runs: go on waiting for it",
    ),
    SegmindOutputError: Then("fetches the file again: 5 times", Task.RETRY, may_mend=True),
    SegmindStorageError: Then("ends", Task.RETRY, may_mend=True),
}
"""What each error leads to; a subclass without a row of its own has its base's."""


def then(error: SegmindError) -> Then:
    """Return what is done about an error."""
    return next((ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS), Then("ends", Task.RETRY))
