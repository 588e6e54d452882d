"""Pages of the request history that tell of many requests."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.history_pages import MAX_PAGES, records_of

from .wave_service import WaveService
from .world import CUT, MODEL, NOON, World, error, html, response


@pytest.fixture
def world():
    world = World()
    world.clock.now = NOON + 60
    return world


def service_of(world, count):
    return WaveService(
        world, {f"r{n:03}": 5.0 for n in range(count)}, submitted={f"r{n:03}": NOON + n / 100 for n in range(count)}
    )


def records(world, service, request_ids, since=NOON):
    return world.run(records_of(world.api, MODEL, request_ids, since), service)


def test_a_record_has_the_address_of_the_output(world):
    service = service_of(world, 30)
    found = records(world, service, ["r001", "r007"])
    assert {key: record.output_urls for key, record in found.items()} == {
        key: (f"https://images.segmind.com/{key}.png",) for key in ("r001", "r007")
    }
    assert service.pages == 1


def test_pages_are_read_until_all_requests_were_seen(world):
    service = service_of(world, 450)
    assert len(records(world, service, [f"r{n:03}" for n in range(260, 450)])) == 190
    assert service.pages == 2


def test_pages_are_read_no_further_than_the_first_submit(world):
    service = service_of(world, 250)
    for n in range(150):
        service.submitted[f"r{n:03}"] = NOON - 1000 + n
    assert set(records(world, service, ["r200", "missing"])) == {"r200"}
    assert service.pages == 2


def test_a_clock_that_is_ahead_of_segminds_does_not_end_the_search_early(world):
    service = service_of(world, 250)
    service.submitted = {each: NOON - 300 + n / 100 for n, each in enumerate(service.seconds)}

    def dated(request):
        page = service(request)
        page.headers["date"] = "Fri, 15 Jan 2027 07:56:00 GMT"  # 300 s before the clock of this process
        return page

    assert set(records(world, dated, ["r000"])) == {"r000"}


def test_outputs_of_one_request_are_joined_over_two_pages(world):
    service = service_of(world, 30)
    service.rows = lambda rows: [
        {**row, "generation_url": f"https://images.segmind.com/{row['request_id']}-{n}.png"}
        for row in rows
        for n in range(4)
    ]
    found = records(world, service, [f"r{n:03}" for n in range(5, 30)])
    assert {len(record.output_urls) for record in found.values()} == {4}


def test_a_page_that_ends_in_the_middle_of_a_request_is_followed_by_the_next(world):
    service = service_of(world, 40)
    service.rows = lambda rows: [
        {**row, "generation_url": f"https://images.segmind.com/{row['request_id']}-{n}.png"}
        for row in rows
        for n in range(3)
    ]
    found = records(world, service, ["r006"])  # rows 100 to 102
    assert len(found["r006"].output_urls) == 3
    assert service.pages == 2


@pytest.mark.parametrize("page", [CUT, error(500), error(401), error(404), html(502), response(200, b"x")])
def test_a_history_that_cannot_be_read_has_no_records(world, page):
    assert records(world, lambda request: page, ["r001"]) == {}
    assert len(world.requests) <= 2


def test_what_was_read_before_a_failure_counts(world):
    service = service_of(world, 250)
    pages = iter([service, lambda request: CUT, lambda request: CUT])
    found = records(world, lambda request: next(pages)(request), ["r249", "r000"])
    assert set(found) == {"r249"}


def test_unreadable_rows_are_left_out(world):
    service = service_of(world, 3)
    service.rows = lambda rows: [None, 7, {"request_id": "../x"}, *rows]
    assert set(records(world, service, ["r000", "r001"])) == {"r000", "r001"}


def test_a_row_of_another_model_is_not_believed(world):
    service = service_of(world, 3)
    service.rows = lambda rows: [{**row, "model_name": "another"} for row in rows]
    assert records(world, service, ["r000"]) == {}


def test_a_request_that_is_older_than_the_history_is_not_searched_for(world):
    assert records(world, service_of(world, 3), ["r000"], since=NOON - 40 * 86_400) == {}
    assert world.requests == []


def test_the_search_ends_after_so_many_pages(world):
    service = service_of(world, 999)
    service.rows = lambda rows: [{**row, "model_created": None} for row in rows * 3]
    assert records(world, service, ["missing"]) == {}
    assert service.pages == MAX_PAGES
