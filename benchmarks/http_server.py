"""
As much of an HTTP/1.1 server as the benchmarks' services need: fast, on one event loop, for clients on this machine.

A request is read completely before it is answered, and a connection stays open until its client closes it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

REASONS = {200: b"OK", 404: b"Not Found", 412: b"Precondition Failed", 429: b"Too Many Requests"}


@dataclass(slots=True)
class HttpRequest:
    """One request; the names of its headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class HttpResponse:
    """One response. ``length`` stands for the body's where a HEAD tells of a body that is not sent."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None

    @classmethod
    def of_json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
        """Return a response with a value as JSON."""
        return cls(status, json.dumps(value).encode(), headers=headers or {})


class HttpConnection(asyncio.Protocol):
    """One connection. A subclass answers the requests."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._received, self._continued = transport, bytearray(), False

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            first, *lines = bytes(self._received[:end]).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            complete = end + 4 + int(headers.get("content-length", 0))
            if len(self._received) < complete:
                if headers.get("expect") == "100-continue" and not self._continued:
                    self._continued = True
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body = bytes(memoryview(self._received)[end + 4 : complete])
            del self._received[:complete]
            self._continued = False
            method, target, _ = first.split(" ", 2)
            path, _, query = target.partition("?")
            parameters = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
            self._send(method, self.answer(HttpRequest(method, unquote(path), parameters, headers, body)))

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request."""
        raise NotImplementedError

    def _send(self, method: str, response: HttpResponse) -> None:
        length = len(response.body) if response.length is None else response.length
        head = [
            b"HTTP/1.1 %d %s" % (response.status, REASONS.get(response.status, b"-")),
            b"content-type: " + response.content_type.encode(),
            b"content-length: %d" % length,
            *(f"{name}: {value}".encode("latin-1") for name, value in response.headers.items()),
        ]
        self._transport.write(b"\r\n".join(head) + b"\r\n\r\n")
        if method != "HEAD" and response.body:
            self._transport.write(response.body)
