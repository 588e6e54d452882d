"""The request history: a request is in it, certainly absent, or the history cannot tell."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from airflow_provider_segmind.api.history import LISTED_WITHIN, PAGES, find_request, get_record, payload_fingerprint
from airflow_provider_segmind.api.models import JobState
from airflow_provider_segmind.api.operation import Response
from airflow_provider_segmind.exceptions import SegmindServiceError, SegmindSubmitUnknownError

from .world import CUT, ID, MODEL, NOON, always, error, html, response

PHOTO = bytes(range(256)) * 20
INLINE = base64.b64encode(PHOTO).decode()
URI = f"data:image/jpeg;base64,{INLINE}"
LINK = "https://photos.example/a.jpg"
LONG_LINK = f"https://photos.example/{'folder/' * 60}a.jpg"
PROMPT = "A cat on a sofa, " * 30
BODY = {"image": LINK, "preserve_alpha": True}


def row(request_id=ID, at=NOON, model=MODEL, body=BODY, **more):
    created = datetime.fromtimestamp(at, UTC).isoformat() if at is not None else None
    return {"request_id": request_id, "model_name": model, "model_created": created, "request_body": body, **more}


def pages(*rows, size=100):
    """Return a history that serves these rows page by page."""

    def serve(request):
        start = (int(request.params["page"]) - 1) * size
        return response(200, {"data": list(rows[start : start + size])})

    return serve


def find(world, script, body=BODY, since=NOON, **options):
    found = world.run(find_request(world.api, MODEL, payload_fingerprint(body), since=since), script, **options)
    return found.request_id if found else None


def test_a_search_asks_for_the_model_and_the_days_of_the_submit(world):
    find(world, pages(row()))
    params = world.requests[0].params
    assert world.requests[0].url == world.api.history_url
    assert (params["model_name"], params["per_page"], params["sort_order"]) == (MODEL, "100", "desc")
    assert params["from_date"] <= datetime.fromtimestamp(NOON, UTC).date().isoformat() <= params["to_date"]


@pytest.mark.parametrize("key", ["data", "results", "items", "generations", None, "data.results", "data.items"])
def test_rows_are_found_in_any_container(world, key):
    body = [row()]
    for name in reversed(key.split(".") if key else []):
        body = {name: body}
    assert find(world, always(response(200, body))) == ID


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (BODY, {"image": LINK + "?X-Amz-Signature=other", "preserve_alpha": True}),
        ({"image": LINK + "?sig=1#x"}, BODY),
        ({"image": URI}, {"image": INLINE}),
        ({"image": INLINE}, {"image": URI, "seed": 7}),
        (BODY, {"image": LINK}),
        (BODY | {"prompt": PROMPT}, BODY),
        (BODY | {"prompt": PROMPT}, BODY | {"prompt": PROMPT}),
        (BODY, json.dumps(BODY)),
        ({"prompt": "a cat"}, {"prompt": "a cat"}),
    ],
)
def test_a_row_with_the_same_inputs_matches(world, ours, theirs):
    assert find(world, pages(row(body=theirs)), ours) == ID


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        (BODY, row(body={"image": "https://photos.example/b.jpg"})),
        (BODY, row(body={"image": LINK, "preserve_alpha": False})),
        ({"image": INLINE}, row(body={"image": base64.b64encode(PHOTO[::-1]).decode()})),
        ({"image": INLINE}, row(body={"image": base64.b64encode(PHOTO + b"x").decode()})),
        (BODY, row(body={"image": "https://photos.example/b..."})),
        ({"image": LINK + "0"}, row(body={"image": LINK})),
        ({"prompt": PROMPT}, row(body={"prompt": "A dog" + PROMPT[5:200] + "..."})),
        ({"prompt": PROMPT}, row(body={"prompt": PROMPT + " in the rain"})),
        ({"prompt": PROMPT}, row(body={"prompt": "A dog"})),
        (BODY, row(model=f"{MODEL}-v2")),
        (BODY, row(at=NOON - 60)),
    ],
)
def test_a_row_of_another_request_does_not_match(world, ours, other):
    assert find(world, pages(other), ours) is None
    assert world.clock() - NOON >= LISTED_WITHIN


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"image": INLINE}, row(body={"image": URI[:100] + "..."})),
        ({"image": INLINE}, row(body={"image": INLINE[:2000]})),
        ({"image": INLINE}, row(body={"image": "<base64 image>"})),
        (BODY, row(body={"image": LINK, "preserve_alpha": "True..."})),
        (BODY, row(body={"image": "https://photos.ex..."})),
        (BODY, row(body={"image": "<address>"})),
        ({"image": LONG_LINK}, row(body={"image": LONG_LINK[:255]})),
        ({"prompt": PROMPT}, row(body={"prompt": PROMPT[:40] + "…"})),
        ({"prompt": PROMPT}, row(body={"prompt": PROMPT[:255]})),
        ({"scenes": [{"prompt": PROMPT}]}, row(body={"scenes": [{"prompt": PROMPT[:40] + "..."}]})),
        (BODY, row(body={"preserve_alpha": True})),
        (BODY, row(body=None)),
        (BODY, row(body="{cut")),
        (BODY, row(at=None)),
    ],
)
def test_a_row_that_may_be_the_request_leaves_the_submit_unknown(world, ours, theirs):
    with pytest.raises(SegmindSubmitUnknownError, match="would identify it"):
        find(world, pages(theirs), ours)


def test_a_row_without_a_model_name_can_match(world):
    assert find(world, pages(row(model=None))) == ID


@pytest.mark.parametrize("rows", [[{"id": 1}], ["x"], [row(), {"request_id": "../x"}], [None]])
def test_an_unreadable_row_leaves_the_submit_unknown(world, rows):
    with pytest.raises(SegmindSubmitUnknownError):
        find(world, always(response(200, rows[-1:])))


def test_a_row_that_lands_late_is_found_by_a_later_search(world):
    def serve(request):
        return response(200, [row()] if world.clock() >= NOON + 20 and request.params["page"] == "1" else [])

    assert find(world, serve) == ID
    assert NOON + 20 <= world.clock() < NOON + LISTED_WITHIN


def test_a_request_counts_as_absent_only_after_late_rows_had_time_to_land(world):
    assert find(world, always(response(200, []))) is None
    assert world.times[-1] >= NOON + LISTED_WITHIN
    assert 2 <= len(world.requests) <= 6


def test_an_old_submit_needs_a_single_search(world):
    world.clock.now += 3600
    assert find(world, always(response(200, []))) is None
    assert len(world.requests) == 1


def test_the_newest_of_several_matches_is_returned(world):
    assert find(world, pages(row("late", NOON + 9), row("early", NOON + 1))) == "late"
    assert find(world, pages(row("early", NOON + 1), row("late", NOON + 9))) == "late"


def test_a_match_that_is_billed_is_preferred_to_one_that_failed(world):
    rows = [row("failed", NOON + 9, model_status="FAILED"), row("paid", NOON + 1, model_status="COMPLETED")]
    assert find(world, pages(*rows)) == "paid"


def test_pages_are_read_until_they_reach_back_to_the_submit(world):
    world.clock.now += 3600
    others = [row(f"o{n}", NOON + 900 - n, body={"image": f"{LINK}{n}"}) for n in range(250)]
    assert find(world, pages(*others, row(), *(row(f"p{n}", NOON - 50 - n) for n in range(200)))) == ID
    assert [request.params["page"] for request in world.requests] == ["1", "2", "3"]


def test_pages_in_the_wrong_order_are_read_to_the_end(world):
    world.clock.now += 3600
    others = [row(f"o{n}", NOON - 500 + n, body={"image": f"{LINK}{n}"}) for n in range(150)]
    assert find(world, pages(*others, row())) == ID


def test_a_history_without_end_leaves_the_submit_unknown(world):
    world.clock.now += 3600

    def serve(request):
        first = int(request.params["page"]) * 100
        return response(200, [row(f"o{first + n}", NOON + 600, body={"image": "http://x.y/"}) for n in range(100)])

    with pytest.raises(SegmindSubmitUnknownError, match="pages"):
        find(world, serve)
    assert len(world.requests) == PAGES[100]


def test_the_same_full_page_again_leaves_the_submit_unknown(world):
    world.clock.now += 3600
    page = [row(f"o{n}", NOON + 600, body={"image": "http://x.y/"}) for n in range(100)]
    with pytest.raises(SegmindSubmitUnknownError):
        find(world, always(response(200, page)))
    assert len(world.requests) <= 3


def test_a_submit_older_than_the_history_shows_is_unknown(world):
    with pytest.raises(SegmindSubmitUnknownError, match="31 days"):
        find(world, [], since=NOON - 40 * 86_400)


@pytest.mark.parametrize(
    "reply", [CUT, html(), error(401), error(404), error(500), response(200, {}), response(200, b"x")]
)
def test_an_unreachable_history_leaves_the_submit_unknown(world, reply):
    with pytest.raises(SegmindSubmitUnknownError, match="history"):
        find(world, always(reply))
    assert len(world.requests) <= 5


@pytest.mark.parametrize("shape", [lambda r: r, lambda r: [r], lambda r: {"data": r}, lambda r: {"data": [r]}])
def test_a_record_is_found_in_any_container(world, shape):
    reply = response(200, shape(row(model_status="COMPLETED", generation_url=LINK, credits_deduction="0.04")))
    found = world.run(get_record(world.api, ID), [reply])
    assert (found.state, found.output_url, found.cost, found.created_at) == (JobState.COMPLETED, LINK, 0.04, NOON)


def test_a_record_of_several_rows_has_all_outputs_and_counts_the_cost_once(world):
    rows = [row(generation_url=f"{LINK}{n}", credits_deduction=0.04, model_status="COMPLETED") for n in (1, 2, 2, 3)]
    reply = response(200, {"data": [*rows, row("other", generation_url="https://other.example/", credits_deduction=9)]})
    found = world.run(get_record(world.api, ID), [reply])
    assert found.output_urls == (f"{LINK}1", f"{LINK}2", f"{LINK}3")
    assert found.cost == 0.04
    assert [output.url for output in found.as_result().outputs] == list(found.output_urls)


def test_a_record_of_several_rows_takes_each_fact_from_the_first_row_that_has_it(world):
    pending, done = row(at=None), row(model_status="COMPLETED", credits_deduction=0.04, generation_url=LINK)
    found = world.run(get_record(world.api, ID), [response(200, [pending, done])])
    assert (found.state, found.created_at, found.cost) == (JobState.COMPLETED, NOON, 0.04)


def test_a_look_up_ends_by_the_time_it_is_given_even_if_the_history_hangs(world):
    with pytest.raises(SegmindServiceError):
        world.run(get_record(world.api, ID, until=NOON + 7), world.hangs)
    assert world.clock() <= NOON + 7


@pytest.mark.parametrize("at", [NOON, str(NOON), NOON * 1000, "2027-01-15T08:00:00", "2027-01-15T08:00:00Z"])
def test_the_time_of_a_row_is_read_in_any_format(world, at):
    assert world.run(get_record(world.api, ID), [response(200, row() | {"model_created": at})]).created_at == NOON


def test_a_request_that_the_history_does_not_have_is_none(world):
    assert world.run(get_record(world.api, ID), [error(404)]) is None


def test_a_record_of_another_request_is_an_error(world):
    with pytest.raises(SegmindServiceError):
        world.run(get_record(world.api, ID), always(response(200, row("other"))))


def test_pages_too_large_to_read_are_read_in_smaller_ones(world):
    world.clock.now += 3600
    rows = [row(f"o{n}", NOON + 900 - n, body={"image": f"{LINK}{n}"}) for n in range(30)]

    def serve(request):
        size = int(request.params["per_page"])
        if size > 10:
            return Response(200, {}, b"[", truncated="larger than 10485760 bytes")
        return pages(*rows, row(), size=size)(request)

    assert find(world, serve) == ID
    assert [request.params["per_page"] for request in world.requests] == ["100"] + ["10"] * (len(world.requests) - 1)


def test_single_rows_too_large_to_read_leave_the_submit_unknown(world):
    world.clock.now += 3600
    with pytest.raises(SegmindSubmitUnknownError, match="larger"):
        find(world, always(Response(200, {}, b"[", truncated="larger than 10485760 bytes")))
    assert len(world.requests) == len(PAGES)


@pytest.mark.parametrize("theirs", [1, 1.0, "True"])
def test_a_flag_that_the_history_keeps_as_a_number_matches(world, theirs):
    assert find(world, pages(row(body={"image": LINK, "preserve_alpha": theirs}))) == ID


def test_a_flag_that_the_history_keeps_as_text_matches(world):
    assert find(world, pages(row(body={"image": LINK, "preserve_alpha": "True"}))) == ID


def test_a_failed_match_counts_only_after_late_rows_had_time_to_land(world):
    failed = row("theirs", NOON + 1, model_status="FAILED")

    def serve(request):
        rows = [failed, row("ours", NOON + 2)] if world.clock() > NOON + 8 else [failed]
        return response(200, rows)

    assert find(world, serve) == "ours"


def dated(rows, ahead):
    """Return a page by a clock that is so many seconds behind ours."""
    return response(200, rows, date=format_datetime(datetime.fromtimestamp(NOON + 100 - ahead, UTC), usegmt=True))


@pytest.mark.parametrize("ahead", [60, 3600, -60])
def test_the_time_of_a_row_is_compared_by_segminds_clock(world, ahead):
    world.clock.now = NOON + 100
    assert find(world, always(dated([row(at=NOON - ahead)], ahead))) == ID


def test_a_row_older_than_the_submit_by_segminds_clock_does_not_match(world):
    world.clock.now = NOON + 100
    assert find(world, always(dated([row(at=NOON - 3600 - 30)], 3600))) is None


def test_a_submit_dated_in_the_future_delays_nobody(world):
    assert find(world, always(response(200, [])), since=NOON + 3600) is None
    assert world.clock() - NOON <= LISTED_WITHIN


def test_a_job_without_inputs_leaves_the_submit_unknown(world):
    with pytest.raises(SegmindSubmitUnknownError):
        find(world, always(response(200, [row()])), body={})


def test_a_429_of_the_history_does_not_hold_back_requests_to_the_gateway(world):
    with pytest.raises(SegmindServiceError) as caught:
        world.run(get_record(world.api, ID), always(error(429)))
    assert caught.value.status_code == 429
    assert not world.api.limiter.is_closed(world.clock())


def test_a_short_429_of_the_history_is_waited_out(world):
    replies = [error(429, retry_after="20"), response(200, row())]
    assert world.run(get_record(world.api, ID), replies).request_id == ID
    assert world.clock() == NOON + 20


def test_the_row_of_a_submit_that_ended_late_is_waited_for_from_its_end(world):
    world.clock.now = NOON + 300

    def serve(request):
        return response(200, [row(at=NOON + 299)] if world.clock() >= NOON + 340 else [])

    operation = find_request(world.api, MODEL, payload_fingerprint(BODY), since=NOON, until=NOON + 300)
    assert world.run(operation, serve).request_id == ID


def test_a_row_whose_time_is_unknown_is_never_dated(world):
    with pytest.raises(SegmindSubmitUnknownError, match="would identify it"):
        find(world, pages(row("old", at=None)), since=NOON)
    found = world.run(get_record(world.api, ID), [response(200, row(at=None))])
    assert found.created_at is None


def test_the_fingerprint_of_a_payload_holds_neither_its_data_nor_a_signature():
    fingerprint = payload_fingerprint({"image": URI, "other": LINK + "?X-Amz-Signature=secret"})
    assert INLINE[:50] not in str(fingerprint)
    assert "secret" not in str(fingerprint)
    assert len(str(fingerprint)) < 400


@pytest.mark.parametrize("reply", ["hangs", "drips"])
def test_each_request_of_a_search_ends_within_a_minute(world, reply):
    with pytest.raises(SegmindSubmitUnknownError):
        find(world, getattr(world, reply))
    assert world.clock() - NOON <= 61
