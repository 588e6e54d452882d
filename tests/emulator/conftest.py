from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from .photos import inline, photo

MODEL = "bria-erase-foreground"
HISTORY = "/inference-request/request-history"


class Client(httpx.Client):
    """A client with methods for what most tests do."""

    def submit(self, image=None, **parameters):
        image = inline(photo()) if image is None else image
        return self.post(f"/v2/{MODEL}", json={"image": image, **parameters})

    def submitted(self, image=None, **parameters):
        return self.submit(image, **parameters).raise_for_status().json()["request_id"]

    def status(self, request_id):
        return self.get(f"/v2/requests/{request_id}/status")

    def finished(self, request_id):
        """Poll until the job has ended, then return the response of the result endpoint."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.status(request_id).json()["status"] in ("COMPLETED", "FAILED"):
                return self.get(f"/v2/requests/{request_id}")
            time.sleep(0.01)
        raise AssertionError(f"job {request_id} did not end")

    def run(self, image=None, **parameters):
        return self.finished(self.submitted(image, **parameters))

    def switch_on(self, name, **options):
        return self.post("/emulator/faults", json={"name": name, **options})


@pytest.fixture
def connect():
    """Return a function that connects a client to an emulator."""
    clients = []

    def connect(emulator, **options):
        options = {"base_url": emulator.url, "headers": {"x-api-key": emulator.key}, "timeout": 10, **options}
        clients.append(Client(trust_env=False, verify=False, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def emulator(request):
    # Most tests only need a job that ends soon.
    request.applymarker(pytest.mark.segmind_emulator(**_quick(request)))
    return request.getfixturevalue("segmind_emulator")


def _quick(request):
    marked = any("job_seconds" in marker.kwargs for marker in request.node.iter_markers("segmind_emulator"))
    return {} if marked else {"job_seconds": 0.05}


@pytest.fixture
def client(emulator, connect):
    return connect(emulator)


@pytest.fixture
def image_host():
    """A web server for images: ``image_host.files["/cat.png"] = b"..."``, at ``image_host.url``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = self.server.files.get(self.path.partition("?")[0])
            self.send_response(404 if content is None else 200)
            self.send_header("content-length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files = {"/cat.png": photo()}
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
