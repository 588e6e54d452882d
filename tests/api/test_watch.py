"""The wait for a job's end: few looks, no outage fatal, no server able to make it ask without end."""

from __future__ import annotations

import json
import random

import pytest

from airflow_provider_segmind.api.models import JobOutcome, OutcomeStatus
from airflow_provider_segmind.api.polling import raise_for_outcome, wait_for_job, watch
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindJobTimeoutError,
    SegmindRequestError,
)

from .world import CUT, ID, MODEL, NOON, World, always, answer, error, html, result, status

SIGNED = "https://images.segmind.com/a.png?X-Amz-Signature=abc"


def job_of(world, seconds, **more):
    """Return a server whose one job takes so many seconds."""

    def serve(send):
        if world.clock() < NOON + seconds:
            return status("PROCESSING")
        return status("COMPLETED", metrics={"total_time": seconds}) if send.url.endswith("/status") else result(**more)

    return serve


def wait(world, script, timeout=600.0, **options):
    options = {"submitted_at": NOON, "deadline": NOON + timeout, "model": MODEL, **options}
    return world.run(watch(world.api, ID, options.pop("model"), **options), script, max_sends=50_000)


def looks(world):
    return sum(send.url.endswith("/status") for send in world.sends)


def test_typical_jobs_cost_two_to_three_looks():
    dice = random.Random(7)
    total = late = 0.0
    shared = World()
    for _ in range(500):
        world, seconds = World(latencies=shared.api.latencies), 11.97 * dice.lognormvariate(0, 0.15)
        assert wait(world, job_of(world, seconds)).status is OutcomeStatus.COMPLETED
        total += looks(world)
        late += world.clock() - NOON - seconds
    assert total / 500 <= 3
    assert late / 500 <= 4


def test_the_first_look_waits_until_the_job_is_likely_done(world):
    wait(world, job_of(world, 1.0))
    assert 11.97 < world.times[0] - NOON < 18


def test_a_poll_interval_is_kept(world):
    wait(world, job_of(world, 19.0), poll_interval=5)
    assert [at - NOON for at in world.times] == [5, 10, 15, 20, 20]


def test_a_model_of_unknown_latency_is_looked_at_early(world):
    wait(world, job_of(world, 3.0), model=None)
    assert world.times[0] - NOON <= 2


@pytest.mark.parametrize("model", [None, "other-model", MODEL])
def test_a_wait_of_a_week_neither_breaks_nor_asks_without_end(model):
    world = World()
    outcome = wait(world, always(status("PROCESSING")), timeout=7 * 86_400, model=model)
    assert outcome.status is OutcomeStatus.TIMEOUT
    assert looks(world) < 7 * 86_400 / 14


def test_an_outage_of_minutes_is_survived(world):
    def serve(send):
        return html(503) if world.clock() < NOON + 300 else job_of(world, 12.0)(send)

    assert wait(world, serve).status is OutcomeStatus.COMPLETED
    assert world.clock() - NOON < 345


@pytest.mark.parametrize("reply", [CUT, error(500), html(504), answer(200, b"")])
def test_trouble_without_end_gets_few_requests_and_ends_as_a_timeout(world, reply):
    outcome = wait(world, always(reply))
    assert outcome.status is OutcomeStatus.TIMEOUT
    assert outcome.error.count("last: ") == 1
    assert 5 <= looks(world) <= 60
    assert world.clock() - NOON == pytest.approx(600, abs=1)


def test_a_429_while_polling_waits_for_the_reset(world):
    def serve(send):
        return error(429, retry_after="60") if len(world.sends) == 1 else job_of(world, 12.0)(send)

    assert wait(world, serve).status is OutcomeStatus.COMPLETED
    assert world.times[1] - world.times[0] >= 60


@pytest.mark.parametrize("headers", [{}, {"retry_after": "0"}, {"x_rate_limit_reset_at_utc": "2001-01-01"}])
def test_a_429_without_end_gets_few_requests(world, headers):
    assert wait(world, always(error(429, **headers)), timeout=3600).status is OutcomeStatus.TIMEOUT
    assert looks(world) <= 70


def test_a_429_for_days_does_not_break_the_wait(world):
    assert wait(world, always(error(429)), timeout=3 * 86_400).status is OutcomeStatus.TIMEOUT


@pytest.mark.parametrize("code", [400, 401, 403, 410])
def test_a_refusal_ends_the_wait_at_once(world, code):
    outcome = wait(world, always(error(code, "not you")))
    assert outcome.status is OutcomeStatus.ERROR
    assert "not you" in outcome.error
    assert len(world.sends) == 1


def test_a_last_look_precedes_the_timeout(world):
    assert wait(world, job_of(world, 20.0), timeout=20.0).status is OutcomeStatus.COMPLETED
    assert world.times[-1] == NOON + 20


def test_a_deadline_that_has_passed_still_gets_a_look(world):
    assert wait(world, job_of(world, -1), timeout=-100).status is OutcomeStatus.COMPLETED


def test_a_job_that_does_not_end_times_out_on_time(world):
    outcome = wait(world, always(status("PROCESSING")), timeout=100)
    assert outcome.status is OutcomeStatus.TIMEOUT
    assert world.times[-1] == NOON + 100


def test_a_deadline_behind_a_gate_that_its_own_429_closed_is_a_timeout(world):
    assert wait(world, always(error(429, retry_after="3600")), timeout=100).status is OutcomeStatus.TIMEOUT
    assert len(world.sends) == 1
    assert world.clock() == NOON + 100


