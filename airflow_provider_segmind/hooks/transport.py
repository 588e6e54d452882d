"""
Sending one request over HTTP: the clients, what gets the API key, and what a failure says about it.

No other module sends requests to Segmind. There are two HTTP libraries in here:

* **httpx** sends everything that a worker sends, every POST, and every download.
* **aiohttp** sends a triggerer's GETs of the API. A triggerer may hold thousands of waits in one process, and for a GET
  httpx takes several times the CPU time (``docs/performance.md`` has the figures). A worker sends too few requests to
  earn back the import of aiohttp, which takes 0.2 s.

Only GETs go over aiohttp, so no judgement of whether a POST was sent depends on it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from weakref import finalize

import httpx

from airflow_provider_segmind import __version__
from airflow_provider_segmind.api.operation import Request, Response, TransportFailure
from airflow_provider_segmind.api.redaction import redact, redact_httpx_log
from airflow_provider_segmind.hooks.connection import DEFAULT_PORTS, Proxy, SegmindSettings, find_ca_bundle, find_proxy

if TYPE_CHECKING:
    import aiohttp

MAX_CONNECTIONS = 32
"""Simultaneous requests of one client. The drivers queue the others, since the queues of HTTP clients are slow."""

KEEP_ALIVE = 30.0  # seconds for which an unused connection stays open
HEADERS = {"User-Agent": f"airflow-provider-segmind/{__version__}", "Accept-Encoding": "identity"}

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.LocalProtocolError, httpx.ProxyError)
"""Failures that prove that no server received the request. Any other may have happened after it was accepted."""

_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError, ssl.SSLError)

_default_tls_context = cache(httpx.create_ssl_context)
_Origin = tuple[str, str, int]

redact_httpx_log()


def _origin(url: httpx.URL) -> _Origin:
    # The raw host is what is sent: `url.host` decodes punycode, and fails if that is invalid.
    return url.scheme, url.raw_host.decode("ascii"), url.port or DEFAULT_PORTS.get(url.scheme, 0)


class Routing:
    """Which requests of a connection get its key, which proxy each goes through, and which certificates are trusted."""

    def __init__(self, settings: SegmindSettings, *, with_key: bool) -> None:
        own_urls = (settings.base_url, settings.history_url, settings.storage_url) if with_key else ()
        self._own_origins = {_origin(httpx.URL(url)) for url in own_urls}
        self.key = settings.api_key
        self.tls = find_ca_bundle(settings.verify) or _default_tls_context(verify=bool(settings.verify))
        self.find_proxy = cache(find_proxy)  # not httpx's: that fails on IPv6 in NO_PROXY, and knows no ranges

    def key_for(self, origin: _Origin) -> dict[str, str]:
        """Return the header with the key, for the connection's own origins only."""
        return {"x-api-key": self.key} if origin in self._own_origins else {}


