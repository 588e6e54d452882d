"""The wait for many jobs: few requests, deadlines that hold, and jobs that are left to the next wave."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_segmind.api.operation import Pause
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.wave import Wave, WaveJob

from .wave_service import WaveService, ids, typical, watched, wave_of
from .world import CUT, MODEL, NOON, World, always, error, html, response, status


@pytest.mark.parametrize("watchers", [1, 3, 16])
def test_typical_jobs_cost_hardly_more_than_one_poll_each(watchers):
    wave, service, _ = watched(typical(1000), watchers=watchers)
    assert wave.ended == ids(1000)
    assert sum(service.polls.values()) == wave.requests <= 1100


def test_the_wave_is_over_when_its_last_job_has_ended():
    wave, _, world = watched([5.0, 40.0])
    assert wave.ended == ids(2)
    assert world.clock() - NOON < 75


@pytest.mark.parametrize("reply", [status("FAILED", error="no subject"), error(404), error(400), error(410)])
def test_a_job_that_somebody_has_to_deal_with_has_ended(reply):
    wave, _, _ = watched([5.0, 5.0], prepare=lambda service: service.odd.update(r1=reply))
    assert (wave.ended, wave.timed_out, wave.error) == (ids(2), set(), None)


def test_a_404_right_after_the_submit_is_taken_for_replication_lag():
    world = World()
    service = WaveService(world, {"r0": 30.0})
    service.odd["r0"] = lambda request: error(404) if world.clock() < NOON + 9 else service_again(request)

    def service_again(request):
        del service.odd["r0"]
        return service(request)

    wave = wave_of(world, service, poll_interval=4)
    world.run_all([wave.watcher()], service)
    assert wave.ended == {"r0"}
    assert world.clock() >= NOON + 30


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_key_ends_the_wave_with_an_error(code):
    wave, service, world = watched([5.0] * 50, watchers=4, prepare=lambda service: refuse_all(service, code))
    assert str(code) in wave.error
    assert wave.ended == set()
    assert sum(service.polls.values()) <= 4
    assert world.clock() - NOON < 30


def refuse_all(service, code):
    service.odd.update(dict.fromkeys(service.seconds, error(code, "not you")))


@pytest.mark.parametrize("outage", [CUT, error(500), html(503), error(429, retry_after="1")])
def test_an_outage_does_not_end_the_wave_before_the_deadlines(outage):
    world = World(limiter=RateLimiter(600))
    service = WaveService(world, dict.fromkeys(ids(20), 12.0))
    wave = wave_of(world, service)
    replies = lambda request: outage if world.clock() < NOON + 300 else service(request)  # noqa: E731
    world.run_all([wave.watcher() for _ in range(4)], replies)
    assert (wave.ended, wave.timed_out) == (ids(20), set())
    assert world.clock() - NOON < 400


# ------------------------------------------------------------------ deadlines


def test_a_job_that_does_not_end_times_out_after_a_poll_at_its_deadline():
    wave, _, world = watched([5.0, 1e6], timeout=100)
    assert (wave.ended, wave.timed_out) == ({"r0"}, {"r1"})
    assert world.times[-1] == NOON + 100


def test_each_job_has_its_own_deadline():
    world = World()
    service = WaveService(world, {"early": 1e6, "late": 100.0})
    jobs = [WaveJob("early", NOON, NOON + 50), WaveJob("late", NOON, NOON + 150)]
    wave = Wave(world.api, MODEL, jobs)
    world.run_all([wave.watcher()], service)
    assert (wave.ended, wave.timed_out) == ({"late"}, {"early"})


@pytest.mark.parametrize("reply", ["hangs", "drips"])
def test_a_thousand_jobs_of_one_deadline_end_on_time_though_the_server_answers_to_none(reply):
    world = World()
    service = WaveService(world, dict.fromkeys(ids(1000), 12.0))
    wave = wave_of(world, service, timeout=60)
    world.run_all([wave.watcher()], getattr(world, reply))
    assert wave.timed_out == ids(1000)
    assert world.clock() <= NOON + 60 + 9


def test_a_deadline_that_has_passed_still_gets_a_poll():
    wave, service, _ = watched([-100.0], timeout=-50)
    assert wave.ended == {"r0"}
    assert service.polls["r0"] == 1


def test_deadlines_hold_though_another_process_was_refused_for_an_hour():
    world = World()
    world.api.limiter.close_until(NOON + 3600)
    service = WaveService(world, dict.fromkeys(ids(50), 12.0))
    wave = wave_of(world, service, timeout=100)
    world.run_all([wave.watcher() for _ in range(4)], service)
    assert wave.timed_out == ids(50)
    assert world.requests == []
    assert NOON + 100 <= world.clock() <= NOON + 109


# ------------------------------------------------------------------ the end at which more is submitted


def test_jobs_that_still_run_when_the_window_opens_are_left_to_the_next_wave():
    wave, _, world = watched([5.0, 300.0], resume_at=NOON + 60)
    assert (wave.ended, wave.timed_out) == ({"r0"}, set())
    assert world.clock() == NOON + 60


def test_the_wave_lasts_until_the_window_opens_though_all_jobs_have_ended():
    wave, _, world = watched([5.0, 6.0], resume_at=NOON + 90, opens_at=NOON + 60)
    assert wave.ended == ids(2)
    assert world.clock() == NOON + 60


def test_a_wave_whose_window_is_open_is_over_when_all_jobs_have_ended():
    wave, _, world = watched([5.0, 6.0], resume_at=NOON + 90)
    assert wave.ended == ids(2)
    assert world.clock() < NOON + 20


def test_slow_jobs_that_may_be_left_running_do_not_hold_up_the_wave():
    wave, _, world = watched([12.0] * 18 + [300.0, 310.0], leave_running=2)
    assert wave.ended == ids(18)
    assert world.clock() < NOON + 30


def test_a_wave_with_more_running_jobs_than_may_be_left_goes_on():
    wave, _, world = watched([12.0] * 17 + [50.0, 300.0, 310.0], leave_running=2)
    assert wave.ended == ids(18)
    assert NOON + 50 <= world.clock() < NOON + 110


@pytest.mark.parametrize("resume_at", [NOON + 30, NOON - 5])
def test_a_wave_without_jobs_waits_for_the_window(resume_at):
    wave, _, world = watched([], resume_at=resume_at, opens_at=resume_at)
    assert wave.ended == set()
    assert world.clock() == max(resume_at, NOON)


def test_a_wave_without_jobs_and_without_a_window_is_over_at_once():
    _, _, world = watched([])
    assert world.clock() == NOON


def test_a_window_that_is_open_ends_the_wave_without_a_request():
    _, service, _ = watched([5.0], resume_at=NOON - 1)
    assert not service.polls


@pytest.mark.parametrize("reply", ["hangs", "drips"])
def test_a_server_that_does_not_answer_delays_the_window_by_three_seconds_at_most(reply):
    world = World()
    service = WaveService(world, {"r0": 12.0})
    wave = wave_of(world, service, resume_at=NOON + 60)
    world.run_all([wave.watcher()], getattr(world, reply))
    assert world.clock() <= NOON + 63


def test_polls_that_wait_for_a_slot_end_when_the_window_opens():
    world = World(limiter=RateLimiter(2))
    service = WaveService(world, dict.fromkeys(ids(20), 5.0))
    wave = wave_of(world, service, resume_at=NOON + 40)
    world.run_all([wave.watcher() for _ in range(8)], service)
    assert len(wave.ended) == 2
    assert world.clock() <= NOON + 43


# ------------------------------------------------------------------ several watchers


def test_watchers_keep_to_the_limit_together():
    world = World(limiter=RateLimiter(100))
    service = WaveService(world, dict.fromkeys(ids(300), 10.0))
    wave = wave_of(world, service)
    world.run_all([wave.watcher() for _ in range(16)], service)
    assert wave.ended == ids(300)
    assert max(sum(start <= at < start + 60 for at in world.times) for start in world.times) <= 100


def test_watchers_that_are_not_needed_any_more_end():
    _, _, world = watched([5.0, 300.0], watchers=16)
    assert len(world.pauses) < 250  # one watcher looks for work every 2 s


def test_a_job_that_ends_in_the_history_during_its_last_poll_has_not_timed_out():
    world = World()
    service = WaveService(world, {"r0": 18.0, "r1": 18.0})
    wave = wave_of(world, service, timeout=18.0, watch="history")
    reader, poller = wave.watcher(), wave.watcher()
    page = until_it_asks(world, reader)
    world.clock.now = NOON + 18
    poll = until_it_asks(world, poller)
    world.run_all([going_on(reader, service(page))], service)
    world.run_all([going_on(poller, status("PROCESSING"))], service)
    assert poll.url.endswith("/status")
    assert (wave.ended, wave.timed_out) == ({"r0", "r1"}, set())


def until_it_asks(world, operation):
    """Run an operation to its first request, and return that."""
    step = next(operation)
    while isinstance(step, Pause):
        world.clock.now += step.seconds
        step = operation.send(None)
    return step


def going_on(operation, reply):
    """Go on with an operation that waits for a reply."""
    try:
        step = operation.send(reply)
        while True:
            step = operation.send((yield step))
    except StopIteration:
        return


def test_a_watcher_that_is_cancelled_leaves_its_job_to_the_others():
    world = World()
    service = WaveService(world, {"r0": -1.0})
    wave = wave_of(world, service)
    cancelled = wave.watcher()
    until_it_asks(world, cancelled)
    cancelled.close()
    world.run_all([wave.watcher()], service)
    assert wave.ended == {"r0"}


def test_threads_can_watch_together():
    world = World(limiter=RateLimiter(10_000))
    service = WaveService(world, dict.fromkeys(ids(500), 12.0), submitted=dict.fromkeys(ids(500), NOON - 100))
    wave = wave_of(world, service)
    failures = []

    def watch():
        try:
            operation, outcome = wave.watcher(), None
            while True:
                step = operation.send(outcome)
                outcome = service(step) if hasattr(step, "url") else None
                if isinstance(step, Pause):
                    world.clock.now += step.seconds
        except StopIteration:
            pass
        except Exception as caught:  # noqa: BLE001 - a thread's exception would be lost
            failures.append(caught)

    threads = [threading.Thread(target=watch) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert wave.ended == ids(500)
    assert set(service.polls.values()) == {1}


def test_completed_jobs_teach_the_schedule_of_those_that_follow():
    world = World()
    service = WaveService(world, dict.fromkeys(ids(100), 40.0), submitted={f"r{n}": NOON + 2 * n for n in range(100)})
    wave = wave_of(world, service)
    world.run_all([wave.watcher() for _ in range(4)], service)
    assert all(service.polls[f"r{n}"] == 1 for n in range(60, 100))


def test_a_given_poll_interval_is_kept():
    _, _, world = watched([19.0], poll_interval=5)
    assert [at - NOON for at in world.times] == [5, 10, 15, 20]


def test_a_script_that_answers_nothing_useful_ends_at_the_deadline():
    world = World()
    wave = Wave(world.api, MODEL, [WaveJob("r0", NOON, NOON + 30)], watch="history")
    world.run_all([wave.watcher()], always(response(200, b"")))
    assert wave.timed_out == {"r0"}
