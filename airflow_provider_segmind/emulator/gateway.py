"""What every request passes before its endpoint: the request log, the faults, the key check and the rate limit."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_segmind.emulator.fault_effects import EFFECTS
from airflow_provider_segmind.emulator.faults import Faults
from airflow_provider_segmind.emulator.http_messages import (
    REQUEST_KINDS,
    ConnectionCut,
    EmulatorRequest,
    EmulatorResponse,
    Proceed,
)
from airflow_provider_segmind.emulator.jobs import Job, JobStore, image_identity, matchable_text
from airflow_provider_segmind.emulator.rate_limit import LIMITED_KINDS, RateLimit, iso_utc
from airflow_provider_segmind.emulator.request_log import RequestEntry, RequestLog
from airflow_provider_segmind.emulator.settings import Settings

PUBLIC_KINDS = ("file", "asset")
MAX_BODY = 200_000_000

Cut = Callable[[Any, bool], None]


class Gateway:
    """
    The ASGI application in front of the endpoints.

    :param app: the application with the endpoints
    :param routes: its routes; each route's name is its kind of request
    :param settings: the emulator's options
    :param store: all jobs
    :param faults: the fault switches
    :param requests: the request log
    :param cut: closes a client's connection, immediately (``True``) or after what was written has been sent
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[BaseRoute],
        settings: Settings,
        store: JobStore,
        faults: Faults,
        requests: RequestLog,
        cut: Cut,
    ) -> None:
        self._app = app
        self._routes = routes
        self._settings = settings
        self._store = store
        self._faults = faults
        self._requests = requests
        self._cut = cut
        self._limit = RateLimit(settings.requests_per_minute, settings.rate_window)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"].startswith("/emulator"):
            await self._app(scope, receive, send)
            return
        kind, parameters = self._classify(scope)
        headers = Request(scope).headers
        entry = RequestEntry(
            kind=kind,
            method=scope["method"],
            path=scope["path"],
            time=time.time(),
            has_key="x-api-key" in headers,
            has_authorization="authorization" in headers,
            user_agent=headers.get("user-agent", ""),
        )
        self._requests.add(entry)
        send = self._logging(entry, send)
        try:
            raw = await _read(receive) if scope["method"] == "POST" else b""
        except ConnectionCut:
            return
        if raw is None:
            await JSONResponse({"error": "Payload too large"}, 413)(scope, receive, send)
            return
        request = self._request(kind, parameters, raw, receive)
        scope["emulator.request"] = request
        faults = self._faults.striking(request)
        if not faults:
            await self._checked(scope, _replay(raw, receive), send)
            return
        entry.faults = [fault.name for fault in faults]
        proceed: Proceed = functools.partial(self._captured, scope, _replay(raw, receive))
        for fault in reversed(faults):
            proceed = functools.partial(EFFECTS[fault.name].run, request, proceed, **fault.options)
        try:
            response = await proceed()
        except ConnectionCut:
            self._cut(scope["client"], True)
            await _until_disconnected(receive)
        else:
            if request.job is not None:  # a fault may have expired its record or its files
                self._store.save(request.job)
            await self._deliver(response, scope, receive, send)

    def _classify(self, scope: Scope) -> tuple[str, Mapping[str, Any]]:
        for route in self._routes:
            match, child = route.matches(scope)
            if match is Match.FULL and isinstance(route, Route) and route.name in REQUEST_KINDS:
                return route.name, child["path_params"]
        return "unknown", {}

    def _request(self, kind: str, parameters: Mapping[str, Any], raw: bytes, receive: Receive) -> EmulatorRequest:
        job: Job | None = None
        if kind == "file":
            job = self._store.of_file(parameters["name"])
        elif "request_id" in parameters:
            job = self._store.get(parameters["request_id"])
        try:
            payload = json.loads(raw) if raw else None
        except (ValueError, RecursionError):
            payload = None
        image, source = (job.image, job.source) if job is not None else ("", "")
        if kind in ("submit", "sync") and isinstance(payload, dict):
            image, source = image_identity(payload), matchable_text(payload)
        return EmulatorRequest(
            kind=kind,
            model=parameters.get("model", job.model if job is not None else None),
            job=job,
            raw=raw,
            payload=payload,
            image=image,
            source=source,
            files=self._store.files,
            disconnected=functools.partial(_until_disconnected, receive),
        )

    def _logging(self, entry: RequestEntry, send: Send) -> Send:
        """Record the response's status in the request log."""

        async def logging(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.answered(entry, message["status"])
            await send(message)

        return logging

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to its endpoint if the key and the rate limit allow it."""
        kind = scope["emulator.request"].kind
        error = None if kind in PUBLIC_KINDS else self._check_key(Request(scope).headers)
        if error is None and kind in LIMITED_KINDS and (reset := self._limit.reset_if_exceeded()) is not None:
            error = JSONResponse({"error": "Rate limit exceeded"}, 429, {"x-rate-limit-reset-at-utc": iso_utc(reset)})
        await (self._app if error is None else error)(scope, receive, send)

    def _check_key(self, headers: Mapping[str, str]) -> Response | None:
        key = headers.get("x-api-key", "")
        if not key:
            return _unauthorized("missing_api_key", "An API key is required in the header x-api-key")
        if self._settings.key is not None and key != self._settings.key:
            return _unauthorized("invalid_api_key", "The API key is not valid")
        return None

    async def _captured(self, scope: Scope, receive: Receive) -> EmulatorResponse:
        """Let the endpoint handle the request, and return its response instead of sending it."""
        response, body = EmulatorResponse(500), bytearray()

        async def capture(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.status = message["status"]
                response.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                response.headers.pop("content-length", None)
            else:
                body.extend(message.get("body", b""))

        await self._checked(scope, receive, capture)
        response.body = bytes(body)
        return response

    async def _deliver(self, response: EmulatorResponse, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(response.headers)
        if not response.chunked:
            headers["content-length"] = str(len(response.body))
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            }
        )
        if response.cut_at is not None:
            await send(_body(response.body[: response.cut_at], more=True))
            self._cut(scope["client"], False)
            await _until_disconnected(receive)
        elif response.endless or response.pause is not None:
            disconnected = asyncio.ensure_future(_until_disconnected(receive))
            await self._trickle(response, disconnected, send)
            disconnected.cancel()
        else:
            await send(_body(response.body))

    async def _trickle(self, response: EmulatorResponse, disconnected: asyncio.Future[None], send: Send) -> None:
        while response.endless and not disconnected.done():
            await send(_body(response.body, more=True))
            await asyncio.sleep(0)  # let other requests run
        for number in range(0 if response.endless else len(response.body)):
            if disconnected.done():
                return
            await send(_body(response.body[number : number + 1], more=True))
            await asyncio.wait([disconnected], timeout=response.pause)
        if not disconnected.done():
            await send(_body(b""))


def _unauthorized(code: str, text: str) -> Response:
    return JSONResponse({"error": code, "error_description": text, "status_code": 401}, 401)


def _body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def _read(receive: Receive) -> bytes | None:
    """Return a request's body, or ``None`` if it is too large; raise if the client disconnects before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionCut
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replay(raw: bytes, receive: Receive) -> Receive:
    """Let the endpoint receive a body that has been read already."""
    pending = [raw]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
