"""The client of Airflow's API repeats calls that fail because SQLite is locked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from demo.airflow_api import AirflowApi

LOCKED = (500, {"detail": {"reason": "Database error", "orig_error": "database is locked"}})
BROKEN = (500, {"detail": {"reason": "Database error", "orig_error": "no such table: dag_run"}})
STARTED = (200, {"dag_run_id": "manual__1"})


class Answers(HTTPServer):
    """A server that answers each POST with the next of its answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, object]] = []
        self.posts = 0


class Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.answer(200, {"access_token": "token"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts += 1
        self.answer(*self.server.answers.pop(0))

    def answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answers]:
    with Answers() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def api(server: Answers) -> Iterator[AirflowApi]:
    api = AirflowApi(f"http://127.0.0.1:{server.server_port}")
    yield api
    api.close()


def test_a_call_is_repeated_while_the_database_is_locked(server: Answers, api: AirflowApi) -> None:
    server.answers = [LOCKED, STARTED]
    assert api.trigger("erase") == "manual__1"


def test_any_other_server_error_is_raised_without_a_second_call(server: Answers, api: AirflowApi) -> None:
    server.answers = [BROKEN, STARTED]
    with pytest.raises(httpx.HTTPStatusError, match="no such table"):
        api.trigger("erase")
    assert server.posts == 1
