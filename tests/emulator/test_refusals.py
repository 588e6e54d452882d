from __future__ import annotations

import pytest

from .conftest import MODEL

ENDPOINTS = [
    ("POST", f"/v1/{MODEL}"),
    ("POST", f"/v2/{MODEL}"),
    ("GET", "/v2/requests/x"),
    ("GET", "/v2/requests/x/status"),
    ("GET", "/v1/get-user-credits"),
    ("POST", "/upload-asset"),
    ("GET", "/inference-request/request-history"),
    ("GET", "/inference-request/request-history/x"),
]


def test_a_missing_and_a_refused_key_are_told_apart(emulator, connect):
    nobody, stranger = connect(emulator, headers={}), connect(emulator, headers={"x-api-key": "SG_wrong"})
    for method, path in ENDPOINTS:
        missing, refused = nobody.request(method, path), stranger.request(method, path)
        assert missing.status_code == refused.status_code == 401, path
        assert set(missing.json()) == {"error", "error_description", "status_code"}
        assert missing.json()["error_description"] != refused.json()["error_description"]


def test_a_bearer_token_is_refused(emulator, connect):
    client = connect(emulator, headers={"authorization": f"Bearer {emulator.key}"})
    assert {client.request(method, path).status_code for method, path in ENDPOINTS} == {401}


@pytest.mark.segmind_emulator(key=None)
def test_without_a_key_of_its_own_any_key_will_do(emulator, connect):
    for headers, status in [({"x-api-key": "anything"}, 200), ({}, 401)]:
        assert connect(emulator, headers=headers).get("/v1/get-user-credits").status_code == status


@pytest.mark.parametrize(
    ("method", "path"), [("GET", f"/v2/{MODEL}"), ("POST", "/v2/requests/x/status"), ("GET", "/upload-asset")]
)
def test_the_wrong_verb_is_answered_in_html(client, method, path):
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("model", "status"),
    [("no-such-model", 404), ("sd1.5-txt2img", 410), ("team-only-model", 403), ("over-team-limit", 406)],
)
def test_a_model_that_cannot_be_used(client, emulator, version, model, status):
    answer = client.post(f"/{version}/{model}", json={"prompt": "x"})
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert len(emulator.jobs) == 0


def test_an_unknown_path_is_a_404_in_the_gateways_envelope(client):
    assert (client.get("/v3/x").status_code, client.get("/v3/x").json()) == (404, {"error": "Not found"})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_a_400(client, body):
    answer = client.post(f"/v2/{MODEL}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_another_content_type_is_a_406(client):
    assert client.post(f"/v2/{MODEL}", data={"image": "x"}).status_code == 406


@pytest.mark.segmind_emulator(credits=0.05)
def test_without_credits_nothing_is_accepted_and_the_balance_is_named(client, emulator):
    client.run()
    answer = client.submit()
    assert answer.status_code == 406
    assert answer.json() == {"error": "Insufficient credits. Your balance is $0.0200"}
    assert len(emulator.jobs) == 1


@pytest.mark.segmind_emulator(requests_per_minute=3, rate_window=1)
def test_the_rate_limit_says_when_it_resets_and_then_opens(client, emulator):
    from datetime import datetime
    from time import sleep, time

    statuses = [client.get("/v1/get-user-credits").status_code for _ in range(2)] + [client.submit().status_code]
    refused = client.submit()
    assert statuses == [200, 200, 200]
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    reset = datetime.fromisoformat(refused.headers["x-rate-limit-reset-at-utc"]).timestamp()
    assert time() < reset <= time() + 1
    sleep(max(0.0, reset - time()))  # the reset is the condition
    assert client.submit().status_code == 200
    assert len(emulator.jobs) == 2


@pytest.mark.segmind_emulator(requests_per_minute=1)
def test_files_and_history_are_other_hosts_which_the_rate_limit_does_not_cover(client):
    client.submit()
    assert client.get("/v1/get-user-credits").status_code == 429
    assert client.get("/inference-request/request-history").status_code == 200
    assert client.get("/generations/none.png").status_code == 404


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("steps", [0, 51, "20", True, None])
def test_a_rejected_value_is_a_406_at_once(client, emulator, version, steps):
    answer = client.post(f"/{version}/strict-model", json={"prompt": "x", "steps": steps})
    assert (answer.status_code, list(answer.json())) == (406, ["error"])
    assert "steps" in answer.json()["error"]
    assert len(emulator.jobs) == 0


def test_a_value_that_is_not_rejected_is_accepted(client):
    assert client.post("/v2/strict-model", json={"prompt": "x", "steps": 50}).status_code == 200


def test_an_account_without_a_balance_record_is_a_404_once_its_key_is_accepted(client, connect, emulator):
    emulator.faults.add("no_balance", times=None)
    answer = client.get("/v1/get-user-credits")
    assert (answer.status_code, answer.json()) == (404, {"error": "No credits found for the user"})
    assert connect(emulator, headers={"x-api-key": "SG_wrong"}).get("/v1/get-user-credits").status_code == 401
