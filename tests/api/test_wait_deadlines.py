"""A wait ends on time, whatever the server does."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.models import OutcomeStatus
from airflow_provider_segmind.api.polling import run, wait_for_job, watch
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.exceptions import (
    SegmindJobTimeoutError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

from .world import ID, MODEL, NOON, World, always, queued, response, result, status

HANG_KINDS = ["hangs", "drips"]
LATEST = 10


def wait(world, script, timeout=600.0, **options):
    options = {"submitted_at": NOON, "deadline": NOON + timeout, "model": MODEL, **options}
    return world.run(watch(world.api, ID, options.pop("model"), **options), script, max_requests=50_000)


def test_a_wait_that_begins_after_its_deadline_has_time_for_a_poll_and_the_result(world):
    script = [world.takes(5, status("COMPLETED")), world.takes(3, result())]
    assert wait(world, script, timeout=-100).output_url


@pytest.mark.parametrize("kind", HANG_KINDS)
@pytest.mark.parametrize("timeout", [0.5, 4, 20, 61, 600])
@pytest.mark.parametrize("interval", [None, 1, 5])
def test_a_server_that_never_answers_in_time_ends_a_wait_on_time(world, kind, timeout, interval):
    outcome = wait(world, getattr(world, kind), timeout=timeout, poll_interval=interval)
    assert outcome.status is OutcomeStatus.TIMEOUT
    assert timeout <= world.clock() - NOON <= timeout + LATEST
    assert world.times[-1] >= NOON + timeout


@pytest.mark.parametrize("kind", HANG_KINDS)
@pytest.mark.parametrize("timeout", [0.5, 4, 20, 61])
def test_a_result_that_never_comes_ends_a_wait_on_time(world, kind, timeout):
    def serve(request):
        if not request.url.endswith("/status"):
            return getattr(world, kind)
        return status("COMPLETED") if world.clock() >= NOON + timeout else status("PROCESSING")

    outcome = wait(world, serve, timeout=timeout)
    assert (outcome.status, outcome.output_url) == (OutcomeStatus.COMPLETED, None)
    assert world.clock() - NOON <= timeout + LATEST


@pytest.mark.parametrize("timeout", [0.5, 4, 20, 61])
def test_responses_that_take_all_their_time_end_a_wait_on_time(world, timeout):
    def serve(request):
        if not request.url.endswith("/status"):
            return world.slowly(response(200, {"status": "COMPLETED"}))
        return world.slowly(status("COMPLETED") if world.clock() >= NOON + timeout else status("PROCESSING"))

    assert wait(world, serve, timeout=timeout).status is OutcomeStatus.COMPLETED
    assert world.clock() - NOON <= timeout + LATEST


def test_a_completed_job_whose_result_hangs_is_reported_within_a_minute(world):
    def serve(request):
        return status("COMPLETED") if request.url.endswith("/status") else world.hangs

    assert wait(world, serve, timeout=86_400).status is OutcomeStatus.COMPLETED
    assert world.clock() - world.times[1] <= 60


def test_a_poll_before_the_deadline_leaves_time_for_a_last_one(world):
    outcome = wait(world, [world.hangs, status("COMPLETED"), result()], timeout=20, poll_interval=15)
    assert outcome.status is OutcomeStatus.COMPLETED
    assert world.times[:2] == [NOON + 15, pytest.approx(NOON + 20, abs=1)]


@pytest.mark.parametrize("closed", [1, 5, 30, 300, 3000])
def test_a_closed_rate_limit_ends_a_wait_on_time(world, closed):
    world.api.limiter.close_until(NOON + 4 + closed)
    assert wait(world, world.hangs, timeout=4).status is OutcomeStatus.TIMEOUT
    assert world.clock() - NOON <= 4 + LATEST


@pytest.mark.parametrize("limit", [0.1, 1, 5])
def test_a_low_limit_ends_every_one_of_many_waits_on_time(limit):
    world = World(limiter=RateLimiter(limit))
    ends = []

    def waiting(n):
        yield from watch(world.api, f"r{n}", MODEL, submitted_at=NOON, deadline=NOON + 100)
        ends.append(world.clock())

    world.run_all([waiting(n) for n in range(50)], always(status("PROCESSING")))
    assert len(ends) == 50
    assert max(ends) <= NOON + 100 + LATEST


@pytest.mark.parametrize("kind", HANG_KINDS)
def test_waiting_for_a_job_ends_on_time_whatever_the_server_does(world, kind):
    with pytest.raises(SegmindJobTimeoutError):
        world.run(wait_for_job(world.api, ID, timeout=4), getattr(world, kind))
    assert world.clock() - NOON <= 4 + LATEST


@pytest.mark.parametrize("kind", HANG_KINDS)
def test_waiting_for_a_result_ends_on_time_whatever_the_server_does(world, kind):
    def serve(request):
        return world.slowly(status("COMPLETED")) if request.url.endswith("/status") else getattr(world, kind)

    with pytest.raises(SegmindServiceError):
        world.run(wait_for_job(world.api, ID, timeout=4), serve)
    assert world.clock() - NOON <= 4 + LATEST


@pytest.mark.parametrize("timeout", [0.1, 4, 30])
def test_running_a_job_ends_on_time_even_if_the_submit_and_every_poll_take_all_their_time(world, timeout):
    def serve(request):
        return world.slowly(queued()) if request.method == "POST" else world.hangs

    with pytest.raises(SegmindJobTimeoutError):
        world.run(run(world.api, MODEL, {}, timeout=timeout), serve)
    assert world.clock() - NOON <= timeout + LATEST
    assert len(world.posts) == 1


@pytest.mark.parametrize("timeout", [0.1, 4, 30])
def test_running_a_job_ends_on_time_even_if_every_response_takes_all_its_time(world, timeout):
    def serve(request):
        if request.method == "POST":
            return world.slowly(queued())
        return world.slowly(status("COMPLETED")) if request.url.endswith("/status") else world.hangs

    with pytest.raises(SegmindServiceError):
        world.run(run(world.api, MODEL, {}, timeout=timeout), serve)
    assert world.clock() - NOON <= timeout + LATEST


def test_a_submit_that_hangs_ends_a_run_on_time_as_unknown(world):
    with pytest.raises(SegmindSubmitUnknownError):
        world.run(run(world.api, MODEL, {}, timeout=4), world.hangs)
    assert world.clock() - NOON <= 4 + LATEST
