"""``Request.max_seconds`` ends an exchange wherever the server stops being a server. Nothing here measures time."""

from __future__ import annotations

import asyncio
import socket
import threading
from itertools import chain, repeat

import pytest

from airflow_provider_segmind.api.operation import TransportFailure
from airflow_provider_segmind.hooks import drivers
from airflow_provider_segmind.hooks.drivers import AsyncDriver
from airflow_provider_segmind.hooks.transport import MAX_CONNECTIONS
from tests.hooks.driving import OK, requests_to, settings_for

pytestmark = pytest.mark.timeout(30)

HEAD = b"HTTP/1.1 200 OK\r\n"
PATIENT = 600.0
"""A read timeout that never ends an exchange of these tests."""


def drip(start, piece):
    """Return a response of which one piece after another arrives, for ever."""
    return lambda: chain([start], repeat(piece))


def stop_after(*pieces):
    """Return a response of which nothing arrives after these pieces."""
    return lambda: pieces


UNFINISHED = {
    "no response": stop_after(),
    "half of the headers": stop_after(HEAD),
    "headers that never end": drip(HEAD + b"x: ", b"x"),
    "interim responses that never end": drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a chunk size that never ends": drip(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"0"),
    "half of the body": stop_after(HEAD + b"content-length: 1000\r\n\r\nhalf"),
    "a body that never ends": drip(HEAD + b"\r\n", b"x"),
}


@pytest.mark.parametrize("what", UNFINISHED)
def test_a_response_that_is_never_complete_is_a_failure(run, serve, what):
    server = serve(lambda _: UNFINISHED[what]())
    with pytest.raises(TransportFailure, match=r"no complete response within 0\.3 s") as failure:
        run(settings_for(server.url, read_timeout=PATIENT), requests_to(server.url, max_seconds=0.3))

    assert failure.value.sent


def test_a_body_that_never_ends_is_not_passed_to_a_receiver_forever(run, serve):
    class Receiver:
        def begin(self, headers):
            self.size = 0

        def write(self, chunk):
            self.size += len(chunk)

    receiver = Receiver()
    server = serve(lambda _: UNFINISHED["a body that never ends"]())
    with pytest.raises(TransportFailure, match="no complete response"):
        run(
            settings_for(server.url, read_timeout=PATIENT),
            requests_to(server.url, with_key=False, into=receiver, max_seconds=0.3),
        )

    assert receiver.size > 0


def test_a_reused_connection_is_bounded_like_a_new_one(run, serve):
    server = serve(lambda number: [OK] if number == 1 else UNFINISHED["headers that never end"]())
    with pytest.raises(TransportFailure, match="no complete response"):
        run(settings_for(server.url, read_timeout=PATIENT), requests_to(server.url, 2, max_seconds=0.3))

    assert len(server.seen) == 2


HANDSHAKE_RECORD = b"\x16\x03\x03\x40\x00"
"""The header of a TLS record of 16 KiB."""


@pytest.mark.parametrize("respond", [stop_after(), drip(HANDSHAKE_RECORD, b"\x02")], ids=["hangs", "drips"])
def test_a_tls_handshake_that_is_never_complete_is_a_failure_to_connect(run, serve, respond):
    server = serve(lambda _: respond())
    url = server.url.replace("http:", "https:")
    with pytest.raises(TransportFailure, match="ConnectTimeout") as failure:
        run(settings_for(url, read_timeout=PATIENT), requests_to(url, max_seconds=0.6))

    assert not failure.value.sent


def test_a_proxy_that_never_opens_its_tunnel_is_a_failure(run, serve, monkeypatch):
    proxy = serve(lambda _: UNFINISHED["headers that never end"]())
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    url = "https://api.example.com"
    with pytest.raises(TransportFailure, match=r"through the proxy http://127\.0\.0\.1:[0-9]+ of HTTPS_PROXY"):
        run(settings_for(url, read_timeout=PATIENT), requests_to(url, max_seconds=0.3))


def test_a_request_that_the_server_does_not_read_is_a_failure(run):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        body = {"image": "x" * 30_000_000}
        with pytest.raises(TransportFailure, match="no complete response") as failure:
            run(settings_for(url, read_timeout=PATIENT), requests_to(url, method="POST", json=body, max_seconds=1.0))

    assert failure.value.sent


def test_a_host_that_does_not_accept_connections_is_a_failure_to_connect(run):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:  # the kernel ignores further connections once its queue is full
            each.setblocking(False)
            each.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"
        with pytest.raises(TransportFailure, match="ConnectTimeout") as failure:
            run(settings_for(url), requests_to(url, max_seconds=0.5))
        for each in waiting:
            each.close()

    assert not failure.value.sent


def test_a_name_that_is_never_resolved_is_a_failure_to_connect(run, monkeypatch):
    over = threading.Event()

    def never(*_, **__):
        threading.Timer(0.5, over.set).start()  # so that the end of the loop, which waits for the resolver, comes
        over.wait()
        raise socket.gaierror("the resolver is gone")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    url = "https://api.example.com"
    with pytest.raises(TransportFailure, match="ConnectTimeout") as failure:
        run(settings_for(url), requests_to(url, max_seconds=0.2))

    assert not failure.value.sent


def test_a_silence_longer_than_the_connections_read_timeout_is_allowed_where_a_request_says_so(run, serve):
    server = serve(lambda _: [b""] * 40 + [OK])
    with pytest.raises(TransportFailure, match="ReadTimeout"):
        run(settings_for(server.url, read_timeout=0.2), requests_to(server.url))
    late = requests_to(server.url, read_timeout=20.0)

    assert run(settings_for(server.url, read_timeout=0.2), late).body == b"{}"


@pytest.mark.parametrize(("slot_seconds", "max_seconds"), [(0.1, 60.0), (30.0, 0.4)])
def test_a_request_that_gets_no_free_connection_was_not_sent(serve, monkeypatch, slot_seconds, max_seconds):
    monkeypatch.setattr(drivers, "SLOT_SECONDS", slot_seconds)
    server = serve(lambda _: [])

    async def crowd():
        driver = AsyncDriver(settings_for(server.url, read_timeout=PATIENT))
        holders = {asyncio.ensure_future(driver.run(requests_to(server.url))) for _ in range(MAX_CONNECTIONS)}
        await asyncio.sleep(0)
        try:
            await driver.run(requests_to(server.url, max_seconds=max_seconds))
        finally:
            for each in holders:
                each.cancel()
            await asyncio.wait(holders)
            await driver.close()

    with pytest.raises(TransportFailure, match="no free connection") as failure:
        asyncio.run(crowd())

    assert not failure.value.sent