def test_a_deadline_behind_a_gate_that_others_closed_is_a_timeout_on_time(world):
    world.api.limiter.close_until(NOON + 3000)
    outcome = wait(world, always(status("PROCESSING")), timeout=100)
    assert outcome.status is OutcomeStatus.TIMEOUT
    assert world.sends == []
    assert world.clock() == NOON + 100


def test_a_gate_closed_for_long_delays_the_look_and_nothing_else(world):
    world.api.limiter.close_until(NOON + 300)
    assert wait(world, job_of(world, 12.0)).status is OutcomeStatus.COMPLETED
    assert NOON + 300 <= world.times[0] < NOON + 310


def test_a_completed_job_does_not_wait_an_hour_for_its_address(world):
    def serve(send):
        world.api.limiter.close_until(NOON + 3600)
        return status("COMPLETED")

    outcome = wait(world, serve)
    assert (outcome.status, outcome.output_url) == (OutcomeStatus.COMPLETED, None)
    assert world.clock() < NOON + 120


def test_a_404_right_after_the_submit_is_lag(world):
    def serve(send):
        return error(404) if world.clock() < NOON + 9 else job_of(world, 9)(send)

    assert wait(world, serve, poll_interval=1).status is OutcomeStatus.COMPLETED


def test_a_404_later_is_expiry(world):
    outcome = wait(world, always(error(404)))
    assert outcome.status is OutcomeStatus.EXPIRED
    assert len(world.sends) == 1


def test_a_restarted_process_looks_soon(world):
    outcome = wait(world, job_of(world, -100), submitted_at=NOON - 300)
    assert outcome.status is OutcomeStatus.COMPLETED
    assert world.times[0] - NOON <= 10


def test_a_failed_job_is_told_in_its_own_words(world):
    outcome = wait(world, always(status("FAILED", error="no subject", metrics={"queue_time": 1})))
    assert (outcome.status, outcome.error, outcome.metrics.queue_time) == (OutcomeStatus.FAILED, "no subject", 1.0)


def test_a_result_that_lags_behind_its_status_is_asked_again(world):
    outcome = wait(world, [status("COMPLETED"), status("PROCESSING"), result()])
    assert outcome.output_url == "https://images.segmind.com/generations/a.png"


@pytest.mark.parametrize("reply", [error(404), error(401), error(500), CUT, status("PROCESSING")])
def test_a_result_that_cannot_be_had_leaves_the_job_completed(world, reply):
    def serve(send):
        return status("COMPLETED") if send.url.endswith("/status") else reply

    outcome = wait(world, serve)
    assert (outcome.status, outcome.output_url) == (OutcomeStatus.COMPLETED, None)
    assert len(world.sends) <= 6


@pytest.mark.parametrize("output", [SIGNED, "https://user:pw@images.segmind.com/a.png", "QUJD" * 100, "text", None])
def test_the_event_has_no_inline_data_and_no_signature(world, output):
    event = wait(world, job_of(world, 1, output=output)).as_event()
    assert event["output_url"] is None
    assert "Signature" not in json.dumps(event)
    assert "QUJD" not in json.dumps(event)


@pytest.mark.parametrize("character", ["\x00", "\x7f", "\ud800"])
def test_an_address_that_no_database_takes_is_no_address(world, character):
    output = f"https://images.segmind.com/a{character}.png"
    assert wait(world, job_of(world, 1, output=output)).as_event()["output_url"] is None


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
def test_the_event_is_plain_json_with_the_contracts_keys(world, word):
    event = wait(world, always(status(word, output="https://images.segmind.com/a.png"))).as_event()
    assert json.loads(json.dumps(event)) == event
    assert set(event) == {"request_id", "status", "error", "metrics", "output_url"}
    assert set(event["metrics"]) == {"inference_time", "queue_time", "total_time", "cost", "remaining_credits"}
    assert type(event["status"]) is str


def test_completed_jobs_teach_the_schedule(world):
    for _ in range(30):
        world.clock.now = NOON
        wait(world, job_of(world, 30.0))
    assert world.api.latencies.typical(MODEL).median == pytest.approx(30, rel=0.1)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("FAILED", SegmindJobFailedError),
        ("TIMEOUT", SegmindJobTimeoutError),
        ("EXPIRED", SegmindJobExpiredError),
        ("ERROR", SegmindRequestError),
    ],
)
def test_each_outcome_has_its_exception(world, outcome, expected):
    with pytest.raises(expected) as caught:
        raise_for_outcome(world.api, JobOutcome(ID, OutcomeStatus(outcome), "why"))
    assert caught.value.request_id == ID
    assert "why" in str(caught.value)


def test_waiting_for_a_job_returns_its_result(world):
    found = world.run(wait_for_job(world.api, ID, timeout=60), job_of(world, 5.0))
    assert found.output_url == "https://images.segmind.com/generations/a.png"


def test_waiting_with_a_refused_key_says_that_it_is_the_key(world):
    with pytest.raises(SegmindAuthError):
        world.run(wait_for_job(world.api, ID, timeout=60), always(error(401)))
    assert len(world.sends) <= 2


def test_waiting_too_long_keeps_the_id(world):
    with pytest.raises(SegmindJobTimeoutError) as caught:
        world.run(wait_for_job(world.api, ID, timeout=60), always(status("QUEUED")))
    assert caught.value.request_id == ID
