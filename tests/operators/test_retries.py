"""How soon Airflow retries what."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_segmind.exceptions import (
    SegmindJobTimeoutError,
    SegmindStorageError,
    SegmindSubmitUnknownError,
)
from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from airflow_provider_segmind.operators.parameters import default_retry_policy

pytestmark = pytest.mark.skipif(default_retry_policy() is None, reason="retry policies came with Airflow 3.3")


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (SegmindJobTimeoutError("still running"), timedelta(seconds=5)),
        (SegmindSubmitUnknownError("unknown"), timedelta(minutes=2)),
        (SegmindStorageError("down"), None),
        (ValueError("not ours"), None),
    ],
)
def test_a_retry_waits_as_long_as_its_error_needs(error, delay):
    operator = BriaEraseForegroundOperator(task_id="erase", image="https://example.com/cup.png", retries=2)
    decision = operator.retry_policy.evaluate(error, try_number=1, max_tries=2)

    assert decision.retry_delay == delay


def test_a_retry_policy_given_by_the_user_is_kept():
    own = default_retry_policy()
    operator = BriaEraseForegroundOperator(task_id="erase", image="https://example.com/cup.png", retry_policy=own)

    assert operator.retry_policy is own
