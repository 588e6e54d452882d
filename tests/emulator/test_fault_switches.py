from __future__ import annotations

import base64
import email.utils
import json
import time
from datetime import UTC, datetime

import httpx
import pytest

from airflow_provider_segmind.emulator.effects import EFFECTS

from .conftest import MODEL
from .photos import decode, inline, photo

HISTORY = "/inference-request/request-history"


def accepted(emulator):
    return len(emulator.jobs)


@pytest.mark.parametrize(("name", "jobs"), [("cut_before_accept", 0), ("cut_after_accept", 1)])
def test_a_connection_is_cut_without_an_answer(client, emulator, name, jobs):
    emulator.faults.add(name)
    with pytest.raises(httpx.RemoteProtocolError):
        client.submit()
    assert accepted(emulator) == jobs
    assert emulator.requests.log[-1].faults == [name]
    assert emulator.requests.log[-1].status is None
    assert client.submit().status_code == 200


@pytest.mark.parametrize(("name", "jobs"), [("hang_before_accept", 0), ("hang_after_accept", 1)])
def test_an_answer_never_comes(client, connect, emulator, name, jobs):
    emulator.faults.add(name)
    with pytest.raises(httpx.ReadTimeout):
        connect(emulator, timeout=0.5).submit()
    assert accepted(emulator) == jobs
    assert client.submit().status_code == 200


def test_an_answer_is_late(client, emulator):
    emulator.faults.add("slow", on="credits", seconds=0.4)
    began = time.monotonic()
    assert client.get("/v1/get-user-credits").json() == {"credits": 100.0}
    assert time.monotonic() - began > 0.4


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


@pytest.mark.parametrize(
    ("style", "content_type"), [("gateway", "application/json"), ("html", "text/html"), ("empty", None)]
)
def test_an_error_comes_before_anything_is_accepted(client, emulator, style, content_type):
    for status in (400, 403, 404, 406, 410, 500, 502, 503, 504):
        emulator.faults.add("error", status=status, style=style)
        answer = client.submit()
        assert (answer.status_code, answer.headers.get("content-type")) == (status, content_type)
        assert style != "gateway" or list(answer.json()) == ["error"]
        assert (style == "empty") == (answer.content == b"")
        emulator.faults.clear()
    assert accepted(emulator) == 0


def test_an_error_can_hide_an_accepted_job(client, emulator):
    emulator.faults.add("error_after_accept")
    assert client.submit().status_code == 504
    assert accepted(emulator) == 1


def test_polls_fail_in_a_burst(client, emulator):
    emulator.faults.add("error", on=["status", "result"], nth=2, times=3, status=503)
    request_id = client.submitted()
    assert [client.status(request_id).status_code for _ in range(6)] == [200, 503, 503, 503, 200, 200]


RESET_FORMATS = {
    "iso": lambda text: datetime.fromisoformat(text).timestamp(),
    "iso_offset": lambda text: datetime.fromisoformat(text).timestamp(),
    "iso_naive": lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp(),
    "http_date": lambda text: email.utils.parsedate_to_datetime(text).timestamp(),
    "epoch": float,
    "epoch_ms": lambda text: float(text) / 1000,
}


@pytest.mark.parametrize("reset", RESET_FORMATS)
def test_a_429_says_when_it_resets_in_each_format(client, emulator, reset):
    emulator.faults.add("rate_limited", reset=reset, seconds=30)
    answer = client.submit()
    assert answer.status_code == 429
    at = RESET_FORMATS[reset](answer.headers["x-rate-limit-reset-at-utc"])
    assert 25 < at - time.time() < 31.5
    assert accepted(emulator) == 0


@pytest.mark.parametrize(
    ("reset", "headers"),
    [
        ("garbage", {"x-rate-limit-reset-at-utc": "soon"}),
        ("far", {"x-rate-limit-reset-at-utc": "9999-12-31T23:59:59Z"}),
        ("past", {"x-rate-limit-reset-at-utc": "2001-01-01T00:00:00Z"}),
        ("none", {}),
    ],
)
def test_a_429_can_be_of_no_help(client, emulator, reset, headers):
    emulator.faults.add("rate_limited", on="status", reset=reset)
    answer = client.status("x")
    assert answer.status_code == 429
    assert {name: value for name, value in answer.headers.items() if "r-a" in name or "rate" in name} == headers


