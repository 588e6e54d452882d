"""The trigger that watches the jobs of a batch, against the emulator."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import time
import uuid
from importlib import import_module

import pytest

from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.wave import WaveEvent
from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.triggers.wave import MAX_BYTES, SegmindWaveTrigger, read_jobs
from tests.photos import photo

from .test_triggers import events_of

MODEL = "bria-erase-foreground"
PATH = "airflow_provider_segmind.triggers.wave.SegmindWaveTrigger"
PAYLOAD = {"image": base64.b64encode(photo()).decode()}
NOW = 1_700_000_000.0


@pytest.fixture
def submit(segmind):
    """Return a function that submits jobs and returns them as the trigger takes them."""

    def submit(count):
        hook = SegmindHook()
        jobs = [hook.submit(MODEL, PAYLOAD) for _ in range(count)]
        hook.close()
        return [[job.request_id, job.submitted_at] for job in jobs]

    return submit


def wave(jobs, *, timeout=30.0, poll_interval=0.1, **options):
    return SegmindWaveTrigger(jobs, MODEL, "segmind_default", timeout, poll_interval=poll_interval, **options)


def event_of(trigger):
    (event,) = events_of(trigger)
    return event


def many(count, *, deadline=None):
    ids = [str(uuid.UUID(int=number)) for number in range(count)]
    own = [] if deadline is None else [deadline]
    return [[request_id, NOW + number / 7, *own] for number, request_id in enumerate(ids)]


# ------------------------------------------------------------------ what Airflow keeps of it


@pytest.mark.parametrize(
    "trigger",
    [
        SegmindWaveTrigger([["id-1", NOW], ["id-2", NOW + 0.1234]], MODEL, "segmind_default", 600.0),
        SegmindWaveTrigger([["id-1", NOW, NOW + 900]], MODEL, "other", 600.0, NOW + 6, NOW + 5, 7, "history", 3.0, {}),
        SegmindWaveTrigger([], MODEL, "segmind_default", 600.0, resume_at=NOW),
    ],
)
def test_a_trigger_is_rebuilt_from_what_it_serializes(trigger):
    path, kwargs = trigger.serialize()
    module, _, name = path.rpartition(".")
    again = getattr(import_module(module), name)(**json.loads(json.dumps(kwargs)))
    assert again.serialize() == (path, kwargs)
    assert set(kwargs) == set(inspect.signature(SegmindWaveTrigger.__init__).parameters) - {"self"}


def test_a_trigger_row_of_version_1_is_read_and_written():
    frozen = {
        "jobs": "1700000000000 id-1,0 id-2,250 id-3,300,900000",
        "model": MODEL,
        "segmind_conn_id": "segmind_default",
        "timeout": 600.0,
        "resume_at": None,
        "opens_at": 0.0,
        "leave_running": 3,
        "watch": "status",
        "poll_interval": None,
        "limiter": None,
        "version": 1,
    }
    trigger = SegmindWaveTrigger(**frozen)
    assert trigger.serialize() == (PATH, frozen)
    assert [(job.request_id, job.submitted_at - NOW, job.deadline - NOW) for job in trigger.jobs] == [
        ("id-1", 0, 600),
        ("id-2", 0.25, 600.25),
        ("id-3", pytest.approx(0.3), pytest.approx(900.3)),
    ]


def test_a_thousand_jobs_fit_into_64_kb_also_when_encrypted():
    limiter = RateLimiter()
    limiter.refused(NOW, NOW + 30)
    for second in range(60):
        limiter.take(limiter.ticket(), NOW + 60 + second)
    _, kwargs = wave(many(1000), limiter=limiter.hand_over(NOW + 120)).serialize()
    assert len(json.dumps(kwargs)) * 4 / 3 < MAX_BYTES


def test_jobs_keep_their_times_to_the_millisecond():
    jobs = many(50, deadline=NOW + 5000.0004)
    again = read_jobs(wave(jobs).serialize()[1]["jobs"], 30)
    for job, (request_id, submitted_at, deadline) in zip(again, jobs, strict=True):
        assert job.request_id == request_id
        assert job.submitted_at == pytest.approx(submitted_at, abs=0.001)
        assert job.deadline == pytest.approx(deadline, abs=0.002)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jobs": many(1001)}, "1001 jobs"),
        ({"jobs": [["x" * 120, NOW + n] for n in range(999)]}, "smaller wave"),
        ({"jobs": [["../x", NOW]]}, "Invalid request_id"),
        ({"jobs": [["id", float("nan")]]}, "Invalid submitted_at"),
        ({"jobs": [["id"]]}, "Invalid jobs"),
        ({"jobs": [["id", NOW], 5]}, "Invalid jobs"),
        ({"jobs": 7}, "Invalid jobs"),
        ({"jobs": "x id,1"}, "Invalid jobs"),
        ({"jobs": "1700000000000 id"}, "Invalid jobs"),
        ({"model": None}, "Invalid model"),
        ({"timeout": 0}, "Invalid timeout"),
        ({"resume_at": float("inf")}, "Invalid resume_at"),
        ({"opens_at": "soon"}, "Invalid opens_at"),
        ({"leave_running": -1}, "Invalid leave_running -1"),
        ({"leave_running": "few"}, "Invalid leave_running 'few'"),
        ({"watch": "guess"}, "Invalid watch"),
        ({"poll_interval": -1}, "Invalid poll_interval"),
        ({"version": 2}, "version=2"),
    ],
)
def test_arguments_with_which_it_could_not_work_are_refused(options, said):
    good = {"jobs": [["id", NOW]], "model": MODEL, "segmind_conn_id": "c", "timeout": 600.0}
    with pytest.raises(SegmindInputError, match=said):
        SegmindWaveTrigger(**{**good, **options}).serialize()


# ------------------------------------------------------------------ what it fires


@pytest.mark.parametrize("watch", ["status", "history"])
def test_jobs_that_have_ended_are_named_by_their_positions(submit, segmind, quick_jobs, watch):
    segmind.faults.add("job_fails", text="CUDA error", on="submit", times=1)
    event = event_of(wave(submit(30), watch=watch, poll_interval=None))
    assert event["status"] == "WAVE"
    assert event["ended"] == list(range(30))
    assert (event["timed_out"], event["error"]) == ([], None)
    assert segmind.requests.counts["result"] == 0
    sent = segmind.requests.counts["status"] + segmind.requests.counts["history"]
    assert event["requests"] == sent
    assert sent <= (36 if watch == "status" else 6)


def test_a_job_that_still_runs_at_its_deadline_has_timed_out(submit, segmind):
    jobs = submit(2)
    segmind.faults.add("job_takes", seconds=60.0, on="submit")
    event = event_of(wave([*jobs, *submit(1)], timeout=1.0))
    assert (event["ended"], event["timed_out"], event["error"]) == ([0, 1], [2], None)


def test_a_job_that_still_runs_when_the_window_opens_is_in_neither_list(submit, segmind):
    segmind.faults.add("job_takes", seconds=60.0, on="submit")
    resume_at = time.time() + 1.0
    event = event_of(wave(submit(1), resume_at=resume_at))
    assert (event["ended"], event["timed_out"], event["error"]) == ([], [], None)
    assert resume_at <= time.time() < resume_at + 10


def test_a_wave_without_jobs_waits_until_more_can_be_submitted(segmind):
    resume_at = time.time() + 0.3
    event = event_of(wave([], resume_at=resume_at, opens_at=resume_at))
    assert event["ended"] == []
    assert time.time() >= resume_at


def test_a_revoked_key_ends_the_watch_with_its_reason(submit, segmind):
    jobs = submit(5)
    segmind.faults.add("error", status=401, on="status", times=None)
    event = event_of(wave(jobs))
    assert event["ended"] == []
    assert "401" in event["error"]


def test_a_missing_connection_is_an_event_too(submit):
    event = event_of(SegmindWaveTrigger(submit(1), MODEL, "segmind_missing", 30.0, limiter={"at": NOW}))
    assert "segmind_missing" in event["error"]
    assert event["limiter"] == {"at": NOW}


def test_a_server_that_hangs_is_cut_off_soon_after_the_deadline(submit, segmind):
    jobs = submit(3)
    segmind.faults.add("hang_before_accept", on="status", times=None)
    event = event_of(wave(jobs, timeout=1.0))
    assert event["timed_out"] == [0, 1, 2]
    assert time.time() <= jobs[-1][1] + 1.0 + 10.0


@pytest.mark.parametrize("fault", ["cut_before_accept", "error"])
def test_a_history_that_cannot_be_read_is_replaced_by_status_requests(submit, segmind, quick_jobs, fault):
    jobs = submit(5)
    options = {"status": 500} if fault == "error" else {}
    segmind.faults.add(fault, on="history", times=None, **options)
    assert event_of(wave(jobs, watch="history", poll_interval=None))["ended"] == [0, 1, 2, 3, 4]


def test_what_the_worker_has_used_of_the_limit_counts_on_the_triggerer(submit, segmind, monkeypatch):
    connection = {**json.loads(segmind.connection), "extra": {"requests_per_minute": 20}}
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps(connection))
    worker = RateLimiter(20)
    for _ in range(17):
        worker.take(worker.ticket(), time.time())
    jobs = [[f"id-{number}", time.time() - 20] for number in range(10)]
    trigger = wave(jobs, resume_at=time.time() + 2.0, limiter=worker.hand_over(time.time()))
    event = event_of(trigger)
    assert event["requests"] == segmind.requests.counts["status"] == 3


def test_the_event_hands_over_what_the_triggerer_has_used_of_the_limit(submit, segmind):
    event = event_of(wave(submit(4)))  # in this process, whose limiter has granted the submits too
    worker = RateLimiter(100)
    worker.take_over(event["limiter"], time.time())
    assert worker.slots_free(time.time()) == 100 - 4 - event["requests"]


def test_an_event_of_a_thousand_jobs_is_less_than_8_kb():
    event = WaveEvent(tuple(range(999)), (999,), {"slots": "x" * 2000}, 1100, "e" * 300)
    assert len(json.dumps(event.as_json())) < 8192


def test_an_event_is_read_as_it_was_written():
    event = WaveEvent((1, 2), (3,), {"at": NOW}, 7, "why")
    assert WaveEvent.parse(json.loads(json.dumps(event.as_json()))) == event


@pytest.mark.parametrize(
    "value", [None, 7, [], {}, {"ended": 3, "timed_out": ["x", -1, 1.5, True], "requests": "many"}]
)
def test_what_cannot_be_read_of_an_event_counts_as_not_seen(value):
    assert WaveEvent.parse(value) == WaveEvent()


def test_a_cancelled_trigger_asks_segmind_for_nothing_more_and_another_one_goes_on(submit, segmind, monkeypatch):
    monkeypatch.setattr("airflow_provider_segmind.triggers.segmind.EARLIEST_EVENT", 0.0)
    trigger = wave(submit(5), poll_interval=60)

    async def cancel():
        task = asyncio.create_task(anext(trigger.run()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert set(segmind.requests.counts) == {"submit"}
    _, kwargs = trigger.serialize()
    assert event_of(SegmindWaveTrigger(**{**kwargs, "poll_interval": 0.1}))["ended"] == [0, 1, 2, 3, 4]


def test_no_event_comes_before_airflow_has_recorded_the_deferral(submit, monkeypatch):
    monkeypatch.setattr("airflow_provider_segmind.triggers.segmind.EARLIEST_EVENT", 2.0)
    began = time.time()
    event_of(wave(submit(1)))
    assert time.time() - began >= 2.0
