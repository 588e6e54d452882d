from __future__ import annotations

import pytest

from .conftest import MODEL
from .photos import inline, photo, subject_pixels


def test_v1_answers_with_the_image_and_its_accounting_in_headers(client, emulator):
    answer = client.post(f"/v1/{MODEL}", json={"image": inline(photo())})
    assert answer.headers["content-type"] == "image/png"
    assert subject_pixels(answer.content) == 0
    assert answer.headers["x-request-id"] == emulator.jobs[0].request_id
    assert float(answer.headers["x-cost"]) == 0.03
    assert float(answer.headers["x-remaining-credits"]) == 99.97
    assert 0 < float(answer.headers["x-generation-time"]) < 10


def test_v1_refuses_bad_input(client):
    answer = client.post(f"/v1/{MODEL}", json={"image": "no!"})
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid image: neither a URL nor a Base64 string"})


def test_v1_says_500_when_the_inference_fails(client, emulator):
    emulator.faults.add("job_fails", text="out of memory")
    answer = client.post(f"/v1/{MODEL}", json={"image": inline(photo())})
    assert (answer.status_code, answer.json()) == (500, {"error": "out of memory"})


def test_v1_answers_with_json_for_a_text_model(client):
    answer = client.post("/v1/llava-v1.6", json={"image": inline(photo())})
    assert answer.json()["output"].startswith("A picture of")


@pytest.mark.segmind_emulator(job_seconds=0.5)
def test_others_are_served_while_v1_blocks(client, connect, emulator):
    other = connect(emulator, timeout=0.01)
    with pytest.raises(Exception, match="timed out"):
        other.post(f"/v1/{MODEL}", json={"image": inline(photo())})
    assert client.get("/v1/get-user-credits").status_code == 200