def test_a_429_can_have_retry_after(client, emulator):
    emulator.faults.add("rate_limited", reset="retry_after", seconds=20)
    emulator.faults.add("rate_limited", nth=2, reset="retry_after_date", seconds=20)
    assert 19 <= int(client.submit().headers["retry-after"]) <= 21
    at = email.utils.parsedate_to_datetime(client.submit().headers["retry-after"]).timestamp()
    assert 18 <= at - time.time() <= 21


def test_a_2xx_can_lack_the_id(client, emulator):
    emulator.faults.add("no_request_id")
    answer = client.submit()
    assert (answer.status_code, answer.json()) == (200, {"status": "QUEUED"})
    assert accepted(emulator) == 1


def test_a_redirect_leads_elsewhere(client, emulator):
    emulator.faults.add("redirect", on="file", url="http://decoy.test/x", status=307)
    answer = client.get(client.run().json()["output"])
    assert (answer.status_code, answer.headers["location"]) == (307, "http://decoy.test/x")


@pytest.mark.parametrize(("name", "jobs"), [("raw", 0), ("raw_after_accept", 1)])
def test_any_body_can_be_the_answer(client, emulator, name, jobs):
    emulator.faults.add(name, body=b"\xff\x00", status=201, content_type="x/y", headers={"X-More": "1"})
    answer = client.submit()
    assert (answer.status_code, answer.content) == (201, b"\xff\x00")
    assert (answer.headers["content-type"], answer.headers["x-more"]) == ("x/y", "1")
    assert accepted(emulator) == jobs


@pytest.mark.parametrize(
    ("name", "text"),
    [("job_fails", "out of memory"), ("moderation_block", "content moderation"), ("fetch_fails", "HTTP 403")],
)
def test_a_job_fails_unbilled(client, emulator, name, text):
    emulator.faults.add(name)
    answer = client.run()
    assert answer.status_code == 422
    assert text in answer.json()["error"]
    assert emulator.jobs.spent == 0
    assert client.run().json()["status"] == "COMPLETED"


def test_one_job_takes_longer(client, emulator):
    emulator.faults.add("job_takes", seconds=0.4)
    assert client.run().json()["metrics"]["total_time"] >= 0.4
    client.submitted()
    assert [job.seconds for job in emulator.jobs] == [0.4, 0.05]


def test_a_record_expires_early_and_the_history_still_knows(client, emulator):
    request_id = client.submitted()
    client.finished(request_id)
    emulator.faults.add("expire_record")
    assert client.status(request_id).status_code == 404
    assert client.get(f"/v2/requests/{request_id}").status_code == 404
    url = client.get(f"{HISTORY}/{request_id}").json()["generation_url"]
    assert client.get(url).status_code == 200


def test_a_file_expires_early(client, emulator):
    url = client.run().json()["output"]
    emulator.faults.add("expire_file")
    assert [client.get(url).status_code for _ in range(2)] == [404, 404]


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


def test_history_can_lack_the_inputs(client, emulator):
    request_id = client.submitted()
    emulator.faults.add("history_without_body", times=2)
    assert "request_body" not in client.get(HISTORY).json()["data"][0]
    assert "request_body" not in client.get(f"{HISTORY}/{request_id}").json()


def test_history_can_shorten_the_inputs(client, emulator):
    client.submitted(preserve_alpha=True)
    emulator.faults.add("history_short_body", length=10)
    (row,) = client.get(HISTORY).json()["data"]
    assert row["request_body"] == {"image": inline(photo())[:10] + "...", "preserve_alpha": True}


