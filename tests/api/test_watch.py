"""The wait for a job's end: few polls, no fatal outage, and an end on time whatever the server does."""

from __future__ import annotations

import itertools
import random

import pytest

from airflow_provider_segmind.api.models import JobOutcome, OutcomeStatus
from airflow_provider_segmind.api.poll_schedule import MIN_INTERVAL
from airflow_provider_segmind.api.polling import raise_for_outcome, run, wait_for_job, watch
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindJobTimeoutError,
    SegmindRequestError,
    SegmindServiceError,
)

from .world import CUT, ID, MODEL, NOON, World, always, error, html, queued, response, result, status

SIGNED = "https://images.segmind.com/a.png?X-Amz-Signature=abc"


def job_of(world, seconds, **more):
    """Return a server with one job that takes so many seconds."""

    def serve(request):
        if world.clock() < NOON + seconds:
            return status("PROCESSING")
        return (
            status("COMPLETED", metrics={"total_time": seconds}) if request.url.endswith("/status") else result(**more)
        )

    return serve


def wait(world, script, timeout=600.0, **options):
    options = {"submitted_at": NOON, "deadline": NOON + timeout, "model": MODEL, **options}
    return world.run(watch(world.api, ID, options.pop("model"), **options), script, max_requests=50_000)


def polls(world):
    return sum(request.url.endswith("/status") for request in world.requests)


def test_typical_jobs_cost_two_to_three_polls():
    dice = random.Random(7)
    total = late = 0.0
    shared = World()
    for _ in range(500):
        world, seconds = World(latencies=shared.api.latencies), 11.97 * dice.lognormvariate(0, 0.15)
        assert wait(world, job_of(world, seconds)).status is OutcomeStatus.COMPLETED
        total += polls(world)
        late += world.clock() - NOON - seconds
    assert total / 500 <= 3
    assert late / 500 <= 0.7


def test_no_poll_comes_long_before_jobs_of_the_model_end(world):
    for seconds in (11, 11.5, 12, 12.5, 13) * 6:
        world.api.latencies.observe(MODEL, seconds)
    wait(world, job_of(world, 12.0))
    assert world.times[0] - NOON > 11


def test_a_restarted_process_polls_an_old_job_at_once(world):
    wait(world, job_of(world, 12.0), submitted_at=NOON - 1000)
    assert world.times[0] - NOON < 0.1


def test_a_poll_that_was_answered_late_is_not_followed_by_another_at_once(world):
    for _ in range(30):
        world.api.latencies.observe(MODEL, 12.0)
    wait(world, [world.takes(2.9, status("PROCESSING"))] * 3 + [status("COMPLETED"), result()])
    times = world.times[:4]
    assert all(later - earlier >= 2.9 + MIN_INTERVAL for earlier, later in itertools.pairwise(times))


def test_a_given_poll_interval_is_kept(world):
    wait(world, job_of(world, 19.0), poll_interval=5)
    assert [at - NOON for at in world.times] == [5, 10, 15, 20, 20]


def test_an_unknown_model_is_polled_early(world):
    wait(world, job_of(world, 3.0), model=None)
    assert world.times[0] - NOON <= 4


@pytest.mark.parametrize("model", [None, "other-model", MODEL])
def test_a_wait_of_a_week_polls_rarely_and_times_out(model):
    world = World()
    outcome = wait(world, always(status("PROCESSING")), timeout=7 * 86_400, model=model)
    assert outcome.status is OutcomeStatus.TIMEOUT
    assert polls(world) < 7 * 86_400 / 14


def test_a_wait_survives_an_outage_of_minutes(world):
    def serve(request):
        return html(503) if world.clock() < NOON + 300 else job_of(world, 12.0)(request)

    assert wait(world, serve).status is OutcomeStatus.COMPLETED
    assert world.clock() - NOON < 345


@pytest.mark.parametrize("reply", [CUT, error(500), html(504), response(200, b"")])
def test_an_outage_without_end_gets_few_requests_and_ends_as_a_timeout(world, reply):
    outcome = wait(world, always(reply))
    assert outcome.status is OutcomeStatus.TIMEOUT
    assert outcome.error.count("last problem: ") == 1
    assert 5 <= polls(world) <= 60
    assert world.clock() - NOON == pytest.approx(600, abs=1)


