"""What the drivers send, and what they make of a server's response."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import traceback

import pytest

from airflow_provider_segmind.api.operation import Pause, Request, TransportFailure, send
from airflow_provider_segmind.hooks.drivers import AsyncDriver, SyncDriver
from tests.hooks.driving import KEY, OK, refusing_url, requests_to, settings_for


def test_no_cookie_is_kept(run, serve):
    server = serve(lambda _: [OK])
    run(settings_for(server.url), requests_to(server.url, 2))

    assert len(server.seen) == 2
    assert b"cookie" not in b"".join(server.seen).lower()


def test_a_body_in_memory_is_truncated_at_its_limit(run, serve):
    server = serve(lambda _: [b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789"])
    whole = run(settings_for(server.url), requests_to(server.url, max_bytes=10))
    part = run(settings_for(server.url), requests_to(server.url, max_bytes=9))

    assert (whole.body, whole.json) == (b"0123456789", None)
    assert part.body == b"012345678"
    assert "larger than 9 bytes" in repr(part)


def test_the_body_of_an_error_does_not_reach_the_receiver(run, serve):
    class Receiver:
        def begin(self, headers):
            raise AssertionError

        write = begin

    server = serve(lambda _: [b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone"])
    response = run(settings_for(server.url), requests_to(server.url, with_key=False, into=Receiver()))

    assert (response.status, response.body) == (404, b"gone")


def test_what_a_receiver_raises_ends_the_operation(run, serve):
    class Receiver:
        def begin(self, headers):
            raise LookupError(headers["content-length"])

        def write(self, chunk):
            raise AssertionError

    ended = []

    def operation():
        try:
            yield from requests_to(server.url, with_key=False, into=Receiver())
        finally:
            ended.append(True)

    server = serve(lambda _: [OK])
    with pytest.raises(LookupError, match="2"):
        run(settings_for(server.url), operation())

    assert ended == [True]


def test_a_traceback_does_not_contain_the_key_that_a_server_echoes(run, serve):
    server = serve(lambda _: [f"{KEY} is no status line\r\n\r\n".encode()])
    with pytest.raises(TransportFailure) as failure:
        run(settings_for(server.url), requests_to(server.url))

    said = "".join(traceback.format_exception(failure.value))
    assert "RemoteProtocolError" in said
    assert KEY not in said


@pytest.mark.parametrize("fields", [{"json": {"prompt": "\ud800"}}, {"json": object()}, {"json": float("nan")}])
def test_a_payload_that_cannot_be_serialised_was_not_sent(run, serve, fields):
    server = serve(lambda _: [OK])
    with pytest.raises(TransportFailure) as failure:
        run(settings_for(server.url), requests_to(server.url, **fields))

    assert not failure.value.sent
    assert server.seen == []


def test_a_refused_connection_names_the_host_and_was_not_sent(run):
    url = refusing_url()
    with pytest.raises(TransportFailure, match=f"{url}: ConnectError") as failure:
        run(settings_for(url), requests_to(url))

    assert not failure.value.sent


def test_both_drivers_make_the_pauses_of_an_operation(run, monkeypatch):
    made = []

    async def pause(seconds):
        made.append(seconds)

    def operation():
        yield Pause(1.5)
        return "done"

    monkeypatch.setattr(asyncio, "sleep", pause)

    assert run(settings_for("http://h"), operation()) == "done"
    assert made == [1.5]


def test_the_synchronous_driver_can_be_used_by_several_threads(serve):
    server = serve(lambda _: [OK])
    driver = SyncDriver(settings_for(server.url))
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(driver.run(requests_to(server.url, 3)).status))
        for _ in range(5)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    driver.close()

    assert statuses == [200] * 5
    assert len(server.seen) == 15


def test_the_synchronous_driver_works_where_an_event_loop_is_running(serve):
    server = serve(lambda _: [OK])

    async def notebook():
        driver = SyncDriver(settings_for(server.url))
        try:
            return driver.run(requests_to(server.url)).status
        finally:
            driver.close()

    assert asyncio.run(notebook()) == 200


def test_a_closed_synchronous_driver_leaves_no_thread_behind(serve):
    server = serve(lambda _: [OK])
    before = set(threading.enumerate())
    driver = SyncDriver(settings_for(server.url))
    driver.run(requests_to(server.url))
    (thread,) = [each for each in threading.enumerate() if each not in before and each.name == "segmind-http"]
    driver.close()
    driver.close()

    assert not thread.is_alive()


def test_a_synchronous_driver_that_nobody_holds_ends_its_thread(serve):
    server = serve(lambda _: [OK])
    before = set(threading.enumerate())
    driver = SyncDriver(settings_for(server.url))
    driver.run(requests_to(server.url))
    (thread,) = [each for each in threading.enumerate() if each not in before and each.name == "segmind-http"]
    del driver
    thread.join(10)

    assert not thread.is_alive()


LARGE = b"HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n" + json.dumps("x" * 399_998).encode()


def on_a_loop(server, operation, beside):
    """Run an operation and, beside it on the same loop, a coroutine that is given the operation's task."""

    async def both():
        driver = AsyncDriver(settings_for(server.url))
        try:
            task = asyncio.ensure_future(driver.run(operation))
            await beside(task)
            return await task
        finally:
            await driver.close()

    return asyncio.run(both())


def test_parsing_a_large_response_does_not_block_the_loop(serve):
    server = serve(lambda _: [LARGE])
    ticks = []

    def burn():
        response = yield from send(Request("GET", server.url))
        before, until = len(ticks), time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        return len(response.body), len(ticks) - before

    async def tick(task):
        while not task.done():
            ticks.append(None)
            await asyncio.sleep(0.001)

    size, meanwhile = on_a_loop(server, burn(), tick)

    assert size == 400_000
    assert meanwhile > 5


def test_an_error_raised_while_a_large_response_is_parsed_arrives_unchanged(serve):
    server = serve(lambda _: [LARGE])

    def refuse():
        yield from send(Request("GET", server.url))
        raise LookupError("no such thing")

    async def nothing(task):
        pass

    with pytest.raises(LookupError, match="no such thing"):
        on_a_loop(server, refuse(), nothing)


def test_an_operation_can_be_cancelled_while_it_parses_a_large_response(serve):
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
