from __future__ import annotations

import pytest

from .conftest import MODEL
from .photos import inline, photo, subject_pixels


def test_v1_returns_the_image_and_its_metrics_in_headers(client, emulator):
    response = client.post(f"/v1/{MODEL}", json={"image": inline(photo())})
    assert response.headers["content-type"] == "image/png"
    assert subject_pixels(response.content) == 0
    assert response.headers["x-request-id"] == emulator.jobs[0].request_id
    assert float(response.headers["x-cost"]) == 0.03
    assert float(response.headers["x-remaining-credits"]) == 99.97
    assert float(response.headers["x-generation-time"]) > 0


def test_v1_returns_a_400_for_invalid_input(client):
    response = client.post(f"/v1/{MODEL}", json={"image": "no!"})
    assert (response.status_code, response.json()) == (
        400,
        {"error": "Invalid image: neither a URL nor a Base64 string"},
    )


def test_v1_returns_a_500_if_the_inference_fails(client, emulator):
    emulator.faults.add("job_fails", text="out of memory")
    response = client.post(f"/v1/{MODEL}", json={"image": inline(photo())})
    assert (response.status_code, response.json()) == (500, {"error": "out of memory"})


def test_v1_returns_json_for_a_text_model(client):
    response = client.post("/v1/llava-v1.6", json={"image": inline(photo())})
    assert response.json()["output"].startswith("A picture of")


@pytest.mark.segmind_emulator(job_seconds=0.5)
def test_other_requests_are_served_while_v1_blocks(client, connect, emulator):
    other = connect(emulator, timeout=0.01)
    with pytest.raises(Exception, match="timed out"):
        other.post(f"/v1/{MODEL}", json={"image": inline(photo())})
    assert client.get("/v1/get-user-credits").status_code == 200