def test_a_429_on_a_poll_delays_the_next_until_the_reset(world):
    def serve(request):
        return error(429, retry_after="60") if len(world.requests) == 1 else job_of(world, 12.0)(request)

    assert wait(world, serve).status is OutcomeStatus.COMPLETED
    assert world.times[1] - world.times[0] >= 60


@pytest.mark.parametrize("headers", [{}, {"retry_after": "0"}, {"x_rate_limit_reset_at_utc": "2001-01-01"}])
def test_a_429_without_end_gets_few_requests(world, headers):
    assert wait(world, always(error(429, **headers)), timeout=3600).status is OutcomeStatus.TIMEOUT
    assert polls(world) <= 70


def test_a_429_for_days_ends_as_a_timeout(world):
    assert wait(world, always(error(429)), timeout=3 * 86_400).status is OutcomeStatus.TIMEOUT


@pytest.mark.parametrize("code", [400, 401, 403, 410])
def test_a_refused_poll_ends_the_wait_at_once(world, code):
    outcome = wait(world, always(error(code, "not you")))
    assert outcome.status is OutcomeStatus.ERROR
    assert "not you" in outcome.error
    assert len(world.requests) == 1


def test_a_last_poll_at_the_deadline_precedes_a_timeout(world):
    assert wait(world, job_of(world, 20.0), timeout=20.0).status is OutcomeStatus.COMPLETED
    assert world.times[-1] == NOON + 20


def test_a_deadline_that_has_passed_still_gets_a_poll(world):
    assert wait(world, job_of(world, -1), timeout=-100).status is OutcomeStatus.COMPLETED


def test_an_outcome_has_the_metrics_of_the_status_where_the_result_has_none(world):
    metrics = {"total_time": 12.5}
    outcome = wait(world, [status("COMPLETED", metrics=metrics), result()])
    assert outcome.metrics.total_time == outcome.result.metrics.total_time == 12.5


def test_a_job_that_does_not_end_times_out_at_the_deadline(world):
    outcome = wait(world, always(status("PROCESSING")), timeout=100)
    assert outcome.status is OutcomeStatus.TIMEOUT
    assert world.times[-1] == NOON + 100


def test_a_deadline_before_the_reset_of_its_own_429_is_a_timeout(world):
    assert wait(world, always(error(429, retry_after="3600")), timeout=100).status is OutcomeStatus.TIMEOUT
    assert len(world.requests) == 1
    assert world.clock() == NOON + 100


def test_a_deadline_before_the_reset_of_anothers_429_is_a_timeout_without_a_poll(world):
    world.api.limiter.close_until(NOON + 3000)
    outcome = wait(world, always(status("PROCESSING")), timeout=100)
    assert outcome.status is OutcomeStatus.TIMEOUT
    assert world.requests == []
    assert world.clock() == NOON + 100


def test_a_distant_reset_delays_the_poll_and_nothing_else(world):
    world.api.limiter.close_until(NOON + 300)
    assert wait(world, job_of(world, 12.0)).status is OutcomeStatus.COMPLETED
    assert NOON + 300 <= world.times[0] < NOON + 310


def test_a_completed_job_does_not_wait_for_a_distant_reset(world):
    def serve(request):
        world.api.limiter.close_until(NOON + 3600)
        return status("COMPLETED")

    outcome = wait(world, serve)
    assert (outcome.status, outcome.output_url) == (OutcomeStatus.COMPLETED, None)
    assert world.clock() < NOON + 120


def test_a_404_right_after_the_submit_is_taken_for_replication_lag(world):
    def serve(request):
        return error(404) if world.clock() < NOON + 9 else job_of(world, 9)(request)

    assert wait(world, serve, poll_interval=1).status is OutcomeStatus.COMPLETED


def test_a_later_404_ends_the_wait_as_expired(world):
    outcome = wait(world, always(error(404)), submitted_at=NOON - 60)
    assert outcome.status is OutcomeStatus.EXPIRED
    assert len(world.requests) == 1


