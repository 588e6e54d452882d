"""
How operations are run over HTTP: the clients, an asynchronous and a synchronous driver, and what a process shares.

A driver owns two clients: the one for the API adds the key to requests to the connection's own origins, the one for
files never has it. No other module sends requests to Segmind.

``Request.max_seconds`` bounds the whole exchange. The timeouts of httpx cannot: they bound the silence between two
pieces of a response, so a server that sends a byte now and then could hold a request forever. An event loop can cancel
an exchange at any point, but nothing can interrupt a blocking socket. So the synchronous driver sends its requests on
an event loop too, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import aclosing, asynccontextmanager, suppress
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, finalize

import httpx

from airflow_provider_segmind import __version__
from airflow_provider_segmind.api.operation import (
    ApiContext,
    Operation,
    Request,
    Response,
    Step,
    TransportFailure,
    account_fingerprint,
)
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.api.redaction import redact, redact_httpx_log
from airflow_provider_segmind.hooks.connection import DEFAULT_PORTS, Proxy, SegmindSettings, find_ca_bundle, find_proxy

T = TypeVar("T")
_Outcome = Response | TransportFailure | None

MAX_CONNECTIONS = 8
"""Simultaneous requests of one client. More wait in our own queue: the time of httpx's pool is quadratic in them."""

SLOT_SECONDS = 30.0
"""Seconds that a request may wait for a free connection, but never more than half of its time: a POST that is sent at
the last moment would end as a submit with an unknown outcome."""

LARGE_BODY = 256 * 1024
"""Bytes. An operation reads a larger body in a thread, because parsing 10 MB of JSON would block the event loop."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.LocalProtocolError, httpx.ProxyError)
"""Failures that prove that no server received the request. Any other may have happened after it was accepted."""

_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError, ssl.SSLError, TimeoutError)

_default_tls_context = cache(httpx.create_ssl_context)

redact_httpx_log()


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    # The raw host is what is sent: `url.host` decodes punycode, and fails if that is invalid.
    return url.scheme, url.raw_host.decode("ascii"), url.port or DEFAULT_PORTS.get(url.scheme, 0)


class _Routes(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Adds the key to the requests that may have it, and sends each directly or through a proxy of the environment."""

    def __init__(self, settings: SegmindSettings, kind: Callable[..., Any], *, with_key: bool) -> None:
        own_urls = (settings.base_url, settings.history_url, settings.storage_url) if with_key else ()
        self._key = settings.api_key
        self._key_origins = {_origin(httpx.URL(url)) for url in own_urls}
        self._tls = find_ca_bundle(settings.verify) or _default_tls_context(verify=bool(settings.verify))
        self._kind = kind
        self._transports: dict[Proxy | None, Any] = {}
        self.find_proxy = cache(find_proxy)  # not httpx's: that fails on IPv6 in NO_PROXY, and knows no ranges

    def _prepare(self, request: httpx.Request) -> Any:  # called for each hop of a redirect, too
        origin = _origin(request.url)
        request.headers.pop("x-api-key", None)
        if origin in self._key_origins:
            request.headers["x-api-key"] = self._key
        proxy = self.find_proxy(*origin)
        if proxy not in self._transports:
            via = None
            if proxy is not None:
                via = httpx.Proxy(proxy.url, ssl_context=self._tls if proxy.url.startswith("https:") else None)
            limits = httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=30.0)
            self._transports[proxy] = self._kind(verify=self._tls, trust_env=False, limits=limits, proxy=via)
        return self._transports[proxy]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._prepare(request).handle_request(request)  # type: ignore[no-any-return]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._prepare(request).handle_async_request(request)  # type: ignore[no-any-return]

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


def _client_options(settings: SegmindSettings, routes: _Routes) -> dict[str, Any]:
    return {
        "base_url": settings.base_url,
        "transport": routes,
        "trust_env": False,
        "timeout": httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout),
        "headers": {"User-Agent": f"airflow-provider-segmind/{__version__}", "Accept-Encoding": "identity"},
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # kept, they would grow with each response
    }


