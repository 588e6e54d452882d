"""GETs: what is repeated, and how responses of any shape are read."""

from __future__ import annotations

import base64
import json

import pytest

from airflow_provider_segmind.api.gateway import get_credits, run_sync, upload
from airflow_provider_segmind.api.models import JobState, decode_base64
from airflow_provider_segmind.api.operation import Response
from airflow_provider_segmind.api.polling import get_result, get_status
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindModerationError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

from .world import CUT, ID, MODEL, NOON, REFUSED, always, error, html, response, result, status

URL = "https://images.segmind.com/generations/a.png"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(100))
PNG64 = base64.b64encode(PNG).decode()


def ask_status(world, script):
    return world.run(get_status(world.api, ID), script)


def ask_result(world, script):
    return world.run(get_result(world.api, ID), script)


@pytest.mark.parametrize("word", ["QUEUED", "PROCESSING", "COMPLETED", "FAILED", " completed "])
def test_each_state_is_read(world, word):
    assert ask_status(world, [status(word)]).state == word.strip().upper()
    assert world.requests[0].url == f"https://api.segmind.com/v2/requests/{ID}/status"


@pytest.mark.parametrize("word", ["IN_PROGRESS", "STARTING", "☃"])
def test_an_unknown_state_counts_as_processing(world, word):
    assert ask_status(world, [status(word)]).state is JobState.PROCESSING


@pytest.mark.parametrize("code", [200, 422, 500, 404])
def test_a_body_that_says_failed_wins_over_the_http_status(world, code):
    failed = response(
        code, {"status": "FAILED", "error": "no subject", "metrics": {"inference_time": "1.5", "cost": None}}
    )
    found = ask_status(world, [failed])
    assert (found.state, found.error, found.metrics.inference_time) == (JobState.FAILED, "no subject", 1.5)


@pytest.mark.parametrize("code", [401, 403, 429])
def test_a_refused_key_or_a_rate_limit_wins_over_a_body_that_says_failed(world, code):
    with pytest.raises(SegmindAuthError if code != 429 else SegmindRateLimitError):
        ask_status(world, always(response(code, {"status": "FAILED"}, retry_after="3600")))


@pytest.mark.parametrize(
    "senseless",
    [
        CUT,
        REFUSED,
        error(500),
        html(502),
        error(503),
        response(504, b""),
        response(200, b""),
        html(200),
        response(200, b"{"),
        response(200, b"\xff\xfe\x00"),
        response(200, []),
        response(200, {"state": "x"}),
        response(200, {"status": 3}),
        response(200, {"status": " "}),
        response(200, b"[" * 200_000),
        response(302, b"", location="https://decoy.example/"),
        Response(200, {}, b'{"status": "COMPLETED"', truncated="not whole in time"),
    ],
)
def test_a_get_is_tried_five_times_within_a_minute(world, senseless):
    with pytest.raises(SegmindServiceError):
        ask_status(world, always(senseless))
    assert len(world.requests) == 5
    assert world.clock() - NOON <= 60


def test_a_get_succeeds_after_failures(world):
    assert ask_status(world, [CUT, html(), status("QUEUED")]).state is JobState.QUEUED


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (400, SegmindRequestError),
        (401, SegmindAuthError),
        (403, SegmindAuthError),
        (404, SegmindJobExpiredError),
        (405, SegmindRequestError),
        (410, SegmindRequestError),
    ],
)
def test_a_refused_get_is_not_repeated(world, code, expected):
    with pytest.raises(expected) as caught:
        ask_status(world, [error(code)])
    assert type(caught.value) is expected
    assert caught.value.request_id == ID


def test_a_get_waits_for_a_reset_within_its_minute(world):
    assert ask_status(world, [error(429, retry_after="20"), status("QUEUED")]).state is JobState.QUEUED
    assert world.clock() >= NOON + 20


def test_a_get_raises_where_the_reset_is_further_away(world):
    with pytest.raises(SegmindRateLimitError) as caught:
        ask_status(world, [error(429, retry_after="600")])
    assert caught.value.reset_at == NOON + 600
    assert world.clock() == NOON


def test_a_get_without_a_slot_in_its_minute_raises_without_a_request(world):
    world.api.limiter.close_until(NOON + 3000)
    with pytest.raises(SegmindRateLimitError) as caught:
        ask_result(world, [])
    assert caught.value.reset_at == NOON + 3000
    assert world.clock() == NOON


