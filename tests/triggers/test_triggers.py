from __future__ import annotations

import asyncio
import base64
import gc
import inspect
import json
import time
from importlib import import_module
from itertools import pairwise

import pytest

from airflow_provider_segmind.api.models import SegmindResult
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.triggers.segmind import SegmindJobTrigger, SegmindPauseTrigger
from tests.photos import photo

MODEL = "bria-erase-foreground"
PAYLOAD = {"image": base64.b64encode(photo()).decode()}
KEYS = {"request_id", "status", "error", "metrics", "output_url", "output_urls", "model", "submitted_at", "version"}


def events_of(*triggers):
    """Run triggers on one loop and return the event of each."""

    async def first(trigger):
        events = [event.payload async for event in trigger.run()]
        assert len(events) == 1
        return events[0]

    async def all_of_them():
        return await asyncio.gather(*map(first, triggers))

    return asyncio.run(all_of_them())


@pytest.fixture
def submit(segmind):
    def submit():
        hook = SegmindHook()
        job = hook.submit(MODEL, PAYLOAD)
        hook.close()
        return job

    return submit


def trigger_for(job, *, seconds=30.0, poll_interval=0.1, conn_id="segmind_default"):
    return SegmindJobTrigger(job.request_id, job.model, conn_id, job.submitted_at, time.time() + seconds, poll_interval)


@pytest.mark.parametrize(
    "trigger",
    [
        SegmindJobTrigger("id", MODEL, "segmind_default", 1.5, 2.5),
        SegmindJobTrigger("id", MODEL, "other", 1.5, 2.5, poll_interval=3.0),
        SegmindPauseTrigger(1.5, {"status": "SUBMIT", "deadline": 2.5}, "segmind_default", 2.5),
    ],
)
def test_a_trigger_is_rebuilt_from_what_it_serializes(trigger):
    path, kwargs = trigger.serialize()
    module, _, name = path.rpartition(".")
    again = getattr(import_module(module), name)(**json.loads(json.dumps(kwargs)))

    assert again.serialize() == (path, kwargs)
    assert set(kwargs) == set(inspect.signature(type(trigger).__init__).parameters) - {"self"}


FROZEN = {
    "airflow_provider_segmind.triggers.segmind.SegmindJobTrigger": {
        "request_id": "id",
        "model": MODEL,
        "segmind_conn_id": "segmind_default",
        "submitted_at": 1.5,
        "deadline": 2.5,
        "poll_interval": None,
        "checkpoint": None,
        "version": 1,
    },
    "airflow_provider_segmind.triggers.segmind.SegmindPauseTrigger": {
        "moment": 1.5,
        "event": {"status": "SUBMIT"},
        "segmind_conn_id": None,
        "deadline": None,
        "version": 1,
    },
}
"""A frozen copy of the triggers' rows in Airflow's database: later versions must go on reading them."""


@pytest.mark.parametrize("path", FROZEN)
def test_a_trigger_row_of_version_1_is_read_and_written(path):
    module, _, name = path.rpartition(".")

    assert getattr(import_module(module), name)(**FROZEN[path]).serialize() == (path, FROZEN[path])


@pytest.mark.parametrize("path", FROZEN)
def test_a_trigger_row_of_another_version_is_refused(path):
    module, _, name = path.rpartition(".")
    with pytest.raises(SegmindInputError, match="version=2"):
        getattr(import_module(module), name)(**{**FROZEN[path], "version": 2})


def test_a_completed_job_fires_its_address(submit, segmind):
    job = submit()
    (event,) = events_of(trigger_for(job))

    assert event.keys() >= KEYS
    assert (event["request_id"], event["status"], event["error"]) == (job.request_id, "COMPLETED", None)
    assert event["output_url"].startswith(segmind.url)
    assert event["metrics"]["cost"] > 0


@pytest.mark.parametrize(
    ("fault", "options", "status", "said"),
    [
        ("job_fails", {"text": "CUDA error", "on": "submit"}, "FAILED", "CUDA error"),
        ("job_takes", {"seconds": 60.0, "on": "submit"}, "TIMEOUT", "not ended"),
        ("error", {"status": 401, "on": "status", "times": None}, "ERROR", "401"),
        ("error", {"status": 403, "on": "status", "times": None}, "ERROR", "403"),
    ],
)
def test_an_end_without_a_result_fires_its_reason(submit, segmind, fault, options, status, said):
    segmind.faults.add(fault, **options)
    job = submit()
    (event,) = events_of(trigger_for(job, seconds=0.5))

    assert event.keys() >= KEYS
    assert (event["status"], event["output_url"]) == (status, None)
    assert said in event["error"]
    assert segmind.requests.counts["status"] <= 7


def test_an_expired_job_fires_expired(submit, segmind):
    job = submit()
    segmind.faults.add("expire_record", times=None)
    long_ago = type(job)(job.request_id, job.model, job.submitted_at - 4000)
    (event,) = events_of(trigger_for(long_ago))

    assert event["status"] == "EXPIRED"


def test_a_missing_connection_fires_an_error(submit):
    (event,) = events_of(trigger_for(submit(), conn_id="segmind_missing"))

    assert event["status"] == "ERROR"
    assert "segmind_missing" in event["error"]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("poll_interval", value) for value in (float("nan"), 0, -5, "3", True)),
        *(("deadline", value) for value in (float("nan"), float("inf"), None, 1.8e12)),
        *(("submitted_at", value) for value in (float("nan"), -1, "now")),
        ("request_id", "../x"),
        ("model", None),
    ],
)
def test_a_trigger_refuses_arguments_with_which_it_would_never_end(argument, value):
    good = {"request_id": "id", "model": MODEL, "segmind_conn_id": "c", "submitted_at": 1.5, "deadline": 2.5}
    with pytest.raises(SegmindInputError, match=f"Invalid {argument}"):
        SegmindJobTrigger(**{**good, argument: value})


