"""The official Python client works against the emulator; only the URLs of its two other hosts are patched."""

from __future__ import annotations

import sys

import httpx
import pytest

from .conftest import MODEL
from .photos import decode, inline, photo, subject_pixels

segmind = pytest.importorskip("segmind")


@pytest.fixture
def official(emulator, monkeypatch):
    monkeypatch.setattr(sys.modules["segmind.files"].Files, "STORAGE_BASE_URL", emulator.url)
    # Through sys.modules, because the package has an object of the same name.
    monkeypatch.setattr(sys.modules["segmind.generations"], "REQUEST_HISTORY_URL", emulator.history_url)
    client = segmind.SegmindClient(api_key=emulator.key, base_url=f"{emulator.url}/v1")
    yield client
    client._client.close()


@pytest.fixture
def photo_file(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(photo())
    return path


def test_the_installed_client_has_the_version_that_the_emulator_follows():
    assert segmind.__version__ == "1.3.0"


def test_the_official_client_submits_and_waits(official):
    job = official.submit_async(MODEL, image=inline(photo()), preserve_alpha=False)
    result = job.wait(timeout=20, interval=0.01)
    assert result["status"] == "COMPLETED"
    assert result["metrics"]["inference_time"] > 0
    assert subject_pixels(httpx.get(result["output"], trust_env=False).content) == 0


def test_the_official_client_polls(official):
    job = official.submit_async(MODEL, image=inline(photo()))
    assert job.status()["status"] in ("QUEUED", "PROCESSING")
    assert job.status()["request_id"] == job.request_id


@pytest.mark.segmind_emulator(job_seconds=0)
def test_the_official_client_runs_a_model_in_one_call(official):
    assert official.run("seedream-4.5", prompt="A sunset")["images"]


def test_the_official_client_reports_a_failed_job(official):
    job = official.submit_async(MODEL, image="no image!")
    with pytest.raises(segmind.InferenceFailed) as caught:
        job.wait(timeout=20, interval=0.01)
    assert caught.value.detail == "Invalid image: neither a URL nor a Base64 string"
    assert caught.value.status_body["metrics"]["total_time"] >= 0
    assert job.result()["status"] == "FAILED"


@pytest.mark.segmind_emulator(job_seconds=60)
def test_the_official_client_times_out_with_the_request_id(official, emulator):
    with pytest.raises(segmind.InferenceTimeout) as caught:
        official.submit_async(MODEL, image=inline(photo())).wait(timeout=0.05, interval=0.01)
    assert caught.value.request_id == emulator.jobs[0].request_id


def test_the_official_client_runs_synchronously(official):
    response = official.run_sync(MODEL, image=inline(photo()))
    assert decode(response.content).shape == (120, 160, 3)
    assert "x-cost" in response.headers


def test_the_official_client_uploads_a_file_and_submits_its_url(official, photo_file):
    (url,) = official.files.upload(photo_file)["file_urls"]
    assert httpx.get(url, trust_env=False).content == photo_file.read_bytes()
    assert official.submit_async(MODEL, image=url).wait(timeout=20, interval=0.01)["status"] == "COMPLETED"


def test_the_official_client_reads_the_history(official):
    job = official.submit_async(MODEL, image=inline(photo()))
    job.wait(timeout=20, interval=0.01)
    (row,) = official.generations.history(model_name="bria", status="COMPLETED")["data"]
    assert row == official.generations.get(job.request_id)
    assert row["request_body"] == {"image": inline(photo())}


def test_the_official_client_reports_an_unknown_model_and_a_wrong_key(official, emulator):
    with pytest.raises(segmind.SegmindError) as caught:
        official.submit_async("no-such-model")
    assert (caught.value.status, caught.value.detail) == (404, "Model not found: no-such-model")
    stranger = segmind.SegmindClient(api_key="SG_wrong", base_url=f"{emulator.url}/v1")
    with pytest.raises(segmind.SegmindError) as caught:
        stranger.submit_async(MODEL)
    stranger._client.close()
    assert (caught.value.status, caught.value.detail) == (401, "invalid_api_key")


def test_the_official_client_reports_a_missing_request_id(official, emulator):
    emulator.faults.add("no_request_id")
    with pytest.raises(segmind.SegmindError, match="missing request_id"):
        official.submit_async(MODEL, image=inline(photo()))