def open_client(settings: SegmindSettings) -> httpx.Client:
    """Return a client for the API that closes its connections when nobody holds it any more."""
    routes = _Routes(settings, httpx.HTTPTransport, with_key=True)
    client = httpx.Client(**_client_options(settings, routes))
    finalize(client, routes.close)
    return client


async def _read(request: Request, response: httpx.Response) -> Response:
    """Read a body into memory, up to the request's limit, or pass it to the request's receiver."""
    headers = dict(response.headers)
    into = request.into if response.is_success else None
    body = bytearray()
    if into is not None:
        into.begin(headers)
    async for chunk in response.aiter_bytes():
        if into is not None:
            into.write(chunk)
            continue
        body += chunk
        if len(body) > request.max_bytes:
            truncated = f"larger than {request.max_bytes} bytes"
            return Response(response.status_code, headers, bytes(body[: request.max_bytes]), truncated)
    return Response(response.status_code, headers, bytes(body))


def _advance(operation: Operation[T], outcome: _Outcome) -> tuple[Step | None, T | None]:
    """Return an operation's next step, or ``None`` and its value: ``StopIteration`` cannot leave a thread's future."""
    try:
        if isinstance(outcome, TransportFailure):
            return operation.throw(outcome), None
        return operation.send(outcome), None
    except StopIteration as stop:
        return None, stop.value


