"""
One exchange over httpx, as both drivers make it: the client's options, the request, the body, the failure.

The API client adds the key by itself, and only for the connection's own origins; the client for result files has none.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import httpx

from airflow_provider_segmind import __version__
from airflow_provider_segmind.api.operation import (
    ApiContext,
    Operation,
    Pause,
    Request,
    Response,
    Step,
    TransportFailure,
)
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.redaction import redact, redact_httpx_log
from airflow_provider_segmind.api.schedule import LatencyMemory
from airflow_provider_segmind.hooks.connection import SegmindSettings, tls_context

Client = TypeVar("Client", httpx.Client, httpx.AsyncClient)

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

FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError, ssl.SSLError, TimeoutError)


redact_httpx_log()


def key_to_own_origins(settings: SegmindSettings) -> Callable[[httpx.Request], None]:
    """
    Return the hook by which a request gets its key: at the last moment, by where it really goes.

    It runs for each hop of a redirect too, should somebody follow one with this client.
    """
    origins = settings.key_origins

    def attach(request: httpx.Request) -> None:
        url = request.url
        host = url.raw_host.decode("ascii")  # as it is sent: `url.host` has punycode decoded
        request.headers.pop("x-api-key", None)
        if (url.scheme, host, url.port or (443 if url.scheme == "https" else 80)) in origins:
            request.headers["x-api-key"] = settings.api_key

    return attach


def client_options(settings: SegmindSettings) -> dict[str, Any]:
    """Return how either of a driver's clients is made."""
    return {
        "verify": tls_context(settings.verify),
        "timeout": httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout),
        "headers": {"User-Agent": f"airflow-provider-segmind/{__version__}", "Accept-Encoding": "identity"},
        "limits": httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=30.0),
        "follow_redirects": False,
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # kept, they would grow each request's headers
    }


class Driver(Generic[Client]):
    """What the drivers share: one client that has the key, one for files that has none, and what they send."""

    client: Client
    _files: Client

    def __init__(self, settings: SegmindSettings, client: Client, files: Client) -> None:
        self.client = client
        self._files = files
        self._settings = settings

    def request(self, step: Request) -> tuple[Client, httpx.Request, float]:
        """Return who sends a step, the request, and the seconds that all of it may take."""
        client = self.client if step.with_key else self._files
        settings = self._settings
        silence = step.read_timeout or settings.read_timeout
        timeout = httpx.Timeout(silence, connect=settings.connect_timeout)
        try:
            request = client.build_request(step.method, step.url, params=step.params, json=step.json, timeout=timeout)
        except (httpx.InvalidURL, TypeError, ValueError) as error:
            raise self.failure(error, sent=False) from None
        return client, request, step.max_seconds + settings.connect_timeout + silence

    def failure(self, error: Exception, *, sent: bool | None = None) -> TransportFailure:
        """
        Return a failure, to be raised ``from None``.

        The error's own text may hold an answer's first line as it came, and the key in it.
        """
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return TransportFailure(
            redact(said, (self._settings.api_key,)), sent=not isinstance(error, _NEVER_SENT) if sent is None else sent
        )


class Body:
    """Takes an answer's body, in memory up to a size and a time, or into the step's receiver."""

    def __init__(self, step: Request, response: httpx.Response) -> None:
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

    def answer(self) -> Response:
        """Return what came, as a flow takes it."""
        return Response(self._status, self._headers, bytes(self._buffer[: self._limit]), self.cut)


T = TypeVar("T")

SLOT_SECONDS = 30.0
"""So long a request waits for one of the connections: behind a server that swallows all, a thousand would for hours."""

LARGE_ANSWER = 256 * 1024
"""The event loop does not wait while a flow reads a body larger than this: 10 MB of JSON can take seconds."""


