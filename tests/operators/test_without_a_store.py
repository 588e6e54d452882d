"""Airflow before 3.3 has no task state store: what a deferral can carry it carries, and no retry pays again."""

from __future__ import annotations

import errno
from io import BytesIO

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_segmind.exceptions import SegmindJobFailedError, SegmindServiceError
from airflow_provider_segmind.jobs import delivery, run

pytestmark = pytest.mark.parametrize("deferrable", [True, False])


@pytest.fixture(autouse=True)
def quick(quick_retries, monkeypatch):
    monkeypatch.setattr(run, "STORE_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(run, "MAX_STORE_ATTEMPTS", 2)


def test_a_result_file_that_is_late_is_waited_for(erase, segmind, destination, deferrable):
    segmind.faults.add("error", on="file", status=503, times=7)
    task = erase(durable=False, deferrable=deferrable)
    task.run()

    assert len(segmind.jobs) == 1
    assert [event["store_attempts"] for event in task.events] == ([0, 1] if deferrable else [])
    assert destination.exists()


def test_a_full_disk_is_waited_for(erase, segmind, destination, monkeypatch, deferrable):
    class Full(BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    disks = [Full(), Full(), BytesIO()]
    monkeypatch.setattr(delivery.tempfile, "TemporaryFile", lambda **_: disks.pop(0))
    erase(durable=False, deferrable=deferrable).run()

    assert (len(segmind.jobs), disks) == (1, [])


@pytest.mark.parametrize(
    "fault",
    [
        {"name": "error", "on": "file", "status": 503},
        {"name": "truncated_file"},
        {"name": "error", "on": ["status", "result"], "status": 401},
        {"name": "job_takes", "seconds": 30.0},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_an_error_that_does_not_go_away_fails_without_retries_and_names_the_request(erase, segmind, fault, deferrable):
    segmind.faults.add(times=None, **fault)
    with pytest.raises(AirflowFailException, match=r"is not retried.*know of request \S+ and pay again") as failed:
        erase(durable=False, deferrable=deferrable, timeout=2).run()

    assert len(segmind.jobs) == 1
    assert segmind.jobs[0].request_id in str(failed.value)


def test_an_unknown_submit_that_the_history_cannot_resolve_fails_without_retries(erase, segmind, deferrable):
    segmind.faults.add("cut_after_accept")
    segmind.faults.add("error", on="history", status=500, times=None)
    with pytest.raises(AirflowFailException, match="is not retried"):
        erase(durable=False, deferrable=deferrable).run()

    assert len(segmind.jobs) == 1


def test_a_cut_submit_is_reconciled_within_the_try(erase, segmind, deferrable):
    segmind.faults.add("cut_after_accept")
    erase(durable=False, deferrable=deferrable).run()

    assert len(segmind.jobs) == 1


def test_an_adopted_job_is_still_known_after_a_wait_for_the_rate_limit(erase, segmind, deferrable):
    segmind.faults.add("cut_after_accept")
    segmind.faults.add("rate_limited", on="status", seconds=65.0)
    task = erase(durable=False, deferrable=deferrable, timeout=30)
    with pytest.raises(AirflowFailException, match=r"paid for.*is not retried"):
        task.run()

    assert len(segmind.jobs) == 1


def test_a_submit_that_queued_nothing_may_be_retried(erase, segmind, deferrable):
    segmind.faults.add("error", on="submit", status=503, times=None)
    with pytest.raises(SegmindServiceError) as failed:
        erase(durable=False, deferrable=deferrable).run()

    assert not isinstance(failed.value, AirflowFailException)


def test_a_failed_job_may_be_retried_since_it_cost_nothing(erase, segmind, deferrable):
    segmind.faults.add("job_fails")
    with pytest.raises(SegmindJobFailedError) as failed:
        erase(durable=False, deferrable=deferrable).run()

    assert not isinstance(failed.value, AirflowFailException)