def test_a_restarted_process_polls_an_old_job_soon(world):
    outcome = wait(world, job_of(world, -100), submitted_at=NOON - 300)
    assert outcome.status is OutcomeStatus.COMPLETED
    assert world.times[0] - NOON <= 10


def test_a_failed_job_ends_the_wait_with_segminds_words(world):
    outcome = wait(world, always(status("FAILED", error="no subject", metrics={"queue_time": 1})))
    assert (outcome.status, outcome.error, outcome.metrics.queue_time) == (OutcomeStatus.FAILED, "no subject", 1.0)


def test_a_result_that_lags_behind_its_status_is_requested_again(world):
    outcome = wait(world, [status("COMPLETED"), status("PROCESSING"), result()])
    assert outcome.output_url == "https://images.segmind.com/generations/a.png"


@pytest.mark.parametrize("reply", [error(404), error(401), error(500), CUT, status("PROCESSING")])
def test_a_completed_job_without_a_reachable_result_is_completed(world, reply):
    def serve(request):
        return status("COMPLETED") if request.url.endswith("/status") else reply

    outcome = wait(world, serve)
    assert (outcome.status, outcome.output_url) == (OutcomeStatus.COMPLETED, None)
    assert len(world.requests) <= 6


@pytest.mark.parametrize("output", [SIGNED, "https://user:pw@images.segmind.com/a.png", "QUJD" * 100, "text", None])
def test_an_outcome_names_no_inline_and_no_signed_output(world, output):
    outcome = wait(world, job_of(world, 1, output=output))
    assert (outcome.output_urls, outcome.output_url) == ((), None)
    assert "Signature" not in repr(outcome)
    assert "QUJD" not in repr(outcome)


@pytest.mark.parametrize("character", ["\x00", "\x7f", "\ud800"])
def test_an_address_with_control_characters_is_not_an_address(world, character):
    output = f"https://images.segmind.com/a{character}.png"
    assert wait(world, job_of(world, 1, output=output)).output_url is None


def test_an_outcome_names_every_public_output_in_order(world):
    urls = [f"https://images.segmind.com/{n}.png" for n in (2, 1, 3)]
    images = [{"url": url} for url in (urls[0], SIGNED, urls[1], "https://evil.com/x.png", urls[2])]
    outcome = wait(world, job_of(world, 1, images=images))
    assert outcome.output_urls == tuple(urls)
    assert outcome.output_url == urls[0]


def test_completed_jobs_teach_the_poll_schedule(world):
    for _ in range(30):
        world.clock.now = NOON
        wait(world, job_of(world, 30.0))
    assert 27 < world.api.latencies.next_poll(MODEL, 0) < 33


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


def test_waits_behind_a_low_limit_keep_their_place_in_the_line():
    world = World(limiter=RateLimiter(1))
    watches = [
        watch(world.api, f"r{n}", MODEL, submitted_at=NOON, deadline=NOON + 1200, poll_interval=1) for n in range(10)
    ]
    world.run_all(watches, always(status("FAILED")))
    assert [request.url.split("/")[-2] for request in world.requests] == [f"r{n}" for n in range(10)]


def test_waiting_with_a_refused_key_raises_an_auth_error(world):
    with pytest.raises(SegmindAuthError):
        world.run(wait_for_job(world.api, ID, timeout=60), always(error(401)))
    assert len(world.requests) == 1


def test_a_wait_that_times_out_keeps_the_request_id(world):
    with pytest.raises(SegmindJobTimeoutError) as caught:
        world.run(wait_for_job(world.api, ID, timeout=60), always(status("QUEUED")))
    assert caught.value.request_id == ID


def test_a_job_without_a_result_after_all_attempts_is_an_error(world):
    def serve(request):
        return status("COMPLETED" if request.url.endswith("/status") else "PROCESSING")

    with pytest.raises(SegmindServiceError, match="no result of it yet"):
        world.run(wait_for_job(world.api, ID, timeout=60), serve)


def test_running_a_job_returns_its_result(world):
    assert world.run(run(world.api, MODEL, {}, timeout=60), [queued(), status("COMPLETED"), result()]).output_url
