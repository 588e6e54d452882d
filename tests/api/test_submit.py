"""One POST; a second one only after proof that the first queued nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from airflow_provider_segmind.api.gateway import submit
from airflow_provider_segmind.api.operation import Response
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindCreditsError,
    SegmindInputError,
    SegmindModelNotFoundError,
    SegmindRateLimitError,
    SegmindRequestError,
    SegmindServiceError,
    SegmindSubmitUnknownError,
)

from .world import CUT, ID, MODEL, NOON, REFUSED, always, error, html, queued, response

PAYLOAD = {"image": "https://photos.example/a.jpg", "preserve_alpha": True}


def post(world, script):
    return world.run(submit(world.api, MODEL, PAYLOAD), script)


def test_a_submit_is_one_post_of_the_payload_to_the_model(world):
    job = post(world, [queued()])
    assert (job.request_id, job.model, job.submitted_at) == (ID, MODEL, NOON)
    (sent,) = world.requests
    assert (sent.method, sent.url, sent.json) == ("POST", f"https://api.segmind.com/v2/{MODEL}", PAYLOAD)
    assert sent.with_key


@pytest.mark.parametrize(
    ("status", "text", "expected", "posts"),
    [
        (400, "image is required", SegmindRequestError, 1),
        (401, "invalid_api_key", SegmindAuthError, 1),
        (403, "not for your team", SegmindAuthError, 1),
        (404, "no such model", SegmindModelNotFoundError, 1),
        (405, "use POST", SegmindRequestError, 1),
        (406, "Insufficient credits: $0.01 left", SegmindCreditsError, 1),
        (406, "The team's spend limit is reached", SegmindCreditsError, 1),
        (406, "Wrong Content-Type", SegmindRequestError, 1),
        (410, "retired", SegmindModelNotFoundError, 1),
        (413, "too large", SegmindRequestError, 1),
        (422, "unprocessable", SegmindRequestError, 1),
        (429, "slow down", SegmindRateLimitError, 1),
        (500, "inference failed", SegmindServiceError, 5),
        (502, "upstream", SegmindServiceError, 5),
        (503, "busy", SegmindServiceError, 5),
        (504, "timeout", SegmindSubmitUnknownError, 1),
        (520, "odd", SegmindSubmitUnknownError, 1),
        (302, "moved", SegmindSubmitUnknownError, 1),
    ],
)
def test_each_http_status_has_its_error_and_its_number_of_posts(world, status, text, expected, posts):
    with pytest.raises(expected) as caught:
        post(world, always(error(status, text)))
    assert type(caught.value) is expected
    assert len(world.posts) == posts
    assert world.clock() - NOON <= 65
    if isinstance(caught.value, SegmindRequestError | SegmindServiceError):
        assert caught.value.status_code == status
        assert text in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410])
def test_a_4xx_in_html_is_a_refusal_too(world, status):
    with pytest.raises(SegmindRequestError):
        post(world, always(html(status)))
    assert len(world.posts) == 1


def test_an_error_description_is_part_of_the_error(world):
    body = {"error": "invalid_api_key", "error_description": "The key was revoked", "status_code": 401}
    with pytest.raises(SegmindAuthError, match="The key was revoked"):
        post(world, [response(401, body)])


@pytest.mark.parametrize(
    "reply",
    [
        html(500),
        html(502),
        html(503),
        html(504),
        response(502, b""),
        response(503, {"message": "some proxy"}),
        response(502, {"error": {"code": 1}}),
        response(200, {}),
        response(200, {"request_id": None}),
        response(200, {"request_id": 7}),
        response(200, {"request_id": "../../v1/x"}),
        response(200, []),
        response(200, b""),
        response(204, b""),
        html(200),
        Response(200, {}, queued().body, truncated="larger than 10 bytes"),
        CUT,
    ],
)
def test_a_response_that_proves_nothing_leaves_the_submit_unknown_after_one_post(world, reply):
    with pytest.raises(SegmindSubmitUnknownError):
        post(world, always(reply))
    assert len(world.posts) == 1


def test_a_refused_connection_is_tried_five_times_within_a_minute(world):
    with pytest.raises(SegmindServiceError, match="nothing was sent"):
        post(world, always(REFUSED))
    assert len(world.posts) == 5
    assert world.clock() - NOON <= 60


def test_a_submit_succeeds_after_failures_that_queued_nothing(world):
    job = post(world, [REFUSED, error(500), error(503), queued()])
    assert job.request_id == ID
    assert job.submitted_at == world.clock() > NOON


def test_an_unknown_outcome_after_proven_failures_is_unknown(world):
    with pytest.raises(SegmindSubmitUnknownError):
        post(world, [REFUSED, CUT])


def test_a_refusal_after_a_failure_ends_the_submit(world):
    with pytest.raises(SegmindAuthError):
        post(world, [error(500), error(401)])


MOMENT = NOON + 30
WHEN = datetime.fromtimestamp(MOMENT, UTC)
RESET = "x_rate_limit_reset_at_utc"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({RESET: WHEN.isoformat()}, MOMENT),
        ({RESET: WHEN.isoformat().replace("+00:00", "Z")}, MOMENT),
        ({RESET: WHEN.replace(tzinfo=None).isoformat()}, MOMENT),
        ({RESET: WHEN.replace(tzinfo=None).isoformat(" ")}, MOMENT),
        ({RESET: datetime.fromtimestamp(MOMENT + 0.25, UTC).isoformat()}, MOMENT + 0.25),
        ({RESET: format_datetime(WHEN, usegmt=True)}, MOMENT),
        ({RESET: str(int(MOMENT))}, MOMENT),
        ({RESET: f"{MOMENT:.3f}"}, MOMENT),
        ({RESET: str(int(MOMENT * 1000))}, MOMENT),
        ({"retry_after": "30"}, MOMENT),
        ({"retry_after": format_datetime(WHEN, usegmt=True)}, MOMENT),
        ({RESET: "soon", "retry_after": "30"}, MOMENT),
        ({RESET: "", "retry_after": "30"}, MOMENT),
        ({RESET: "soon"}, NOON + 60),
        ({RESET: "nan"}, NOON + 60),
        ({RESET: "inf"}, NOON + 60),
        ({RESET: "-5"}, NOON + 60),
        ({RESET: "9" * 400}, NOON + 60),
        ({RESET: "Mon, 01 Jan 2027 00:00:00 +9999999999999999999"}, NOON + 60),
        ({RESET: "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, NOON + 60),
        ({RESET: "9999-12-31T23:59:59Z"}, NOON + 3600),
        ({RESET: "2001-01-01T00:00:00Z"}, NOON + 1),
        ({"retry_after": "86400"}, NOON + 3600),
        ({"retry_after": "0"}, NOON + 1),
        ({}, NOON + 60),
    ],
)
def test_a_429_raises_at_once_with_the_time_of_the_reset(world, headers, expected):
    with pytest.raises(SegmindRateLimitError) as caught:
        post(world, [error(429, **headers)])
    assert caught.value.reset_at == pytest.approx(expected, abs=0.01)
    assert world.clock() == NOON


def test_nothing_is_submitted_before_a_known_reset(world):
    world.api.limiter.close_until(NOON + 40)
    with pytest.raises(SegmindRateLimitError) as caught:
        post(world, [])
    assert caught.value.reset_at == NOON + 40
    assert world.requests == []


def test_a_429_holds_back_the_next_submit_until_the_reset(world):
    with pytest.raises(SegmindRateLimitError):
        post(world, [error(429, retry_after="30")])
    with pytest.raises(SegmindRateLimitError):
        post(world, [])
    world.clock.now += 31
    assert post(world, [queued()]).request_id == ID


def test_a_submit_waits_for_a_slot_that_comes_soon(world):
    world.api.limiter.close_until(NOON + 3)
    assert post(world, [queued()]).submitted_at == NOON + 3


@pytest.mark.parametrize("model", ["../x", "", "a/b", "a b", "a..b", "modèle", "x\n", None, 7])
def test_a_model_name_that_could_change_the_path_is_never_sent(world, model):
    with pytest.raises(SegmindInputError, match="Invalid model"):
        world.run(submit(world.api, model, PAYLOAD), [])
    assert world.requests == []
