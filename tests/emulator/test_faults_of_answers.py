"""Faults of the answers to polls: late, endless, elsewhere, or in other words."""

from __future__ import annotations

import base64
import json

import httpx
import pytest

from .photos import decode, inline, photo

HISTORY = "/inference-request/request-history"


def test_an_answer_is_late(client, connect, emulator):
    emulator.faults.add("slow", on="credits", seconds=3600)
    emulator.faults.add("slow", on="credits", nth=2, seconds=0.1)
    with pytest.raises(httpx.ReadTimeout):
        connect(emulator, timeout=0.2).get("/v1/get-user-credits")
    assert client.get("/v1/get-user-credits").json() == {"credits": 100.0}


def test_an_answer_drips(client, connect, emulator):
    emulator.faults.add("drip", on="credits", times=2, seconds=0.01)
    assert client.get("/v1/get-user-credits").json() == {"credits": 100.0}
    emulator.faults.clear()
    emulator.faults.add("drip", on="credits", seconds=10)
    with pytest.raises(httpx.ReadTimeout):
        connect(emulator, timeout=0.2).get("/v1/get-user-credits")


def test_an_answer_never_ends(client, emulator):
    emulator.faults.add("endless", on="status")
    with client.stream("GET", "/v2/requests/x/status") as answer:
        size = 0
        for chunk in answer.iter_raw():
            size += len(chunk)
            if size > 3_000_000:
                break
    assert client.get("/v1/get-user-credits").status_code == 200


def test_polls_fail_in_a_burst(client, emulator):
    emulator.faults.add("error", on=["status", "result"], nth=2, times=3, status=503)
    request_id = client.submitted()
    assert [client.status(request_id).status_code for _ in range(6)] == [200, 503, 503, 503, 200, 200]


def test_a_redirect_leads_elsewhere(client, emulator):
    emulator.faults.add("redirect", on="file", url="http://decoy.test/x", status=307)
    answer = client.get(client.run().json()["output"])
    assert (answer.status_code, answer.headers["location"]) == (307, "http://decoy.test/x")


@pytest.mark.parametrize("kind", ["status", "result"])
def test_a_status_can_be_a_word_that_nobody_knows(client, emulator, kind):
    request_id = client.submitted()
    client.finished(request_id)
    emulator.faults.add("unknown_status", on=kind, word="COOLING")
    path = f"/v2/requests/{request_id}" + ("/status" if kind == "status" else "")
    assert [client.get(path).json()["status"] for _ in range(2)] == ["COOLING", "COMPLETED"]


def test_metrics_can_be_empty(client, emulator):
    emulator.faults.add("no_metrics", on="result")
    assert client.run().json()["metrics"] == {}


@pytest.mark.parametrize("style", ["base64", "data_uri"])
def test_a_result_can_be_inline(client, emulator, style):
    emulator.faults.add("output_as", style=style)
    body = client.run().json()
    text = body["output"].removeprefix("data:image/png;base64,")
    assert decode(base64.b64decode(text)).shape == (120, 160, 3)
    assert (style == "data_uri") == body["output"].startswith("data:")
    assert "images" not in body


def test_a_result_can_be_told_in_other_forms(client, emulator):
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


def test_every_address_can_lead_to_a_decoy(client, emulator):
    emulator.faults.add("foreign_url", url="http://decoy.test/x", times=None)
    submitted = client.submit("http://127.0.0.1:9/none.png").json()
    assert [submitted[name] for name in ("poll_url", "status_url", "response_url")] == ["http://decoy.test/x"] * 3
    request_id = client.submitted()
    result = client.finished(request_id).json()
    assert (result["output"], result["images"][0]["url"]) == ("http://decoy.test/x", "http://decoy.test/x")
    record = client.get(f"{HISTORY}/{request_id}").json()
    assert record["generation_url"] == "http://decoy.test/x"
    assert record["request_body"] == {"image": inline(photo())}