@pytest.mark.parametrize("rows", ["results", "items", "generations", "list"])
def test_history_can_hold_its_rows_elsewhere(client, emulator, rows):
    request_id = client.submitted()
    emulator.faults.add("history_shape", rows=rows)
    body = client.get(HISTORY).json()
    assert [row["request_id"] for row in (body if rows == "list" else body[rows])] == [request_id]


def test_history_can_be_late_for_one_request_and_away_for_all(client, emulator):
    emulator.faults.add("history_late", seconds=60)
    client.submitted()
    listed = client.submitted()
    assert [row["request_id"] for row in client.get(HISTORY).json()["data"]] == [listed]
    emulator.faults.add("cut_before_accept", on=["history", "record"], times=None)
    for path in (HISTORY, f"{HISTORY}/{listed}"):
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(path)


def test_a_file_can_end_before_its_declared_length(client, emulator):
    url = client.run().json()["output"]
    emulator.faults.add("truncated_file", share=0.5)
    with client.stream("GET", url) as answer:
        received = _read_until_cut(answer)
    whole = client.get(url).content
    assert int(answer.headers["content-length"]) == len(whole)
    assert whole.startswith(received)
    assert len(received) == len(whole) // 2


def _read_until_cut(answer):
    received = bytearray()
    try:
        for chunk in answer.iter_raw():
            received += chunk
    except httpx.RemoteProtocolError:
        return received
    raise AssertionError("the file ended properly")


def test_a_file_can_be_cut_short_without_a_declared_length(client, emulator):
    url = client.run().json()["output"]
    emulator.faults.add("truncated_chunked", share=0.5)
    answer, whole = client.get(url), client.get(url).content
    assert "content-length" not in answer.headers
    assert answer.content == whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("content", "content_type", "start"),
    [
        ("html", "text/html", b"<!doctype"),
        ("empty", "image/png", b""),
        ("text", "text/plain", b"internal"),
        ("text_as_png", "image/png", b"internal"),
    ],
)
def test_a_file_can_be_something_else(client, emulator, content, content_type, start):
    url = client.run().json()["output"]
    emulator.faults.add("wrong_file", content=content)
    answer = client.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type)
    assert answer.content.startswith(start)
    assert (content == "empty") == (answer.content == b"")


def test_a_fault_counts_only_what_it_matches(client, emulator, image_host):
    image_host.files["/dog.png"] = photo()
    emulator.faults.add("error", image="dog.png", nth=2)
    images = ["cat", "dog", "cat", "dog", "dog"]
    assert [client.submit(f"{image_host.url}/{name}.png").status_code for name in images] == [200, 200, 200, 500, 200]


def test_a_fault_matches_polls_and_files_by_their_image(client, emulator, image_host):
    emulator.faults.add("error", on=["result", "file"], image="cat.png", times=None)
    cat, other = client.submitted(f"{image_host.url}/cat.png"), client.submitted()
    assert client.finished(cat).status_code == 500
    assert client.get(client.finished(other).json()["output"]).status_code == 200
    assert client.get(f"/generations/{cat}.png").status_code == 500


def test_a_fault_can_count_each_image_for_itself(client, emulator, image_host):
    emulator.faults.add("error", each_image=True)
    images = [f"{image_host.url}/{name}.png?signature={n}" for n in range(2) for name in ("cat", "dog")]
    assert [client.submit(image).status_code for image in images] == [500, 500, 200, 200]


def test_a_fault_can_be_for_one_model(client, emulator):
    emulator.faults.add("error", model="seedream-4.5")
    assert client.submit().status_code == 200
    assert client.post("/v2/seedream-4.5", json={"prompt": "x"}).status_code == 500


@pytest.mark.segmind_emulator(seed=1)
def test_a_fault_can_strike_by_chance(client, emulator):
    switch = emulator.faults.add("error", on="credits", times=None, probability=0.5)
    for _ in range(40):
        client.get("/v1/get-user-credits")
    assert switch.seen == 40
    assert 5 < switch.struck < 35