class SyncDriver(Driver[httpx.Client]):
    """Runs flows in a worker: one client, one thread."""

    def __init__(self, settings: SegmindSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        options = client_options(settings)
        attach = {"request": [key_to_own_origins(settings)]}
        api = httpx.Client(base_url=settings.base_url, event_hooks=attach, **options)
        super().__init__(settings, api, httpx.Client(**options))
        self._sleep = sleep
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._files.close()

    def run(self, operation: Operation[T]) -> T:
        """Run a flow to its end and return its value."""
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    self._sleep(step.seconds)
                    step = operation.send(None)
                    continue
                try:
                    answer = self._send(step)
                except TransportFailure as failure:
                    step = operation.throw(failure)
                else:
                    step = operation.send(answer)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            operation.close()

    def _send(self, step: Request) -> Response:
        client, request, seconds = self.request(step)
        request.extensions["trace"] = self._note_socket
        try:
            with self._at_most(seconds):
                response = client.send(request, stream=True)
                try:
                    body = Body(step, response)
                    for chunk in response.iter_bytes():
                        if not body.take(chunk):
                            break
                finally:
                    response.close()
        except FAILURES as error:
            raise self.failure(error) from None
        return body.answer()

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._sockets.add(info["return_value"].get_extra_info("socket"))

    @contextmanager
    def _at_most(self, seconds: float) -> Iterator[None]:
        """
        End an exchange that takes too long in all, as httpx's timeouts between two pieces never end a trickle.

        Nothing but its sockets can wake a blocked thread. They outlive an exchange in the client's pool, so all of
        them are shut; but for this exchange they are idle.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            for each in list(self._sockets):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except FAILURES:
            if not late.is_set():
                raise
        finally:
            timer.cancel()
            timer.join()  # it may just be at it: the next exchange's sockets are none of its business
        if late.is_set():  # also where the end of a shut connection has passed for that of a body
            raise TimeoutError(f"no whole answer within {seconds:g} s")


@dataclass(frozen=True, slots=True)
class _Return:
    """What a flow returned: a future cannot carry a ``StopIteration`` out of a thread."""

    value: Any


def _resume(operation: Operation[Any], answer: Response) -> Step | _Return:
    try:
        return operation.send(answer)
    except StopIteration as stop:
        return _Return(stop.value)


class AsyncDriver(Driver[httpx.AsyncClient]):
    """Runs flows on an event loop: one client for all jobs of a connection there."""

    def __init__(self, settings: SegmindSettings, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        options = client_options(settings)
        attach = key_to_own_origins(settings)

        async def attach_key(request: httpx.Request) -> None:
            attach(request)

        api = httpx.AsyncClient(base_url=settings.base_url, event_hooks={"request": [attach_key]}, **options)
        super().__init__(settings, api, httpx.AsyncClient(**options))
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._sleep = sleep

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        await self._files.aclose()

    async def run(self, operation: Operation[T]) -> T:
        """Run a flow to its end and return its value."""
        step: Step | _Return
        try:
            step = next(operation)
            while not isinstance(step, _Return):
                if isinstance(step, Pause):
                    await self._sleep(step.seconds)
                    step = operation.send(None)
                    continue
                try:
                    answer = await self._send(step)
                except TransportFailure as failure:
                    step = operation.throw(failure)
                else:
                    if len(answer.body) <= LARGE_ANSWER:
                        step = operation.send(answer)
                    else:
                        step = await asyncio.to_thread(_resume, operation, answer)
        except StopIteration as stop:
            step = _Return(stop.value)
        finally:
            with suppress(ValueError):  # cancelled while a thread runs it: it ends once nobody holds it any more
                operation.close()
        value: T = step.value
        return value

    async def _send(self, step: Request) -> Response:
        client, request, seconds = self.request(step)
        try:
            async with asyncio.timeout(SLOT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise TransportFailure(f"no free connection within {SLOT_SECONDS:g} s", sent=False) from None
        try:
            # Besides httpx's timeouts between two pieces, one for it all: a server that trickles gets no slot for ever.
            async with asyncio.timeout(seconds):
                response = await client.send(request, stream=True)
                try:
                    body = Body(step, response)
                    async for chunk in response.aiter_bytes():
                        if not body.take(chunk):
                            break
                finally:
                    await response.aclose()
        except FAILURES as error:
            raise self.failure(error) from None
        finally:
            self._slots.release()
        return body.answer()


_lock = threading.Lock()
_services: dict[SegmindSettings, ApiContext] = {}
_drivers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[SegmindSettings, tuple[AsyncDriver, int]]] = (
    WeakKeyDictionary()
)


def context_for(settings: SegmindSettings) -> ApiContext:
    """Return the connection's service, the same for the same settings in all of this process."""
    with _lock:
        return _services.setdefault(
            settings,
            ApiContext(
                base_url=settings.base_url,
                history_url=settings.history_url,
                storage_url=settings.storage_url,
                output_hosts=settings.output_hosts,
                max_result_bytes=int(settings.max_result_mb * 1024**2),
                limiter=RateLimiter(settings.requests_per_minute),
                latencies=LatencyMemory(),
                secrets=(settings.api_key,),
            ),
        )


@asynccontextmanager
async def driver_for(settings: SegmindSettings) -> AsyncIterator[AsyncDriver]:
    """Lend the running loop's driver for a connection: made for the first who asks, closed by the last who leaves."""
    drivers = _drivers.setdefault(asyncio.get_running_loop(), {})
    driver, users = drivers.get(settings) or (AsyncDriver(settings), 0)
    drivers[settings] = (driver, users + 1)
    try:
        yield driver
    finally:
        driver, users = drivers.pop(settings)
        if users > 1:
            drivers[settings] = (driver, users - 1)
        else:
            await driver.close()
