"""
What can go wrong with Segmind, split by what the caller should do about it.

SegmindError (an AirflowException)
  + SegmindInputError           a parameter or a connection is wrong: mend it; nothing was sent (also a ValueError,
  |                             and an AirflowFailException: no retries are burnt on it)
  + SegmindRequestError         refused (4xx): never retried, nothing was queued
  |   + SegmindAuthError            401, 403: the key, or what it may use
  |   + SegmindCreditsError         406 that names credits or a spend limit
  |   + SegmindModelNotFoundError   404, 410 on a submit: no such model, or a retired one
  + SegmindRateLimitError       429: wait until ``reset_at``
  + SegmindServiceError         5xx, transport, an answer that makes no sense: nothing was queued, or a GET
  + SegmindSubmitUnknownError   a POST whose outcome is unknown: look before paying again
  + SegmindJobFailedError       the job ran and failed; it was not billed
  |   + SegmindModerationError      blocked by content moderation
  + SegmindJobExpiredError      404 on a request id: the record is gone after its hour
  + SegmindJobTimeoutError      the deadline passed; the job still runs, a retry goes on with it
  + SegmindOutputError          the result file is missing, truncated, not an image or from a host not trusted
  + SegmindStorageError         the source or the destination storage failed; a retry pays nothing
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

__all__ = [
    "SegmindAuthError",
    "SegmindCreditsError",
    "SegmindError",
    "SegmindInputError",
    "SegmindJobExpiredError",
    "SegmindJobFailedError",
    "SegmindJobTimeoutError",
    "SegmindModelNotFoundError",
    "SegmindModerationError",
    "SegmindOutputError",
    "SegmindRateLimitError",
    "SegmindRequestError",
    "SegmindServiceError",
    "SegmindStorageError",
    "SegmindSubmitUnknownError",
]


class SegmindError(AirflowException):
    """
    Base of everything this provider raises.

    :param message: what happened and what to do about it
    :param request_id: Segmind's id of the request, where one is known
    """

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep every fact through pickling and copying, whatever a subclass's constructor asks for."""
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[SegmindError], args: tuple[Any, ...], facts: dict[str, Any]) -> SegmindError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class SegmindInputError(SegmindError, AirflowFailException, ValueError):
    """
    A parameter, a connection field or a source image is unusable; the text names it, its value and the remedy.

    As an ``AirflowFailException`` it burns no retries, wherever it comes up: a mapped task meets it as it is unmapped.
    """


class SegmindRequestError(SegmindError):
    """
    Segmind refused the request (4xx): repeating it cannot help, and nothing was queued.

    :param status_code: the HTTP status
    """

    def __init__(self, message: str, *, status_code: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.status_code = status_code  # type: ignore[assignment]  # AirflowException has one of another type


class SegmindAuthError(SegmindRequestError):
    """The key is missing or refused (401), or the account may not use this (403)."""


class SegmindCreditsError(SegmindRequestError):
    """The account has too few credits, or its team has reached its spend limit (406)."""


class SegmindModelNotFoundError(SegmindRequestError):
    """There is no such model (404), or it was retired (410)."""


class SegmindRateLimitError(SegmindError):
    """
    The account's rate limit is used up (429); nothing was queued.

    :param reset_at: epoch seconds at which the limit resets, at most an hour away
    """

    def __init__(self, message: str, *, reset_at: float, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.reset_at = reset_at


class SegmindServiceError(SegmindError):
    """
    Segmind could not be reached, failed (5xx) or answered what makes no sense; a POST so answered was not queued.

    :param status_code: the HTTP status, ``None`` where no answer came
    """

    def __init__(self, message: str, *, status_code: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.status_code = status_code  # type: ignore[assignment]  # AirflowException has one of another type


class SegmindSubmitUnknownError(SegmindError):
    """A submit's outcome is unknown: the job may run and be billed. A retry looks for it before it pays again."""


class SegmindJobFailedError(SegmindError):
    """
    The job ran and failed. Segmind bills only completed jobs, so this one cost nothing.

    :param detail: the service's own words
    """

    def __init__(self, message: str, *, detail: str, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.detail = detail


class SegmindModerationError(SegmindJobFailedError):
    """Content moderation blocked the input or the output; the same image will be blocked again."""


class SegmindJobExpiredError(SegmindError):
    """Segmind no longer knows the request id (it keeps a record for one hour), or never did."""


class SegmindJobTimeoutError(SegmindError):
    """The deadline passed and the job has not ended. It still runs: keep ``request_id``."""


class SegmindOutputError(SegmindError):
    """The result file is missing, truncated, too large, not an image, or on a host that is not trusted."""


class SegmindStorageError(SegmindError):
    """The storage of the source or the destination failed; nothing paid for is lost by it."""