def test_several_faults_strike_together(client, emulator):
    emulator.faults.add("job_fails", text="no luck")
    emulator.faults.add("cut_after_accept")
    with pytest.raises(httpx.RemoteProtocolError):
        client.submit()
    assert client.finished(emulator.jobs[0].request_id).json()["error"] == "no luck"


def test_after_accept_means_only_if_it_would_have_been_accepted(emulator, connect):
    emulator.faults.add("error_after_accept")
    connect(emulator, headers={"x-api-key": "wrong"}).submit()
    assert accepted(emulator) == 0


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("no_such_fault", {}, "no fault is named"),
        ("slow", {"on": "postman"}, "no kind of request"),
        ("slow", {"nth": 0}, "count from 1"),
        ("slow", {"times": 0}, "count from 1"),
        ("slow", {"minutes": 3}, "has no option"),
        ("slow", {"seconds": "3"}, "must be a number"),
        ("redirect", {}, "needs the option 'url'"),
        ("redirect", {"url": 3}, "must be a text"),
        ("error", {"style": "xml"}, "must be one of"),
    ],
)
def test_a_switch_that_makes_no_sense_is_refused(client, emulator, name, options, text):
    with pytest.raises(ValueError, match=text):
        emulator.faults.add(name, **options)
    answer = client.switch_on(name, **options)
    assert answer.status_code == 400
    assert text in answer.json()["error"]
    assert emulator.faults.all() == []


def test_faults_are_switched_over_http(client, emulator):
    answer = client.post(
        "/emulator/faults",
        json=[{"name": "error", "status": 503}, {"name": "raw", "on": "credits", "body_base64": "/w=="}],
    )
    first, second = answer.json()
    assert answer.status_code == 201
    assert client.submit().status_code == 503
    assert client.get("/v1/get-user-credits").content == b"\xff"
    assert [(fault["name"], fault["struck"]) for fault in client.get("/emulator/faults").json()] == [
        ("error", 1),
        ("raw", 1),
    ]
    assert client.delete(f"/emulator/faults/{first['id']}").status_code == 204
    assert client.delete(f"/emulator/faults/{first['id']}").status_code == 404
    assert [fault["id"] for fault in client.get("/emulator/faults").json()] == [second["id"]]
    assert client.delete("/emulator/faults").status_code == 204
    assert client.get("/emulator/faults").json() == []


def test_of_several_switches_all_are_taken_or_none(client, emulator):
    answer = client.post("/emulator/faults", json=[{"name": "slow"}, {"name": "none"}])
    assert answer.status_code == 400
    assert emulator.faults.all() == []


@pytest.mark.parametrize("body", [b"", b"3", b'{"on": "submit"}', b'{"name": "raw", "body_base64": "%"}'])
def test_what_is_no_switch_is_refused(client, body):
    assert client.post("/emulator/faults", content=body).status_code == 400


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_every_fault_can_strike_every_kind_of_request_without_breaking_the_emulator(client, connect, emulator, name):
    needed = {"url": "http://decoy.test/"} if name in ("redirect", "foreign_url") else {}
    needed |= {"seconds": 0.0} if name in ("job_takes", "slow", "drip") else {}
    emulator.faults.add(name, on="any", times=None, **needed)
    hasty = connect(emulator, timeout=0.1)
    for method, path, body in [
        ("POST", f"/v2/{MODEL}", {"image": inline(photo())}),
        ("POST", "/v1/llava-v1.6", {"image": "no!"}),
        ("GET", "/v1/get-user-credits", None),
        ("GET", "/v2/requests/x/status", None),
        ("GET", "/generations/x.png", None),
        ("GET", HISTORY, None),
        ("POST", "/upload-asset", {"data_urls": ["data:image/png;base64,AAAA"]}),
        ("GET", "/nowhere", None),
    ]:
        try:
            with hasty.stream(method, path, json=body) as answer:
                assert answer.headers.get("content-type", "") != "text/plain; charset=utf-8", "the server broke"
        except httpx.TransportError:
            continue
    emulator.faults.clear()
    assert client.get("/v1/get-user-credits").status_code == 200
