from __future__ import annotations

import json
import socket

import pytest

from airflow_provider_segmind.emulator import SegmindEmulator

from .conftest import HISTORY, MODEL
from .photos import inline, photo


def test_accepted_posts_are_counted_by_image(client, emulator, image_host):
    cat = f"{image_host.url}/cat.png"
    for image in (f"{cat}?signature=1", f"{cat}?signature=2", inline(photo())):
        client.submitted(image)
    counts = client.get("/emulator/jobs").json()["posts_per_image"]
    assert counts == emulator.jobs.posts_per_image
    assert counts[cat] == 2
    assert sorted(counts.values()) == [1, 2]


def test_inline_images_are_identified_by_their_decoded_content(client, emulator):
    for image in (inline(photo()), "data:image/png;base64," + inline(photo()), inline(photo()) + "\n"):
        client.submitted(image)
    assert list(emulator.jobs.posts_per_image.values()) == [3]


def test_rejected_posts_count_as_requests_but_not_as_jobs(client, emulator):
    emulator.faults.add("error", status=503)
    client.submit()
    client.submit()
    client.post("/v2/no-such-model", json={})
    assert len(emulator.jobs) == 1
    assert emulator.requests.counts["submit"] == 3
    assert emulator.requests.statuses["submit"] == {503: 1, 200: 1, 404: 1}
    assert emulator.requests.rejected == {503: 1, 404: 1}


def test_a_post_whose_body_is_incomplete_is_not_accepted(client, emulator):
    head = f"POST /v2/{MODEL} HTTP/1.1\r\nhost: x\r\nx-api-key: {emulator.key}\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2]))) as connection:
        connection.sendall(f"{head}content-length: 100\r\n\r\n".encode() + b'{"image": "x"}')
    while emulator.requests.counts["submit"] == 0:
        client.get("/v1/get-user-credits")
    assert client.submit().status_code == 200
    assert len(emulator.jobs) == 1


def test_downloads_of_each_file_are_counted(client, emulator):
    url = client.run().json()["output"]
    client.get(url)
    client.get(url)
    client.head(url)
    (job,) = emulator.jobs
    assert job.downloads == {job.files[0]: 2}
    assert client.get("/emulator/jobs").json()["jobs"][0]["downloads"] == job.downloads


def test_the_jobs_endpoint_lists_every_field_of_a_job(client):
    request_id = client.submitted(preserve_alpha=False)
    client.finished(request_id)
    body = client.get("/emulator/jobs").json()
    (job,) = body["jobs"]
    assert (body["accepted"], body["spent"], body["balance"]) == (1, 0.03, 99.97)
    assert (job["request_id"], job["model"], job["via"], job["state"]) == (request_id, MODEL, "v2", "COMPLETED")
    assert job["created"] < job["finished"]
    assert len(job["body_sha256"]) == 64


def test_each_kind_of_request_is_counted(client, emulator):
    client.get(client.run().json()["output"])
    client.post(f"/v1/{MODEL}", json={"image": "no!"})
    client.get("/v1/get-user-credits")
    client.get(HISTORY)
    client.get(f"{HISTORY}/x")
    client.post("/upload-asset", json={})
    client.get("/assets/none")
    client.get("/nowhere")
    counts = client.get("/emulator/requests").json()["counts"]
    assert counts.pop("status") >= 1
    kinds = ("submit", "sync", "result", "file", "credits", "history", "record", "upload", "asset", "unknown")
    assert counts == dict.fromkeys(kinds, 1)
    assert emulator.requests.total == emulator.requests.counts.total()


def test_the_log_records_that_a_key_was_sent_but_not_the_key(client, emulator):
    client.get(client.run().json()["output"], headers={"x-api-key": emulator.key})
    client.get("/assets/none", headers={"authorization": "Bearer SG_secret"})
    text = client.get("/emulator/requests").text
    entries = json.loads(text)["log"]
    assert emulator.key not in text
    assert "SG_secret" not in text
    assert [entry["has_key"] for entry in entries if entry["kind"] == "file"] == [True]
    assert entries[-1]["has_authorization"] is True
    assert (entries[0]["method"], entries[0]["path"], entries[0]["status"]) == ("POST", f"/v2/{MODEL}", 200)


def test_the_request_counters_can_be_reset(client, emulator):
    client.get("/v1/get-user-credits")
    assert client.delete("/emulator/requests").status_code == 204
    assert emulator.requests.total == 0
    assert emulator.requests.log == []


def test_the_emulators_own_endpoints_need_no_key_and_are_not_counted(connect, emulator):
    stranger = connect(emulator, headers={})
    for path in ("/emulator/jobs", "/emulator/requests", "/emulator/faults"):
        assert stranger.get(path).status_code == 200
    assert emulator.requests.total == 0


def test_a_job_is_found_by_its_id_or_its_number(client, emulator):
    request_id = client.submitted()
    assert emulator.jobs[request_id] is emulator.jobs[0]
    with pytest.raises(KeyError):
        emulator.jobs["nobody"]


def test_jobs_and_requests_are_available_after_the_emulator_has_stopped(connect):
    with SegmindEmulator(job_seconds=0, job_sigma=0) as emulator:
        connect(emulator).run()
    assert len(emulator.jobs) == 1
    assert emulator.requests.counts["submit"] == 1