def facts(found):
    return [(output.url, output.data, output.content_type) for output in found.outputs]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"images": [{"url": URL, "content_type": "image/png"}], "output": URL}, [(URL, None, "image/png")]),
        ({"images": [{"url": URL}, {"url": URL + "2"}]}, [(URL, None, None), (URL + "2", None, None)]),
        ({"images": [URL]}, [(URL, None, None)]),
        ({"images": [], "output": URL}, [(URL, None, None)]),
        ({"output": f" {URL}\n"}, [(URL, None, None)]),
        ({"output": [URL, URL + "2"]}, [(URL, None, None), (URL + "2", None, None)]),
        ({"output": {"url": URL}}, [(URL, None, None)]),
        ({"output": {"images": [{"url": URL}, {"url": URL + "2"}]}}, [(URL, None, None), (URL + "2", None, None)]),
        ({"output": json.dumps([URL])}, [(URL, None, None)]),
        ({"output": json.dumps({"images": [{"url": URL}]})}, [(URL, None, None)]),
        ({"output": f"data:image/png;base64,{PNG64}"}, [(None, PNG, "image/png")]),
        ({"output": PNG64}, [(None, PNG, None)]),
        ({"output": f"{PNG64[:76]}\n{PNG64[76:]}"}, [(None, PNG, None)]),
        ({"output": [{"b64_json": PNG64}]}, [(None, PNG, None)]),
        ({"output": "A cup of coffee."}, [(None, b"A cup of coffee.", "text/plain")]),
    ],
)
def test_outputs_of_any_shape_are_read(world, body, expected):
    assert facts(ask_result(world, [response(200, {"status": "COMPLETED", **body})])) == expected


def test_a_result_with_outputs_and_no_state_counts_as_completed(world):
    assert ask_result(world, [response(200, {"output": URL})]).status is JobState.COMPLETED


@pytest.mark.parametrize("size", [-1, 0, True, "12", None, 1.5])
def test_a_senseless_file_size_is_ignored(world, size):
    found = ask_result(world, [response(200, {"status": "COMPLETED", "images": [{"url": URL, "file_size": size}]})])
    assert found.outputs[0].file_size is None


def test_a_running_job_has_no_outputs(world):
    assert ask_result(world, [status("PROCESSING", output=URL)]).outputs == ()


def test_a_completed_job_without_outputs_is_looked_up_in_the_history(world):
    found = ask_result(
        world, [response(200, {"status": "COMPLETED"}), response(200, {"request_id": ID, "generation_url": URL})]
    )
    assert found.output_url == URL
    assert world.requests[1].url == f"{world.api.history_url}/{ID}"


@pytest.mark.parametrize("reply", [error(404), response(200, {"request_id": ID, "generation_url": None})])
def test_a_completed_job_without_outputs_anywhere_has_none(world, reply):
    assert ask_result(world, [response(200, {"status": "COMPLETED"}), reply]).outputs == ()


def test_a_failed_job_raises_with_segminds_words(world):
    with pytest.raises(SegmindJobFailedError) as caught:
        ask_result(world, [status("FAILED", error="could not read the image")])
    assert (caught.value.detail, caught.value.request_id) == ("could not read the image", ID)
    assert not isinstance(caught.value, SegmindModerationError)


def test_a_completed_job_looked_up_in_the_history_has_all_its_outputs(world):
    rows = [{"request_id": ID, "generation_url": URL + str(n)} for n in range(3)]
    found = ask_result(world, [response(200, {"status": "COMPLETED"}), response(200, {"data": rows})])
    assert [output.url for output in found.outputs] == [URL + "0", URL + "1", URL + "2"]


@pytest.mark.parametrize("text", ["NSFW content", "blocked by visual_input content moderation", "RAI check failed"])
def test_a_moderation_block_is_recognised_by_its_words(world, text):
    with pytest.raises(SegmindModerationError):
        ask_result(world, [status("FAILED", error=text)])


@pytest.mark.parametrize("text", ["The train failed", "unsafe_pointer", None])
def test_other_failures_are_not_taken_for_moderation(world, text):
    with pytest.raises(SegmindJobFailedError) as caught:
        ask_result(world, [status("FAILED", error=text)])
    assert type(caught.value) is SegmindJobFailedError


@pytest.mark.parametrize(("value", "expected"), [(1.5, 1.5), ("2.25", 2.25), (0, 0.0), (-3, -3.0)])
def test_credits_are_read_as_a_number(world, value, expected):
    assert world.run(get_credits(world.api), [response(200, {"credits": value})]) == expected


