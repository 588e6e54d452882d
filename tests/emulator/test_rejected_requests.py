from __future__ import annotations

import pytest

from .conftest import HISTORY, MODEL

ENDPOINTS = [
    ("POST", f"/v1/{MODEL}"),
    ("POST", f"/v2/{MODEL}"),
    ("GET", "/v2/requests/x"),
    ("GET", "/v2/requests/x/status"),
    ("GET", "/v1/get-user-credits"),
    ("POST", "/upload-asset"),
    ("GET", HISTORY),
    ("GET", f"{HISTORY}/x"),
]


def test_a_missing_and_a_wrong_key_get_different_messages(emulator, connect):
    nobody, stranger = connect(emulator, headers={}), connect(emulator, headers={"x-api-key": "SG_wrong"})
    for method, path in ENDPOINTS:
        missing, refused = nobody.request(method, path), stranger.request(method, path)
        assert missing.status_code == refused.status_code == 401, path
        assert set(missing.json()) == {"error", "error_description", "status_code"}
        assert missing.json()["error_description"] != refused.json()["error_description"]


def test_a_bearer_token_is_rejected(emulator, connect):
    client = connect(emulator, headers={"authorization": f"Bearer {emulator.key}"})
    assert {client.request(method, path).status_code for method, path in ENDPOINTS} == {401}


@pytest.mark.segmind_emulator(key=None)
def test_without_a_configured_key_any_key_is_accepted(emulator, connect):
    for headers, status in [({"x-api-key": "anything"}, 200), ({}, 401)]:
        assert connect(emulator, headers=headers).get("/v1/get-user-credits").status_code == status


@pytest.mark.parametrize(
    ("method", "path"), [("GET", f"/v2/{MODEL}"), ("POST", "/v2/requests/x/status"), ("GET", "/upload-asset")]
)
def test_a_wrong_method_is_a_405_in_html(client, method, path):
    response = client.request(method, path)
    assert response.status_code == 405
    assert response.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("model", "status"),
    [("no-such-model", 404), ("sd1.5-txt2img", 410), ("team-only-model", 403), ("over-team-limit", 406)],
)
def test_each_unavailable_model_has_its_own_status(client, emulator, version, model, status):
    response = client.post(f"/{version}/{model}", json={"prompt": "x"})
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert len(emulator.jobs) == 0


def test_an_unknown_path_is_a_404_in_the_gateways_envelope(client):
    assert (client.get("/v3/x").status_code, client.get("/v3/x").json()) == (404, {"error": "Not found"})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_a_json_object_is_a_400(client, body):
    response = client.post(f"/v2/{MODEL}", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400


def test_another_content_type_is_a_406(client):
    assert client.post(f"/v2/{MODEL}", data={"image": "x"}).status_code == 406


@pytest.mark.segmind_emulator(credits=0.05)
def test_with_too_few_credits_a_submit_is_a_406_with_the_balance(client, emulator):
    client.run()
    response = client.submit()
    assert response.status_code == 406
    assert response.json() == {"error": "Insufficient credits. Your balance is $0.0200"}
    assert len(emulator.jobs) == 1


@pytest.mark.segmind_emulator(requests_per_minute=3, rate_window=1)
def test_requests_are_accepted_again_after_the_announced_reset(client, emulator):
    from datetime import datetime
    from time import sleep, time

    statuses = [client.get("/v1/get-user-credits").status_code for _ in range(2)] + [client.submit().status_code]
    refused = client.submit()
    assert statuses == [200, 200, 200]
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    reset = datetime.fromisoformat(refused.headers["x-rate-limit-reset-at-utc"]).timestamp()
    assert time() < reset <= time() + 1
    sleep(max(0.0, reset - time()))  # the announced reset is what this test is about
    assert client.submit().status_code == 200
    assert len(emulator.jobs) == 2


@pytest.mark.segmind_emulator(requests_per_minute=1)
def test_the_rate_limit_does_not_apply_to_files_and_history(client):
    client.submit()
    assert client.get("/v1/get-user-credits").status_code == 429
    assert client.get(HISTORY).status_code == 200
    assert client.get("/generations/none.png").status_code == 404


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("steps", [0, 51, "20", True, None])
def test_strict_model_rejects_invalid_steps_with_a_406(client, emulator, version, steps):
    response = client.post(f"/{version}/strict-model", json={"prompt": "x", "steps": steps})
    assert (response.status_code, list(response.json())) == (406, ["error"])
    assert "steps" in response.json()["error"]
    assert len(emulator.jobs) == 0


def test_strict_model_accepts_valid_steps(client):
    assert client.post("/v2/strict-model", json={"prompt": "x", "steps": 50}).status_code == 200


def test_no_balance_is_a_404_for_an_accepted_key_only(client, connect, emulator):
    emulator.faults.add("no_balance", times=None)
    response = client.get("/v1/get-user-credits")
    assert (response.status_code, response.json()) == (404, {"error": "No credits found for the user"})
    assert connect(emulator, headers={"x-api-key": "SG_wrong"}).get("/v1/get-user-credits").status_code == 401