class AsyncDriver:
    """Runs operations on an event loop; one driver serves all jobs of a connection there."""

    def __init__(self, settings: SegmindSettings) -> None:
        self._settings = settings
        self.users = 0
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._routes = _Routes(settings, httpx.AsyncHTTPTransport, with_key=True)
        keyless = _Routes(settings, httpx.AsyncHTTPTransport, with_key=False)
        self._client = httpx.AsyncClient(**_client_options(settings, self._routes))
        self._files = httpx.AsyncClient(**_client_options(settings, keyless))

    async def close(self) -> None:
        """Close the clients."""
        await self._client.aclose()
        await self._files.aclose()

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its value."""
        outcome: _Outcome = None
        try:
            while True:
                if isinstance(outcome, Response) and len(outcome.body) > LARGE_BODY:
                    step, value = await asyncio.to_thread(_advance, operation, outcome)
                else:
                    step, value = _advance(operation, outcome)
                if step is None:
                    return value  # type: ignore[return-value]
                outcome = await self.perform(step)
        finally:
            with suppress(ValueError):  # cancelled while a thread runs it; the operation ends with that thread
                operation.close()

    async def perform(self, step: Step) -> _Outcome:
        """Make a pause, or send a request; that takes at most its ``max_seconds``."""
        if isinstance(step, Request):
            return await self._send(step)
        await asyncio.sleep(step.seconds)
        return None

    async def _send(self, request: Request) -> Response | TransportFailure:
        client = self._client if request.with_key else self._files
        # Connecting may take half of the time, so that a failure to connect ends as what it is: nothing was sent.
        connect = min(self._settings.connect_timeout, request.max_seconds / 2)
        timeout = httpx.Timeout(request.read_timeout or self._settings.read_timeout, connect=connect)
        try:
            built = client.build_request(
                request.method, request.url, params=request.params, json=request.json, timeout=timeout
            )
        except (httpx.InvalidURL, TypeError, ValueError) as error:
            return TransportFailure(self._describe(error), sent=False)
        ends = asyncio.get_running_loop().time() + request.max_seconds
        wait = min(SLOT_SECONDS, request.max_seconds / 2)
        try:
            async with asyncio.timeout(wait):
                await self._slots.acquire()
        except TimeoutError:
            return TransportFailure(f"no free connection within {wait:g} s", sent=False)
        try:
            async with asyncio.timeout_at(ends):
                async with aclosing(await client.send(built, stream=True)) as response:
                    return await _read(request, response)
        except _FAILURES as error:
            late = type(error) is TimeoutError  # of asyncio.timeout: httpx has classes of its own
            said = f"no complete response within {request.max_seconds:g} s" if late else self._describe(error)
            place = f"{built.url.scheme}://{built.url.netloc.decode('ascii')}"
            if proxy := self._routes.find_proxy(*_origin(built.url)):
                place += f" through the proxy {proxy}"
            return TransportFailure(f"{place}: {said}", sent=not isinstance(error, _NOT_SENT))
        finally:
            self._slots.release()

    def _describe(self, error: Exception) -> str:
        said = redact(f"{type(error).__name__}: {error}".rstrip(": "), (self._settings.api_key,), limit=200)
        if "CERTIFICATE_VERIFY_FAILED" in said:
            said += ". Name a private CA's bundle in the connection's 'verify', SSL_CERT_FILE or REQUESTS_CA_BUNDLE."
        return said


class SyncDriver:
    """
    Runs operations in the calling thread, and performs their steps on an event loop in a thread of its own.

    Several threads can use it at once. Its thread ends when it is closed, or when nobody holds it any more.
    """

    def __init__(self, settings: SegmindSettings) -> None:
        self._settings = settings
        self._start()

    def _start(self) -> None:
        driver = AsyncDriver(self._settings)
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:  # does not hold this object, so that it can become garbage and end the thread
            stopped = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stopped))
            await stopped.wait()
            await driver.close()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="segmind-http", daemon=True)
        self._thread.start()
        self._loop, stopped = started.result()
        self._driver = driver
        self._process = os.getpid()
        self._stop = finalize(self, self._loop.call_soon_threadsafe, stopped.set)

    def close(self) -> None:
        """Close the connections and end the thread."""
        self._stop()
        self._thread.join(timeout=5.0)  # not longer: a resolver that hangs keeps the loop from ending

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end and return its value."""
        if self._process != os.getpid():  # a fork does not take the thread along
            # Both processes have the same epoll object: to close the parent's loop here would stop it there.
            _inherited.append(self._loop)
            self._stop.detach()
            self._start()
        outcome: _Outcome = None
        try:
            while True:
                step, value = _advance(operation, outcome)
                if step is None:
                    return value  # type: ignore[return-value]
                performing = asyncio.run_coroutine_threadsafe(self._driver.perform(step), self._loop)
                try:
                    outcome = performing.result()
                finally:  # a signal can raise Airflow's execution timeout while this thread waits
                    performing.cancel()
        finally:
            operation.close()


_inherited: list[asyncio.AbstractEventLoop] = []
_lock = threading.Lock()
_contexts: dict[SegmindSettings, ApiContext] = {}
_drivers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[SegmindSettings, AsyncDriver]] = WeakKeyDictionary()


def context_for(settings: SegmindSettings) -> ApiContext:
    """Return the context of a connection: the same object, and so the same limiter, everywhere in this process."""
    with _lock:
        return _contexts.setdefault(
            settings,
            ApiContext(
                base_url=settings.base_url,
                history_url=settings.history_url,
                storage_url=settings.storage_url,
                output_hosts=settings.output_hosts,
                max_result_bytes=int(settings.max_result_mb * 1024**2),
                limiter=RateLimiter(settings.requests_per_minute),
                secrets=(settings.api_key,),
                account=account_fingerprint(settings.base_url, settings.api_key),
            ),
        )


@asynccontextmanager
async def driver_for(settings: SegmindSettings) -> AsyncIterator[AsyncDriver]:
    """Lend the running loop's driver for a connection: the first user opens it, the last one closes it."""
    drivers = _drivers.setdefault(asyncio.get_running_loop(), {})
    driver = drivers.get(settings) or AsyncDriver(settings)
    drivers[settings] = driver
    driver.users += 1
    try:
        yield driver
    finally:
        driver.users -= 1
        if driver.users == 0:
            del drivers[settings]
            await driver.close()