@pytest.mark.parametrize("value", [None, "many", True, [], float("nan")])
def test_credits_that_are_not_a_number_are_an_error(world, value):
    with pytest.raises(SegmindServiceError):
        world.run(get_credits(world.api), always(response(200, {"credits": value})))


def test_an_account_without_a_balance_record_is_a_request_error(world):
    with pytest.raises(SegmindRequestError, match="No credits found") as caught:
        world.run(get_credits(world.api), [error(404, "No credits found for the user")])
    assert caught.value.status_code == 404


def test_the_synchronous_call_returns_the_file_and_its_accounting(world):
    reply = response(200, PNG, content_type="image/png; q=1", x_request_id=ID, x_cost="0.04", x_generation_time="11.9")
    found = world.run(run_sync(world.api, MODEL, {}), [reply])
    assert (found.content, found.content_type, found.request_id) == (PNG, "image/png", ID)
    assert (found.metrics.cost, found.metrics.inference_time) == (0.04, 11.9)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (CUT, SegmindSubmitUnknownError),
        (response(200, b""), SegmindSubmitUnknownError),
        (error(504), SegmindSubmitUnknownError),
        (REFUSED, SegmindServiceError),
        (error(500), SegmindServiceError),
        (error(401), SegmindAuthError),
        (error(429), SegmindRateLimitError),
    ],
)
def test_the_synchronous_call_is_never_repeated(world, reply, expected):
    with pytest.raises(expected):
        world.run(run_sync(world.api, MODEL, {}), [reply])


def test_an_upload_returns_an_address(world):
    reply = response(200, {"file_urls": ["https://images.segmind.com/assets/a.png"]})
    assert world.run(upload(world.api, "data:,"), [reply]) == "https://images.segmind.com/assets/a.png"


@pytest.mark.parametrize(
    "reply", [CUT, REFUSED, error(500), response(200, {}), response(200, {"file_urls": ["file:///x"]})]
)
def test_a_failed_upload_is_not_repeated(world, reply):
    with pytest.raises(SegmindServiceError):
        world.run(upload(world.api, "data:,"), [reply])


def test_a_result_is_requested_from_the_connections_host(world):
    ask_result(world, [result()])
    assert world.urls() == [f"https://api.segmind.com/v2/requests/{ID}"]


TOO_LARGE = Response(200, {}, b'{"status": "COMPLETED"', truncated="larger than 10485760 bytes")


def test_a_response_too_large_to_read_is_not_requested_again(world):
    with pytest.raises(SegmindServiceError, match="larger"):
        ask_status(world, always(TOO_LARGE))
    assert len(world.requests) == 1


def test_an_inline_result_too_large_to_read_is_found_in_the_history(world):
    found = ask_result(world, [TOO_LARGE, response(200, {"request_id": ID, "generation_url": URL})])
    assert found.output_url == URL


@pytest.mark.parametrize("reply", ["hangs", "drips"])
def test_a_get_ends_within_a_minute_even_if_each_request_hangs(world, reply):
    with pytest.raises(SegmindServiceError):
        ask_status(world, getattr(world, reply))
    assert world.clock() - NOON <= 60


def test_a_get_ends_by_the_time_it_is_given_even_if_each_request_hangs(world):
    with pytest.raises(SegmindServiceError):
        world.run(get_status(world.api, ID, until=NOON + 5), world.hangs)
    assert world.clock() - NOON <= 5


def test_a_get_without_time_for_a_request_sends_none(world):
    with pytest.raises(SegmindServiceError, match="No time"):
        world.run(get_status(world.api, ID, until=NOON + 1), [])


def test_a_json_response_may_have_10_mb_and_take_60_seconds(world):
    ask_status(world, [status("QUEUED")])
    (request,) = world.requests
    assert (request.max_bytes, request.max_seconds) == (10 * 1024**2, 60)


def test_base64_is_recognised_in_one_way_everywhere():
    wrapped = f"{PNG64[:76]}\r\n{PNG64[76:]}"
    assert decode_base64(wrapped, min_length=64) == PNG
    assert decode_base64("word", min_length=64) is None
    assert decode_base64("not Base64!") is None
    assert decode_base64("") is None


@pytest.mark.parametrize("kept", [100, 101, 102, 103])
def test_base64_whose_end_was_cut_off_is_decoded_where_that_is_asked_for(kept):
    for text in (PNG64[:kept], PNG64[:kept] + "...", PNG64[:kept] + "…"):
        decoded = decode_base64(text, cut_short=True)
        assert PNG.startswith(decoded)
        assert len(decoded) >= 75
