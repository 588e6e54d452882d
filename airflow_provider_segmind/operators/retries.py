"""What a failure means to Airflow: fail for good, skip, or fail and retry, and how soon; by the table of outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_segmind.api.errors import ERRORS, Task, then
from airflow_provider_segmind.exceptions import SegmindError, SegmindModerationError, SegmindSubmitUnknownError


@contextmanager
def told_to_airflow(*, skip_moderated: bool, fail_unknown: bool) -> Iterator[None]:
    """
    Turn what cannot get better by itself into ``AirflowFailException``: no retries are burnt on it.

    :param skip_moderated: whether a moderation block skips the task
    :param fail_unknown: whether a submit of unknown outcome ends the task for good
    """
    try:
        yield
    except AirflowFailException:
        raise
    except SegmindError as error:
        if skip_moderated and isinstance(error, SegmindModerationError):
            raise AirflowSkipException(str(error)) from error
        if then(error).task is Task.FAIL or (fail_unknown and isinstance(error, SegmindSubmitUnknownError)):
            raise AirflowFailException(str(error)) from error
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
                retry_delay=row.delay,
                reason=row.why,
            )
            for kind, row in ERRORS.items()
            if row.delay is not None
        ]
    )
