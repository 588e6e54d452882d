"""The drivers against servers that misbehave on a real socket."""

from __future__ import annotations

import asyncio
import json
import socketserver
import threading
import time
import traceback
from contextlib import suppress
from itertools import chain, repeat

import pytest

from airflow_provider_segmind.api.operation import Request, TransportFailure, send
from airflow_provider_segmind.hooks import transport
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.transport import MAX_CONNECTIONS, AsyncDriver, SyncDriver

KEY = "SG_0123456789abcdef"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: a=b; path=/\r\n\r\n{}"


@pytest.fixture
def serve():
    """Start servers that answer the n-th request of a connection as a generator function says."""
    over = threading.Event()
    servers = []

    def start(answers):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with suppress(OSError):
                    number = 0
                    while received := self.request.recv(1 << 20):
                        server.seen.append(received)
                        number += 1
                        for piece in answers(number):
                            self.request.sendall(piece)
                            if over.wait(0.02):
                                return

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.seen = []
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return server

    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def settings_for(url, *, read_timeout=5.0):
    return SegmindSettings(KEY, url, url, url, connect_timeout=1.0, read_timeout=read_timeout)


def run_sync(settings, operation):
    driver = SyncDriver(settings)
    try:
        return driver.run(operation)
    finally:
        driver.close()


def run_async(settings, operation):
    async def run():
        driver = AsyncDriver(settings)
        try:
            return await driver.run(operation)
        finally:
            await driver.close()

    return asyncio.run(run())


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request):
    return request.param


def requests_to(url, times=1, **fields):
    """A flow that GETs an address some times over."""
    for _ in range(times):
        answer = yield from send(Request("GET", f"{url}/x", **fields))
    return answer


def trickled(text, forever):
    return chain([text], repeat(forever))


TRICKLES = {
    "headers": (b"HTTP/1.1 200 OK\r\nx: ", b"x"),
    "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "the size of a chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0"),
    "a body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("what", "number"), [*((what, 1) for what in TRICKLES), ("headers", 2)])
def test_a_server_that_trickles_holds_nobody_for_ever(run, serve, what, number):
    server = serve(lambda now: [OK] if now < number else trickled(*TRICKLES[what]))
    operation = requests_to(server.url, number, max_seconds=0.1)
    if what == "a body":
        assert run(settings_for(server.url, read_timeout=0.4), operation).cut
        return
    with pytest.raises(TransportFailure, match="TimeoutError") as failure:
        run(settings_for(server.url, read_timeout=0.4), operation)

    assert failure.value.sent


def test_an_answer_that_is_expected_late_is_waited_for(run, serve):
    server = serve(lambda _: [b""] * 40 + [OK])
    with pytest.raises(TransportFailure, match="ReadTimeout"):
        run(settings_for(server.url, read_timeout=0.2), requests_to(server.url))
    late = requests_to(server.url, max_seconds=0.01, read_timeout=10.0)

    assert run(settings_for(server.url, read_timeout=0.2), late).body == b"{}"


def test_no_cookie_is_kept(run, serve):
    server = serve(lambda _: [OK])
    run(settings_for(server.url), requests_to(server.url, 2))

    assert len(server.seen) == 2
    assert b"cookie" not in b"".join(server.seen).lower()


def test_a_traceback_does_not_tell_the_key_that_a_server_echoes(run, serve):
    server = serve(lambda _: [f"{KEY} is no status line\r\n\r\n".encode()])
    with pytest.raises(TransportFailure) as failure:
        run(settings_for(server.url), requests_to(server.url))

    said = "".join(traceback.format_exception(failure.value))
    assert "RemoteProtocolError" in said
    assert KEY not in said


@pytest.mark.parametrize("fields", [{"json": {"prompt": "\ud800"}}, {"json": object()}, {"json": float("nan")}])
def test_what_cannot_be_written_was_not_sent(run, serve, fields):
    server = serve(lambda _: [OK])
    with pytest.raises(TransportFailure) as failure:
        run(settings_for(server.url), requests_to(server.url, **fields))

    assert not failure.value.sent
    assert server.seen == []


def test_a_host_written_in_punycode_gets_its_key(run, serve, monkeypatch):
    proxy = serve(lambda _: [OK])
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    url = "http://xn--bcher-kva.example"
    run(settings_for(url), requests_to(url))

    assert proxy.seen[0].startswith(b"GET http://xn--bcher-kva.example/x HTTP/1.1\r\n")
    assert KEY.encode() in proxy.seen[0]


def test_nobody_queues_for_ever_behind_a_server_that_swallows_all(serve, monkeypatch):
    monkeypatch.setattr(transport, "SLOT_SECONDS", 0.1)
    server = serve(lambda _: [])

    async def crowd():
        driver = AsyncDriver(settings_for(server.url, read_timeout=60.0))
        waiting = {asyncio.ensure_future(driver.run(requests_to(server.url))) for _ in range(MAX_CONNECTIONS + 1)}
        (first,), others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            each.cancel()
        await asyncio.wait(others)
        await driver.close()
        return first.exception()

    failure = asyncio.run(crowd())

    assert isinstance(failure, TransportFailure)
    assert (failure.sent, "no free connection" in str(failure)) == (False, True)


LARGE = b"HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n" + json.dumps("x" * 399_998).encode()


def on_a_loop(server, operation, beside):
    """Run a flow and a coroutine that gets its task on one loop."""

    async def both():
        driver = AsyncDriver(settings_for(server.url))
        try:
            task = asyncio.ensure_future(driver.run(operation))
            await beside(task)
            return await task
        finally:
            await driver.close()

    return asyncio.run(both())


def test_a_large_answer_does_not_stop_the_loop(serve):
    server = serve(lambda _: [LARGE])
    ticks = []

    def burn():
        answer = yield from send(Request("GET", server.url))
        before, until = len(ticks), time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        return len(answer.body), len(ticks) - before

    async def tick(task):
        while not task.done():
            ticks.append(None)
            await asyncio.sleep(0.001)

    size, meanwhile = on_a_loop(server, burn(), tick)

    assert size == 400_000
    assert meanwhile > 5


def test_an_error_about_a_large_answer_comes_as_it_is(serve):
    server = serve(lambda _: [LARGE])

    def refuse():
        yield from send(Request("GET", server.url))
        raise LookupError("no such thing")

    async def nothing(task):
        pass

    with pytest.raises(LookupError, match="no such thing"):
        on_a_loop(server, refuse(), nothing)


def test_a_wait_can_be_cancelled_while_a_large_answer_is_read(serve):
    server = serve(lambda _: [LARGE])
    reading, read = threading.Event(), threading.Event()

    def dawdle():
        yield from send(Request("GET", server.url))
        reading.set()
        read.wait(10)

    async def cancel(task):
        await asyncio.to_thread(reading.wait)
        task.cancel()
        await asyncio.wait([task])
        read.set()

    with pytest.raises(asyncio.CancelledError):
        on_a_loop(server, dawdle(), cancel)
