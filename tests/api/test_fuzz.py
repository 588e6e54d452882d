"""Whatever the responses are, an operation returns a value or raises an error of this package."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_segmind.api import download, gateway, history, polling
from airflow_provider_segmind.api.models import JobState, SegmindOutput, SegmindResult
from airflow_provider_segmind.api.operation import Response
from airflow_provider_segmind.api.parsing import MAX_OUTPUTS, parse_result, reset_at
from airflow_provider_segmind.api.rate_limit import MAX_RESET
from airflow_provider_segmind.exceptions import SegmindError, SegmindServiceError

from .memory_sink import MemorySink
from .world import CUT, ID, MODEL, NOON, REFUSED, World

KEYS = "status error error_description detail request_id images output url data b64_json metrics credits results items"
KEYS += " generations model_name model_status model_created request_body generation_url file_size file_urls image"
BODY = {"image": "https://photos.example/a.jpg", "preserve_alpha": True}
WORDS = [
    "COMPLETED",
    "FAILED",
    "QUEUED",
    "PENDING",
    ID,
    MODEL,
    "https://images.segmind.com/a",
    "https://[::1",
    "data:,x",
]
WORDS += ["\ud800", "[" * 3000, "9" * 5000, "\x00", "1e999", "9999-12-31T23:59:59-23:59", "0001-01-01", "QUJD" * 80]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([*WORDS, 10**400])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=6),
    max_leaves=20,
)
bodies = values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200)
headers = st.dictionaries(
    st.sampled_from(["content-type", "content-length", "location", "retry-after", "x-request-id", "content-encoding"]),
    st.text(max_size=30) | st.sampled_from(WORDS),
)
statuses = st.sampled_from(
    [200, 200, 200, 201, 204, 301, 302, 400, 401, 403, 404, 406, 410, 418, 422, 429, 500, 502, 504, 599]
)
replies = st.builds(Response, statuses, headers, bodies, st.none() | st.just("cut")) | st.sampled_from([CUT, REFUSED])


def fetch(api):
    found = SegmindResult(ID, JobState.COMPLETED, (SegmindOutput(url="https://images.segmind.com/a"),))
    return download.download(api, found, MemorySink())


OPERATIONS = {
    "submit": lambda api: gateway.submit(api, MODEL, BODY),
    "status": lambda api: polling.get_status(api, ID),
    "result": lambda api: polling.get_result(api, ID),
    "watch": lambda api: polling.watch(api, ID, MODEL, submitted_at=NOON, deadline=NOON + 60),
    "wait": lambda api: polling.wait_for_job(api, ID, timeout=60),
    "run": lambda api: polling.run(api, MODEL, BODY, timeout=60),
    "credits": gateway.get_credits,
    "upload": lambda api: gateway.upload(api, "data:,"),
    "sync": lambda api: gateway.run_sync(api, MODEL, BODY),
    "record": lambda api: history.get_record(api, ID),
    "find": lambda api: history.find_request(api, MODEL, history.payload_fingerprint(BODY), since=NOON),
    "download": fetch,
    "gone": lambda api: download.file_is_gone(api, "https://images.segmind.com/a", None),
}


def run_against(operation, responses):
    """Run an operation against these responses, over and over; an error must be one of this package, and short."""
    world = World()

    def serve(request):
        return responses[len(world.requests) % len(responses)]

    try:
        return world.run(operation(world.api), serve, max_requests=400)
    except SegmindError as error:
        text = str(error)
    text.encode("utf-8")
    assert len(text) < 1500
    return None


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(responses=st.lists(replies, min_size=1, max_size=5))
def test_any_response_ends_in_a_value_or_an_error_of_this_package(name, responses):
    run_against(OPERATIONS[name], responses)


DEEP = 900
LARGE = {
    "text": (b'{"status": "FAILED", "error": "', b"http://", b'"}'),
    "Base64": (b'{"status": "COMPLETED", "output": "', b"QUJD", b'"}'),
    "nothing": (b"", b" ", b""),
    "empty objects": (b'{"status": "COMPLETED", "images": [', b"{},", b"1]}"),
    "numbers": (b'{"data": [', b"1,", b"1]}"),
    "images": (b'{"status": "COMPLETED", "images": [', b'"https://a.b/c",', b"1]}"),
}


def large_body(what, size):
    """Return a body of about a size: its beginning, a piece again and again, and its end."""
    begin, piece, end = LARGE[what]
    return begin + piece * (size // len(piece)) + end


NASTY = {
    "a deep list": b"[" * DEEP + b"]" * DEEP,
    "a very deep list": b"[" * 10**6,
    "a deep status": b'{"status": "FAILED", "error": ' + b'{"a":' * DEEP + b"1" + b"}" * (DEEP + 1),
    "deep images": b'{"status": "COMPLETED", "images": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep inputs": b'{"data": [{"request_id": "req-1", "model_name": "%s", "model_created": 1800000001, "request_body":'
    b'{"image": ' % MODEL.encode() + b"[" * DEEP + b"]" * DEEP + b"}}]}",
    "a number without end": b'{"status": "COMPLETED", "credits": ' + b"9" * 10**6 + b"}",
    "an infinite number": b'{"status": "COMPLETED", "credits": 1e999, "metrics": {"cost": NaN}}',
    "half a character": b'{"status": "FAILED", "error": "\\ud800"}',
    "UTF-16": '{"status": "COMPLETED"}'.encode("utf-16"),
}
NASTY |= {f"10 MB of {what}": large_body(what, 10_000_000) for what in LARGE}


@pytest.mark.parametrize("name", ["submit", "status", "result", "watch", "find", "record", "credits"])
@pytest.mark.parametrize("nasty", NASTY)
def test_a_hostile_body_ends_in_a_value_or_an_error_of_this_package(name, nasty):
    code = 422 if nasty == "half a character" else 200
    run_against(OPERATIONS[name], [Response(code, {}, NASTY[nasty])])


@pytest.mark.parametrize("what", LARGE)
def test_memory_is_bounded_by_a_multiple_of_the_body(what):
    """The multiple is JSON's own: an empty object is 3 bytes in a body and 72 in memory."""
    body = large_body(what, 2_000_000)  # to trace 10 MB takes ten seconds, and shows no more
    for name in ("result", "find"):
        tracemalloc.start()  # what the frames of an earlier error hold may still wait for the garbage collector
        try:
            run_against(OPERATIONS[name], [Response(200, {}, body)])
            assert tracemalloc.get_traced_memory()[1] < 40 * len(body)
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("nasty", [name for name in NASTY if name.startswith("10 MB of")])
def test_a_result_never_has_more_outputs_than_the_maximum(nasty):
    with suppress(SegmindServiceError):
        assert len(parse_result(Response(200, {}, NASTY[nasty]), ID).outputs) <= MAX_OUTPUTS


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(text=st.text(max_size=40) | st.sampled_from(WORDS) | st.from_regex(r"\w{3}, \d+ Jan \d+ \d+:\d+:\d+ [+-]\d+"))
@example("Mon, 01 Jan 2024 00:00:00 +99999999999999999999")
def test_any_reset_is_between_a_second_and_an_hour_away(text):
    for name in ("x-rate-limit-reset-at-utc", "retry-after"):
        assert NOON + 1 <= reset_at({name: text}, NOON) <= NOON + MAX_RESET
