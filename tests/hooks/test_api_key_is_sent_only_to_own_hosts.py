"""The API key is sent to the connection's own hosts and nowhere else, whatever the responses of the API contain."""

from __future__ import annotations

import base64
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_provider_segmind.exceptions import SegmindError, SegmindOutputError
from airflow_provider_segmind.hooks.segmind import SegmindHook
from tests.photos import photo

MODEL = "bria-erase-foreground"
PAYLOAD = {"image": base64.b64encode(photo()).decode()}


@pytest.fixture
def decoy():
    """A host that is not Segmind's, which records every request that reaches it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.seen.append((self.path, dict(self.headers)))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_HEAD = do_GET

        def log_message(self, *_):
            pass

    # The emulator is at 127.0.0.1, so this is another host to anything that compares host names.
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        server.url = f"http://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def hook(segmind):
    hook = SegmindHook()
    yield hook
    hook.close()


def test_the_status_and_response_urls_of_a_response_are_not_used(hook, segmind, decoy):
    segmind.faults.add("foreign_url", on="submit", url=f"{decoy.url}/steal", times=None)
    hook.run(MODEL, PAYLOAD, timeout=30)

    assert decoy.seen == []


@pytest.mark.parametrize("kind", ["submit", "status", "result", "credits", "history", "upload"])
def test_a_redirect_of_the_api_is_not_followed(hook, segmind, decoy, quick_retries, kind):
    job = hook.submit(MODEL, PAYLOAD)
    segmind.faults.add("redirect", on=kind, url=f"{decoy.url}/steal", times=None)
    call = {
        "submit": lambda: hook.submit(MODEL, PAYLOAD),
        "status": lambda: hook.get_status(job.request_id),
        "result": lambda: hook.get_result(job.request_id),
        "credits": hook.get_credits,
        "history": lambda: hook.find_request(MODEL, PAYLOAD, since=job.submitted_at),
        "upload": lambda: hook.upload(photo()),
    }[kind]
    with pytest.raises(SegmindError):
        call()

    assert decoy.seen == []


def test_a_result_file_on_a_host_that_is_not_trusted_is_not_requested(hook, segmind, decoy, tmp_path):
    segmind.faults.add("foreign_url", on="result", url=f"{decoy.url}/out.png", times=None)
    result = hook.run(MODEL, PAYLOAD, timeout=30)
    with pytest.raises(SegmindOutputError, match="output_hosts"):
        hook.download(result, tmp_path / "out.png")

    assert decoy.seen == []
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_of_a_result_file_to_a_host_that_is_not_trusted_is_not_followed(hook, segmind, decoy, tmp_path):
    result = hook.run(MODEL, PAYLOAD, timeout=30)
    segmind.faults.add("redirect", on="file", url=f"{decoy.url}/out.png", times=None)
    with pytest.raises(SegmindOutputError, match="not trusted"):
        hook.download(result, tmp_path / "out.png")

    assert decoy.seen == []


def test_a_trusted_output_host_is_not_sent_the_key(segmind, decoy, monkeypatch, tmp_path, quick_retries):
    connection = {**json.loads(segmind.connection), "extra": {"output_hosts": ["localhost"]}}
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps(connection))
    segmind.faults.add("foreign_url", on="result", url=f"{decoy.url}/out.png", times=None)
    hook = SegmindHook()
    result = hook.run(MODEL, PAYLOAD, timeout=30)
    with pytest.raises(SegmindOutputError):
        hook.download(result, tmp_path / "out.png", image=True)
    hook.close()

    assert decoy.seen
    assert segmind.key not in str(decoy.seen)
    assert all("x-api-key" not in {name.lower() for name in headers} for _, headers in decoy.seen)


def test_result_files_are_requested_without_the_key_even_from_the_base_url(hook, segmind, tmp_path):
    hook.download(hook.run(MODEL, PAYLOAD, timeout=30), tmp_path / "out.png")

    (fetched,) = [entry for entry in segmind.requests.log if entry.kind == "file"]
    assert not fetched.has_key


def test_the_client_of_get_conn_does_not_send_the_key_to_other_hosts(hook, segmind, decoy):
    client = hook.get_conn()
    client.get(f"{decoy.url}/asked-for")
    segmind.faults.add("redirect", on="credits", url=f"{decoy.url}/redirected")
    client.get("/v1/get-user-credits", follow_redirects=True)

    assert [path for path, _ in decoy.seen] == ["/asked-for", "/redirected"]
    assert segmind.key not in str(decoy.seen)


def test_errors_and_logs_do_not_contain_secrets_that_the_api_echoes(hook, segmind, caplog, quick_retries):
    caplog.set_level(logging.DEBUG)
    echo = f"bad key {segmind.key}, image https://b.s3.amazonaws.com/k?X-Amz-Signature=abc123 {PAYLOAD['image']}"
    segmind.faults.add("raw", on="submit", status=400, body=json.dumps({"error": echo}), times=None)
    with pytest.raises(SegmindError) as refused:
        hook.submit(MODEL, PAYLOAD)

    for said in (str(refused.value), caplog.text):
        assert segmind.key not in said
        assert "abc123" not in said
        assert PAYLOAD["image"][:200] not in said
