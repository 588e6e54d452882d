"""
The one table: from whatever came of a request, a job or a file to what is done about it.

Two steps, both data: what came back names an error (:data:`ANSWERS`), and the error names what is repeated, what is
known of the bill, and what Airflow is told (:data:`ERRORS`). ``docs/reliability.md`` shows the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from airflow_provider_segmind.api.flow import Answer
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
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


@dataclass(frozen=True, slots=True)
class Answered:
    """
    A kind of answer.

    :param what: as the documentation says it
    :param matches: whether an answer is of this kind; the first row that matches counts
    :param submit: what it is on a submit
    :param other: what it is on any other request
    """

    what: str
    matches: Callable[[Answer], bool]
    submit: type[SegmindError]
    other: type[SegmindError]


def _status(*statuses: int) -> Callable[[Answer], bool]:
    return lambda answer: answer.status in statuses


def gateways_own(answer: Answer) -> bool:
    """Whether the gateway itself speaks, in its envelope: of a 5xx only that proves that nothing was queued."""
    return isinstance(answer.object.get("error"), str)


ANSWERS = (
    Answered("401, 403", _status(401, 403), SegmindAuthError, SegmindAuthError),
    Answered(
        "404 in JSON",
        lambda answer: answer.status == 404 and bool(answer.object),
        SegmindModelNotFoundError,
        SegmindJobExpiredError,
    ),
    # Some proxy's own page: no word about a job, of which a wrong "unknown" would cost a second one.
    Answered("404 otherwise", _status(404), SegmindModelNotFoundError, SegmindServiceError),
    Answered("408, 425", _status(408, 425), SegmindServiceError, SegmindServiceError),
    Answered("410", _status(410), SegmindModelNotFoundError, SegmindRequestError),
    Answered("429", _status(429), SegmindRateLimitError, SegmindRateLimitError),
    Answered(
        "400, 405, 406, other 4xx",
        lambda answer: 400 <= answer.status < 500,
        SegmindRequestError,
        SegmindRequestError,
    ),
    Answered(
        "500, 502, 503 in the gateway's own JSON",
        lambda answer: answer.status in (500, 502, 503) and gateways_own(answer),
        SegmindServiceError,
        SegmindServiceError,
    ),
    Answered(
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


def error_of(answer: Answer, *, submit: bool = False) -> type[SegmindError]:
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

    flow: str
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
