"""
The errors of this provider, divided by what the caller should do about them.

SegmindError (an AirflowException)
  + SegmindInputError           a parameter or a connection is wrong; nothing was sent (also a ValueError, and an
  |                             AirflowFailException, so that no retry is spent on it)
  |   + SegmindMissingFileError     a file or an object that a parameter names does not exist
  + SegmindRequestError         refused (4xx): never retried, nothing was queued
  |   + SegmindAuthError            401, 403: the key is wrong, or may not use this
  |   + SegmindCreditsError         406 that speaks of credits or a spend limit
  |   + SegmindModelNotFoundError   404, 410 on a submit: no such model, or a retired one
  + SegmindRateLimitError       429: wait until ``reset_at``
  + SegmindServiceError         5xx, transport failure, or a response that makes no sense; a submit was not queued
  + SegmindSubmitUnknownError   a submit whose outcome is unknown: reconcile before paying again
  + SegmindSubmitPendingError   another submit of the same job is under way: look again later; nothing was submitted
  + SegmindJobFailedError       the job ran and failed; it was not billed
  |   + SegmindModerationError      blocked by content moderation
  + SegmindJobExpiredError      404 on a request id: Segmind drops the record after one hour
  + SegmindJobTimeoutError      the deadline passed; the job still runs, and a retry waits for the same job
  + SegmindCheckpointError      a checkpoint exists and cannot be read; nothing was submitted
  + SegmindOutputError          the result file is missing, truncated, not an image, or on a host that is not trusted
  + SegmindStorageError         the source or the destination storage failed; a retry pays nothing
  + SegmindBatchError           a batch has more failures than it may have; a retry does only those
      + SegmindBudgetError          a batch has spent what it may spend
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class TaskFate(StrEnum):
    """What happens to the Airflow task once the operation has given up."""

    FAIL = "fails for good"
    RETRY = "fails, retried"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about an error. A class without a policy of its own has its base's."""

    handling: str  # what the operation does by itself, in the words of docs/reliability.md
    task: TaskFate
    repeat: bool = False  # whether a GET that ended with this error is repeated
    repeat_submit: bool = False  # whether a submit that ended with it is repeated
    not_queued: bool = False  # whether it proves, on a submit, that nothing was queued
    may_recover: bool = False  # whether time or the user may fix the cause, so that storing is worth another try
    retry_delay: timedelta | None = None  # how soon Airflow retries the task; by default as the task says
    retry_reason: str = ""


