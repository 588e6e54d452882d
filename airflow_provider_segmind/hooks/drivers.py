"""
The two drivers: a flow's requests over httpx, its pauses on a clock; synchronous and asynchronous.

Everything that differs between the two worlds is in this file, and only that. The API client adds the key by itself,
and only for the connection's own origins; the client for result files has none.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import httpx

from airflow_provider_segmind import __version__
from airflow_provider_segmind.api.flow import Answer, Flow, Pause, Send, TransportFailure
from airflow_provider_segmind.hooks.settings import SegmindSettings

T = TypeVar("T")

MAX_CONNECTIONS = 8
"""Requests of one client at a time. More wait in our own queue: httpx's pool takes time quadratic in its waiters."""

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.InvalidURL,
    httpx.LocalProtocolError,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""Failures that prove that no server got the request. Any other may have come after it was accepted."""

_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError, ssl.SSLError, TimeoutError)


class _WithoutQueries(logging.Filter):
    """Keeps signed queries out of the line that httpx logs for each request."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(arg.copy_with(query=None) if isinstance(arg, httpx.URL) else arg for arg in record.args)
        return True


logging.getLogger("httpx").addFilter(_WithoutQueries())


@cache
def _tls(verify: bool | str) -> ssl.SSLContext:
    """Build a TLS context once: it costs 20 ms, more than anything else about a client."""
    if isinstance(verify, str):
        return ssl.create_default_context(cafile=verify)
    return httpx.create_ssl_context(verify=verify)


def _key_to_own_origins(settings: SegmindSettings) -> Callable[[httpx.Request], None]:
    """
    Return the hook by which a request gets its key: at the last moment, by where it really goes.

    It runs for each hop of a redirect too, should somebody follow one with this client.
    """
    origins = settings.key_origins

    def attach(request: httpx.Request) -> None:
        url = request.url
        request.headers.pop("x-api-key", None)
        if (url.scheme, url.host.lower(), url.port or (443 if url.scheme == "https" else 80)) in origins:
            request.headers["x-api-key"] = settings.api_key

    return attach


def _options(settings: SegmindSettings) -> dict[str, Any]:
    return {
        "verify": _tls(settings.verify),
        "timeout": httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout),
        "headers": {"User-Agent": f"airflow-provider-segmind/{__version__}", "Accept-Encoding": "identity"},
        "limits": httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=30.0),
        "follow_redirects": False,
    }


def _request(client: httpx.Client | httpx.AsyncClient, step: Send) -> httpx.Request:
    return client.build_request(step.method, step.url, params=step.params, json=step.json)


def _failure(error: Exception) -> TransportFailure:
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return TransportFailure(said, sent=not isinstance(error, _NEVER_SENT))


class _Body:
    """Takes an answer's body, in memory up to a size and a time, or into the step's receiver."""

    def __init__(self, step: Send, response: httpx.Response) -> None:
        self._headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        self._status = response.status_code
        self._into = step.into if 200 <= self._status < 300 else None
        self._limit = step.max_bytes
        self._until = time.monotonic() + step.max_seconds
        self._buffer = bytearray()
        self.cut: str | None = None
        if self._into is not None:
            self._into.begin(self._headers)

    def take(self, chunk: bytes) -> bool:
        """Take a piece; ``False``: no more is wanted."""
        if self._into is not None:
            self._into.write(chunk)
        else:
            self._buffer += chunk[: self._limit - len(self._buffer) + 1]
            if len(self._buffer) > self._limit:
                self.cut = f"larger than {self._limit} bytes"
        if time.monotonic() > self._until:
            self.cut = "it took too long to come"
        return self.cut is None

    def answer(self) -> Answer:
        return Answer(self._status, self._headers, bytes(self._buffer[: self._limit]), self.cut)


class SyncDriver:
    """Runs flows in a worker: one client, one thread."""

    def __init__(self, settings: SegmindSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        options = _options(settings)
        self.client = httpx.Client(
            base_url=settings.base_url, event_hooks={"request": [_key_to_own_origins(settings)]}, **options
        )
        self._files = httpx.Client(**options)
        self._sleep = sleep

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._files.close()

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its value."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    self._sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    answer = self._send(step)
                except TransportFailure as failure:
                    step = flow.throw(failure)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            flow.close()

    def _send(self, step: Send) -> Answer:
        client = self.client if step.with_key else self._files
        try:
            response = client.send(_request(client, step), stream=True)
            try:
                body = _Body(step, response)
                for chunk in response.iter_bytes():
                    if not body.take(chunk):
                        break
            finally:
                response.close()
        except _FAILURES as error:
            raise _failure(error) from error
        return body.answer()


class AsyncDriver:
    """Runs flows on an event loop: one client for all jobs of a connection there."""

    def __init__(self, settings: SegmindSettings, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        options = _options(settings)
        attach = _key_to_own_origins(settings)

        async def attach_key(request: httpx.Request) -> None:
            attach(request)

        self.client = httpx.AsyncClient(base_url=settings.base_url, event_hooks={"request": [attach_key]}, **options)
        self._files = httpx.AsyncClient(**options)
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._grace = settings.connect_timeout + settings.read_timeout
        self._sleep = sleep

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        await self._files.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end and return its value."""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    await self._sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    answer = await self._send(step)
                except TransportFailure as failure:
                    step = flow.throw(failure)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            flow.close()

    async def _send(self, step: Send) -> Answer:
        client = self.client if step.with_key else self._files
        try:
            # Besides httpx's timeouts between two pieces, one for it all: a server that trickles gets no slot for ever.
            async with self._slots, asyncio.timeout(step.max_seconds + self._grace):
                response = await client.send(_request(client, step), stream=True)
                try:
                    body = _Body(step, response)
                    async for chunk in response.aiter_bytes():
                        if not body.take(chunk):
                            break
                finally:
                    await response.aclose()
        except _FAILURES as error:
            raise _failure(error) from error
        return body.answer()
