from __future__ import annotations

import json
import time

import httpx
import pytest

from airflow_provider_segmind.emulator import SegmindEmulator

from .conftest import HISTORY, MODEL
from .photos import decode, inline, photo, subject_pixels


def test_a_submit_returns_an_id_and_three_urls(client, emulator):
    response = client.submit().json()
    request_id = response["request_id"]
    assert response == {
        "request_id": request_id,
        "status": "QUEUED",
        "poll_url": f"{emulator.url}/v1/requests/{request_id}",
        "status_url": f"{emulator.url}/v2/requests/{request_id}/status",
        "response_url": f"{emulator.url}/v2/requests/{request_id}",
    }


def test_the_result_of_a_completed_job_has_its_output_and_metrics(client):
    response = client.run()
    body = response.json()
    assert response.status_code == 200
    assert set(body) == {"status", "error", "images", "output", "metrics"}
    assert (body["status"], body["error"]) == ("COMPLETED", None)
    assert body["images"][0]["url"] == body["output"]
    assert body["metrics"]["cost"] == 0.03
    assert body["metrics"]["remaining_credits"] == 99.97
    assert body["metrics"]["total_time"] == pytest.approx(
        body["metrics"]["queue_time"] + body["metrics"]["inference_time"], abs=0.002
    )


def test_the_result_file_needs_no_key_and_contains_no_subject(client):
    file = httpx.get(client.run().json()["output"], trust_env=False)
    assert file.headers["content-type"] == "image/png"
    assert subject_pixels(file.content) == 0


def test_the_status_has_no_output(client):
    request_id = client.submitted()
    client.finished(request_id)
    assert set(client.status(request_id).json()) == {"status", "request_id", "metrics"}


@pytest.mark.segmind_emulator(job_seconds=60)
def test_a_running_job_has_no_output_and_no_metrics(client):
    request_id = client.submitted()
    assert client.status(request_id).json() == {"status": "QUEUED", "request_id": request_id, "metrics": {}}
    assert "output" not in client.get(f"/v2/requests/{request_id}").json()


@pytest.mark.segmind_emulator(job_seconds=60)
def test_a_job_is_queued_then_processed(client, emulator):
    client.submitted()
    (job,) = emulator.jobs
    assert [job.state(job.created + seconds) for seconds in (0, 2.9, 3.1, 300)] == ["QUEUED"] * 2 + ["PROCESSING"] * 2


@pytest.mark.segmind_emulator(job_seconds=0.5)
def test_a_job_takes_the_configured_time(client):
    assert client.run().json()["metrics"]["total_time"] >= 0.5


def test_with_a_seed_the_nth_job_takes_equally_long_after_each_start(connect):
    def lengths():
        with SegmindEmulator(job_seconds=30, job_sigma=0.15, seed=4) as emulator:
            client = connect(emulator)
            for _ in range(5):
                client.submitted()
            return [job.seconds for job in emulator.jobs]

    first = lengths()
    assert first == lengths()
    assert len(set(first)) == 5
    assert all(15 < seconds < 60 for seconds in first)


def test_every_post_is_a_new_job_and_a_new_bill(client, emulator):
    for request_id in [client.submitted(inline(photo())) for _ in range(3)]:
        client.finished(request_id)
    assert list(emulator.jobs.posts_per_image.values()) == [3]
    assert client.get("/v1/get-user-credits").json() == {"credits": 99.91}


def test_an_image_is_fetched_by_its_url(client, image_host, emulator):
    body = client.run(f"{image_host.url}/cat.png?signature=1").json()
    assert body["status"] == "COMPLETED"
    assert emulator.jobs[0].image == f"{image_host.url}/cat.png"


@pytest.mark.parametrize("head", ["", "data:image/png;base64,"])
def test_an_image_is_read_from_base64_or_a_data_uri(client, head):
    assert client.run(head + inline(photo())).json()["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        pytest.param({"image": "certainly no image!"}, "neither a URL nor a Base64", id="text"),
        pytest.param({"image": inline(b"abc")}, "cannot identify", id="other bytes"),
        pytest.param({"image": inline(photo("BMP"))}, "Unsupported image type BMP", id="type"),
        pytest.param({"image": "data:image/png,abc"}, "not Base64", id="data URI"),
        pytest.param({"image": "http://127.0.0.1:9/x.png"}, "Could not fetch the image", id="no server"),
        pytest.param({"image": "http://["}, "Could not fetch the image", id="no URL"),
        pytest.param({"image": 3}, "image: Field required", id="number"),
        pytest.param({}, "image: Field required", id="missing"),
        pytest.param({"image": inline(photo()), "preserve_alpha": "no"}, "valid boolean", id="flag"),
    ],
)
def test_invalid_input_is_accepted_and_its_job_fails_without_being_billed(client, parameters, text):
    request_id = client.post(f"/v2/{MODEL}", json=parameters).raise_for_status().json()["request_id"]
    response = client.finished(request_id)
    assert response.status_code == client.status(request_id).status_code == 422
    assert response.json()["status"] == "FAILED"
    assert text in response.json()["error"]
    assert set(response.json()["metrics"]) == {"inference_time", "queue_time", "total_time"}
    assert client.get("/v1/get-user-credits").json() == {"credits": 100.0}


