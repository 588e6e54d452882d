"""Faults that delay, replace or change responses."""

from __future__ import annotations

import base64
import json

import httpx
import pytest

from .conftest import HISTORY
from .photos import decode, inline, photo


def test_slow_delays_the_response(client, connect, emulator):
    emulator.faults.add("slow", on="credits", seconds=3600)
    emulator.faults.add("slow", on="credits", nth=2, seconds=0.1)
    with pytest.raises(httpx.ReadTimeout):
        connect(emulator, timeout=0.2).get("/v1/get-user-credits")
    assert client.get("/v1/get-user-credits").json() == {"credits": 100.0}


def test_drip_sends_the_body_byte_by_byte(client, connect, emulator):
    emulator.faults.add("drip", on="credits", times=2, seconds=0.01)
    assert client.get("/v1/get-user-credits").json() == {"credits": 100.0}
    emulator.faults.clear()
    emulator.faults.add("drip", on="credits", seconds=10)
    with pytest.raises(httpx.ReadTimeout):
        connect(emulator, timeout=0.2).get("/v1/get-user-credits")


def test_endless_sends_a_body_without_end(client, emulator):
    emulator.faults.add("endless", on="status")
    with client.stream("GET", "/v2/requests/x/status") as response:
        size = 0
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > 3_000_000:
                break
    assert client.get("/v1/get-user-credits").status_code == 200


def test_error_can_strike_several_polls_in_a_row(client, emulator):
    emulator.faults.add("error", on=["status", "result"], nth=2, times=3, status=503)
    request_id = client.submitted()
    assert [client.status(request_id).status_code for _ in range(6)] == [200, 503, 503, 503, 200, 200]


def test_redirect_sends_the_client_to_another_url(client, emulator):
    emulator.faults.add("redirect", on="file", url="http://decoy.test/x", status=307)
    response = client.get(client.run().json()["output"])
    assert (response.status_code, response.headers["location"]) == (307, "http://decoy.test/x")


@pytest.mark.parametrize("kind", ["status", "result"])
def test_unknown_status_replaces_the_status_once(client, emulator, kind):
    request_id = client.submitted()
    client.finished(request_id)
    emulator.faults.add("unknown_status", on=kind, word="COOLING")
    path = f"/v2/requests/{request_id}" + ("/status" if kind == "status" else "")
    assert [client.get(path).json()["status"] for _ in range(2)] == ["COOLING", "COMPLETED"]


def test_no_metrics_empties_the_metrics(client, emulator):
    emulator.faults.add("no_metrics", on="result")
    assert client.run().json()["metrics"] == {}


@pytest.mark.parametrize("style", ["base64", "data_uri"])
def test_output_as_returns_the_image_inline(client, emulator, style):
    emulator.faults.add("output_as", style=style)
    body = client.run().json()
    text = body["output"].removeprefix("data:image/png;base64,")
    assert decode(base64.b64decode(text)).shape == (120, 160, 3)
    assert (style == "data_uri") == body["output"].startswith("data:")
    assert "images" not in body


def test_output_as_several_names_two_files(client, emulator):
    emulator.faults.add("output_as", style="several")
    first, second = (image["url"] for image in client.run().json()["images"])
    assert first != second
    assert client.get(first).status_code == 200


def test_output_as_returns_the_url_in_other_fields(client, emulator):
    request_id = client.submitted()
    url = client.finished(request_id).json()["output"]
    told = {}
    for style in ("list", "json_string", "output_only", "images_only", "none"):
        emulator.faults.add("output_as", style=style)
        told[style] = client.get(f"/v2/requests/{request_id}").json()
    assert told["list"]["output"] == [url]
    assert json.loads(told["json_string"]["output"]) == [url]
    assert told["output_only"]["output"] == url
    assert told["images_only"]["images"][0]["url"] == url
    assert {style: ("output" in body, "images" in body) for style, body in told.items()} == {
        "list": (True, False),
        "json_string": (True, False),
        "output_only": (True, False),
        "images_only": (False, True),
        "none": (False, False),
    }


def test_foreign_url_replaces_every_url_but_those_of_the_request_body(client, emulator):
    emulator.faults.add("foreign_url", url="http://decoy.test/x", times=None)
    submitted = client.submit("http://127.0.0.1:9/none.png").json()
    assert [submitted[name] for name in ("poll_url", "status_url", "response_url")] == ["http://decoy.test/x"] * 3
    request_id = client.submitted()
    result = client.finished(request_id).json()
    assert (result["output"], result["images"][0]["url"]) == ("http://decoy.test/x", "http://decoy.test/x")
    record = client.get(f"{HISTORY}/{request_id}").json()
    assert record["generation_url"] == "http://decoy.test/x"
    assert record["request_body"] == {"image": inline(photo())}
