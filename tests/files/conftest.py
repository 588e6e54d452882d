from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import httpx
import pytest

from tests.s3_server import S3, aws_connection


def pytest_configure(config: pytest.Config) -> None:
    # Airflow 2.11 warns of a default of its own while it is imported.
    config.addinivalue_line("filterwarnings", "ignore:Timer and timing metrics publish in seconds:DeprecationWarning")


@pytest.fixture(autouse=True)
def _events_at_once() -> None:
    """Replace the fixture of the whole suite: nothing here has to do with triggers, or waits for their import."""


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Response = tuple[int, dict[str, str], bytes]


class Server(NamedTuple):
    url: str
    requests: list[Request]


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Request], Response]], Server]]:
    """Start HTTP servers, each on its own port, that respond as a function says."""
    running = []

    def start(answer: Callable[[Request], Response], *, keep_bodies: bool = True) -> Server:
        requests: list[Request] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = b""
                while length and (piece := self.rfile.read(min(length, 1 << 16))):
                    length -= len(piece)
                    body += piece if keep_bodies else b""
                request = Request(self.command, self.path, dict(self.headers), body)
                requests.append(request)
                status, headers, body = answer(request)
                self.send_response(status)
                if "Transfer-Encoding" not in headers:
                    headers = {"Content-Length": str(len(body)), **headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return self.handle_any
                raise AttributeError(name)

            def log_message(self, *args: object) -> None:
                """Keep the tests' output clean."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return Server(f"http://127.0.0.1:{server.server_port}", requests)

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def s3_through(
    s3: S3, serve, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Request], Response | None]], Server]:
    """Put a proxy in front of S3 that may respond in its place, or act before S3 sees the request."""

    def start(intercept: Callable[[Request], Response | None]) -> Server:
        def answer(request: Request) -> Response:
            own = intercept(request)
            if own is not None:
                return own
            headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
            behind = httpx.request(
                request.method, s3.url + request.path, headers=headers, content=request.body, timeout=30
            )
            kept = {
                name: value
                for name, value in behind.headers.items()
                if name in {"etag", "content-type", "content-range", "last-modified"} or name.startswith("x-amz-")
            }
            if request.method == "HEAD":
                kept["Content-Length"] = behind.headers["content-length"]
            return behind.status_code, kept, behind.content

        server = serve(answer)
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(server.url))
        return server

    return start


@pytest.fixture
def nowhere() -> str:
    """Return a URL on which nobody listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        port = server.server_port
    return f"http://127.0.0.1:{port}"


def attached(protocol: str, fs: object) -> Iterator[None]:
    """Let Airflow's ObjectStoragePath find a file system under a protocol during a test."""
    try:
        from airflow.sdk.io import store
    except ImportError:  # Airflow 2
        from airflow.io import store

    store._STORE_CACHE.pop(protocol, None)  # it also remembers what it could not find for an earlier test
    store.attach(protocol, fs=fs)
    yield
    store._STORE_CACHE.pop(protocol)


@pytest.fixture
def memory_store() -> Iterator[object]:
    from fsspec.implementations.memory import MemoryFileSystem

    fs = MemoryFileSystem()
    fs.store.clear()
    with contextmanager(attached)("memory", fs):
        yield fs
    fs.store.clear()


@pytest.fixture
def bucket_store() -> Iterator[dict[str, bytes]]:
    """Put a store behind gs:// that shows an object only when it is closed, as object stores do."""
    from fsspec import AbstractFileSystem
    from fsspec.spec import AbstractBufferedFile

    published: dict[str, bytes] = {}

    class Object(AbstractBufferedFile):
        def _initiate_upload(self) -> None:
            self.parts = b""

        def _upload_chunk(self, final: bool = False) -> bool:
            self.parts += self.buffer.getvalue()
            if final:
                published[self.path] = self.parts
            return True

        def _fetch_range(self, start: int, end: int) -> bytes:
            return published[self.path][start:end]

    class Store(AbstractFileSystem):
        protocol = "gs"
        cachable = False

        def _open(self, path: str, mode: str = "rb", **kwargs: object) -> Object:
            return Object(self, path, mode=mode, block_size=1 << 20)

        def exists(self, path: str, **kwargs: object) -> bool:
            return path in published

        def info(self, path: str, **kwargs: object) -> dict[str, object]:
            return {"name": path, "size": len(published[path]), "type": "file"}

    with contextmanager(attached)("gs", Store()):
        yield published
