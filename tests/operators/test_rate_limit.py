"""A submit at a closed gate: who waits, how long, how often it asks, and what is said when the time is up."""

from __future__ import annotations

import json
import time

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_segmind.exceptions import SegmindJobTimeoutError, SegmindRateLimitError, SegmindServiceError
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.jobs.checkpoint import KEY


def use_up_the_limit(segmind, monkeypatch):
    """Leave no slot for 0.4 s, which is longer than a submit waits in the worker."""
    connection = {**json.loads(segmind.connection), "extra": {"requests_per_minute": 150.5}}
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps(connection))
    monkeypatch.setattr("airflow_provider_segmind.jobs.run.MAX_SUBMIT_WAIT", 0.05)
    limiter = SegmindHook().api.limiter
    limiter.take(limiter.ticket(), time.time())


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_rate_limited_submit_waits_for_the_reset(erase, segmind, deferrable):
    segmind.faults.add("rate_limited", on="submit", seconds=6.0)
    task = erase(deferrable=deferrable)
    began = time.time()
    task.run()

    assert len(segmind.jobs) == 1
    assert segmind.requests.counts["submit"] == 2
    assert segmind.jobs[0].created >= began + 5.0
    assert len(task.triggers) == (2 if deferrable else 0)


def test_a_submit_that_waits_in_the_worker_stays_in_line_for_its_slot(erase, segmind, monkeypatch, caplog):
    use_up_the_limit(segmind, monkeypatch)
    erase(deferrable=False, timeout=60).run()

    assert segmind.requests.counts["submit"] == 1
    assert "Waiting for a slot" not in caplog.text


def test_a_submit_defers_once_for_a_slot_where_worker_and_triggerer_are_one_process(erase, segmind, monkeypatch):
    use_up_the_limit(segmind, monkeypatch)
    task = erase(timeout=60)
    task.run()

    assert segmind.requests.counts["submit"] == 1
    assert len(task.triggers) == 2  # one for the slot, one for the job


def test_a_reset_after_the_deadline_ends_the_try_without_a_job(erase, segmind):
    segmind.faults.add("rate_limited", on="submit", seconds=500.0, times=None)
    task = erase(timeout=60)
    with pytest.raises(SegmindRateLimitError, match="Nothing was submitted within timeout=60 s"):
        task.run()

    assert task.store.values == {}
    assert segmind.requests.counts["submit"] == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_endless_429_gets_few_submits(erase, segmind, deferrable):
    segmind.faults.add("rate_limited", on="submit", times=None, reset="past")
    task = erase(deferrable=deferrable, timeout=8)
    with pytest.raises((SegmindRateLimitError, SegmindServiceError), match="Nothing was submitted"):
        task.run()

    assert segmind.requests.counts["submit"] <= 5  # after 0, 1, 3, 7 s: each wait is twice the one before


def test_the_deadline_stays_where_it_was_however_often_the_submit_waits(erase, segmind):
    segmind.faults.add("rate_limited", on="submit", times=2, seconds=1.0)
    task = erase(timeout=60)
    task.run()

    gates, job = task.triggers[:2], task.triggers[2]
    assert {kwargs["deadline"] for _, kwargs in gates} == {job[1]["deadline"]}


def test_an_image_is_uploaded_once_however_often_the_submit_waits(erase, segmind, image):
    segmind.faults.add("rate_limited", on="submit", times=2, seconds=1.0)
    erase(image_delivery="upload").run()

    assert (segmind.requests.counts["submit"], segmind.requests.counts["upload"]) == (3, 1)


def test_a_paid_job_that_the_rate_limit_hides_is_named_in_the_error(erase, segmind):
    task = erase(timeout=60)
    task.submit()
    segmind.faults.add("rate_limited", on="status", seconds=500.0, times=None)
    with pytest.raises(SegmindJobTimeoutError, match="paid for") as timeout:
        task.run()

    assert timeout.value.request_id == task.store.get(KEY)["request_id"]


def test_a_429_of_segminds_storage_does_not_count_as_the_rate_limit(erase, segmind):
    segmind.faults.add("error", on="upload", status=429, times=None)
    with pytest.raises(SegmindServiceError):
        erase(image_delivery="upload", deferrable=False).run()

    assert segmind.requests.counts["upload"] == 1


def test_airflows_own_deferral_timeout_is_much_later_than_the_deadline(erase, segmind):
    segmind.faults.add("rate_limited", on="submit", seconds=1.0)
    task = erase(timeout=60)
    gate = task.submit()
    job = task.resume(task.wait(gate), gate.method_name)

    assert all(isinstance(deferral, TaskDeferred) for deferral in (gate, job))
    assert min(gate.timeout.total_seconds(), job.timeout.total_seconds()) > 60 + 1800


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_rate_limited_submit_does_not_go_on_with_the_job_of_other_inputs(erase, segmind, deferrable):
    earlier = erase()
    earlier.submit()
    SegmindHook().api.limiter.close_until(time.time() + 6.0)
    changed = erase(preserve_alpha=False, deferrable=deferrable)
    changed.store = earlier.store
    facts = changed.run()

    assert [job.request_id for job in segmind.jobs] == [segmind.jobs[0].request_id, facts["request_id"]]
