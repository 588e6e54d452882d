"""The request history: found, surely absent, or not to be told."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from airflow_provider_segmind.api.history import LISTED_WITHIN, PAGES, find_request, fingerprint, get_record
from airflow_provider_segmind.api.models import JobState
from airflow_provider_segmind.api.operation import Response
from airflow_provider_segmind.exceptions import SegmindServiceError, SegmindSubmitUnknownError

from .world import CUT, ID, MODEL, NOON, always, answer, error, html

PHOTO = bytes(range(256)) * 20
INLINE = base64.b64encode(PHOTO).decode()
URI = f"data:image/jpeg;base64,{INLINE}"
LINK = "https://photos.example/a.jpg"
BODY = {"image": LINK, "preserve_alpha": True}


def row(request_id=ID, at=NOON, model=MODEL, body=BODY, **more):
    created = datetime.fromtimestamp(at, UTC).isoformat() if at is not None else None
    return {"request_id": request_id, "model_name": model, "model_created": created, "request_body": body, **more}


def pages(*rows, size=100):
    """Return a history that serves these rows page by page."""

    def serve(send):
        start = (int(send.params["page"]) - 1) * size
        return answer(200, {"data": list(rows[start : start + size])})

    return serve


def find(world, script, body=BODY, since=NOON, **options):
    found = world.run(find_request(world.api, MODEL, fingerprint(body), since=since), script, **options)
    return found.request_id if found else None


def test_the_history_is_asked_for_the_model_and_the_days(world):
    find(world, pages(row()))
    params = world.sends[0].params
    assert world.sends[0].url == world.api.history_url
    assert (params["model_name"], params["per_page"], params["sort_order"]) == (MODEL, "100", "desc")
    assert params["from_date"] <= datetime.fromtimestamp(NOON, UTC).date().isoformat() <= params["to_date"]


@pytest.mark.parametrize("key", ["data", "results", "items", "generations", None, "data.results", "data.items"])
def test_rows_are_found_in_any_container(world, key):
    body = [row()]
    for name in reversed(key.split(".") if key else []):
        body = {name: body}
    assert find(world, always(answer(200, body))) == ID


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (BODY, {"image": LINK + "?X-Amz-Signature=other", "preserve_alpha": True}),
        ({"image": LINK + "?sig=1#x"}, BODY),
        ({"image": URI}, {"image": INLINE}),
        ({"image": INLINE}, {"image": URI, "seed": 7}),
        (BODY, {"image": LINK}),
        (BODY, json.dumps(BODY)),
        ({"prompt": "a cat"}, {"prompt": "a cat"}),
    ],
)
def test_the_same_inputs_match(world, ours, theirs):
    assert find(world, pages(row(body=theirs)), ours) == ID


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        (BODY, row(body={"image": "https://photos.example/b.jpg"})),
        (BODY, row(body={"image": LINK, "preserve_alpha": False})),
        ({"image": INLINE}, row(body={"image": base64.b64encode(PHOTO[::-1]).decode()})),
        ({"image": INLINE}, row(body={"image": base64.b64encode(PHOTO + b"x").decode()})),
        (BODY, row(model=f"{MODEL}-v2")),
        (BODY, row(at=NOON - 60)),
    ],
)
def test_other_requests_are_surely_not_it(world, ours, other):
    assert find(world, pages(other), ours) is None
    assert world.clock() - NOON >= LISTED_WITHIN


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"image": INLINE}, row(body={"image": URI[:100] + "..."})),
        ({"image": INLINE}, row(body={"image": INLINE[:2000]})),
        ({"image": INLINE}, row(body={"image": "<base64 image>"})),
        (BODY, row(body={"preserve_alpha": True})),
        (BODY, row(body=None)),
        (BODY, row(body="{cut")),
        (BODY, row(at=None)),
    ],
)
def test_what_cannot_be_told_apart_is_unknown(world, ours, theirs):
    with pytest.raises(SegmindSubmitUnknownError, match="cannot be told"):
        find(world, pages(theirs), ours)


def test_a_row_without_its_models_name_may_be_it(world):
    assert find(world, pages(row(model=None))) == ID


@pytest.mark.parametrize("rows", [[{"id": 1}], ["x"], [row(), {"request_id": "../x"}], [None]])
def test_rows_that_cannot_be_read_prove_no_absence(world, rows):
    with pytest.raises(SegmindSubmitUnknownError):
        find(world, always(answer(200, rows[-1:])))


def test_a_late_row_is_found_by_a_later_look(world):
    def serve(send):
        return answer(200, [row()] if world.clock() >= NOON + 20 and send.params["page"] == "1" else [])

    assert find(world, serve) == ID
    assert NOON + 20 <= world.clock() < NOON + LISTED_WITHIN


def test_absent_is_said_only_when_late_rows_have_had_their_time(world):
    assert find(world, always(answer(200, []))) is None
    assert world.times[-1] >= NOON + LISTED_WITHIN
    assert 2 <= len(world.sends) <= 6


def test_an_old_note_is_settled_by_a_single_look(world):
    world.clock.now += 3600
    assert find(world, always(answer(200, []))) is None
    assert len(world.sends) == 1


def test_the_newest_of_several_is_adopted(world):
    assert find(world, pages(row("late", NOON + 9), row("early", NOON + 1))) == "late"
    assert find(world, pages(row("early", NOON + 1), row("late", NOON + 9))) == "late"


def test_one_that_failed_gives_way_to_one_that_is_paid_for(world):
    rows = [row("failed", NOON + 9, model_status="FAILED"), row("paid", NOON + 1, model_status="COMPLETED")]
    assert find(world, pages(*rows)) == "paid"


def test_pages_are_turned_until_the_time_is_covered(world):
    world.clock.now += 3600
    others = [row(f"o{n}", NOON + 900 - n, body={"image": f"{LINK}{n}"}) for n in range(250)]
    assert find(world, pages(*others, row(), *(row(f"p{n}", NOON - 50 - n) for n in range(200)))) == ID
    assert [send.params["page"] for send in world.sends] == ["1", "2", "3"]


def test_rows_in_the_wrong_order_are_read_to_their_end(world):
    world.clock.now += 3600
    others = [row(f"o{n}", NOON - 500 + n, body={"image": f"{LINK}{n}"}) for n in range(150)]
    assert find(world, pages(*others, row())) == ID


def test_a_history_without_end_is_unknown_after_some_pages(world):
    world.clock.now += 3600

    def serve(send):
        first = int(send.params["page"]) * 100
        return answer(200, [row(f"o{first + n}", NOON + 600, body={"image": "http://x.y/"}) for n in range(100)])

    with pytest.raises(SegmindSubmitUnknownError, match="pages"):
        find(world, serve)
    assert len(world.sends) == PAGES[100]


def test_a_full_page_served_again_and_again_proves_no_absence(world):
    world.clock.now += 3600
    page = [row(f"o{n}", NOON + 600, body={"image": "http://x.y/"}) for n in range(100)]
    with pytest.raises(SegmindSubmitUnknownError):
        find(world, always(answer(200, page)))
    assert len(world.sends) <= 3


def test_more_than_the_history_can_show_is_unknown(world):
    with pytest.raises(SegmindSubmitUnknownError, match="31 days"):
        find(world, [], since=NOON - 40 * 86_400)


@pytest.mark.parametrize("reply", [CUT, html(), error(401), error(404), error(500), answer(200, {}), answer(200, b"x")])
def test_a_history_that_cannot_be_read_leaves_the_submit_unknown(world, reply):
    with pytest.raises(SegmindSubmitUnknownError, match="history"):
        find(world, always(reply))
    assert len(world.sends) <= 5


@pytest.mark.parametrize("shape", [lambda r: r, lambda r: [r], lambda r: {"data": r}, lambda r: {"data": [r]}])
def test_a_record_is_read_in_any_container(world, shape):
    reply = answer(200, shape(row(model_status="COMPLETED", generation_url=LINK, credits_deduction="0.04")))
    found = world.run(get_record(world.api, ID), [reply])
    assert (found.state, found.output_url, found.cost, found.created_at) == (JobState.COMPLETED, LINK, 0.04, NOON)


@pytest.mark.parametrize("at", [NOON, str(NOON), NOON * 1000, "2027-01-15T08:00:00", "2027-01-15T08:00:00Z"])
def test_a_rows_time_is_read_in_any_format(world, at):
    assert world.run(get_record(world.api, ID), [answer(200, row() | {"model_created": at})]).created_at == NOON


def test_no_record_is_none(world):
    assert world.run(get_record(world.api, ID), [error(404)]) is None


def test_somebody_elses_record_is_none_of_ours(world):
    with pytest.raises(SegmindServiceError):
        world.run(get_record(world.api, ID), always(answer(200, row("other"))))


def test_pages_too_large_to_read_are_asked_for_in_smaller_ones(world):
    world.clock.now += 3600
    rows = [row(f"o{n}", NOON + 900 - n, body={"image": f"{LINK}{n}"}) for n in range(30)]

    def serve(send):
        size = int(send.params["per_page"])
        if size > 10:
            return Response(200, {}, b"[", cut="larger than 10485760 bytes")
        return pages(*rows, row(), size=size)(send)

    assert find(world, serve) == ID
    assert [send.params["per_page"] for send in world.sends] == ["100"] + ["10"] * (len(world.sends) - 1)


def test_rows_too_large_one_by_one_are_unknown(world):
    world.clock.now += 3600
    with pytest.raises(SegmindSubmitUnknownError, match="larger"):
        find(world, always(Response(200, {}, b"[", cut="larger than 10485760 bytes")))
    assert len(world.sends) == len(PAGES)


@pytest.mark.parametrize("theirs", [1, 1.0, "True"])
def test_a_flag_kept_as_a_number_is_the_same_flag(world, theirs):
    assert find(world, pages(row(body={"image": LINK, "preserve_alpha": theirs}))) == ID


def test_a_flag_written_as_text_is_the_same_flag(world):
    assert find(world, pages(row(body={"image": LINK, "preserve_alpha": "True"}))) == ID


def test_a_failed_match_counts_only_once_our_own_row_would_have_landed(world):
    failed = row("theirs", NOON + 1, model_status="FAILED")

    def serve(send):
        rows = [failed, row("ours", NOON + 2)] if world.clock() > NOON + 8 else [failed]
        return answer(200, rows)

    assert find(world, serve) == "ours"


def dated(rows, ahead):
    """A page of a service whose clock is so many seconds behind ours."""
    return answer(200, rows, date=format_datetime(datetime.fromtimestamp(NOON + 100 - ahead, UTC), usegmt=True))


@pytest.mark.parametrize("ahead", [60, 3600, -60])
def test_a_row_is_dated_by_the_services_clock(world, ahead):
    world.clock.now = NOON + 100
    assert find(world, always(dated([row(at=NOON - ahead)], ahead))) == ID


def test_a_row_older_than_the_submit_is_not_it_whatever_the_clocks(world):
    world.clock.now = NOON + 100
    assert find(world, always(dated([row(at=NOON - 3600 - 30)], 3600))) is None


def test_a_note_of_the_future_holds_no_worker(world):
    assert find(world, always(answer(200, [])), since=NOON + 3600) is None
    assert world.clock() - NOON <= LISTED_WITHIN


def test_a_job_without_inputs_cannot_be_told_from_others(world):
    with pytest.raises(SegmindSubmitUnknownError):
        find(world, always(answer(200, [row()])), body={})


def test_a_limit_of_the_history_closes_no_gate_and_is_no_reason_to_wait_for_one(world):
    with pytest.raises(SegmindServiceError) as caught:
        world.run(get_record(world.api, ID), always(error(429)))
    assert caught.value.status_code == 429
    assert not world.api.limiter.is_closed(world.clock())


def test_a_submit_that_broke_off_late_has_its_row_waited_for_from_then(world):
    world.clock.now = NOON + 300

    def serve(send):
        return answer(200, [row(at=NOON + 299)] if world.clock() >= NOON + 340 else [])

    operation = find_request(world.api, MODEL, fingerprint(BODY), since=NOON, until=NOON + 300)
    assert world.run(operation, serve).request_id == ID