class _RoutedTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Adds the key to the requests that may have it, and sends each directly or through a proxy of the environment."""

    def __init__(self, routing: Routing, kind: Callable[..., Any]) -> None:
        self._routing = routing
        self._kind = kind
        self._transports: dict[Proxy | None, Any] = {}

    def _prepare(self, request: httpx.Request) -> Any:  # called for each hop of a redirect, too
        origin = _origin(request.url)
        request.headers.pop("x-api-key", None)
        request.headers.update(self._routing.key_for(origin))
        proxy = self._routing.find_proxy(*origin)
        if proxy not in self._transports:
            tls, via = self._routing.tls, None
            if proxy is not None:
                via = httpx.Proxy(proxy.url, ssl_context=tls if proxy.url.startswith("https:") else None)
            limits = httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE)
            self._transports[proxy] = self._kind(verify=tls, trust_env=False, limits=limits, proxy=via)
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


def _client_options(settings: SegmindSettings, transport: _RoutedTransport) -> dict[str, Any]:
    return {
        "base_url": settings.base_url,
        "transport": transport,
        "trust_env": False,
        "timeout": httpx.Timeout(settings.read_timeout, connect=settings.connect_timeout),
        "headers": HEADERS,
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # kept, they would grow with each response
    }


def open_client(settings: SegmindSettings) -> httpx.Client:
    """Return a client for the API that closes its connections when nobody holds it any more."""
    transport = _RoutedTransport(Routing(settings, with_key=True), httpx.HTTPTransport)
    client = httpx.Client(**_client_options(settings, transport))
    finalize(client, transport.close)
    return client


async def _read(request: Request, status: int, headers: dict[str, str], chunks: AsyncIterator[bytes]) -> Response:
    """Read a body into memory, up to the request's limit, or pass it to the request's receiver."""
    into = request.into if 200 <= status < 300 else None
    body = bytearray()
    if into is not None:
        into.begin(headers)
    async for chunk in chunks:
        if into is not None:
            into.write(chunk)
            continue
        body += chunk
        if len(body) > request.max_bytes:
            truncated = f"larger than {request.max_bytes} bytes"
            return Response(status, headers, bytes(body[: request.max_bytes]), truncated)
    return Response(status, headers, bytes(body))


class HttpxSender:
    """
    Sends requests with httpx.

    :param with_key: for the API; without the key: for files, whose addresses come from responses
    """

    def __init__(self, settings: SegmindSettings, *, with_key: bool) -> None:
        self.routing = Routing(settings, with_key=with_key)
        transport = _RoutedTransport(self.routing, httpx.AsyncHTTPTransport)
        self._client = httpx.AsyncClient(**_client_options(settings, transport))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def send(self, request: Request, connect: float, read: float) -> Response:
        """
        Send a request and read the response.

        :param connect: seconds for connecting
        :param read: seconds of silence after which the request fails
        :raises TransportFailure: no complete response
        """
        try:
            built = self._client.build_request(
                request.method,
                request.url,
                params=request.params,
                json=request.json,
                timeout=httpx.Timeout(read, connect=connect),
            )
        except (httpx.InvalidURL, TypeError, ValueError) as error:
            raise TransportFailure(self.describe(error), sent=False) from None
        try:
            async with aclosing(await self._client.send(built, stream=True)) as response:
                return await _read(request, response.status_code, dict(response.headers), response.aiter_bytes())
        except _FAILURES as error:
            said = f"{self.place(request.url)}: {self.describe(error)}"
            raise TransportFailure(said, sent=not isinstance(error, _NOT_SENT)) from None

    def place(self, url: str) -> str:
        """Return the host that a request goes to, and the proxy, for errors."""
        parts = httpx.URL(url)
        place = f"{parts.scheme}://{parts.netloc.decode('ascii')}"
        proxy = self.routing.find_proxy(*_origin(parts))
        return f"{place} through the proxy {proxy}" if proxy else place

    def describe(self, error: Exception, name: str | None = None) -> str:
        """Return an error in words that do not show the key."""
        said = redact(f"{name or type(error).__name__}: {error}".rstrip(": "), (self.routing.key,), limit=200)
        if "CERTIFICATE_VERIFY_FAILED" in said:
            said += ". Name a private CA's bundle in the connection's 'verify', SSL_CERT_FILE or REQUESTS_CA_BUNDLE."
        return said


def load_aiohttp() -> None:
    """Import aiohttp, which takes about 0.2 s."""
    import aiohttp  # noqa: F401


class TriggererSender(HttpxSender):
    """Sends requests with the key: GETs with aiohttp, and everything else with httpx. Belongs to one event loop."""

    def __init__(self, settings: SegmindSettings) -> None:
        super().__init__(settings, with_key=True)
        self._session: aiohttp.ClientSession | None = None
        self._routes: dict[str, tuple[_Origin, str | None]] = {}

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
        await super().close()

    async def send(self, request: Request, connect: float, read: float) -> Response:
        """Send a request and read the response, like :meth:`HttpxSender.send`."""
        if request.method != "GET" or request.json is not None:
            return await super().send(request, connect, read)
        import aiohttp
        from yarl import URL

        origin, proxy = self._route(request.url)
        if proxy is not None and not proxy.startswith("http"):
            return await super().send(request, connect, read)  # SOCKS
        if self._session is None:
            self._session = self._open_session()
        query = f"?{urlencode(request.params)}" if request.params else ""
        try:
            async with self._session.get(
                URL(request.url + query, encoded=True),
                headers=self.routing.key_for(origin),
                proxy=proxy,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=connect, sock_read=read),
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return await _read(request, response.status, headers, response.content.iter_any())
        except (aiohttp.ClientError, ssl.SSLError, UnicodeError, ValueError) as error:
            name = _name_as_in_httpx(error)
            said = f"{self.place(request.url)}: {self.describe(error, name)}"
            raise TransportFailure(said, sent=name not in ("ConnectError", "ConnectTimeout", "ProxyError")) from None

    def _route(self, url: str) -> tuple[_Origin, str | None]:
        """Return the origin of a URL, and the URL of the proxy to it; computed once for each host."""
        start = "/".join(url.split("/", 3)[:3])
        if start not in self._routes:
            origin = _origin(httpx.URL(start))
            proxy = self.routing.find_proxy(*origin)
            self._routes[start] = origin, proxy.url if proxy else None
        return self._routes[start]

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE, ssl=self.routing.tls)
        return aiohttp.ClientSession(connector=connector, headers=HEADERS, cookie_jar=aiohttp.DummyCookieJar())


def _name_as_in_httpx(error: Exception) -> str:
    """Return the name that httpx has for a failure, so that errors read the same on a worker and on a triggerer."""
    import aiohttp

    names: dict[type[Exception], str] = {
        aiohttp.ClientProxyConnectionError: "ProxyError",
        aiohttp.ClientHttpProxyError: "ProxyError",
        aiohttp.ConnectionTimeoutError: "ConnectTimeout",
        aiohttp.ClientConnectorError: "ConnectError",
        aiohttp.SocketTimeoutError: "ReadTimeout",
        aiohttp.ServerDisconnectedError: "RemoteProtocolError",
        aiohttp.ClientResponseError: "RemoteProtocolError",
        aiohttp.ClientPayloadError: "RemoteProtocolError",
        aiohttp.ClientOSError: "ReadError",
    }
    return next((name for kind, name in names.items() if isinstance(error, kind)), type(error).__name__)
