"""What a failure means to Airflow: fail for good, skip, or fail and retry, and how soon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_segmind.exceptions import (
    SegmindInputError,
    SegmindJobExpiredError,
    SegmindJobTimeoutError,
    SegmindModerationError,
    SegmindRequestError,
    SegmindSubmitUnknownError,
)

_DELAYS = (
    (SegmindJobTimeoutError, timedelta(seconds=5), "the job still runs: go on waiting for it"),
    (SegmindSubmitUnknownError, timedelta(minutes=2), "look into the request history again"),
    (SegmindJobExpiredError, timedelta(minutes=2), "look into the request history again"),
)
"""Where a retry knows better than ``retry_delay`` when to come; what is not listed keeps the task's own delay."""


@contextmanager
def told_to_airflow(*, skip_moderated: bool, fail_unknown: bool) -> Iterator[None]:
    """
    Turn what cannot get better by itself into ``AirflowFailException``: no retries are burnt on it.

    :param skip_moderated: whether a moderation block skips the task
    :param fail_unknown: whether a submit of unknown outcome ends the task for good
    """
    try:
        yield
    except SegmindModerationError as blocked:
        if skip_moderated:
            raise AirflowSkipException(str(blocked)) from blocked
        raise AirflowFailException(str(blocked)) from blocked
    except (SegmindInputError, SegmindRequestError) as refused:
        raise AirflowFailException(str(refused)) from refused
    except SegmindSubmitUnknownError as unknown:
        if fail_unknown:
            raise AirflowFailException(str(unknown)) from unknown
        raise


def default_retry_policy() -> Any:
    """Return the retry policy of Segmind's operators, ``None`` before Airflow 3.3, which has none."""
    try:
        from airflow.providers.common.compat.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
    except (ImportError, AttributeError):
        return None
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception=f"{kind.__module__}.{kind.__qualname__}",
                action=RetryAction.RETRY,
                retry_delay=delay,
                reason=reason,
            )
            for kind, delay, reason in _DELAYS
        ]
    )