@pytest.mark.parametrize("fields", [{"moment": float("nan")}, {"moment": float("inf")}, {"deadline": float("nan")}])
def test_a_pause_refuses_arguments_with_which_it_would_never_end(fields):
    with pytest.raises(SegmindInputError, match=r"Invalid (moment|deadline)"):
        SegmindPauseTrigger(**{"moment": 1.5, "event": {}, **fields})


def test_a_pause_whose_connection_is_missing_fires_its_event():
    (event,) = events_of(SegmindPauseTrigger(time.time(), {"status": "SUBMIT"}, "segmind_missing", time.time() + 30))

    assert event == {"status": "SUBMIT"}


def test_a_large_inline_result_is_dropped_before_the_event_is_due(submit, segmind, monkeypatch):
    monkeypatch.setattr("airflow_provider_segmind.triggers.segmind.EARLIEST_EVENT", 60.0)
    segmind.faults.add("output_as", style="data_uri", on="result", times=None)
    job = submit()

    def kept():
        # By type(): isinstance() would wake the lazy proxies that other packages have lying about.
        return [each for each in gc.get_objects() if type(each) is SegmindResult and each.request_id == job.request_id]

    async def wait_until_dropped():
        task = asyncio.ensure_future(anext(trigger_for(job).run()))
        async with asyncio.timeout(20):
            while segmind.requests.counts["result"] == 0 or kept():  # noqa: ASYNC110 - what is dropped tells nobody
                await asyncio.sleep(0.05)
        due = task.done()
        task.cancel()
        await asyncio.wait([task])
        return due

    assert asyncio.run(wait_until_dropped()) is False


def test_a_signed_address_stays_out_of_the_event(submit, segmind):
    segmind.faults.add("foreign_url", on="result", url=f"{segmind.url}/f.png?X-Amz-Signature=abc", times=None)
    (event,) = events_of(trigger_for(submit()))

    assert (event["status"], event["output_url"]) == ("COMPLETED", None)


def test_a_server_that_never_answers_ends_at_the_deadline(submit, segmind, monkeypatch):
    connection = {**json.loads(segmind.connection), "extra": {"read_timeout": 0.2}}
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps(connection))
    job = submit()
    segmind.faults.add("hang_before_accept", on="status", times=None)
    (event,) = events_of(trigger_for(job, seconds=1.0))

    assert event["status"] == "TIMEOUT"


@pytest.mark.parametrize("fault", ["hang_before_accept", "drip"])
def test_a_status_request_that_hangs_or_drips_fires_soon_after_the_deadline(submit, segmind, fault):
    """The default read timeout, 30 s, is longer than an event may be late."""
    job = submit()
    segmind.faults.add(fault, on="status", times=None)
    trigger = trigger_for(job, seconds=1.0)
    (event,) = events_of(trigger)

    assert event["status"] == "TIMEOUT"
    assert time.time() <= trigger.deadline + 10.0


def test_many_triggers_leave_no_open_connection_behind_when_their_loop_ends(submit, segmind):
    jobs = [submit() for _ in range(5)]
    events = events_of(*map(trigger_for, jobs))

    assert {event["status"] for event in events} == {"COMPLETED"}
    gc.collect()  # an open client would be a ResourceWarning, and so a failure


def test_pauses_for_the_same_reset_end_one_after_another(segmind, monkeypatch):
    connection = {**json.loads(segmind.connection), "extra": {"requests_per_minute": 600}}
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps(connection))
    opens_at = time.time() + 0.3
    left = []

    async def leave(number):
        trigger = SegmindPauseTrigger(opens_at, {"status": "SUBMIT"}, "segmind_default", opens_at + 60)
        await anext(trigger.run())
        left.append(time.time())

    async def all_of_them():
        await asyncio.gather(*map(leave, range(5)))

    asyncio.run(all_of_them())

    gaps = [later - earlier for earlier, later in pairwise(left)]
    assert min(left) >= opens_at
    assert min(gaps) > 0.05


def test_a_pause_without_a_slot_fires_at_its_deadline(segmind):
    (event,) = events_of(
        SegmindPauseTrigger(time.time() + 300, {"status": "SUBMIT"}, "segmind_default", time.time() + 0.2)
    )

    assert event == {"status": "SUBMIT"}


def test_a_cancelled_trigger_asks_segmind_for_nothing_more(submit, segmind):
    segmind.faults.add("job_takes", seconds=60.0)
    trigger = trigger_for(submit(), poll_interval=60)

    async def cancel():
        task = asyncio.create_task(anext(trigger.run()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())

    assert set(segmind.requests.counts) == {"submit"}


@pytest.mark.parametrize("kind", ["job", "pause"])
def test_no_event_comes_before_airflow_has_recorded_the_deferral(submit, monkeypatch, kind):
    monkeypatch.setattr("airflow_provider_segmind.triggers.segmind.EARLIEST_EVENT", 2.0)
    job = submit()
    began = time.time()
    events_of(trigger_for(job) if kind == "job" else SegmindPauseTrigger(began, {"status": "SUBMIT"}))

    assert time.time() - began >= 2.0