def test_a_job_fails_if_its_image_url_is_a_404(client, image_host):
    assert client.run(f"{image_host.url}/none.png").json()["error"] == "Could not fetch the image: HTTP 404"


@pytest.mark.segmind_emulator(max_image_mb=0.001)
@pytest.mark.parametrize("by_url", [True, False])
def test_a_job_fails_if_its_image_is_too_large(client, image_host, by_url):
    image_host.files["/large.png"] = photo(width=400, height=300)
    image = f"{image_host.url}/large.png" if by_url else inline(image_host.files["/large.png"])
    assert client.run(image).json()["error"] == "Invalid image: larger than 1000 bytes"


@pytest.mark.parametrize(("moderated", "status"), [(True, "FAILED"), (False, "COMPLETED")])
def test_moderation_blocks_an_image_with_blocked_in_its_url_only_if_enabled(client, image_host, moderated, status):
    image_host.files["/blocked.png"] = photo()
    body = client.run(f"{image_host.url}/blocked.png", visual_input_content_moderation=moderated).json()
    assert body["status"] == status
    assert not moderated or "content moderation" in body["error"]


@pytest.mark.segmind_emulator(record_seconds=0)
def test_the_file_and_the_history_outlive_the_record(client, emulator):
    request_id = client.submitted()
    deadline = time.monotonic() + 20
    while emulator.jobs[0].finished is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert client.status(request_id).status_code == client.get(f"/v2/requests/{request_id}").status_code == 404
    url = client.get(f"{HISTORY}/{request_id}").json()["generation_url"]
    assert client.get(url).status_code == 200


@pytest.mark.segmind_emulator(file_seconds=0)
def test_an_expired_file_is_a_404_in_xml(client):
    response = client.get(client.run().json()["output"])
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("application/xml")


def test_an_unknown_id_is_a_404(client):
    assert client.status("nobody").json() == {"error": "Request not found"}
    assert client.status("nobody").status_code == 404


def test_the_v1_poll_url_returns_the_result(client):
    response = client.submit().json()
    client.finished(response["request_id"])
    assert client.get(response["poll_url"]).json()["status"] == "COMPLETED"


def test_an_image_model_can_return_several_outputs(client):
    body = {"prompt": "dusk", "num_images": 3, "width": 32, "height": 16}
    request_id = client.post("/v2/seedream-4.5", json=body).json()["request_id"]
    images = client.finished(request_id).json()["images"]
    assert [decode(client.get(image["url"]).content).shape for image in images] == [(16, 32, 3)] * 3
    rows = client.get(HISTORY).json()["data"]
    assert {row["generation_url"] for row in rows} == {image["url"] for image in images}


def test_a_text_model_returns_text(client):
    request_id = client.post("/v2/llava-v1.6", json={"image": inline(photo()), "prompt": "What?"}).json()["request_id"]
    body = client.finished(request_id).json()
    assert body["output"].startswith("What?: A picture of 160 x 120 pixels")
    assert "images" not in body


def test_each_job_returns_the_result_of_its_own_image(client):
    sizes = [(40 + 10 * number, 50) for number in range(6)]
    ids = [client.submitted(inline(photo(width=width, height=height))) for width, height in sizes]
    outputs = [decode(client.get(client.finished(request_id).json()["output"]).content) for request_id in ids]
    assert [(output.shape[1], output.shape[0]) for output in outputs] == sizes


def test_the_history_returns_the_body_as_it_was_sent(client):
    body = {"image": "x", "other": [1, {"ü": None}], "preserve_alpha": False}
    request_id = client.post(
        f"/v2/{MODEL}", content=json.dumps(body), headers={"content-type": "application/json; charset=utf-8"}
    ).json()["request_id"]
    assert client.get(f"{HISTORY}/{request_id}").json()["request_body"] == body
