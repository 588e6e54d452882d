"""
One exchange over httpx, as both drivers make it: the client's options, the request, the body, the failure.

The API client adds the key by itself, and only for the connection's own origins; the client for result files has none.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Generic, TypeVar

import httpx

from airflow_provider_segmind import __version__
from airflow_provider_segmind.api.flow import Answer, Send, TransportFailure
from airflow_provider_segmind.api.redaction import clean, quiet_httpx
from airflow_provider_segmind.hooks.settings import SegmindSettings, tls_context

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


quiet_httpx()


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

    def request(self, step: Send) -> tuple[Client, httpx.Request, float]:
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
            clean(said, (self._settings.api_key,)), sent=not isinstance(error, _NEVER_SENT) if sent is None else sent
        )


class Body:
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
        """Return what came, as a flow takes it."""
        return Answer(self._status, self._headers, bytes(self._buffer[: self._limit]), self.cut)
