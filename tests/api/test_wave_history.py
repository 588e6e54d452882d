"""The wait for many jobs by the request history: few pages, and status requests where it does not tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .wave_service import WaveService, ids, typical, watched, wave_of
from .world import CUT, NOON, World, error, html, response


def in_history(seconds, **options):
    return watched(seconds, watch="history", **options)


def test_with_the_history_a_page_tells_of_a_hundred_jobs():
    wave, service, _ = in_history(typical(1000))
    assert wave.ended == ids(1000)
    assert wave.requests == service.pages + sum(service.polls.values())
    assert wave.requests <= 40


def test_a_job_that_failed_has_ended_as_the_history_says():
    wave, service, _ = in_history([5.0] * 20, prepare=lambda service: service.failed.update({"r3", "r4"}))
    assert wave.ended == ids(20)
    assert service.pages == 1
    assert not service.polls


def test_a_request_with_several_outputs_is_one_job():
    def outputs(rows):
        return [row for row in rows for _ in range(4)]

    wave, service, _ = in_history([5.0] * 60, prepare=lambda service: setattr(service, "rows", outputs))
    assert wave.ended == ids(60)
    assert service.pages == 3


def test_jobs_that_are_pending_are_looked_for_again():
    wave, service, _ = in_history([5.0] * 50 + [25.0] * 50)
    assert wave.ended == ids(100)
    assert service.pages == 2
    assert not service.polls


def test_fewer_jobs_than_pages_are_polled_rather_than_looked_for_again():
    wave, service, _ = in_history([5.0] * 150 + [25.0] * 2)
    assert wave.ended == ids(152)
    assert service.pages == 2
    assert set(service.polls) == {"r150", "r151"}


def test_a_job_that_two_readings_did_not_show_is_polled():
    def hides(service):
        service.rows = lambda rows: [row for row in rows if row["request_id"] not in ("r1", "r2", "r3", "r4")]

    wave, service, _ = in_history([5.0] * 20, prepare=hides)
    assert wave.ended == ids(20)
    assert service.pages == 2
    assert set(service.polls) == {"r1", "r2", "r3", "r4"}


def test_rows_that_come_late_are_found_by_the_second_reading():
    wave, service, _ = in_history([5.0] * 20, prepare=lambda service: setattr(service, "listed_after", 22.0))
    assert wave.ended == ids(20)
    assert service.pages == 2
    assert not service.polls


@pytest.mark.parametrize("change", [{"model_status": 7}, {"model_status": None}, {"model_name": "another"}])
def test_jobs_with_odd_rows_are_polled_in_the_end(change):
    def odd(service):
        service.rows = lambda rows: [{**row, **change} for row in rows]

    wave, service, _ = in_history([5.0] * 20, prepare=odd)
    assert wave.ended == ids(20)
    assert service.pages <= 4
    assert set(service.polls.values()) == {1}


def test_unreadable_rows_of_others_do_not_matter():
    def odd(service):
        service.rows = lambda rows: [None, {"request_id": 7}, *rows]

    wave, service, _ = in_history([5.0] * 20, prepare=odd)
    assert wave.ended == ids(20)
    assert not service.polls


def test_rows_without_a_time_are_read_on_until_all_jobs_were_seen():
    def timeless(service):
        service.rows = lambda rows: [{**row, "model_created": None} for row in rows]

    wave, service, _ = in_history([5.0] * 250, prepare=timeless)
    assert wave.ended == ids(250)
    assert service.pages == 3


@pytest.mark.parametrize(
    "page",
    [CUT, error(500), error(404), error(401), error(429, retry_after="60"), html(502), response(200, {"data": "x"})],
)
def test_a_history_that_fails_is_replaced_by_status_requests(page):
    wave, service, world = in_history([5.0] * 20, prepare=lambda service: setattr(service, "page", page))
    assert wave.ended == ids(20)
    assert service.pages <= 2
    assert set(service.polls.values()) == {1}
    assert world.clock() - NOON < 45


def test_a_page_that_is_too_large_to_read_is_asked_for_once():
    page = replace(response(200, {"data": []}), truncated="larger than 10 MiB")
    wave, service, _ = in_history([5.0] * 20, prepare=lambda service: setattr(service, "page", page))
    assert wave.ended == ids(20)
    assert service.pages == 1


def test_a_history_that_never_answers_is_given_up_in_20_seconds():
    def hanging(service):
        service.page = service.world.hangs

    wave, service, world = in_history([5.0] * 20, prepare=hanging)
    assert wave.ended == ids(20)
    assert service.pages <= 2
    assert world.clock() - NOON < 45


def test_deadlines_hold_while_the_history_does_not_answer():
    def hanging(service):
        service.page = service.world.hangs

    wave, _, world = in_history([1e6] * 20, timeout=18, prepare=hanging)
    assert wave.timed_out == ids(20)
    assert world.clock() <= NOON + 18 + 10


def test_jobs_that_never_end_in_the_history_get_a_poll_at_their_deadline():
    wave, service, world = in_history([1e6] * 20, timeout=100)
    assert wave.timed_out == ids(20)
    assert all(service.polls[each] >= 1 for each in ids(20))
    assert world.clock() <= NOON + 104


def test_the_history_is_read_before_the_window_opens_though_the_newest_job_may_still_run():
    world = World()
    service = WaveService(world, dict.fromkeys(ids(40), 10.0), submitted={f"r{n}": NOON + n for n in range(40)})
    wave = wave_of(world, service, watch="history", resume_at=NOON + 45)
    world.run_all([wave.watcher() for _ in range(4)], service)
    assert len(wave.ended) >= 30
    assert service.pages == 1


def test_no_page_is_read_while_no_job_can_have_ended():
    _, service, _ = in_history([30.0] * 5, resume_at=NOON + 10)
    assert service.pages == 0


def test_the_gateways_limit_does_not_hold_back_the_history():
    world = World()
    world.api.limiter.close_until(NOON + 3600)
    wave, _, _ = in_history([5.0] * 20, world=world)
    assert wave.ended == ids(20)