class SegmindError(AirflowException):
    """
    Base class of every error that this provider raises.

    :param message: what is wrong, the value, and the fix
    :param request_id: the request it is about, if known
    :param status_code: the HTTP status of the response it is about, ``None`` if no response came
    """

    policy: ClassVar[Policy] = Policy("ends", TaskFate.RETRY)

    def __init__(self, message: str, *, request_id: str | None = None, status_code: int | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.status_code = status_code  # type: ignore[assignment]  # AirflowException declares another type

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep every attribute when pickled or copied, whatever arguments a subclass's constructor requires."""
        return type(self).__new__, (type(self), *self.args), dict(self.__dict__)


class SegmindInputError(SegmindError, AirflowFailException, ValueError):
    """
    A parameter, a connection field or a source image is unusable; the text names it, its value and the fix.

    It is an ``AirflowFailException``, because a mapped task raises it while being unmapped, outside ``execute``.
    """

    policy = Policy("ends", TaskFate.FAIL, may_recover=True)


class SegmindMissingFileError(SegmindInputError):
    """A file or an object that a parameter names does not exist."""


class SegmindRequestError(SegmindError):
    """Segmind refused the request (4xx). Repeating it cannot help, and nothing was queued."""

    policy = Policy("ends", TaskFate.FAIL, not_queued=True)


class SegmindAuthError(SegmindRequestError):
    """The API key is missing or refused (401), or the account may not use this (403)."""


class SegmindCreditsError(SegmindRequestError):
    """The account has too few credits, or its team has reached its spend limit (406)."""


class SegmindModelNotFoundError(SegmindRequestError):
    """There is no such model (404), or Segmind has retired it (410)."""


class SegmindRateLimitError(SegmindError):
    """
    The account's rate limit is used up (429), or has no slot soon enough; nothing was queued.

    :param reset_at: epoch seconds from which requests may go again; after a 429 at most an hour away
    """

    policy = Policy(
        "a submit defers until the reset; any other request waits until then",
        TaskFate.RETRY,
        repeat=True,
        not_queued=True,
        may_recover=True,
    )

    def __init__(self, message: str, *, reset_at: float, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.reset_at = reset_at


class SegmindServiceError(SegmindError):
    """Segmind could not be reached, failed (5xx), or sent a response that makes no sense; a submit was not queued."""

    policy = Policy(
        "repeats the request, 5 times within a minute; a wait polls until its deadline",
        TaskFate.RETRY,
        repeat=True,
        repeat_submit=True,
        not_queued=True,
        may_recover=True,
    )


class SegmindSubmitUnknownError(SegmindError):
    """The outcome of a submit is unknown: the job may run and be billed. A retry looks for it before it pays again."""

    policy = Policy(
        "searches the request history for the job",
        TaskFate.RETRY,
        retry_delay=timedelta(minutes=2),
        retry_reason="search the request history again",
    )


class SegmindSubmitPendingError(SegmindError):
    """
    Another submit of the same job may be accepted at any moment, or was sent and can be judged later only.

    Nothing was submitted by whoever gets this error.

    :param until: epoch seconds from which the outcome of that submit can be told
    :param look_at: epoch seconds at which it is worth looking again, because the outcome may be known by then
    """

    policy = Policy(
        "looks again every 10 s, without a worker slot",
        TaskFate.RETRY,
        retry_delay=timedelta(seconds=30),
        retry_reason="another task submits the same job: look what became of it",
    )

    def __init__(
        self, message: str, *, until: float, look_at: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.until = until
        self.look_at = until if look_at is None else look_at


class SegmindJobFailedError(SegmindError):
    """
    The job ran and failed. Segmind bills only completed jobs, so this one cost nothing.

    :param detail: Segmind's own words
    """

    policy = Policy("ends; forgets the checkpoint, because a failed job is not billed", TaskFate.RETRY)

    def __init__(self, message: str, *, detail: str, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.detail = detail


class SegmindModerationError(SegmindJobFailedError):
    """Content moderation blocked the input or the output; the same image would be blocked again."""

    policy = Policy("ends; forgets the checkpoint", TaskFate.FAIL)


class SegmindJobExpiredError(SegmindError):
    """Segmind no longer knows the request id (it keeps the record for one hour), or never did."""

    policy = replace(
        SegmindSubmitUnknownError.policy, handling="looks the job up in the request history", may_recover=True
    )


class SegmindJobTimeoutError(SegmindError):
    """The deadline passed before the job ended. The job still runs: keep ``request_id``."""

    policy = Policy(
        "ends after a last poll",
        TaskFate.RETRY,
        retry_delay=timedelta(seconds=5),
        retry_reason="the job still runs: wait for it again",
    )


class SegmindOutputError(SegmindError):
    """The result file is missing, truncated, too large, not an image, or on a host that is not trusted."""

    policy = Policy("downloads the file again, 5 times in all", TaskFate.RETRY, may_recover=True)


class SegmindStorageError(SegmindError):
    """The storage of the source or of the destination failed. The paid result is not lost by it."""

    policy = Policy("ends", TaskFate.RETRY, may_recover=True)


class SegmindCheckpointError(SegmindError):
    """A checkpoint exists and cannot be read. It may be about a paid job, so nothing is submitted."""

    policy = Policy("ends; nothing is submitted", TaskFate.RETRY)


class SegmindBatchError(SegmindError):
    """More images of a batch failed than ``max_failures`` allows. The others are stored; a retry does only these."""

    policy = Policy("ends when everything else is stored", TaskFate.RETRY)


class SegmindBudgetError(SegmindBatchError):
    """A batch has reached its ``max_cost``. What was submitted is stored; a higher ``max_cost`` and a Clear go on."""

    policy = Policy("collects what is in flight, then ends", TaskFate.FAIL)


__all__ = sorted(name for name in globals() if name.startswith("Segmind"))
